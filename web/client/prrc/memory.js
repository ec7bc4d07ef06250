// GlobalMemoryField: what a room has committed, the same on every node, in one order everywhere.

import { EventEmitter } from "../emitter.js";
import { textHash } from "./signed.js";

/** @typedef {import("./ballot.js").Certificate} Certificate */
/** @typedef {import("./channel.js").PRRCChannel} PRRCChannel */
/** @typedef {import("./commit.js").CoherentCommitProtocol} CoherentCommitProtocol */

/** Traces in a memory; one more is not stored, and `full` counts it. */
export const TRACES_MAX = 4096;
/** Ids in one message when memories are compared. */
const IDS_PAGE = 256;
/** Certificates in one message: each has a vote of every member. */
const GIVEN_CHARS_MAX = 128 * 1024;

/**
 * One thing that is remembered.
 * @typedef {object} Trace
 * @property {string} id of the proposal that brought it
 * @property {number} height
 * @property {string} by node id of who proposed it
 * @property {number} ts Unix ms by that node's clock
 * @property {any} content
 */

/**
 * The order is that of (height, id), both of which are signed: nodes that hold the same traces hold them in
 * the same order, however they came. A trace is held with its certificate, so that nobody has to be believed.
 *
 * Events: `trace` (Trace, index) once for each; `synced` (peerId, count) after traces came from a peer.
 */
export class GlobalMemoryField extends EventEmitter {
  /** Traces that found no room. */
  full = 0;
  #channel;
  #protocol;
  /** @type {Trace[]} */
  #traces = [];
  /** @type {Map<string, Certificate>} */
  #certificates = new Map();

  /** @param {{ channel: PRRCChannel, protocol: CoherentCommitProtocol }} parts */
  constructor({ channel, protocol }) {
    super();
    this.#channel = channel;
    this.#protocol = protocol;
    protocol.on("committed", (certificate) => void this.apply(certificate));
    channel.on("connected", (peerId) => void this.#greet(peerId));
    channel.handle("memory-digest", (from, body) => this.#compare(from, body));
    channel.handle("memory-ids", (from, body) => this.#want(from, body));
    channel.handle("memory-want", (from, body) => this.#give(from, body));
    channel.handle("memory-give", (from, body) => this.#take(from, body));
  }

  /**
   * Proposes a trace to the room.
   * @param {unknown} content JSON @returns {Promise<Trace>} when the room has agreed and it is stored here
   */
  async store(content) {
    const certificate = await this.#protocol.propose(content);
    this.apply(certificate);
    return traceOf(certificate);
  }

  /**
   * Stores what a good certificate says; again and again changes nothing.
   * @param {Certificate} certificate checked by the protocol @returns {boolean} whether it was new
   */
  apply(certificate) {
    const { id } = certificate.proposal;
    if (this.#certificates.has(id)) return false;
    if (this.#traces.length >= TRACES_MAX) {
      this.full += 1;
      return false;
    }
    const trace = traceOf(certificate);
    const at = this.#place(trace);
    this.#certificates.set(id, certificate);
    this.#traces.splice(at, 0, trace);
    this.emit("trace", trace, at);
    return true;
  }

  /** In their order. @returns {readonly Trace[]} */
  get traces() {
    return this.#traces;
  }

  /** @param {string} id @returns {Certificate | null} the proof of a trace */
  certificate(id) {
    return this.#certificates.get(id) ?? null;
  }

  /** Equal on two nodes exactly where they hold the same traces. @returns {Promise<string>} hex */
  digest() {
    return textHash(`sutantra/memo/v1\n${this.#channel.room}\n${this.#traces.map(({ id }) => id).join("\n")}`);
  }

  /** Where it belongs. @param {Trace} trace */
  #place(trace) {
    let at = this.#traces.length;
    // From the end: most are the newest.
    while (at > 0 && isBefore(trace, /** @type {Trace} */ (this.#traces[at - 1]))) at -= 1;
    return at;
  }

  /** @param {string} peerId */
  async #greet(peerId) {
    this.#channel.send(peerId, "memory-digest", { digest: await this.digest() });
  }

  /** @param {string} from @param {any} body */
  async #compare(from, { digest, answer }) {
    const own = await this.digest();
    if (digest === own) return;
    // One side's word is enough: the other's may have been sent before it was known here.
    if (answer !== true) this.#channel.send(from, "memory-digest", { digest: own, answer: true });
    const ids = this.#traces.map(({ id }) => id);
    for (let at = 0; at < ids.length; at += IDS_PAGE) this.#channel.send(from, "memory-ids", { ids: ids.slice(at, at + IDS_PAGE) });
  }

  /** @param {string} from @param {any} body */
  #want(from, { ids }) {
    if (!Array.isArray(ids) || this.#traces.length >= TRACES_MAX) return;
    const missing = ids.slice(0, IDS_PAGE).filter((id) => typeof id === "string" && !this.#certificates.has(id));
    if (missing.length > 0) this.#channel.send(from, "memory-want", { ids: missing });
  }

  /** @param {string} from @param {any} body */
  #give(from, { ids }) {
    if (!Array.isArray(ids)) return;
    /** @type {Certificate[]} */
    let page = [];
    let chars = 0;
    const flush = () => {
      if (page.length > 0) this.#channel.send(from, "memory-give", { certificates: page });
      [page, chars] = [[], 0];
    };
    for (const id of new Set(ids.slice(0, IDS_PAGE))) {
      const certificate = this.#certificates.get(id);
      if (!certificate) continue;
      const size = JSON.stringify(certificate).length;
      if (chars + size > GIVEN_CHARS_MAX) flush();
      page.push(certificate);
      chars += size;
    }
    flush();
  }

  /** @param {string} from @param {any} body */
  async #take(from, { certificates }) {
    if (!Array.isArray(certificates)) return;
    let count = 0;
    for (const certificate of certificates.slice(0, IDS_PAGE)) {
      // The protocol checks it, and tells us of it like of any other.
      if (await this.#protocol.accept(certificate, from)) count += 1;
    }
    if (count > 0) this.emit("synced", from, count);
  }
}

/** @param {Certificate} certificate @returns {Trace} */
function traceOf({ proposal: { id, height, by, ts, body } }) {
  return { id, height, by, ts, content: JSON.parse(body) };
}

/** @param {Trace} one @param {Trace} other */
function isBefore(one, other) {
  return one.height < other.height || (one.height === other.height && one.id < other.id);
}
