// Signals that wait for the coordinator to be there.

/** The oldest candidate makes room, else the oldest. */
const OUTBOX_MAX = 256;

export class Outbox {
  /** @type {any[]} */
  #waiting = [];

  /** @param {any} message */
  push(message) {
    if (this.#waiting.length === OUTBOX_MAX) {
      const candidate = this.#waiting.findIndex(({ type }) => type === "ice-candidate");
      this.#waiting.splice(Math.max(candidate, 0), 1);
    }
    this.#waiting.push(message);
  }

  /** Descriptions of before are made anew by who needs them; messages of the application go on. */
  keepMessages() {
    this.#waiting = this.#waiting.filter(({ type }) => type === "message");
  }

  /** All that wait, in the order of their coming. @returns {any[]} */
  take() {
    return this.#waiting.splice(0);
  }
}
