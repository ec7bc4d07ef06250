// How long to wait before the next try: doubles to a ceiling, with jitter, so that the viewers of a
// relay that restarts do not all come back in the same instant.

/** The first wait. Short: most failures are a relay that is back within a second. */
export const FIRST_MS = 500;
/** The ceiling. A person looks at the page meanwhile, so it stays well under a minute. */
export const MAX_MS = 10_000;

export class Backoff {
  #tries = 0;
  #random;

  /** @param {() => number} [random] uniform in [0, 1) */
  constructor(random = Math.random) {
    this.#random = random;
  }

  /**
   * The wait before the next try: between 75 % and 125 % of a doubling base, and never less than
   * what the server asked for.
   * @param {number | null} [retryAfterMs] the server's own wish
   */
  next(retryAfterMs = null) {
    const base = Math.min(FIRST_MS * 2 ** this.#tries, MAX_MS);
    this.#tries += 1;
    return Math.max(Math.round(base * (0.75 + this.#random() / 2)), retryAfterMs ?? 0);
  }

  /** Call when a try worked. */
  reset() {
    this.#tries = 0;
  }
}
