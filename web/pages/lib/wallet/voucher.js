// The voucher: payment and receipt in one, signed by the session key each cadence.
//
// Body, 176 bytes, big-endian: channel 32 ‖ payee 32 ‖ stream 32 ‖ lane u32 ‖ terms_version u32 ‖
// nonce u64 ‖ cumulative u128 ‖ media_ms u64 ‖ bytes u64 ‖ qos 32. On the wire: body ‖ signature.

import { DecodeError, Reader, Writer, concat } from "./bytes.js";
import { preimage } from "./preimage.js";
import { verify } from "./keys.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */

/**
 * @typedef {object} Voucher
 * @property {Bytes} channel
 * @property {Bytes} payee
 * @property {Bytes} stream
 * @property {number} lane
 * @property {number} termsVersion
 * @property {bigint} nonce
 * @property {bigint} cumulative units, all that was ever paid on this lane
 * @property {bigint} mediaMs received on this lane so far
 * @property {bigint} bytes of RTP payload received on this lane so far
 * @property {Bytes} qos SHA-256 of the last quality report, or zeros
 */

export const VOUCHER_BODY_BYTES = 176;
export const VOUCHER_SIGNED_BYTES = VOUCHER_BODY_BYTES + 64;

/** @param {Voucher} voucher @returns {Bytes} */
export function encodeVoucher(voucher) {
  return new Writer()
    .bytes(voucher.channel, 32)
    .bytes(voucher.payee, 32)
    .bytes(voucher.stream, 32)
    .u32(voucher.lane)
    .u32(voucher.termsVersion)
    .u64(voucher.nonce)
    .u128(voucher.cumulative)
    .u64(voucher.mediaMs)
    .u64(voucher.bytes)
    .bytes(voucher.qos, 32)
    .take();
}

/** @param {Uint8Array} bytes @returns {Voucher} */
export function decodeVoucher(bytes) {
  if (bytes.length !== VOUCHER_BODY_BYTES) throw new DecodeError(`a voucher has ${VOUCHER_BODY_BYTES} bytes, not ${bytes.length}`);
  const reader = new Reader(bytes);
  return {
    channel: reader.bytes(32),
    payee: reader.bytes(32),
    stream: reader.bytes(32),
    lane: reader.u32(),
    termsVersion: reader.u32(),
    nonce: reader.u64(),
    cumulative: reader.u128(),
    mediaMs: reader.u64(),
    bytes: reader.u64(),
    qos: reader.bytes(32),
  };
}

/**
 * @param {Voucher} voucher
 * @param {import("./keys.js").Signer} key
 * @param {string} chainId
 * @returns {Promise<Bytes>} body ‖ signature, 240 bytes
 */
export async function signVoucher(voucher, key, chainId) {
  const body = encodeVoucher(voucher);
  return concat(body, await key.sign(await preimage("voucher", chainId, body)));
}

/**
 * @param {Uint8Array} signed body ‖ signature
 * @param {Uint8Array} voucherKey
 * @param {string} chainId
 * @returns {Promise<Voucher | null>} null: another length, or not signed by this key for this chain
 */
export async function openVoucher(signed, voucherKey, chainId) {
  if (signed.length !== VOUCHER_SIGNED_BYTES) return null;
  const body = signed.subarray(0, VOUCHER_BODY_BYTES);
  const good = await verify(voucherKey, signed.subarray(VOUCHER_BODY_BYTES), await preimage("voucher", chainId, body));
  return good ? decodeVoucher(body) : null;
}
