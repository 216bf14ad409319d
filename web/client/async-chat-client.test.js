import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { test } from "node:test";

import { AsyncChatClient } from "./async-chat-client.js";

const TIMING = { silenceMs: 2000, backoffMs: 10, backoffMaxMs: 40, restoredMs: 50 };
const STREAM = "POST /api/async/chat/stream";
const EVENTS = "GET /api/async/tasks/t1/events";
const CANCEL = "POST /api/async/tasks/t1/cancel";

/** A real HTTP server on a free port; `routes` maps "METHOD /path" to its handlers, the last of which repeats. */
async function serve(t, routes) {
  const requests = [];
  const server = http.createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    const key = `${request.method} ${request.url}`;
    const earlier = requests.filter((one) => one.key === key).length;
    requests.push({ key, headers: request.headers, body: body && JSON.parse(body) });
    const handlers = [routes[key] ?? problem(500, "no_such_route")].flat();
    handlers[Math.min(earlier, handlers.length - 1)](request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const origin = `http://127.0.0.1:${server.address().port}`;
  return { origin, requests, count: (key) => requests.filter((one) => one.key === key).length };
}

/** Streams the given text, then ends ("end"), breaks ("cut") or keeps the connection open ("open"). */
function stream(text, after = "end", headers = {}) {
  return (_, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream", "X-Task-ID": "t1", "X-Session-ID": "s1", ...headers });
    response.write(`retry: 5\n: ekiden\n\n${text}`);
    if (after === "end") response.end();
    if (after === "cut") setTimeout(() => response.destroy(), 20);
  };
}

function json(body, status = 200, headers = {}) {
  return (_, response) => {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(JSON.stringify(body));
  };
}

function problem(status, code, headers = {}) {
  return json({ type: "about:blank", title: code, status, code }, status, headers);
}

function entry(type, id, data = {}) {
  return `event: ${type}\n${id ? `id: ${id}\n` : ""}data: ${JSON.stringify({ type, task_id: "t1", ...data })}\n\n`;
}

const CREATED = entry("created", "100-1", { session_id: "s1", model: "demo", status: "queued" });
const HEL = entry("delta", "200-2", { content: "Hel" });
const LO = entry("delta", "200-3", { content: "lo" });
const COMPLETED = entry("completed", "200-4", { content: "Hello", finish_reason: "stop" });

/** A client that writes down every callback. */
function record(origin, timing = {}) {
  const calls = [];
  const note = (name) => (argument) => calls.push([name, argument]);
  const client = new AsyncChatClient({
    baseUrl: `${origin}/api/async`,
    timing: { ...TIMING, ...timing },
    onMessage: note("message"),
    onComplete: note("complete"),
    onError: note("error"),
    onStateChange: note("state"),
    onReset: note("reset"),
  });
  const of = (name) => calls.filter(([one]) => one === name).map(([, argument]) => argument);
  const ends = () => of("complete").length + of("error").length + of("state").filter((s) => s === "cancelled").length;
  return { client, of, ends };
}

async function until(condition) {
  const deadline = Date.now() + 3000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, "waited too long");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test("an answer arrives piece by piece, then whole, once", async (t) => {
  const server = await serve(t, { [STREAM]: stream(CREATED + entry("started", "200-1") + HEL + LO + COMPLETED) });
  const { client, of, ends } = record(server.origin);

  const answer = client.sendMessage("Hi", "demo");
  const result = await answer.done;

  assert.deepEqual(of("message").map((data) => data.content), ["Hel", "lo"]);
  assert.deepEqual(of("complete").map((data) => [data.content, data.finish_reason]), [["Hello", "stop"]]);
  assert.deepEqual(of("state"), ["queued", "running", "completed"]);
  assert.equal(ends(), 1);
  assert.equal(answer.taskId, "t1");
  assert.equal(result.status, "completed");
  assert.deepEqual(server.requests[0].body, { message: "Hi", model: "demo" });
});

test("the session is kept from one message to the next", async (t) => {
  const server = await serve(t, { [STREAM]: stream(CREATED + COMPLETED) });
  const { client } = record(server.origin);

  await client.sendMessage("one").done;
  await client.sendMessage("two").done;

  assert.deepEqual(server.requests.map((one) => one.body), [{ message: "one" }, { message: "two", session_id: "s1" }]);
});

test("an answer that comes late does not bring back a conversation that was left", async (t) => {
  const server = await serve(t, { [STREAM]: stream(CREATED + COMPLETED) });
  const { client } = record(server.origin);
  const answer = client.sendMessage("one");

  client.sessionId = null;
  await answer.done;

  assert.deepEqual([answer.sessionId, client.sessionId], ["s1", null]);
});

test("the task's id comes from the created event where the header is missing", async (t) => {
  const server = await serve(t, {
    [STREAM]: (_, response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      response.end(CREATED);
    },
    [EVENTS]: stream(COMPLETED),
  });
  const { client } = record(server.origin);

  const answer = client.sendMessage("Hi");

  assert.equal((await answer.done).content, "Hello");
  assert.equal(answer.taskId, "t1");
});

for (const after of ["end", "cut"]) {
  test(`a stream without its end (${after}) is read on from the last event, by GET`, async (t) => {
    const server = await serve(t, {
      [STREAM]: stream(CREATED + HEL, after),
      [EVENTS]: [stream(HEL + LO, after), stream(COMPLETED)],
    });
    const { client, of, ends } = record(server.origin);

    const result = await client.sendMessage("Hi").done;

    assert.equal(result.content, "Hello");
    assert.deepEqual(of("message").map((data) => data.content), ["Hel", "lo"]);
    assert.equal(ends(), 1);
    assert.equal(server.count(STREAM), 1);
    const cursors = server.requests.slice(1).map((one) => one.headers["last-event-id"]);
    assert.deepEqual(cursors, ["200-2", "200-3"]);
    assert.ok(of("state").includes("reconnecting"));
  });
}

test("303 and 307 to the gateway's origin are followed", async (t) => {
  const gateway = await serve(t, {
    "GET /api/async/tasks/t1/events?token=x": [stream(CREATED + HEL, "cut"), stream(LO + COMPLETED)],
  });
  const redirect = (status) => (_, response) => {
    response.writeHead(status, { Location: `${gateway.origin}/api/async/tasks/t1/events?token=x` });
    response.end();
  };
  const api = await serve(t, { [STREAM]: redirect(303), [EVENTS]: redirect(307) });
  const { client } = record(api.origin);

  const result = await client.sendMessage("Hi").done;

  assert.equal(result.content, "Hello");
  assert.equal(gateway.requests[0].body, "");
  assert.equal(gateway.requests[1].headers["last-event-id"], "200-2");
});

test("a snapshot replaces the text, and its lower id is the next cursor", async (t) => {
  const snapshot = entry("snapshot", "150-1", { content: "Good", reasoning: "", status: "running", attempt: 1 });
  const server = await serve(t, {
    [STREAM]: stream(CREATED + HEL + entry("resync", null, { reason: "lost" }) + snapshot),
    [EVENTS]: stream(entry("delta", "150-2", { content: "bye" }) + entry("completed", "150-3", { content: "Goodbye" })),
  });
  const { client, of } = record(server.origin);

  const result = await client.sendMessage("Hi").done;

  assert.deepEqual(of("reset").map((data) => data.content), ["Good"]);
  assert.equal(server.requests[1].headers["last-event-id"], "150-1");
  assert.equal(result.content, "Goodbye");
});

test("a stream that falls silent is given up and read on", async (t) => {
  const server = await serve(t, { [STREAM]: stream(CREATED + HEL, "open"), [EVENTS]: stream(LO + COMPLETED) });
  const { client } = record(server.origin, { silenceMs: 60 });

  assert.equal((await client.sendMessage("Hi").done).content, "Hello");
  assert.equal(server.count(EVENTS), 1);
});

test("bytes of any kind keep a stream alive", async (t) => {
  const server = await serve(t, {
    [STREAM]: (request, response) => {
      stream(CREATED, "open")(request, response);
      const beat = setInterval(() => response.write(":\n"), 20);
      setTimeout(() => (clearInterval(beat), response.end(COMPLETED)), 400);
    },
  });
  const { client } = record(server.origin, { silenceMs: 200 });

  assert.equal((await client.sendMessage("Hi").done).status, "completed");
  assert.equal(server.count(EVENTS), 0);
});

test("trouble that passes is waited out: overload, a closed stream, a proxy's page", async (t) => {
  const server = await serve(t, {
    [STREAM]: stream(CREATED + HEL, "cut"),
    [EVENTS]: [
      problem(503, "store_unavailable"),
      stream(""),
      (_, response) => response.end("<html>Please log in</html>"),
      (request) => request.socket.destroy(),
      stream(LO + COMPLETED),
    ],
  });
  const { client, ends } = record(server.origin);

  assert.equal((await client.sendMessage("Hi").done).content, "Hello");
  assert.equal(server.count(EVENTS), 5);
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
    [STREAM]: stream(CREATED + HEL, "cut"),
    [EVENTS]: (_, response) => response.writeHead(204).end(),
    "GET /api/async/tasks/t1": json({ task_id: "t1", status: "completed", content: "Hello", last_event_id: "200-2" }),
  });
  const { client, of, ends } = record(server.origin);

  assert.equal((await client.sendMessage("Hi").done).content, "Hello");
  assert.equal(of("complete")[0].content, "Hello");
  assert.equal(ends(), 1);
});

test("a task that is gone is an error, once", async (t) => {
  const server = await serve(t, { [STREAM]: stream(CREATED + HEL, "cut"), [EVENTS]: problem(404, "not_found") });
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
  const server = await serve(t, { [STREAM]: stream(CREATED + HEL + failed + COMPLETED) });
  const { client, of, ends } = record(server.origin);

  const result = await client.sendMessage("Hi").done;

  assert.deepEqual(of("error").map(({ code }) => code), ["provider_error"]);
  assert.deepEqual([result.status, result.content, ends()], ["failed", "Hel", 1]);
});

test("a POST that is refused is not sent again", async (t) => {
  const server = await serve(t, { [STREAM]: problem(503, "store_unavailable", { "Retry-After": "7" }) });
  const { client, of, ends } = record(server.origin);

  await client.sendMessage("Hi").done;

  assert.deepEqual(of("error").map((one) => [one.code, one.status, one.retry_after_seconds]), [["store_unavailable", 503, 7]]);
  assert.deepEqual([ends(), server.requests.length], [1, 1]);
});

test("a server that is not there is unreachable", async (t) => {
  const { client, of } = record("http://127.0.0.1:1");
  await client.sendMessage("Hi").done;
  assert.deepEqual(of("error").map(({ code }) => code), ["unreachable"]);
});

test("a server that does not answer the POST is told as such", async (t) => {
  const server = await serve(t, { [STREAM]: () => {} });
  const { client, of } = record(server.origin, { silenceMs: 50 });
  await client.sendMessage("Hi").done;
  assert.deepEqual([of("error")[0].code, server.count(STREAM)], ["no_answer", 1]);
});

test("a POST whose answer was lost is found again through its session", async (t) => {
  const server = await serve(t, {
    [STREAM]: (request) => request.socket.destroy(),
    "GET /api/async/sessions/s1": json({
      session_id: "s1",
      messages: [{ role: "user", content: "Hi", task_id: "t1", status: "running" }],
      active_task_id: "t1",
    }),
    [EVENTS]: stream(CREATED + COMPLETED),
  });
  const { client } = record(server.origin);
  client.sessionId = "s1";

  const result = await client.sendMessage("Hi").done;

  assert.deepEqual([result.status, server.count(STREAM)], ["completed", 1]);
});

test("resume gives the text so far, then what is new", async (t) => {
  const server = await serve(t, { [EVENTS]: [stream(CREATED + HEL, "cut"), stream(LO + COMPLETED)] });
  const { client, of } = record(server.origin);

  const result = await client.resume("t1").done;

  assert.equal(server.requests[0].headers["last-event-id"], undefined);
  assert.deepEqual(of("message").map((data) => data.content), ["Hel", "lo"]);
  assert.deepEqual([result.content, client.sessionId], ["Hello", "s1"]);
});

test("stop ends the answer with the text so far, and is neither complete nor an error", async (t) => {
  const server = await serve(t, {
    [STREAM]: stream(CREATED + HEL, "open"),
    [CANCEL]: json({ task_id: "t1", status: "cancelled", content: "Hel" }),
  });
  const { client, of, ends } = record(server.origin);
  const answer = client.sendMessage("Hi");
  await until(() => of("message").length === 1);

  const [stopped] = await Promise.all([answer.stop(), answer.stop()]);

  assert.deepEqual([stopped.status, stopped.content], ["cancelled", "Hel"]);
  assert.deepEqual(await answer.done, stopped);
  assert.deepEqual([of("complete").length, of("error").length, ends(), server.count(CANCEL)], [0, 0, 1, 1]);
});

test("stop before the server answered waits for the task's id", async (t) => {
  const server = await serve(t, {
    [STREAM]: (request, response) => setTimeout(() => stream(CREATED, "open")(request, response), 100),
    [CANCEL]: json({ task_id: "t1", status: "cancelled", content: "" }),
  });
  const { client } = record(server.origin);

  const result = await client.sendMessage("Hi").stop();

  assert.equal(result.status, "cancelled");
});

test("stop is repeated while the store is away", async (t) => {
  const server = await serve(t, {
    [STREAM]: stream(CREATED, "open"),
    [CANCEL]: [problem(503, "store_unavailable"), json({ task_id: "t1", status: "cancelled", content: "" })],
  });
  const { client } = record(server.origin);
  assert.equal((await client.sendMessage("Hi").stop()).status, "cancelled");
});

test("stop that came too late is a completed answer", async (t) => {
  const server = await serve(t, {
    [STREAM]: stream(CREATED + HEL, "open"),
    [CANCEL]: json({ task_id: "t1", status: "completed", content: "Hello" }),
  });
  const { client, of } = record(server.origin);

  assert.equal((await client.sendMessage("Hi").stop()).status, "completed");
  assert.equal(of("complete")[0].content, "Hello");
});

test("a stop that is refused leaves the answer running", async (t) => {
  const server = await serve(t, { [STREAM]: stream(CREATED + HEL, "open"), [CANCEL]: problem(403, "forbidden") });
  const { client } = record(server.origin);
  const answer = client.sendMessage("Hi");

  await assert.rejects(answer.stop(), (error) => error.problem.code === "forbidden");

  assert.equal(answer.state, "running");
  answer.disconnect();
});

test("disconnect is local: no request, no callback but the state", async (t) => {
  const server = await serve(t, { [STREAM]: stream(CREATED + HEL, "open") });
  const { client, of, ends } = record(server.origin);
  const answer = client.sendMessage("Hi");
  await until(() => of("message").length === 1);

  answer.disconnect();

  assert.deepEqual([(await answer.done).status, (await answer.done).content], ["disconnected", "Hel"]);
  assert.deepEqual([ends(), server.requests.length], [0, 1]);
});

test("a callback that throws does not end the stream", async (t) => {
  const server = await serve(t, { [STREAM]: stream(CREATED + HEL + COMPLETED) });
  t.mock.method(console, "error", () => {});
  const onMessage = () => {
    throw new Error("a fault of the page");
  };

  const client = new AsyncChatClient({ baseUrl: `${server.origin}/api/async`, timing: TIMING, onMessage });

  assert.equal((await client.sendMessage("Hi").done).status, "completed");
});

test("headers of the caller go with every request", async (t) => {
  const server = await serve(t, { [STREAM]: stream(CREATED, "cut"), [EVENTS]: stream(COMPLETED) });
  const headers = { Authorization: "Bearer x" };

  await new AsyncChatClient({ baseUrl: `${server.origin}/api/async`, headers, timing: TIMING }).sendMessage("Hi").done;

  assert.deepEqual(server.requests.map((one) => one.headers.authorization), ["Bearer x", "Bearer x"]);
});

for (const [target, type] of [
  ["window", "online"],
  ["document", "visibilitychange"],
]) {
  test(`${type} ends the wait for the next try at once`, async (t) => {
    globalThis[target] = Object.assign(new EventTarget(), { visibilityState: "visible" });
    t.after(() => delete globalThis[target]);
    const server = await serve(t, {
      [STREAM]: stream(`retry: 60000\n\n${CREATED}${HEL}`, "cut"),
      [EVENTS]: stream(LO + COMPLETED),
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
  const server = await serve(t, { [STREAM]: stream(CREATED + HEL, "open"), [EVENTS]: stream(LO + COMPLETED) });
  const { client, of } = record(server.origin, { backoffMs: 60_000, backoffMaxMs: 60_000 });
  const answer = client.sendMessage("Hi");
  await until(() => of("message").length === 1);

  globalThis.window.dispatchEvent(new Event("online"));

  assert.equal((await answer.done).content, "Hello");
});
