/**
 * One HTTP connection that carries an event stream, with a watchdog: fetch, then events until it ends.
 *
 * It ends quietly whatever the reason, because the reader does the same each time: look whether the task has
 * ended, and if not, connect again from the last event.
 */

import { EventStreamParser } from "./event-stream.js";

export class Connection {
  #api;
  #silenceMs;
  #controller = new AbortController();
  #parser = new EventStreamParser();
  #watchdog;
  #lastByteAt;

  /**
   * @param {import("./api.js").Api} api
   * @param {number} silenceMs without a byte for so long, the connection counts as dead
   */
  constructor(api, silenceMs) {
    this.#api = api;
    this.#silenceMs = silenceMs;
    this.#heard();
  }

  /** The last `retry:` of this connection. */
  get retryMs() {
    return this.#parser.retryMs;
  }

  get idleMs() {
    return Date.now() - this.#lastByteAt;
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   * @returns {Promise<Response | null>} null where no answer came
   */
  async open(path, init) {
    const headers = { Accept: "text/event-stream", ...init.headers };
    try {
      return await this.#api.fetch(path, { ...init, headers, signal: this.#controller.signal });
    } catch {
      this.close();
      return null;
    }
  }

  /**
   * The stream's events, as they come; ends where the connection does.
   * @param {Response} response
   * @returns {AsyncGenerator<import("./event-stream.js").StreamEvent>}
   */
  async *events(response) {
    const reader = response.body.getReader();
    try {
      while (true) {
        const { value, done } = await reader.read();
        if (done) return;
        this.#heard();
        yield* this.#parser.push(value);
      }
    } catch {
      // Cut off.
    } finally {
      this.close();
    }
  }

  close() {
    this.#controller.abort();
    clearTimeout(this.#watchdog);
  }

  #heard() {
    this.#lastByteAt = Date.now();
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => this.#controller.abort(), this.#silenceMs);
  }
}

/** A response with an event stream in it, rather than a proxy's page or a problem. */
export function isEventStream(response) {
  return response.ok && (response.headers.get("Content-Type") ?? "").startsWith("text/event-stream");
}
