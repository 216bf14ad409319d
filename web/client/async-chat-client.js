/**
 * AsyncChatClient: send a message, get a durable, resumable stream of tokens.
 *
 *     const client = new AsyncChatClient({
 *       baseUrl: "/api/async",
 *       onMessage: (data) => show(data.content),     // each delta
 *       onReset: (data) => showInstead(data.content), // the whole text, in place of what was shown
 *       onComplete: (data) => finish(data.content),
 *       onError: (problem) => complain(problem.code),
 *     });
 *     const answer = client.sendMessage("Hello");
 *     await answer.done; // {status: "completed", content: "…"}
 *
 * Works in browsers and in Node 20 or later, without dependencies.
 */

import { Answer } from "./answer.js";
import { Api } from "./api.js";
import { DEFAULT_TIMING } from "./timing.js";

export { ChatProblem } from "./problem.js";

/**
 * Every callback also gets the answer's handle, as its second argument.
 *
 * @typedef {object} ChatOptions
 * @property {string} baseUrl `/api/async`, or with an origin before it
 * @property {Record<string, string>} [headers] sent with every request
 * @property {(data: object, answer: Answer) => void} [onMessage] each `delta`: `data.content` is the new piece
 * @property {(data: object, answer: Answer) => void} [onComplete] the `completed`: `data.content` is the whole text
 * @property {(problem: object, answer: Answer) => void} [onError] the `failed`'s problem, or one seen from here;
 *   always with a `code`
 * @property {(data: object, answer: Answer) => void} [onReset] `data.content` is the whole text, which replaces
 *   what came before
 * @property {(state: string, answer: Answer) => void} [onStateChange] connecting, queued, running, reconnecting,
 *   then one of completed, failed, cancelled, disconnected
 * @property {(transcript: object, answer: Answer) => void} [onUpdate] everything known, after each change
 * @property {Partial<typeof DEFAULT_TIMING>} [timing]
 */

export class AsyncChatClient {
  #sessionId = null;
  #conversation = 0; // so that a late answer does not bring back a conversation that was left
  #api;
  #timing;
  #callbacks;

  /** @param {ChatOptions} options */
  constructor({ baseUrl, headers = {}, timing = {}, ...callbacks }) {
    this.#api = new Api(baseUrl, headers);
    this.#timing = { ...DEFAULT_TIMING, ...timing };
    this.#callbacks = callbacks;
  }

  /** @type {string | null} the conversation that the next message belongs to; set null to start a new one */
  get sessionId() {
    return this.#sessionId;
  }

  set sessionId(sessionId) {
    this.#sessionId = sessionId;
    this.#conversation += 1;
  }

  /**
   * Ask. Exactly one of onComplete, onError or the state `cancelled` follows, exactly once, unless you disconnect.
   *
   * @param {string} text
   * @param {string} [model] default: the server's
   * @param {{idempotencyKey?: string}} [options] an unanswered one's key, to ask the very same again: still one task
   * @returns {Answer}
   */
  sendMessage(text, model, { idempotencyKey = newIdempotencyKey() } = {}) {
    const body = { message: text };
    if (model) body.model = model;
    if (this.sessionId) body.session_id = this.sessionId;
    const answer = this.#answer();
    answer.ask(body, idempotencyKey);
    return answer;
  }

  /**
   * Attach to a task, running or ended: all of its text from the first event, then live.
   *
   * @param {string} taskId
   * @returns {Answer}
   */
  resume(taskId) {
    const answer = this.#answer();
    answer.resume(taskId);
    return answer;
  }

  /**
   * The conversation so far: `{session_id, messages, active_task_id}`.
   * @param {string} sessionId
   * @throws {ChatProblem}
   */
  getSession(sessionId) {
    return this.#api.getJson(`/sessions/${encodeURIComponent(sessionId)}`, this.#timing.silenceMs);
  }

  /**
   * What may be asked for: `{default, models}`; a name with `*` is a pattern.
   * @throws {ChatProblem}
   */
  getModels() {
    return this.#api.getJson("/models", this.#timing.silenceMs);
  }

  #answer() {
    const conversation = this.#conversation;
    const onSession = (sessionId) => {
      if (conversation === this.#conversation) this.#sessionId = sessionId;
    };
    const callbacks = { ...this.#callbacks, onSession };
    return new Answer({ api: this.#api, timing: this.#timing, callbacks });
  }
}

/** Not `randomUUID`, which browsers keep from pages without https. */
function newIdempotencyKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
