// Signals leave no faster than a coordinator takes them: a full room means hundreds within a second.

/** Below the coordinator's default of 50 a second and 200 at once, so that it need not refuse. */
const PER_SECOND = 40;
const BURST = 150;

/** A bucket of turns, handed out in the order of asking. */
export class Pace {
  #turns = BURST;
  #filledAt;
  #heldUntil = 0;
  /** @type {(() => void)[]} */
  #waiting = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #now;

  /** @param {() => number} [now] in ms */
  constructor(now = Date.now) {
    this.#now = now;
    this.#filledAt = now();
  }

  /** @returns {Promise<void>} when the caller may send one */
  turn() {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#hand();
    });
  }

  /** The coordinator asked for patience; while it lasts, asking again changes nothing. @param {number} ms */
  hold(ms) {
    const now = this.#now();
    if (now < this.#heldUntil) return;
    this.#heldUntil = now + ms;
    this.#filledAt = this.#heldUntil;
    this.#turns = 1;
  }

  /** How many wait. */
  get length() {
    return this.#waiting.length;
  }

  #hand() {
    const now = this.#now();
    if (now >= this.#heldUntil) {
      this.#turns = Math.min(BURST, this.#turns + (Math.max(now - this.#filledAt, 0) * PER_SECOND) / 1000);
      this.#filledAt = now;
      while (this.#turns >= 1 && this.#waiting.length > 0) {
        this.#turns -= 1;
        this.#waiting.shift()?.();
      }
    }
    clearTimeout(this.#timer);
    if (this.#waiting.length === 0) return;
    this.#timer = setTimeout(() => this.#hand(), Math.max(this.#heldUntil - now, 1000 / PER_SECOND));
  }
}
