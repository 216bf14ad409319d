import assert from "node:assert/strict";
import { test } from "node:test";

import { AsyncChatClient } from "./async-chat-client.js";
import { CHAT, COMPLETED, CREATED, EVENTS, HEL, LO, TIMING, entry, json, problem, record, serve, stream, until } from "./testing/server.js";

for (const after of ["end", "cut"]) {
  test(`a stream without its end (${after}) is read on from the last event, by GET`, async (t) => {
    const server = await serve(t, {
      [EVENTS]: [stream(CREATED + HEL, after), stream(HEL + LO, after), stream(COMPLETED)],
    });
    const { client, of, ends } = record(server.origin);

    const result = await client.sendMessage("Hi").done;

    assert.equal(result.content, "Hello");
    assert.deepEqual(of("message").map((data) => data.content), ["Hel", "lo"]);
    assert.equal(ends(), 1);
    assert.equal(server.count(CHAT), 1);
    const cursors = server.requests.slice(1).map((one) => one.headers["last-event-id"]);
    assert.deepEqual(cursors, [undefined, "200-2", "200-3"]);
    assert.ok(of("state").includes("reconnecting"));
  });
}

test("a 307 to the gateway's origin is followed", async (t) => {
  const gateway = await serve(t, {
    "GET /api/async/tasks/t1/events?token=x": [stream(CREATED + HEL, "cut"), stream(LO + COMPLETED)],
  });
  const redirect = (_, response) => {
    response.writeHead(307, { Location: `${gateway.origin}/api/async/tasks/t1/events?token=x` });
    response.end();
  };
  const api = await serve(t, { [EVENTS]: redirect });
  const { client } = record(api.origin);

  const result = await client.sendMessage("Hi").done;

  assert.equal(result.content, "Hello");
  assert.equal(gateway.requests[1].headers["last-event-id"], "200-2");
});

test("a snapshot replaces the text, and its lower id is the next cursor", async (t) => {
  const snapshot = entry("snapshot", "150-1", { content: "Good", reasoning: "", status: "running", attempt: 1 });
  const server = await serve(t, {
    [EVENTS]: [
      stream(CREATED + HEL + entry("resync", null, { reason: "lost" }) + snapshot),
      stream(entry("delta", "150-2", { content: "bye" }) + entry("completed", "150-3", { content: "Goodbye" })),
    ],
  });
  const { client, of } = record(server.origin);

  const result = await client.sendMessage("Hi").done;

  assert.deepEqual(of("reset").map((data) => data.content), ["Good"]);
  assert.equal(server.requests[2].headers["last-event-id"], "150-1");
  assert.equal(result.content, "Goodbye");
});

test("a stream that falls silent is given up and read on", async (t) => {
  const server = await serve(t, { [EVENTS]: [stream(CREATED + HEL, "open"), stream(LO + COMPLETED)] });
  const { client } = record(server.origin, { silenceMs: 60 });

  assert.equal((await client.sendMessage("Hi").done).content, "Hello");
  assert.equal(server.count(EVENTS), 2);
});

test("bytes of any kind keep a stream alive", async (t) => {
  const server = await serve(t, {
    [EVENTS]: (request, response) => {
      stream(CREATED, "open")(request, response);
      const beat = setInterval(() => response.write(":\n"), 20);
      setTimeout(() => (clearInterval(beat), response.end(COMPLETED)), 400);
    },
  });
  const { client } = record(server.origin, { silenceMs: 200 });

  assert.equal((await client.sendMessage("Hi").done).status, "completed");
  assert.equal(server.count(EVENTS), 1);
});

test("trouble that passes is waited out: overload, a closed stream, a proxy's page", async (t) => {
  const server = await serve(t, {
    [EVENTS]: [
      stream(CREATED + HEL, "cut"),
      problem(503, "store_unavailable"),
      stream(""),
      (_, response) => response.end("<html>Please log in</html>"),
      (request) => request.socket.destroy(),
      stream(LO + COMPLETED),
    ],
  });
  const { client, ends } = record(server.origin);

  assert.equal((await client.sendMessage("Hi").done).content, "Hello");
  assert.equal(server.count(EVENTS), 6);
  assert.equal(ends(), 1);
});

for (const [name, handler] of [
  ["retry:", (_, response) => response.writeHead(200, { "Content-Type": "text/event-stream" }).end("retry: 300\n\n")],
  ["Retry-After", problem(503, "store_unavailable", { "Retry-After": "1" })],
]) {
  test(`the server's ${name} is obeyed`, async (t) => {
    const server = await serve(t, { [EVENTS]: [handler, stream(CREATED + COMPLETED)] });
    const { client } = record(server.origin);
    const begun = Date.now();

    await client.resume("t1").done;

    assert.ok(Date.now() - begun >= (name === "retry:" ? 295 : 995));
  });
}

test("204 means that the task ended: its state is asked for", async (t) => {
  const server = await serve(t, {
    [EVENTS]: [stream(CREATED + HEL, "cut"), (_, response) => response.writeHead(204).end()],
    "GET /api/async/tasks/t1": json({ task_id: "t1", status: "completed", content: "Hello", last_event_id: "200-2" }),
  });
  const { client, of, ends } = record(server.origin);

  assert.equal((await client.sendMessage("Hi").done).content, "Hello");
  assert.equal(of("complete")[0].content, "Hello");
  assert.equal(ends(), 1);
});

test("a task that is gone is an error, once", async (t) => {
  const server = await serve(t, { [EVENTS]: [stream(CREATED + HEL, "cut"), problem(404, "not_found")] });
  const { client, of, ends } = record(server.origin);

  const result = await client.sendMessage("Hi").done;

  assert.equal(of("error")[0].code, "task_gone");
  assert.deepEqual([result.status, result.content, ends()], ["failed", "Hel", 1]);
});

test("a refusal that will not change ends the reading", async (t) => {
  const server = await serve(t, { [EVENTS]: problem(401, "unauthorized") });
  const { client, of } = record(server.origin);
  await client.resume("t1").done;
  assert.equal(of("error")[0].code, "unauthorized");
});

test("a failed task gives its own problem and keeps the text so far", async (t) => {
  const failed = entry("failed", "200-3", { problem: { code: "provider_error", title: "no" }, partial: "Hel" });
  const server = await serve(t, { [EVENTS]: stream(CREATED + HEL + failed + COMPLETED) });
  const { client, of, ends } = record(server.origin);

  const result = await client.sendMessage("Hi").done;

  assert.deepEqual(of("error").map(({ code }) => code), ["provider_error"]);
  assert.deepEqual([result.status, result.content, ends()], ["failed", "Hel", 1]);
});

test("resume gives the text so far, then what is new", async (t) => {
  const server = await serve(t, { [EVENTS]: [stream(CREATED + HEL, "cut"), stream(LO + COMPLETED)] });
  const { client, of } = record(server.origin);

  const result = await client.resume("t1").done;

  assert.equal(server.requests[0].headers["last-event-id"], undefined);
  assert.deepEqual(of("message").map((data) => data.content), ["Hel", "lo"]);
  assert.deepEqual([result.content, client.sessionId], ["Hello", "s1"]);
});

test("a callback that throws does not end the stream", async (t) => {
  const server = await serve(t, { [EVENTS]: stream(CREATED + HEL + COMPLETED) });
  t.mock.method(console, "error", () => {});
  const onMessage = () => {
    throw new Error("a fault of the page");
  };

  const client = new AsyncChatClient({ baseUrl: `${server.origin}/api/async`, timing: TIMING, onMessage });

  assert.equal((await client.sendMessage("Hi").done).status, "completed");
});

for (const [target, type] of [
  ["window", "online"],
  ["document", "visibilitychange"],
]) {
  test(`${type} ends the wait for the next try at once`, async (t) => {
    globalThis[target] = Object.assign(new EventTarget(), { visibilityState: "visible" });
    t.after(() => delete globalThis[target]);
    const server = await serve(t, {
      [EVENTS]: [stream(`retry: 60000\n\n${CREATED}${HEL}`, "cut"), stream(LO + COMPLETED)],
    });
    const { client, of } = record(server.origin);
    const answer = client.sendMessage("Hi");
    await until(() => of("state").includes("reconnecting"));

    globalThis[target].dispatchEvent(new Event(type));

    assert.equal((await answer.done).content, "Hello");
  });
}

test("online replaces an open stream at once, since its socket is probably dead", async (t) => {
  globalThis.window = new EventTarget();
  t.after(() => delete globalThis.window);
  const server = await serve(t, { [EVENTS]: [stream(CREATED + HEL, "open"), stream(LO + COMPLETED)] });
  const { client, of } = record(server.origin, { backoffMs: 60_000, backoffMaxMs: 60_000 });
  const answer = client.sendMessage("Hi");
  await until(() => of("message").length === 1);

  globalThis.window.dispatchEvent(new Event("online"));

  assert.equal((await answer.done).content, "Hello");
});
