// How often a link that the network failed is tried again, and how long it rests between two tries.

import { Backoff } from "./backoff.js";

/** Tries before a peer counts as unreachable. */
export const TRIES_MAX = 4;

export class Attempts {
  #count = 0;
  #backoff;
  #restMs;
  #pauseMs = 0;

  /** @param {number} restMs between two tries at least @param {() => number} [random] uniform in [0, 1) */
  constructor(restMs, random) {
    this.#restMs = restMs;
    this.#backoff = new Backoff(random);
  }

  /** Counts one more. @returns {boolean} false: there were enough */
  begin() {
    this.#count += 1;
    this.#pauseMs = this.#restMs + this.#backoff.next();
    return this.#count <= TRIES_MAX;
  }

  /** From the failure of the last try to the next, ms; 0: there was none yet. */
  get pauseMs() {
    return this.#pauseMs;
  }

  /** It worked, and not only for a moment. */
  reset() {
    this.#count = 0;
    this.#pauseMs = 0;
    this.#backoff.reset();
  }
}
