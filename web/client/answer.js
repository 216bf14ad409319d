/**
 * One answer: the handle that `AsyncChatClient` returns, from the request to its single end.
 *
 * Reads the stream that the POST opened, then `GET /tasks/{id}/events` with `Last-Event-ID` as often as it takes.
 *
 * Deliberate:
 * 1. The POST is sent once. Whatever happens to its answer, everything afterwards is a GET, so no lost
 *    connection starts (and bills) a second generation. Cancel is a POST too, but may be repeated safely.
 * 2. The end is taken from whoever tells it first: the stream, or the task that cancel returns.
 * 3. `done` never rejects: an answer that failed is a result, not an exception in somebody's promise.
 */

import { Backoff } from "./backoff.js";
import { listenToTheBrowser } from "./browser-signals.js";
import { Connection, isEventStream } from "./connection.js";
import { ChatProblem, isTransient, localProblem, readProblem, retryAfterMs } from "./problem.js";
import { EMPTY_TRANSCRIPT, fold, isTerminal } from "./transcript.js";

/** Times in milliseconds; tests shorten them. */
export const DEFAULT_TIMING = Object.freeze({
  //: No byte for so long means a dead connection: the server pings every 15 s, this is three missed, less 5 s.
  silenceMs: 40_000,
  //: First backoff; doubles to the maximum, full jitter, back to the first on progress.
  backoffMs: 1_000,
  backoffMaxMs: 15_000,
  //: A connection that lives so long without an event counts as restored, though the model is silent.
  restoredMs: 1_000,
  //: A tab shown again reconnects at once if nothing came for longer than a ping's interval.
  staleMs: 20_000,
  //: The longest that a server's own `retry:` or `Retry-After` is obeyed.
  serverDelayMaxMs: 600_000,
});

export class Answer {
  /** @type {string | null} null until the server named the task */
  taskId = null;
  /** @type {string | null} */
  sessionId = null;
  /** @type {"connecting" | "queued" | "running" | "reconnecting" | "completed" | "failed" | "cancelled" | "disconnected"} */
  state = "connecting";
  /** @type {import("./transcript.js").Transcript} what is known so far */
  transcript = EMPTY_TRANSCRIPT;
  /** @type {Promise<{status: string, content: string, problem: object | null, transcript: object}>} never rejects */
  done;

  #api;
  #timing;
  #callbacks;
  #resolveDone;
  #ended = false;
  #stopping = null;
  #connection = null; // Connection, while one is open
  #restored;
  #reconnecting; // Backoff
  #cancelling; // Backoff
  #atOnce = false; // the next reconnect does not wait
  #identified;
  #resolveIdentified;
  #unlisten;

  /**
   * @param {{api: import("./api.js").Api, timing: typeof DEFAULT_TIMING, callbacks: object}} parts
   */
  constructor({ api, timing, callbacks }) {
    this.#api = api;
    this.#timing = timing;
    this.#callbacks = callbacks;
    this.#reconnecting = new Backoff(timing);
    this.#cancelling = new Backoff(timing);
    this.done = new Promise((resolve) => (this.#resolveDone = resolve));
    this.#identified = new Promise((resolve) => (this.#resolveIdentified = resolve));
    this.#unlisten = listenToTheBrowser({
      onOnline: () => this.#refresh(),
      onVisible: () => (this.#connection?.idleMs ?? Infinity) > timing.staleMs && this.#refresh(),
    });
  }

  /** Ask for a new answer. For AsyncChatClient; call once. */
  async post(body) {
    this.sessionId = body.session_id ?? null;
    const connection = this.#connect();
    const response = await connection.open("/chat/stream", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (this.#ended) return;
    if (response === null) {
      this.#connection = null;
      return this.#recover(body, connection.failure);
    }
    if (!response.ok) return this.#fail(await readProblem(response));
    this.#identify(response.headers.get("X-Task-ID"), response.headers.get("X-Session-ID"));
    if (!isEventStream(response)) return this.#fail(localProblem("bad_response"));
    if (this.taskId !== null) this.#setState("queued");
    await this.#read(connection, response);
    await this.#follow();
  }

  /** Attach to a task that exists, from its first event. For AsyncChatClient; call once. */
  async resume(taskId) {
    this.taskId = taskId;
    this.#resolveIdentified();
    this.#atOnce = true;
    await this.#follow();
  }

  /**
   * Ask the server to stop; works while queued, thinking, answering or reconnecting.
   *
   * Resolves with what `done` gives. Rejects with ChatProblem where the server refuses; the answer then goes on.
   */
  stop() {
    this.#stopping ??= this.#cancel().catch((problem) => {
      this.#stopping = null;
      throw problem;
    });
    return this.#stopping;
  }

  /** Stop listening, here only: the task goes on, and `resume(taskId)` finds it again. */
  disconnect() {
    this.#end("disconnected");
  }

  /** GET the events until the task's end was seen. */
  async #follow() {
    while (!this.#ended) {
      if (this.taskId === null) return this.#fail(localProblem("connection_lost"));
      await this.#pauseUnlessAtOnce();
      if (!this.#ended) await this.#readEvents();
      this.#connection?.close();
      this.#connection = null;
    }
  }

  async #readEvents() {
    const cursor = this.transcript.lastEventId;
    const connection = this.#connect();
    const response = await connection.open(this.#taskPath("/events"), {
      headers: cursor === null ? {} : { "Last-Event-ID": cursor },
    });
    if (this.#ended || response === null) return;
    if (response.status === 404) return this.#fail(taskGone());
    if (response.status === 204) return this.#readTask();
    if (isEventStream(response)) return this.#read(connection, response);
    // A page with status 200 in a stream's place is a proxy or a hotel's login: wait, as for a 503.
    if (response.ok || isTransient(response.status)) return this.#reconnecting.obey(retryAfterMs(response));
    this.#fail(await readProblem(response));
  }

  /** The task ended and its log holds nothing new (204): its final state says how. */
  async #readTask() {
    try {
      this.#apply(eventOfTask(await this.#api.getJson(this.#taskPath(""), this.#timing.silenceMs)));
    } catch ({ problem }) {
      if (problem?.status === 404) this.#fail(taskGone());
    }
  }

  /** The POST's answer never came. It may have been accepted: a session that we know can tell. */
  async #recover({ message }, failure) {
    const session =
      this.sessionId &&
      (await this.#api
        .getJson(`/sessions/${encodeURIComponent(this.sessionId)}`, this.#timing.silenceMs)
        .catch(() => null));
    if (this.#ended) return;
    const asked = session?.messages?.filter(({ role }) => role === "user").at(-1);
    if (!session?.active_task_id || asked?.content !== message) return this.#fail(localProblem(failure));
    this.#identify(session.active_task_id, null);
    this.#setState("queued");
    await this.#follow();
  }

  #connect() {
    this.#connection = new Connection(this.#api, this.#timing.silenceMs);
    return this.#connection;
  }

  async #read(connection, response) {
    this.#restored = setTimeout(() => this.#setState(this.transcript.status), this.#timing.restoredMs);
    for await (const { type, data, id } of connection.events(response)) {
      this.#reconnecting.obey(connection.retryMs);
      this.#apply({ type, id, data: parseObject(data) });
    }
    clearTimeout(this.#restored);
    this.#reconnecting.obey(connection.retryMs); // a stream of nothing but `retry:` has no event
    this.#connection = null;
  }

  #apply(event) {
    if (event.data === null || this.#ended) return;
    const before = this.transcript;
    const after = fold(before, event);
    if (after !== before) {
      this.transcript = after;
      this.#reconnecting.reset();
      this.#identify(after.taskId, after.sessionId);
      if (event.type === "delta") this.#call("onMessage", event.data);
      if (event.type === "reset" || event.type === "snapshot") {
        this.#call("onReset", { ...event.data, content: after.content, reasoning: after.reasoning });
      }
      this.#call("onUpdate", after);
    }
    if (isTerminal(after.status)) this.#end(after.status, event.data);
    else this.#setState(after.status);
  }

  async #cancel() {
    await this.#identified;
    while (!this.#ended) {
      try {
        this.#apply(eventOfTask(await this.#api.postJson(this.#taskPath("/cancel"), this.#timing.silenceMs)));
        break;
      } catch ({ problem }) {
        if (problem.status === 404) this.#fail(taskGone());
        else if (problem.status && !isTransient(problem.status)) throw new ChatProblem(problem);
        this.#cancelling.obey((problem.retry_after_seconds ?? 0) * 1000);
        if (!this.#ended) await this.#cancelling.pause();
      }
    }
    return this.done;
  }

  #fail(problem) {
    if (this.#ended) return;
    this.transcript = { ...this.transcript, status: "failed", problem };
    this.#end("failed", { problem });
  }

  /** The one place where an answer ends, whoever says so; the second to say so is not heard. */
  #end(status, data) {
    if (this.#ended) return;
    this.#ended = true;
    this.#unlisten();
    clearTimeout(this.#restored);
    this.#connection?.close();
    this.#wake();
    this.#resolveIdentified();
    this.#setState(status);
    if (status === "completed") this.#call("onComplete", data);
    const problem = status === "failed" ? (data.problem ?? localProblem("bad_response")) : null;
    if (problem) this.#call("onError", problem);
    const { content } = this.transcript;
    this.#resolveDone({ status, content, problem, transcript: this.transcript });
  }

  #identify(taskId, sessionId) {
    this.taskId ??= taskId;
    if (sessionId && sessionId !== this.sessionId) {
      this.sessionId = sessionId;
      this.#call("onSession", sessionId);
    }
    if (this.taskId !== null) this.#resolveIdentified();
  }

  #setState(state) {
    if (state === null || state === this.state) return;
    this.state = state;
    this.#call("onStateChange", state);
  }

  /** A fault in somebody's callback is theirs to see; the stream goes on. */
  #call(name, argument) {
    try {
      this.#callbacks[name]?.(argument, this);
    } catch (error) {
      (globalThis.reportError ?? console.error)(error);
    }
  }

  #taskPath(end) {
    return `/tasks/${encodeURIComponent(this.taskId)}${end}`;
  }

  /** Connect again now. Not while the POST is unanswered: it could not be sent again. */
  #refresh() {
    if (this.taskId === null) return;
    this.#atOnce = this.#connection !== null;
    this.#reconnecting.reset();
    this.#connection?.close();
    this.#wake();
  }

  async #pauseUnlessAtOnce() {
    const atOnce = this.#atOnce;
    this.#atOnce = false;
    if (atOnce) return;
    this.#setState("reconnecting");
    await this.#reconnecting.pause();
  }

  #wake() {
    this.#reconnecting.wake();
    this.#cancelling.wake();
  }
}

function taskGone() {
  return localProblem("task_gone", { status: 404 });
}

function parseObject(json) {
  try {
    const value = JSON.parse(json);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

/** A task's final state as the event that would have said so; without id, so never dropped. */
function eventOfTask(task) {
  return { type: task.status, id: null, data: { ...task, partial: task.content } };
}
