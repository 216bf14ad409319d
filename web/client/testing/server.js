/** What the tests of the client share: a real server, and a client that writes down every callback. */

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";

import { AsyncChatClient } from "../async-chat-client.js";

export const TIMING = { silenceMs: 2000, backoffMs: 10, backoffMaxMs: 40, restoredMs: 50 };
export const CHAT = "POST /api/async/chat";
export const EVENTS = "GET /api/async/tasks/t1/events";
export const CANCEL = "POST /api/async/tasks/t1/cancel";

/**
 * A real HTTP server on a free port; `routes` maps "METHOD /path" to its handlers, the last of which repeats.
 * POST /chat is accepted unless they say otherwise.
 */
export async function serve(t, routes) {
  const requests = [];
  const server = http.createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    const key = `${request.method} ${request.url}`;
    const earlier = requests.filter((one) => one.key === key).length;
    requests.push({ key, headers: request.headers, body: body && JSON.parse(body) });
    const handlers = [routes[key] ?? (key === CHAT ? ACCEPTED : problem(500, "no_such_route"))].flat();
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
export function stream(text, after = "end") {
  return (_, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(`retry: 5\n: ekiden\n\n${text}`);
    if (after === "end") response.end();
    if (after === "cut") setTimeout(() => response.destroy(), 20);
  };
}

export function json(body, status = 200, headers = {}) {
  return (_, response) => {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(JSON.stringify(body));
  };
}

export function problem(status, code, headers = {}) {
  return json({ type: "about:blank", title: code, status, code }, status, headers);
}

export function entry(type, id, data = {}) {
  return `event: ${type}\n${id ? `id: ${id}\n` : ""}data: ${JSON.stringify({ type, task_id: "t1", ...data })}\n\n`;
}

export const ACCEPTED = json({ task_id: "t1", session_id: "s1", status: "queued" }, 202);

export const CREATED = entry("created", "100-1", { session_id: "s1", model: "demo", status: "queued" });
export const HEL = entry("delta", "200-2", { content: "Hel" });
export const LO = entry("delta", "200-3", { content: "lo" });
export const COMPLETED = entry("completed", "200-4", { content: "Hello", finish_reason: "stop" });

/** A client that writes down every callback. */
export function record(origin, timing = {}) {
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

export async function until(condition) {
  const deadline = Date.now() + 3000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, "waited too long");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
