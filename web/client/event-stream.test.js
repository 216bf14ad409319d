import assert from "node:assert/strict";
import { test } from "node:test";

import { EventStreamParser } from "./event-stream.js";

const encoder = new TextEncoder();

function parse(text) {
  return new EventStreamParser().push(encoder.encode(text));
}

function event(data, { type = "message", id = null } = {}) {
  return { type, data, id };
}

test("a block becomes an event with its type, data and id", () => {
  assert.deepEqual(parse("event: delta\nid: 7-1\ndata: {}\n\n"), [event("{}", { type: "delta", id: "7-1" })]);
});

test("LF, CR and CRLF end lines alike, mixed in one stream", () => {
  assert.deepEqual(parse("data: a\r\rdata: b\r\n\r\ndata: c\n\ndata: d\r\n\n"), ["a", "b", "c", "d"].map((d) => event(d)));
});

test("any split of the bytes gives the same events", () => {
  const bytes = encoder.encode(
    "\uFEFFretry: 1500\r\n: 駅伝\r\n\r\nid: 1-1\r\nevent: delta\r\ndata: たすき\u{1F3C3}\r\ndata: \uFEFF二\r\n\r\ndata: b\r\rdata:c\n\n",
  );
  const expected = [event("たすき\u{1F3C3}\n\uFEFF二", { type: "delta", id: "1-1" }), event("b"), event("c")];

  for (let first = 0; first <= bytes.length; first += 1) {
    for (let second = first; second <= bytes.length; second += 1) {
      const parser = new EventStreamParser();
      const parts = [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)];
      assert.deepEqual(parts.flatMap((part) => parser.push(part)), expected, `split at ${first} and ${second}`);
      assert.equal(parser.retryMs, 1500);
    }
  }
});

test("byte by byte gives the same events", () => {
  const parser = new EventStreamParser();
  const bytes = encoder.encode("\uFEFFdata: 駅\r\ndata: 伝\r\n\r\n");
  assert.deepEqual([...bytes].flatMap((byte) => parser.push(Uint8Array.of(byte))), [event("駅\n伝")]);
});

test("a lone CR ends an event without waiting for the next byte", () => {
  const parser = new EventStreamParser();
  assert.deepEqual(parser.push(encoder.encode("data: now\r\r")), [event("now")]);
});

test("only the first byte order mark is dropped", () => {
  assert.deepEqual(parse("\uFEFFdata: a\n\n\uFEFFdata: b\n\n"), [event("a")]);
});

test("comments and unknown fields are ignored", () => {
  assert.deepEqual(parse(": hello\n:\ncolour: red\ndata: a\n\n"), [event("a")]);
});

test("data lines are joined by LF, one space after the colon is dropped, an empty one counts", () => {
  assert.deepEqual(parse("data:a\ndata:  b\ndata\n\ndata\n\n"), [event("a\n b\n"), event("")]);
});

test("a block without data is no event, and its type and id are forgotten", () => {
  assert.deepEqual(parse("event: delta\nid: 1-1\n\ndata: a\n\n"), [event("a")]);
});

test("an id with NUL is ignored, and an empty one is none", () => {
  assert.deepEqual(parse("id: 1\0\ndata: a\n\nid: 2-1\nid: 2\0\ndata: b\n\nid:\ndata: c\n\n"), [
    event("a"),
    event("b", { id: "2-1" }),
    event("c"),
  ]);
});

test("an id is not carried over to the next event", () => {
  assert.deepEqual(parse("id: 1-1\ndata: a\n\ndata: b\n\n"), [event("a", { id: "1-1" }), event("b")]);
});

test("retry takes digits only", () => {
  const parser = new EventStreamParser();
  parser.push(encoder.encode("retry: 1200\nretry: -5\nretry: 3s\nretry: 1e3\nretry:\n"));
  assert.equal(parser.retryMs, 1200);
});

test("a block that the connection's end cut is no event", () => {
  assert.deepEqual(parse("data: a\n\ndata: b\n"), [event("a")]);
});

test("a megabyte in one line, in small pieces, is parsed in well under a second", () => {
  const parser = new EventStreamParser();
  const bytes = encoder.encode(`data: ${"x".repeat(1 << 20)}\n\n`);
  const begun = performance.now();

  const events = [];
  for (let at = 0; at < bytes.length; at += 1024) events.push(...parser.push(bytes.subarray(at, at + 1024)));

  assert.equal(events[0].data.length, 1 << 20);
  assert.ok(performance.now() - begun < 1000);
});
