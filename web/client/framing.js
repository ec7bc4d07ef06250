// Frames of a data channel (`docs/coordinator.md`, "Data channels between peers"): bytes to parts and back.

import { concat, utf8 } from "./bytes.js";
import { SutantraError } from "./errors.js";
import { mustBeMessage } from "./inputs.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** A frame, taken apart. @typedef {{ flags: number, kind: number, body: Uint8Array }} Frame */
/** What an application sends. @typedef {string | Uint8Array | ArrayBuffer | ArrayBufferView} Message */

const VERSION = 0x40;
const VERSION_MASK = 0xc0;
const RESERVED = 0x20;
/** Flags of byte 0. */
export const BIN = 1;
export const DEFLATE = 2;
export const BATCH = 4;
export const FRAG = 8;
export const SIGNED = 16;

/** Byte 1: whose message it is. */
export const KIND = Object.freeze({ APPLICATION: 0, PRRC: 1, COMMIT: 2, CONTROL: 3 });
const KIND_MAX = 3;

export const HEAD_BYTES = 2;
const FRAGMENT_HEAD_BYTES = 8;
/** An SCTP message; larger ones do not pass between all browsers. */
export const SCTP_MESSAGE_BYTES_MAX = 16 * 1024;
/** A message as it crosses, put together again. */
export const ASSEMBLED_BYTES_MAX = 4 * 1024 * 1024;
/** Messages in one batch; a sender flushes at 1,200 bytes, so an honest batch stays below. */
export const BATCH_MESSAGES_MAX = 4096;
/** Messages in pieces at a time from one sender; an older one is dropped. */
const PARTIAL_MAX = 4;

/** @param {string} what */
const bad = (what) => new SutantraError("bad_frame", `${what}: the frame is dropped, the channel goes on`);

/** @param {number} flags @param {number} kind @param {Uint8Array} body @returns {Bytes} */
export function frame(flags, kind, body) {
  return concat(Uint8Array.of(VERSION | flags, kind), body);
}

/**
 * @param {Uint8Array} bytes
 * @returns {Frame} whose body shares memory with `bytes`
 * @throws {SutantraError} `bad_frame`
 */
export function parse(bytes) {
  if (bytes.length < HEAD_BYTES) throw bad(`a frame of ${bytes.length} bytes has no head`);
  const [head, kind] = /** @type {[number, number]} */ (/** @type {unknown} */ (bytes));
  if ((head & VERSION_MASK) !== VERSION) throw bad(`version ${head >> 6}, expected 1`);
  if (head & RESERVED) throw bad("a flag that this version does not know");
  if (kind > KIND_MAX) throw bad(`kind ${kind}, expected at most ${KIND_MAX}`);
  return { flags: head & ~VERSION_MASK, kind, body: bytes.subarray(HEAD_BYTES) };
}

/**
 * Cuts a message into SCTP messages.
 * @param {Uint8Array} whole a frame
 * @param {number} id of the message, its sender's own
 * @param {number} [bytesMax] of each piece, head included
 * @returns {Uint8Array[]} `[whole]` where it fits
 */
export function fragment(whole, id, bytesMax = SCTP_MESSAGE_BYTES_MAX) {
  if (whole.length <= bytesMax) return [whole];
  const { flags, kind, body } = parse(whole);
  const piece = bytesMax - HEAD_BYTES - FRAGMENT_HEAD_BYTES;
  const total = Math.ceil(body.length / piece);
  return Array.from({ length: total }, (_, index) => {
    const head = new DataView(new ArrayBuffer(FRAGMENT_HEAD_BYTES));
    head.setUint32(0, id);
    head.setUint16(4, index);
    head.setUint16(6, total);
    const part = body.subarray(index * piece, (index + 1) * piece);
    return frame(flags | FRAG, kind, concat(new Uint8Array(head.buffer), part));
  });
}

/** Puts messages together again that came in pieces, in any order. */
export class Reassembler {
  /** @type {Map<number, { first: number, kind: number, pieces: (Uint8Array | undefined)[], missing: number, length: number }>} */
  #partial = new Map();

  /**
   * @param {Uint8Array} bytes one SCTP message
   * @returns {Uint8Array | null} a whole frame without FRAG; null: more has to come
   * @throws {SutantraError} `bad_frame`
   */
  push(bytes) {
    if (bytes.length > SCTP_MESSAGE_BYTES_MAX) throw bad(`a frame of ${bytes.length} bytes`);
    const { flags, kind, body } = parse(bytes);
    if (!(flags & FRAG)) return bytes;
    if (body.length < FRAGMENT_HEAD_BYTES) throw bad("a fragment without its head");
    const head = new DataView(body.buffer, body.byteOffset, FRAGMENT_HEAD_BYTES);
    const id = head.getUint32(0);
    const index = head.getUint16(4);
    const total = head.getUint16(6);
    if (index >= total || body.length === FRAGMENT_HEAD_BYTES) throw bad(`piece ${index} of ${total}`);

    const partial = this.#partial.get(id) ?? this.#begin(id, flags, kind, total);
    if (partial.first !== flags || partial.kind !== kind || partial.pieces.length !== total) {
      this.#partial.delete(id);
      throw bad("pieces that do not belong together");
    }
    if (partial.pieces[index]) throw bad("a piece twice");
    // A copy: a view would keep alive whatever the channel read it into.
    const piece = body.slice(FRAGMENT_HEAD_BYTES);
    partial.pieces[index] = piece;
    partial.missing -= 1;
    partial.length += piece.length;
    if (partial.length > ASSEMBLED_BYTES_MAX) {
      this.#partial.delete(id);
      throw bad(`a message of more than ${ASSEMBLED_BYTES_MAX} bytes`);
    }
    if (partial.missing > 0) return null;
    this.#partial.delete(id);
    return frame(flags & ~FRAG, kind, concat(.../** @type {Uint8Array[]} */ (partial.pieces)));
  }

  /** @param {number} id @param {number} first @param {number} kind @param {number} total */
  #begin(id, first, kind, total) {
    if (this.#partial.size >= PARTIAL_MAX) {
      const [oldest] = this.#partial.keys();
      if (oldest !== undefined) this.#partial.delete(oldest);
    }
    const partial = { first, kind, pieces: new Array(total), missing: total, length: 0 };
    this.#partial.set(id, partial);
    return partial;
  }
}

/**
 * A row of (LEB128 length, bytes).
 * @param {Uint8Array[]} messages
 * @returns {Bytes}
 */
export function packBatch(messages) {
  return concat(...messages.flatMap((message) => [leb128(message.length), message]));
}

/** What a message takes in a batch. @param {number} length in bytes */
export const batchedBytes = (length) => leb128(length).length + length;

/**
 * @param {Uint8Array} body
 * @returns {Uint8Array[]} that share memory with `body`
 * @throws {SutantraError} `bad_frame`
 */
export function unpackBatch(body) {
  const messages = [];
  let at = 0;
  while (at < body.length) {
    if (messages.length === BATCH_MESSAGES_MAX) throw bad(`a batch of more than ${BATCH_MESSAGES_MAX} messages`);
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = body[at];
      // Four bytes count to 256 MiB, which is above any message.
      if (byte === undefined || shift > 21) throw bad("a length in a batch is broken");
      at += 1;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    if (length > body.length - at) throw bad("a batch ends within a message");
    messages.push(body.subarray(at, at + length));
    at += length;
  }
  return messages;
}

/** @param {number} value @returns {Bytes} */
function leb128(value) {
  const bytes = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return Uint8Array.of(...bytes, value);
}

/**
 * Takes what an application sends.
 * @param {Message} message
 * @returns {{ bin: boolean, bytes: Uint8Array }}
 * @throws {SutantraError} `bad_request`
 */
export function toBytes(message) {
  mustBeMessage(message);
  if (typeof message === "string") return { bin: false, bytes: utf8(message) };
  if (message instanceof ArrayBuffer) return { bin: true, bytes: new Uint8Array(message) };
  return { bin: true, bytes: new Uint8Array(message.buffer, message.byteOffset, message.byteLength) };
}

/**
 * Gives what the application gets.
 * @param {boolean} bin @param {Uint8Array} bytes
 * @returns {string | Bytes}
 * @throws {SutantraError} `bad_frame`: text that is not UTF-8
 */
export function fromBytes(bin, bytes) {
  if (bin) return bytes.slice();
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw bad("text that is not UTF-8");
  }
}
