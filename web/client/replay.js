// Numbers of signed messages: each counts once, whichever way it comes and however long ago it was sent.

import { SutantraError } from "./errors.js";

/** What takes a number, once its signature was found good. @typedef {(seq: bigint) => void} Take */

/** A message that comes after so many later ones is refused. */
const REORDERED_MAX = 64;
/** Senders that are remembered; beyond it the one that was silent longest is forgotten. */
const SENDERS_MAX = 1024;
/** A coordinator lets nobody in whose clock is 60 s off, so two of its nodes differ by no more than this. */
const CLOCKS_DIFFER_MS_MAX = 120_000;

/** Numbers are the time: a sender that starts again goes on above what it used before. @param {number} ms Unix */
export const seqAt = (ms) => BigInt(ms) * 1_000_000n;

/** The numbers of one sender. */
export class Numbers {
  /** Those that were used; whatever is not above `#floor` counts as used. @type {Set<bigint>} */
  #used = new Set();
  #floor;
  #highest;

  /** @param {bigint} [floor] */
  constructor(floor = -1n) {
    this.#floor = floor;
    this.#highest = floor;
  }

  /** The greatest that was used. */
  get highest() {
    return this.#highest;
  }

  /**
   * Messages may overtake each other where they take different ways; none comes twice.
   * @param {bigint} seq
   * @throws {SutantraError} `bad_signature`
   */
  take(seq) {
    if (seq <= this.#floor || this.#used.has(seq)) throw refused("its number was used before or is too old");
    this.#used.add(seq);
    if (seq > this.#highest) this.#highest = seq;
    if (this.#used.size <= REORDERED_MAX) return;
    const lowest = [...this.#used].reduce((a, b) => (a < b ? a : b));
    this.#used.delete(lowest);
    this.#floor = lowest;
  }
}

/** The numbers of all senders, for as long as this node lives. */
export class Ledger {
  /** The one that was silent longest stands first. @type {Map<string, Numbers>} */
  #senders = new Map();
  /** Of senders that are not remembered: what was sent before this node began may have been heard by its former self. */
  #floor;
  #now;

  /** @param {() => number} [now] Unix ms */
  constructor(now = Date.now) {
    this.#now = now;
    this.#floor = seqAt(now() - CLOCKS_DIFFER_MS_MAX);
  }

  /**
   * @param {string} sender and whom it wrote to
   * @param {bigint} seq of a message whose signature is good
   * @throws {SutantraError} `bad_signature`
   */
  take(sender, seq) {
    // Else one message from the far future would, once its sender is forgotten, silence all that are new.
    if (seq > seqAt(this.#now() + CLOCKS_DIFFER_MS_MAX)) throw refused("its number is of a time to come (one of the two clocks is wrong)");
    const numbers = this.#senders.get(sender) ?? new Numbers(this.#floor);
    numbers.take(seq);
    this.#senders.delete(sender);
    this.#senders.set(sender, numbers);
    if (this.#senders.size > SENDERS_MAX) this.#forgetOldest();
  }

  /** What it sent does not count again, though it is remembered no more. */
  #forgetOldest() {
    const [oldest] = this.#senders;
    if (!oldest) return;
    const [sender, { highest }] = oldest;
    this.#senders.delete(sender);
    if (highest > this.#floor) this.#floor = highest;
  }
}

/** @param {string} why */
function refused(why) {
  return new SutantraError("bad_signature", `A signature is refused, ${why}: the message is dropped`);
}
