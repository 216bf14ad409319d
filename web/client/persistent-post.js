/** A POST that is sent until the server answers it: only for requests that are safe to repeat. */

import { Backoff } from "./backoff.js";

//: No word from the API itself: a proxy's, or the API's that its store is away. The same request may succeed soon.
const UNANSWERED = new Set([undefined, 408, 425, 502, 503, 504]);

export class PersistentPost {
  #api;
  #timing;
  #backoff;
  #closed = false;

  /**
   * @param {import("./api.js").Api} api
   * @param {typeof import("./timing.js").DEFAULT_TIMING} timing
   */
  constructor(api, timing) {
    this.#api = api;
    this.#timing = timing;
    this.#backoff = new Backoff(timing);
  }

  /**
   * Call once.
   * @param {string} path
   * @param {RequestInit & {limitMs?: number, onUnanswered?: () => void}} init `limitMs`: how long to keep trying
   * @returns {Promise<object>} the answer's JSON
   * @throws {ChatProblem} the server's refusal, or why there was no answer within the limit or until `close`
   */
  async send(path, { limitMs = Infinity, onUnanswered, ...init }) {
    const deadline = Date.now() + limitMs;
    while (true) {
      try {
        return await this.#api.postJson(path, this.#timing.answerMs, init);
      } catch (error) {
        if (!UNANSWERED.has(error.problem?.status)) throw error;
        const delayMs = (error.problem.retry_after_seconds ?? 0) * 1000;
        if (this.#closed || Date.now() + delayMs > deadline) throw error;
        onUnanswered?.();
        this.#backoff.obey(delayMs);
        await this.#backoff.pause();
        if (this.#closed) throw error;
      }
    }
  }

  /** Try again now, if it is waiting. */
  wake() {
    this.#backoff.wake();
  }

  /** Send no more; a request on its way may still be answered. */
  close() {
    this.#closed = true;
    this.wake();
  }
}
