// Messages through the coordinator, for peers without a channel: always signed, because others carry them.

import { fromBase64, toBase64 } from "./bytes.js";
import { Decoder, Encoder } from "./codec.js";
import { SutantraError } from "./errors.js";
import { toBytes } from "./framing.js";
import { frameText, keyOf, verify } from "./identity.js";
import { Ledger } from "./replay.js";

/** @typedef {import("./identity.js").Identity} Identity */
/** @typedef {import("./framing.js").Message} Message */

/** A frame in base64 has at most 16 KiB, so the frame itself three quarters of that. */
const FRAME_BYTES_MAX = 12 * 1024;
/** Frames of one message: more would take the coordinator's allowance of signals for itself. */
const FRAMES_MAX = 32;
/** A broadcast's frame in base64 has at most 4 KiB. */
const BROADCAST_BYTES_MAX = 3 * 1024;
/** Senders and receivers that are remembered; the oldest is forgotten. */
const REMEMBERED_MAX = 1024;

export class Relay {
  #nodeId;
  #identity;
  #lookUp;
  /** @type {Map<string, Encoder>} */
  #encoders = new Map();
  /** @type {Map<string, { decoder: Decoder, turn: Promise<unknown> }>} */
  #decoders = new Map();
  /** @type {Map<string, Uint8Array>} */
  #keys = new Map();
  #ledger;
  #now;

  /**
   * @param {string} nodeId
   * @param {Identity | null} identity
   * @param {(nodeId: string, room: string) => Promise<unknown>} lookUp the `pk` that a member shows, for keys that are not known yet
   * @param {() => number} [now] Unix ms
   */
  constructor(nodeId, identity, lookUp, now = Date.now) {
    this.#nodeId = nodeId;
    this.#identity = identity;
    this.#lookUp = lookUp;
    this.#ledger = new Ledger(now);
    this.#now = now;
  }

  /** Remembers whose key is whose, where the id proves it. @param {string} nodeId @param {unknown} pk */
  async learn(nodeId, pk) {
    if (pk === undefined || pk === null || this.#keys.has(nodeId)) return;
    const key = await keyOf(pk, nodeId);
    if (key) remember(this.#keys, nodeId, key);
  }

  /** @param {string} nodeId */
  keyOf(nodeId) {
    return this.#keys.get(nodeId);
  }

  /**
   * @param {string} to a node
   * @param {Message} message @param {number} kind
   * @returns {Promise<string[]>} signed frames in base64, in the order of sending
   * @throws {SutantraError} `no_identity`, `too_large`
   */
  async frames(to, message, kind) {
    const frames = await this.#seal(to, message, kind, FRAME_BYTES_MAX);
    if (frames.length > FRAMES_MAX) throw tooLarge(FRAMES_MAX * FRAME_BYTES_MAX);
    return frames.map(toBase64);
  }

  /** One frame for everybody in a room. @param {string} room @param {Message} message @param {number} kind */
  async broadcastFrame(room, message, kind) {
    const [frame, more] = await this.#seal(room, message, kind, BROADCAST_BYTES_MAX);
    if (!frame || more) throw tooLarge(BROADCAST_BYTES_MAX);
    return toBase64(frame);
  }

  /**
   * Opens what the coordinator brought; messages of one sender come out in the order they went in.
   * @param {{ from: string, room: string, data: unknown }} signal
   * @param {{ to: string }} whom this node's id, or the room of a broadcast
   * @returns {Promise<import("./codec.js").Decoded | null>}
   * @throws {SutantraError} `bad_frame`, `bad_signature`
   */
  open({ from, room, data }, { to }) {
    const name = pairOf(from, to);
    let entry = this.#decoders.get(name);
    if (!entry) {
      const verifies = (/** @type {bigint} */ seq, /** @type {Uint8Array} */ covered, /** @type {Uint8Array} */ signature) => this.verify(from, to, seq, covered, signature);
      entry = { decoder: new Decoder(verifies, (seq) => this.take(from, to, seq)), turn: Promise.resolve() };
      remember(this.#decoders, name, entry);
    }
    const { decoder, turn } = entry;
    const opened = turn.then(async () => {
      const bytes = fromBase64(data);
      if (!bytes) throw new SutantraError("bad_frame", "a message of another peer is no base64: it is dropped", { peerId: from });
      if (!this.#keys.has(from)) await this.learn(from, await this.#lookUp(from, room));
      return decoder.decode(bytes, { mustBeSigned: true });
    });
    entry.turn = opened.catch(() => {});
    return opened;
  }

  /**
   * @param {string} from @param {string} to
   * @param {bigint} seq @param {Uint8Array} covered @param {Uint8Array} signature
   */
  async verify(from, to, seq, covered, signature) {
    const key = this.#keys.get(from);
    return key !== undefined && verify(key, frameText(from, to, seq, covered), signature);
  }

  /**
   * The number of a verified message, over the coordinator or a channel.
   * @param {string} from @param {string} to @param {bigint} seq
   * @throws {SutantraError} `bad_signature`: it counts no more
   */
  take(from, to, seq) {
    this.#ledger.take(pairOf(from, to), seq);
  }

  /** @param {string} to @param {Message} message @param {number} kind @param {number} bytesMax */
  #seal(to, message, kind, bytesMax) {
    const identity = this.#identity;
    if (!identity) {
      throw new SutantraError("no_identity", "What others carry has to be signed: make the peer with an identity (Identity.generate())");
    }
    const { bin, bytes } = toBytes(message);
    let encoder = this.#encoders.get(to);
    if (!encoder) {
      const sign = (/** @type {bigint} */ seq, /** @type {Uint8Array} */ covered) => identity.sign(frameText(this.#nodeId, to, seq, covered));
      encoder = new Encoder({ sign, bytesMax, now: this.#now });
      remember(this.#encoders, to, encoder);
    }
    return encoder.encode([bytes], { bin, kind });
  }
}

/** @param {string} from @param {string} to */
const pairOf = (from, to) => `${from}\n${to}`;

/** @template T @param {Map<string, T>} map @param {string} name @param {T} value */
function remember(map, name, value) {
  if (map.size >= REMEMBERED_MAX) {
    const [oldest] = map.keys();
    if (oldest !== undefined) map.delete(oldest);
  }
  map.set(name, value);
}

/** @param {number} bytesMax */
function tooLarge(bytesMax) {
  return new SutantraError("too_large", `The coordinator carries messages of at most ${bytesMax} bytes, compressed: open a channel to the peer for more`);
}
