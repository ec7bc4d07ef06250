// How long a link waits for each step, how often it is tried again, how long it rests between two tries.

import { Backoff } from "./backoff.js";

/** How long each step may take, ms. @typedef {{ retryMs: number, disconnectedMs: number, courtesyMs: number, restMs: number, steadyMs: number, answererMs: number }} Timings */

/** @type {Readonly<Timings>} */
export const TIMINGS = Object.freeze({
  /** An offer without an answer is sent again; a connection that did not come about is tried anew. */
  retryMs: 8_000,
  /** ICE often recovers by itself within this. */
  disconnectedMs: 3_000,
  /** Who did not begin waits so much longer, so that mostly one side restarts. */
  courtesyMs: 2_000,
  /** Between a restart that failed and the next one, with the backoff on top. */
  restMs: 1_000,
  /** A connection that came back counts as mended after this: some stacks call it connected before anything went through. */
  steadyMs: 10_000,
  /** Who was offered a connection gives up when it has not come about by then. */
  answererMs: 45_000,
});
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
