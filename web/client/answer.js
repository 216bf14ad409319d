/**
 * One answer: the handle that `AsyncChatClient` returns, from the request to its single end.
 *
 * Deliberate:
 * 1. `POST /chat`, then GET the events, rather than `POST /chat/stream`: once the 202 is here, the task can be
 *    stopped and found again after a reload, though the gateway be down, and no lost stream is ever a lost
 *    POST. The second round trip passes while the model thinks; from another origin it even replaces a
 *    preflight, since a GET without a cursor needs none.
 * 2. Until the 202 is here, the same POST with the same Idempotency-Key: it can only make one task.
 * 3. The end is taken from whoever tells it first: the stream, or the task that cancel returns.
 * 4. `done` never rejects: an answer that failed is a result, not an exception in somebody's promise.
 */

import { listenToTheBrowser } from "./browser-signals.js";
import { PersistentPost } from "./persistent-post.js";
import { ChatProblem, localProblem, taskGone } from "./problem.js";
import { TaskEvents } from "./task-events.js";
import { EMPTY_TRANSCRIPT, eventOfTask, fold, isTerminal } from "./transcript.js";

export class Answer {
  /** @type {string | null} null until the server named the task */
  taskId = null;
  /** @type {string | null} */
  sessionId = null;
  /** @type {string | null} null where the task was there before, by `resume` */
  idempotencyKey = null;
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
  #asking; // PersistentPost
  #cancelling; // PersistentPost
  #stopping = null;
  #events = null; // TaskEvents, once the task has a name
  #identified;
  #resolveIdentified;
  #unlisten;

  /**
   * @param {{api: import("./api.js").Api, timing: typeof import("./timing.js").DEFAULT_TIMING, callbacks: object}} parts
   */
  constructor({ api, timing, callbacks }) {
    this.#api = api;
    this.#timing = timing;
    this.#callbacks = callbacks;
    this.#asking = new PersistentPost(api, timing);
    this.#cancelling = new PersistentPost(api, timing);
    this.done = new Promise((resolve) => (this.#resolveDone = resolve));
    this.#identified = new Promise((resolve) => (this.#resolveIdentified = resolve));
    this.#unlisten = listenToTheBrowser({
      onOnline: () => {
        this.#asking.wake();
        this.#cancelling.wake();
        this.#events?.refresh();
      },
      onVisible: () => this.#events?.refreshIfStale(),
    });
  }

  /** Ask for a new answer. For AsyncChatClient; call once. */
  async ask(body, idempotencyKey) {
    this.sessionId = body.session_id ?? null;
    this.idempotencyKey = idempotencyKey;
    try {
      const accepted = await this.#asking.send("/chat", {
        headers: { "Content-Type": "application/json", "Idempotency-Key": idempotencyKey },
        body: JSON.stringify(body),
        limitMs: this.#timing.sendMs,
        onUnanswered: () => this.#setState("reconnecting"),
      });
      if (this.#ended) return;
      if (typeof accepted.task_id !== "string") throw new ChatProblem(localProblem("bad_response"));
      this.#identify(accepted.task_id, accepted.session_id);
    } catch (error) {
      return this.#fail(problemIn(error));
    }
    this.#setState("queued");
    await this.#follow();
  }

  /** Attach to a task that exists, from its first event. For AsyncChatClient; call once. */
  async resume(taskId) {
    this.#identify(taskId, null);
    await this.#follow();
  }

  /**
   * Ask the server to stop; works while queued, thinking, answering or reconnecting. A message that is still
   * unanswered is not sent again: if it does not get through, the answer has failed.
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

  async #follow() {
    this.#events = new TaskEvents({
      api: this.#api,
      timing: this.#timing,
      path: this.#path,
      cursor: () => this.transcript.lastEventId,
      onReconnecting: () => this.#setState("reconnecting"),
      onRestored: () => this.#setState(this.transcript.status),
    });
    try {
      for await (const event of this.#events) this.#apply(event);
    } catch (error) {
      this.#fail(problemIn(error));
    }
  }

  async #cancel() {
    this.#asking.close();
    await this.#identified;
    if (!this.#ended) await this.#sendCancel();
    return this.done;
  }

  async #sendCancel() {
    try {
      this.#apply(eventOfTask(await this.#cancelling.send(`${this.#path}/cancel`, {})));
    } catch (error) {
      if (problemIn(error).status === 404) this.#fail(taskGone());
      else if (!this.#ended) throw error;
    }
  }

  #apply(event) {
    if (this.#ended) return;
    const before = this.transcript;
    const after = fold(before, event);
    if (after !== before) {
      this.transcript = after;
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
    this.#asking.close();
    this.#cancelling.close();
    this.#events?.close();
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
    this.#resolveIdentified();
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

  get #path() {
    return `/tasks/${encodeURIComponent(this.taskId)}`;
  }
}

function problemIn(error) {
  if (!(error instanceof ChatProblem)) throw error; // a fault of ours
  return error.problem;
}
