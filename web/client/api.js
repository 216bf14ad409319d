/** Requests to the API: one base URL, the caller's headers, JSON in and out, problems as ChatProblem. */

import { ChatProblem, localProblem, readProblem } from "./problem.js";

export class Api {
  #baseUrl;
  #headers;

  /**
   * @param {string} baseUrl
   * @param {Record<string, string>} headers sent with every request, `Authorization` for instance
   */
  constructor(baseUrl, headers) {
    this.#baseUrl = baseUrl.replace(/\/+$/, "");
    this.#headers = headers;
  }

  /** As the platform's `fetch`, which follows the 307 to the gateway by itself. */
  fetch(path, init = {}) {
    return fetch(this.#baseUrl + path, {
      cache: "no-store",
      ...init,
      headers: { ...this.#headers, ...init.headers },
    });
  }

  /** @throws {ChatProblem} */
  getJson(path, timeoutMs) {
    return this.#json(path, { method: "GET" }, timeoutMs);
  }

  /** @throws {ChatProblem} */
  postJson(path, timeoutMs, init = {}) {
    return this.#json(path, { ...init, method: "POST" }, timeoutMs);
  }

  async #json(path, init, timeoutMs) {
    const signal = AbortSignal.timeout(timeoutMs);
    const headers = { Accept: "application/json", ...init.headers };
    const response = await this.fetch(path, { ...init, headers, signal }).catch(() => null);
    if (response === null) throw new ChatProblem(localProblem(signal.aborted ? "no_answer" : "unreachable"));
    if (!response.ok) throw new ChatProblem(await readProblem(response));
    const body = await response.json().catch(() => null);
    if (body === null) throw new ChatProblem(localProblem("bad_response"));
    return body;
  }
}
