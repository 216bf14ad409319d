/**
 * The events of one task, over as many connections as it takes: `for await (const event of new TaskEvents(…))`.
 *
 * `GET /tasks/{id}/events`, each time from the reader's cursor. Ends only with `close`, since the reader is who
 * sees the task's end; throws ChatProblem where no later try can help.
 */

import { Backoff } from "./backoff.js";
import { Connection, isEventStream } from "./connection.js";
import { ChatProblem, isTransient, readProblem, retryAfterMs, taskGone } from "./problem.js";
import { eventOfTask } from "./transcript.js";

export class TaskEvents {
  #api;
  #timing;
  #path;
  #cursor;
  #onReconnecting;
  #onRestored;
  #backoff;
  #connection = null; // while one is open
  #atOnce = true; // the next connection does not wait
  #closed = false;

  /**
   * @param {object} parts
   * @param {import("./api.js").Api} parts.api
   * @param {typeof import("./timing.js").DEFAULT_TIMING} parts.timing
   * @param {string} parts.path of the task
   * @param {() => string | null} parts.cursor the id of the last event that the reader took
   * @param {() => void} parts.onReconnecting a connection was lost
   * @param {() => void} parts.onRestored one stands, though no event has come yet
   */
  constructor({ api, timing, path, cursor, onReconnecting, onRestored }) {
    this.#api = api;
    this.#timing = timing;
    this.#path = path;
    this.#cursor = cursor;
    this.#onReconnecting = onReconnecting;
    this.#onRestored = onRestored;
    this.#backoff = new Backoff(timing);
  }

  /** @returns {AsyncGenerator<{type: string, id: string | null, data: object}>} */
  async *[Symbol.asyncIterator]() {
    while (!this.#closed) {
      await this.#pauseUnlessAtOnce();
      if (!this.#closed) yield* this.#connect();
    }
  }

  /** Connect again now. */
  refresh() {
    this.#atOnce = this.#connection !== null;
    this.#backoff.reset();
    this.#connection?.close();
    this.#backoff.wake();
  }

  /** Connect again now, unless the connection has been heard of lately. */
  refreshIfStale() {
    if ((this.#connection?.idleMs ?? Infinity) > this.#timing.staleMs) this.refresh();
  }

  close() {
    this.#closed = true;
    this.#connection?.close();
    this.#backoff.wake();
  }

  async *#connect() {
    const cursor = this.#cursor();
    const connection = new Connection(this.#api, this.#timing.silenceMs);
    this.#connection = connection;
    try {
      // No header without a cursor: it would cost a browser a preflight at the gateway's origin.
      const headers = cursor === null ? {} : { "Last-Event-ID": cursor };
      const response = await connection.open(`${this.#path}/events`, { headers });
      if (response === null) return;
      if (isEventStream(response)) yield* this.#read(connection, response);
      else if (response.status === 204) yield* this.#readTask();
      else await this.#obeyOrThrow(response);
    } finally {
      this.#connection = null;
      connection.close();
    }
  }

  async *#read(connection, response) {
    const restored = setTimeout(this.#onRestored, this.#timing.restoredMs);
    try {
      for await (const { type, data, id } of connection.events(response)) {
        this.#backoff.obey(connection.retryMs);
        const cursor = this.#cursor();
        const object = parseObject(data);
        if (object !== null) yield { type, id, data: object };
        if (this.#cursor() !== cursor) this.#backoff.reset();
      }
    } finally {
      clearTimeout(restored);
      this.#backoff.obey(connection.retryMs); // a stream of nothing but `retry:` has no event
    }
  }

  /** The task ended and its log holds nothing new (204): its final state says how. */
  async *#readTask() {
    try {
      yield eventOfTask(await this.#api.getJson(this.#path, this.#timing.answerMs));
    } catch ({ problem }) {
      if (problem.status === 404) throw new ChatProblem(taskGone());
      if (problem.status && !isTransient(problem.status)) throw new ChatProblem(problem);
    }
  }

  async #obeyOrThrow(response) {
    if (response.status === 404) throw new ChatProblem(taskGone());
    // A page with status 200 in a stream's place is a proxy or a hotel's login: wait, as for a 503.
    if (!response.ok && !isTransient(response.status)) throw new ChatProblem(await readProblem(response));
    this.#backoff.obey(retryAfterMs(response));
  }

  async #pauseUnlessAtOnce() {
    const atOnce = this.#atOnce;
    this.#atOnce = false;
    if (atOnce) return;
    this.#onReconnecting();
    await this.#backoff.pause();
  }
}

function parseObject(json) {
  try {
    const value = JSON.parse(json);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}
