// How much media a viewer received, in the slots of 500 ms in which the relay counts what it served.

/** A slot counts as a whole when a packet came in it, here and at the relay. */
const SLOT_MS = 500;
/** A page that slept for longer than this says nothing about the time in between; a busy machine may. */
const GAP_SLOTS_MAX = 10;

export class MediaClock {
  /** @type {number | null} */
  #slot = null;
  /** The newest slot that was counted. */
  #counted = -1;
  #packets = 0;

  /**
   * @param {number} nowMs a monotonic clock
   * @param {number} packets received so far on this connection
   * @returns {number} ms of media since the last call
   */
  observe(nowMs, packets) {
    const slot = Math.floor(nowMs / SLOT_MS);
    const before = this.#slot ?? slot;
    const came = packets > this.#packets;
    this.#slot = slot;
    this.#packets = packets;
    if (!came) return 0;
    const from = Math.max(this.#counted + 1, before, slot - GAP_SLOTS_MAX + 1);
    this.#counted = Math.max(this.#counted, slot);
    return Math.max(0, slot - from + 1) * SLOT_MS;
  }

  /** A new connection counts its packets from zero. */
  restart() {
    this.#packets = 0;
    this.#slot = null;
  }
}
