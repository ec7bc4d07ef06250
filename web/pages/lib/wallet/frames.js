// Frames of the pay channel: type u8 ‖ version u8 = 1 ‖ body ‖ signature where there is one.

import { DecodeError, Reader, Writer, concat } from "./bytes.js";
import { VOUCHER_SIGNED_BYTES } from "./voucher.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */

const VERSION = 1;
/** No frame is longer. */
export const FRAME_BYTES_MAX = 1024;

const RECEIPT_BODY_BYTES = 105;

export const TYPES = /** @type {const} */ ({
  terms: 0x01,
  bind: 0x02,
  bindAck: 0x03,
  voucher: 0x10,
  payAck: 0x11,
  payReq: 0x12,
  paySync: 0x13,
  receipt: 0x14,
  qualityReport: 0x20,
  gateNotice: 0x41,
  error: 0x7f,
});

/** How a session stands with its lane, by number. */
export const LANE_STATES = /** @type {const} */ (["pending", "active", "late", "paused", "disputed", "closed"]);
/** Why a gate is as it is, by number. */
export const GATE_REASONS = /** @type {const} */ (["open", "overdue", "disputed", "revoked", "expired", "channel", "exposure", "stream", "books"]);

/** @typedef {typeof LANE_STATES[number]} LaneState */
/** @typedef {typeof GATE_REASONS[number]} GateReason */

/**
 * What the relay says it sent and was paid.
 * @typedef {{ channel: Bytes, relayKey: Bytes, lane: number, nonce: bigint, cumulative: bigint, sentBytes: bigint, state: LaneState }} Receipt
 */

/**
 * What a relay sends to a payer.
 * @typedef {{ type: "terms", json: string }
 *   | { type: "bindAck", signature: Bytes }
 *   | { type: "payAck", lane: number, cumulative: bigint, sentBytes: bigint, servedMs: bigint, state: LaneState }
 *   | { type: "payReq", lane: number, due: bigint, paid: bigint, deadlineMs: number }
 *   | { type: "paySync", voucher: Bytes }
 *   | { type: "receipt", receipt: Receipt, body: Bytes, signature: Bytes }
 *   | { type: "gateNotice", open: boolean, reason: GateReason }
 *   | { type: "error", code: number, message: string }} RelayFrame
 */

/** @param {number} type @param {Uint8Array} body @returns {Bytes} */
function frame(type, body) {
  return concat(new Writer().u8(type).u8(VERSION).take(), body);
}

/** @param {Uint8Array} signed body ‖ signature, 240 bytes @returns {Bytes} 242 bytes */
export function voucherFrame(signed) {
  if (signed.length !== VOUCHER_SIGNED_BYTES) throw new RangeError("a signed voucher has 240 bytes");
  return frame(TYPES.voucher, signed);
}

/** @param {Uint8Array} signed body ‖ signature [‖ signature] */
export function bindFrame(signed) {
  return frame(TYPES.bind, signed);
}

/**
 * @param {Uint8Array} bytes
 * @returns {RelayFrame | null} null: a type of a later version, to be passed over
 * @throws {DecodeError}
 */
export function readFrame(bytes) {
  if (bytes.length > FRAME_BYTES_MAX) throw new DecodeError("a frame is too long");
  const reader = new Reader(bytes);
  const type = reader.u8();
  if (reader.u8() !== VERSION) return null;
  const read = READERS[type];
  if (!read) return null;
  const value = read(reader);
  reader.end();
  return value;
}

/** @type {Record<number, (reader: Reader) => RelayFrame>} */
const READERS = {
  [TYPES.terms]: (reader) => ({ type: "terms", json: text(reader) }),
  [TYPES.bindAck]: (reader) => ({ type: "bindAck", signature: reader.bytes(64) }),
  [TYPES.payAck]: (reader) => ({
    type: "payAck",
    lane: reader.u32(),
    cumulative: reader.u128(),
    sentBytes: reader.u64(),
    servedMs: reader.u64(),
    state: oneOf(LANE_STATES, reader.u8()),
  }),
  [TYPES.payReq]: (reader) => ({ type: "payReq", lane: reader.u32(), due: reader.u128(), paid: reader.u128(), deadlineMs: reader.u32() }),
  [TYPES.paySync]: (reader) => ({ type: "paySync", voucher: reader.bytes(VOUCHER_SIGNED_BYTES) }),
  [TYPES.receipt]: (reader) => {
    const body = reader.bytes(RECEIPT_BODY_BYTES);
    return { type: "receipt", receipt: readReceipt(body), body, signature: reader.bytes(64) };
  },
  [TYPES.gateNotice]: (reader) => ({ type: "gateNotice", open: oneOf([false, true], reader.u8()), reason: oneOf(GATE_REASONS, reader.u16()) }),
  [TYPES.error]: (reader) => ({ type: "error", code: reader.u16(), message: text(reader) }),
};

/** @param {Bytes} body @returns {Receipt} */
function readReceipt(body) {
  const reader = new Reader(body);
  const receipt = {
    channel: reader.bytes(32),
    relayKey: reader.bytes(32),
    lane: reader.u32(),
    nonce: reader.u64(),
    cumulative: reader.u128(),
    sentBytes: reader.u64(),
    state: oneOf(LANE_STATES, reader.u8()),
  };
  if (reader.u32() !== 0) throw new DecodeError("a receipt ends in zeros");
  return receipt;
}

/** @template T @param {readonly T[]} all @param {number} code @returns {T} */
function oneOf(all, code) {
  const found = all[code];
  if (found === undefined) throw new DecodeError(`${code} is out of range`);
  return found;
}

/** @param {Reader} reader */
function text(reader) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(reader.bytes(reader.left));
  } catch {
    throw new DecodeError("a text is not UTF-8");
  }
}

/** Frames for `POST …/pay`: each behind its length, u16. @param {Uint8Array[]} frames @returns {Bytes} */
export function packFrames(frames) {
  return concat(...frames.flatMap((bytes) => [new Writer().u16(bytes.length).take(), bytes]));
}

/** @param {Uint8Array} body @returns {Bytes[]} @throws {DecodeError} */
export function unpackFrames(body) {
  const reader = new Reader(body);
  const frames = [];
  while (reader.left > 0) frames.push(reader.bytes(reader.u16()));
  return frames;
}
