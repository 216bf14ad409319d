import assert from "node:assert/strict";
import { test } from "node:test";

import { AsyncChatClient } from "./async-chat-client.js";
import { ACCEPTED, CHAT, COMPLETED, CREATED, EVENTS, HEL, LO, TIMING, entry, json, problem, record, serve, stream } from "./testing/server.js";

const REFUSE_CONNECTION = (request) => request.socket.destroy();

test("an answer arrives piece by piece, then whole, once", async (t) => {
  const server = await serve(t, { [EVENTS]: stream(CREATED + entry("started", "200-1") + HEL + LO + COMPLETED) });
  const { client, of, ends } = record(server.origin);

  const answer = client.sendMessage("Hi", "demo");
  const result = await answer.done;

  assert.deepEqual(of("message").map((data) => data.content), ["Hel", "lo"]);
  assert.deepEqual(of("complete").map((data) => [data.content, data.finish_reason]), [["Hello", "stop"]]);
  assert.deepEqual(of("state"), ["queued", "running", "completed"]);
  assert.equal(ends(), 1);
  assert.deepEqual([answer.taskId, answer.sessionId, result.status], ["t1", "s1", "completed"]);
  assert.deepEqual(server.requests[0].body, { message: "Hi", model: "demo" });
});

test("the session is kept from one message to the next", async (t) => {
  const server = await serve(t, { [EVENTS]: stream(CREATED + COMPLETED) });
  const { client } = record(server.origin);

  await client.sendMessage("one").done;
  await client.sendMessage("two").done;

  const bodies = server.requests.filter((one) => one.key === CHAT).map((one) => one.body);
  assert.deepEqual(bodies, [{ message: "one" }, { message: "two", session_id: "s1" }]);
});

test("an answer that comes late does not bring back a conversation that was left", async (t) => {
  const server = await serve(t, { [EVENTS]: stream(CREATED + COMPLETED) });
  const { client } = record(server.origin);
  const answer = client.sendMessage("one");

  client.sessionId = null;
  await answer.done;

  assert.deepEqual([answer.sessionId, client.sessionId], ["s1", null]);
});

test("each message has a key of its own, of visible ASCII", async (t) => {
  const server = await serve(t, { [EVENTS]: stream(CREATED + COMPLETED) });
  const { client } = record(server.origin);

  const answers = [client.sendMessage("one"), client.sendMessage("one")];
  await Promise.all(answers.map(({ done }) => done));

  const keys = server.requests.filter((one) => one.key === CHAT).map((one) => one.headers["idempotency-key"]);
  assert.deepEqual(keys.toSorted(), answers.map(({ idempotencyKey }) => idempotencyKey).toSorted());
  assert.notEqual(keys[0], keys[1]);
  assert.match(keys[0], /^[!-~]{20,255}$/);
});

test("a message whose answer is lost is sent again, the very same", async (t) => {
  const proxyPage = (_, response) => response.writeHead(502, { "Content-Type": "text/html" }).end("<html>");
  const server = await serve(t, {
    [CHAT]: [REFUSE_CONNECTION, proxyPage, problem(503, "store_unavailable"), ACCEPTED],
    [EVENTS]: stream(CREATED + COMPLETED),
  });
  const { client, of, ends } = record(server.origin);

  const result = await client.sendMessage("Hi").done;

  const posts = server.requests.filter((one) => one.key === CHAT);
  assert.equal(posts.length, 4);
  assert.equal(new Set(posts.map((one) => one.headers["idempotency-key"] + JSON.stringify(one.body))).size, 1);
  assert.deepEqual(of("state"), ["reconnecting", "queued", "completed"]);
  assert.deepEqual([result.status, ends()], ["completed", 1]);
});

test("a server that is silent is asked again", async (t) => {
  const server = await serve(t, { [CHAT]: [() => {}, ACCEPTED], [EVENTS]: stream(CREATED + COMPLETED) });
  const { client } = record(server.origin, { answerMs: 50 });

  assert.equal((await client.sendMessage("Hi").done).status, "completed");
});

test("after a while an unanswered message is given up, and its key can be used again", async (t) => {
  const server = await serve(t, { [EVENTS]: stream(CREATED + COMPLETED) });
  const { client, of } = record("http://127.0.0.1:1", { sendMs: 50 });
  const given = client.sendMessage("Hi");
  await given.done;
  assert.deepEqual(of("error").map(({ code }) => code), ["unreachable"]);

  const { client: again } = record(server.origin);
  await again.sendMessage("Hi", undefined, { idempotencyKey: given.idempotencyKey }).done;

  assert.equal(server.requests[0].headers["idempotency-key"], given.idempotencyKey);
});

test("a wait that is longer than the patience is not begun", async (t) => {
  const server = await serve(t, { [CHAT]: problem(503, "store_unavailable", { "Retry-After": "7" }) });
  const { client, of } = record(server.origin, { sendMs: 1000 });

  await client.sendMessage("Hi").done;

  const errors = of("error").map((one) => [one.code, one.status, one.retry_after_seconds]);
  assert.deepEqual([errors, server.count(CHAT)], [[["store_unavailable", 503, 7]], 1]);
});

for (const [status, code] of [
  [429, "too_many_requests"],
  [422, "unknown_model"],
  [500, "internal_error"],
]) {
  test(`a message that is refused is not sent again (${status})`, async (t) => {
    const server = await serve(t, { [CHAT]: problem(status, code) });
    const { client, of, ends } = record(server.origin);

    await client.sendMessage("Hi").done;

    assert.deepEqual(of("error").map((one) => [one.code, one.status]), [[code, status]]);
    assert.deepEqual([ends(), server.requests.length], [1, 1]);
  });
}

test("an answer that names no task is told as such", async (t) => {
  const server = await serve(t, { [CHAT]: json({}) });
  const { client, of } = record(server.origin);
  await client.sendMessage("Hi").done;
  assert.deepEqual(of("error").map(({ code }) => code), ["bad_response"]);
});

test("headers of the caller go with every request", async (t) => {
  const server = await serve(t, { [EVENTS]: [stream(CREATED, "cut"), stream(COMPLETED)] });
  const headers = { Authorization: "Bearer x" };

  await new AsyncChatClient({ baseUrl: `${server.origin}/api/async`, headers, timing: TIMING }).sendMessage("Hi").done;

  assert.deepEqual(server.requests.map((one) => one.headers.authorization), ["Bearer x", "Bearer x", "Bearer x"]);
});
