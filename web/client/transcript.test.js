import assert from "node:assert/strict";
import { test } from "node:test";

import { EMPTY_TRANSCRIPT, compareIds, fold } from "./transcript.js";

const created = { type: "created", id: "100-1", data: { task_id: "t", session_id: "s", model: "demo" } };
const started = { type: "started", id: "200-1", data: { attempt: 1, model: "demo" } };
const delta = (id, content) => ({ type: "delta", id, data: { content } });

function foldAll(...events) {
  return events.reduce(fold, EMPTY_TRANSCRIPT);
}

test("an answer is folded from first to last", () => {
  const usage = { output_tokens: 2 };
  const completed = { type: "completed", id: "200-4", data: { content: "Hello", usage, finish_reason: "stop" } };

  const transcript = foldAll(created, started, delta("200-2", "Hel"), delta("200-3", "lo"), completed);

  assert.deepEqual(transcript, {
    ...EMPTY_TRANSCRIPT,
    content: "Hello",
    status: "completed",
    lastEventId: "200-4",
    taskId: "t",
    sessionId: "s",
    model: "demo",
    attempt: 1,
    usage,
    finishReason: "stop",
  });
});

test("an entry already seen is dropped, and gives the very same object", () => {
  const transcript = foldAll(created, started, delta("200-2", "a"));
  assert.equal(fold(transcript, delta("200-2", "a")), transcript);
  assert.equal(fold(transcript, started), transcript);
});

test("ids compare as numbers, the epoch first", () => {
  assert.ok(compareIds("9-1", "10-1") < 0);
  assert.ok(compareIds("10-9", "10-10") < 0);
  assert.ok(compareIds("1790000000001-1", "1790000000000-999") > 0);
  assert.equal(compareIds("5-5", "5-5"), 0);
});

test("an event without id is never taken for one already seen", () => {
  const gone = { type: "failed", id: null, data: { problem: { code: "task_gone" } } };
  assert.equal(foldAll(created, delta("200-1", "a"), gone).status, "failed");
});

test("events outside the log are not dropped though their id repeats, and leave the cursor", () => {
  const transcript = foldAll(created, { type: "queued", id: "100-1", data: { position: 3 } });
  assert.equal(transcript.queue.position, 3);
  assert.equal(transcript.lastEventId, "100-1");
});

test("a ping changes nothing", () => {
  const transcript = foldAll(created);
  assert.equal(fold(transcript, { type: "ping", id: null, data: {} }), transcript);
});

test("a snapshot replaces the text, and its id counts even if lower", () => {
  const snapshot = { type: "snapshot", id: "150-2", data: { content: "xyz", reasoning: "r", status: "running" } };

  const transcript = foldAll(created, delta("200-2", "abc"), snapshot, delta("150-3", "!"));

  assert.equal(transcript.content, "xyz!");
  assert.equal(transcript.reasoning, "r");
  assert.equal(transcript.lastEventId, "150-3");
});

test("a snapshot never ends a task", () => {
  const snapshot = { type: "snapshot", id: "200-9", data: { content: "all", status: "completed" } };
  assert.equal(foldAll(created, snapshot).status, "running");
});

test("a reset replaces the text, with nothing where it says nothing", () => {
  const reset = { type: "reset", id: "300-2", data: { attempt: 2 } };
  const transcript = foldAll(created, delta("200-2", "abc"), { type: "reasoning", id: "200-3", data: { content: "r" } }, reset);
  assert.equal(transcript.content + transcript.reasoning, "");
  assert.equal(transcript.attempt, 2);
});

test("a reset already seen is dropped", () => {
  const reset = { type: "reset", id: "200-1", data: { content: "" } };
  assert.equal(foldAll(created, delta("200-2", "abc"), reset).content, "abc");
});

test("unknown events are ignored, but for their place in the log", () => {
  const transcript = foldAll(created, { type: "constructor", id: "200-1", data: { content: "x" } });
  assert.equal(transcript.content, "");
  assert.equal(transcript.lastEventId, "200-1");
});

test("stopping and failing keep the text so far", () => {
  const running = [created, delta("200-2", "abc")];
  assert.equal(foldAll(...running, { type: "cancelled", id: "201-1", data: { partial: "abcd" } }).content, "abcd");
  assert.equal(foldAll(...running, { type: "failed", id: "200-3", data: { problem: {} } }).content, "abc");
});

test("nothing changes after the end", () => {
  const transcript = foldAll(created, { type: "completed", id: "200-1", data: { content: "a" } });
  assert.equal(fold(transcript, delta("200-2", "b")), transcript);
  assert.equal(fold(transcript, { type: "snapshot", id: "200-2", data: {} }), transcript);
});

test("content that is no text is no text", () => {
  assert.equal(foldAll(created, { type: "delta", id: "200-1", data: {} }).content, "");
});

test("folding changes nothing in place", () => {
  const before = Object.freeze(foldAll(created));
  fold(before, delta("200-1", "a"));
  assert.equal(before.content, "");
});
