// Messages to frames and back: batch, deflate, signature, fragments, in that order.

import { concat } from "./bytes.js";
import { deflate, inflate, INFLATED_BYTES_MAX, RATIO_MAX } from "./deflate.js";
import { SutantraError } from "./errors.js";
import {
  ASSEMBLED_BYTES_MAX,
  BATCH,
  BIN,
  DEFLATE,
  fragment,
  frame,
  fromBytes,
  HEAD_BYTES,
  packBatch,
  parse,
  Reassembler,
  SIGNED,
  unpackBatch,
} from "./framing.js";
import { SIGNATURE_BYTES } from "./identity.js";
import { Numbers, seqAt } from "./replay.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** Messages that came in one frame. @typedef {{ kind: number, messages: (string | Bytes)[], signed: boolean }} Decoded */
/**
 * Signs what precedes the signature, head (without FRAG) and `seq` included.
 * @typedef {(seq: bigint, covered: Uint8Array) => Promise<Uint8Array>} Sign
 */
/** @typedef {(seq: bigint, covered: Uint8Array, signature: Uint8Array) => Promise<boolean>} Verify */

/** Above this a message is compressed, where that makes it smaller. */
export const DEFLATE_ABOVE_BYTES = 1024;
const SEQ_BYTES = 8;

/** Turns messages into what a channel sends. */
export class Encoder {
  #sign;
  #bytesMax;
  #nextId = Math.floor(Math.random() * 2 ** 32);
  #lastSeq = 0n;
  #now;

  /**
   * @param {{ sign?: Sign, bytesMax?: number, now?: () => number }} [options] `bytesMax` of one frame; `now` in Unix ms
   */
  constructor({ sign, bytesMax, now = Date.now } = {}) {
    this.#sign = sign;
    this.#bytesMax = bytesMax;
    this.#now = now;
  }

  /**
   * @param {Uint8Array[]} messages all bytes or all UTF-8
   * @param {{ bin: boolean, kind: number }} what they are
   * @returns {Promise<Uint8Array[]>} SCTP messages, in the order of sending
   * @throws {SutantraError} `too_large`
   */
  async encode(messages, { bin, kind }) {
    let flags = bin ? BIN : 0;
    let body = messages.length === 1 && messages[0] ? messages[0] : packBatch(messages);
    if (messages.length !== 1) flags |= BATCH;
    if (body.length > INFLATED_BYTES_MAX) throw tooLarge(body.length);
    if (body.length > DEFLATE_ABOVE_BYTES) {
      const packed = await deflate(body);
      // A receiver refuses more than 100:1, so what shrinks further goes as it is.
      if (packed.length < body.length && body.length <= RATIO_MAX * packed.length) {
        body = packed;
        flags |= DEFLATE;
      }
    }
    if (this.#sign) {
      const seq = this.#nextSeq();
      flags |= SIGNED;
      const numbered = concat(body, seqBytes(seq));
      // With the head, so that who carries it cannot turn a vote into chat.
      body = concat(numbered, await this.#sign(seq, frame(flags, kind, numbered)));
    }
    if (body.length > ASSEMBLED_BYTES_MAX) throw tooLarge(body.length);
    const id = this.#nextId;
    this.#nextId = (this.#nextId + 1) >>> 0;
    return fragment(frame(flags, kind, body), id, this.#bytesMax);
  }

  #nextSeq() {
    const time = seqAt(this.#now());
    this.#lastSeq = time > this.#lastSeq ? time : this.#lastSeq + 1n;
    return this.#lastSeq;
  }
}

/** Turns what a channel brings into messages. */
export class Decoder {
  #reassembler = new Reassembler();
  #verify;
  #take;

  /**
   * @param {Verify} [verify] who has none cannot read signed frames
   * @param {import("./replay.js").Take} [take] shared by all that may bring messages of the same sender
   */
  constructor(verify, take) {
    const numbers = new Numbers();
    this.#verify = verify;
    this.#take = take ?? ((seq) => numbers.take(seq));
  }

  /**
   * @param {Uint8Array} bytes one SCTP message; call again only when the last call has ended
   * @param {{ mustBeSigned: boolean }} demand
   * @returns {Promise<Decoded | null>} null: a piece, more has to come
   * @throws {SutantraError} `bad_frame`, `bad_signature`
   */
  async decode(bytes, { mustBeSigned }) {
    const whole = this.#reassembler.push(bytes);
    if (!whole) return null;
    const { flags, kind, body: sealed } = parse(whole);
    const signed = (flags & SIGNED) !== 0;
    if (mustBeSigned && !signed) throw badSignature("a message that passed through others has none");
    let body = signed ? await this.#open(whole) : sealed;
    if (flags & DEFLATE) body = await inflate(body);
    const parts = flags & BATCH ? unpackBatch(body) : [body];
    return { kind, signed, messages: parts.map((part) => fromBytes((flags & BIN) !== 0, part)) };
  }

  /** Checks the trailer and takes it off. @param {Uint8Array} whole a frame without FRAG */
  async #open(whole) {
    const covered = whole.subarray(0, Math.max(whole.length - SIGNATURE_BYTES, 0));
    const signature = whole.subarray(covered.length);
    if (covered.length < HEAD_BYTES + SEQ_BYTES) throw badSignature("a signed frame has no room for one");
    const body = covered.subarray(HEAD_BYTES, covered.length - SEQ_BYTES);
    const seq = new DataView(covered.buffer, covered.byteOffset + covered.length - SEQ_BYTES).getBigUint64(0);
    if (!this.#verify) throw badSignature("the sender's key is not known");
    if (!(await this.#verify(seq, covered, signature))) throw badSignature("it is not the sender's");
    this.#take(seq);
    return body;
  }
}

/** @param {bigint} seq */
function seqBytes(seq) {
  const bytes = new Uint8Array(SEQ_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, seq);
  return bytes;
}

/** @param {number} length */
function tooLarge(length) {
  return new SutantraError(
    "too_large",
    `${length} bytes are more than one message carries (8 MiB plain, 4 MiB as it crosses): send it in parts`,
  );
}

/** @param {string} why */
function badSignature(why) {
  return new SutantraError("bad_signature", `A signature is refused, ${why}: the message is dropped`);
}
