/**
 * When to try again: exponential backoff with full jitter, never sooner than the server asked.
 *
 * Full jitter because a gateway that restarts loses all of its subscribers in the same moment.
 */

export class Backoff {
  #firstMs;
  #maxMs;
  #serverMaxMs;
  #serverMs = 0;
  #failures = 0;
  #wake = null;

  /** @param {{backoffMs: number, backoffMaxMs: number, serverDelayMaxMs: number}} timing */
  constructor({ backoffMs, backoffMaxMs, serverDelayMaxMs }) {
    this.#firstMs = backoffMs;
    this.#maxMs = backoffMaxMs;
    this.#serverMaxMs = serverDelayMaxMs;
  }

  /**
   * The server's `retry:` or `Retry-After`; holds until the next one. null says nothing.
   * @param {number | null | undefined} delayMs
   */
  obey(delayMs) {
    if (typeof delayMs === "number") this.#serverMs = Math.min(delayMs, this.#serverMaxMs);
  }

  /** Something came of the last try. */
  reset() {
    this.#failures = 0;
  }

  /** Wait; the next wait is longer. */
  async pause() {
    const jitteredMs = Math.random() * Math.min(this.#maxMs, this.#firstMs * 2 ** this.#failures);
    this.#failures += 1;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(jitteredMs, this.#serverMs));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = null;
  }

  /** End the wait, if there is one. */
  wake() {
    this.#wake?.();
  }
}
