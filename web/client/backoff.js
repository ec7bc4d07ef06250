// How long to wait before the next try: full jitter under a doubling ceiling, as the coordinator asks.

/** The first ceiling, and the last: the same as the coordinator's `retryAfterMs`. */
export const FIRST_MS = 250;
export const MAX_MS = 30_000;

export class Backoff {
  #tries = 0;
  #random;

  /** @param {() => number} [random] uniform in [0, 1) */
  constructor(random = Math.random) {
    this.#random = random;
  }

  /**
   * Full jitter: uniform below the ceiling, so that a thousand peers of a coordinator that restarts do
   * not come back in one instant; never before the coordinator's own wish.
   * @param {number | null} [retryAfterMs] that the coordinator asked for
   * @returns {number} ms
   */
  next(retryAfterMs = null) {
    const ceiling = Math.min(FIRST_MS * 2 ** Math.min(this.#tries, 16), MAX_MS);
    this.#tries += 1;
    const wait = Math.round(ceiling * this.#random());
    return retryAfterMs === null ? wait : Math.min(retryAfterMs, MAX_MS) + wait;
  }

  /** Call when a try worked. */
  reset() {
    this.#tries = 0;
  }
}
