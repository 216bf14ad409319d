import assert from "node:assert/strict";
import { test } from "node:test";

import { ACCEPTED, CANCEL, CHAT, CREATED, EVENTS, HEL, json, problem, record, serve, stream, until } from "./testing/server.js";

test("stop ends the answer with the text so far, and is neither complete nor an error", async (t) => {
  const server = await serve(t, {
    [EVENTS]: stream(CREATED + HEL, "open"),
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
    [CHAT]: (request, response) => setTimeout(() => ACCEPTED(request, response), 100),
    [EVENTS]: stream(CREATED, "open"),
    [CANCEL]: json({ task_id: "t1", status: "cancelled", content: "" }),
  });
  const { client } = record(server.origin);

  const result = await client.sendMessage("Hi").stop();

  assert.equal(result.status, "cancelled");
});

test("stop is repeated while the store is away", async (t) => {
  const server = await serve(t, {
    [EVENTS]: stream(CREATED, "open"),
    [CANCEL]: [problem(503, "store_unavailable"), json({ task_id: "t1", status: "cancelled", content: "" })],
  });
  const { client } = record(server.origin);
  assert.equal((await client.sendMessage("Hi").stop()).status, "cancelled");
});

test("stop that came too late is a completed answer", async (t) => {
  const server = await serve(t, {
    [EVENTS]: stream(CREATED + HEL, "open"),
    [CANCEL]: json({ task_id: "t1", status: "completed", content: "Hello" }),
  });
  const { client, of } = record(server.origin);

  assert.equal((await client.sendMessage("Hi").stop()).status, "completed");
  assert.equal(of("complete")[0].content, "Hello");
});

test("a stop that is refused leaves the answer running", async (t) => {
  const server = await serve(t, { [EVENTS]: stream(CREATED + HEL, "open"), [CANCEL]: problem(403, "forbidden") });
  const { client, of } = record(server.origin);
  const answer = client.sendMessage("Hi");
  await until(() => of("message").length === 1);

  await assert.rejects(answer.stop(), (error) => error.problem.code === "forbidden");

  assert.equal(answer.state, "running");
  answer.disconnect();
});

test("disconnect is local: no request, no callback but the state", async (t) => {
  const server = await serve(t, { [EVENTS]: stream(CREATED + HEL, "open") });
  const { client, of, ends } = record(server.origin);
  const answer = client.sendMessage("Hi");
  await until(() => of("message").length === 1);

  answer.disconnect();

  assert.deepEqual([(await answer.done).status, (await answer.done).content], ["disconnected", "Hel"]);
  assert.deepEqual([ends(), server.requests.length], [0, 2]);
});

test("stop of a message that does not get through ends it at once", async () => {
  const { client, of } = record("http://127.0.0.1:1", { backoffMs: 60_000, backoffMaxMs: 60_000 });
  const answer = client.sendMessage("Hi");
  await until(() => of("state").includes("reconnecting"));

  const result = await answer.stop();

  assert.deepEqual([result.status, result.problem.code], ["failed", "unreachable"]);
});
