// Bind: a viewer's keys tied to one transport by both certificates' fingerprints.
//
// Body, 272 bytes: token_id 16 ‖ stream ‖ viewer ‖ holder_key ‖ relay_key ‖ client fingerprint ‖ relay
// fingerprint ‖ channel ‖ SHA-256(terms), 32 bytes each. Signed by the holder key; with a token and a
// channel by the voucher key too. The relay signs the same body under a domain of its own: BindAck.

import { Writer, concat, fromHex } from "./bytes.js";
import { verify } from "./keys.js";
import { preimage } from "./preimage.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./keys.js").Signer} Signer */

export const BIND_BODY_BYTES = 272;

/**
 * @typedef {object} Bind
 * @property {Uint8Array} [tokenId] zeros: none
 * @property {Uint8Array} stream
 * @property {Uint8Array} viewer account
 * @property {Uint8Array} holderKey
 * @property {Uint8Array} relayKey
 * @property {Uint8Array} clientFingerprint SHA-256 of the client's DTLS certificate
 * @property {Uint8Array} relayFingerprint SHA-256 of the relay's
 * @property {Uint8Array} [channel] zeros: none pays
 * @property {Uint8Array} termsHash
 */

/** @param {Bind} bind @returns {Bytes} */
export function encodeBind(bind) {
  return new Writer()
    .bytes(bind.tokenId ?? new Uint8Array(16), 16)
    .bytes(bind.stream, 32)
    .bytes(bind.viewer, 32)
    .bytes(bind.holderKey, 32)
    .bytes(bind.relayKey, 32)
    .bytes(bind.clientFingerprint, 32)
    .bytes(bind.relayFingerprint, 32)
    .bytes(bind.channel ?? new Uint8Array(32), 32)
    .bytes(bind.termsHash, 32)
    .take();
}

/** @param {Bind} bind */
export function needsSecondSignature(bind) {
  return [bind.tokenId, bind.channel].every((id) => id?.some((byte) => byte !== 0) === true);
}

/**
 * @param {Bind} bind
 * @param {Signer} holder
 * @param {Signer | null} voucherKey signs as well where a token and a channel are named
 * @param {string} chainId
 * @returns {Promise<Bytes>} body ‖ signature [‖ second signature]
 */
export async function signBind(bind, holder, voucherKey, chainId) {
  const body = encodeBind(bind);
  const signed = await preimage("bind", chainId, body);
  const first = concat(body, await holder.sign(signed));
  if (!needsSecondSignature(bind)) return first;
  if (!voucherKey) throw new TypeError("a bind with a token and a channel is signed by the voucher key too");
  return concat(first, await voucherKey.sign(signed));
}

/**
 * Whether the relay that the chain names has taken exactly this Bind.
 * @param {Uint8Array} signedBind
 * @param {Uint8Array} ack signature
 * @param {Uint8Array} relayKey
 * @param {string} chainId
 */
export async function verifyBindAck(signedBind, ack, relayKey, chainId) {
  return verify(relayKey, ack, await preimage("bindAck", chainId, signedBind.subarray(0, BIND_BODY_BYTES)));
}

/**
 * The SHA-256 fingerprint of a description's DTLS certificate (RFC 8122 §5).
 * @param {string} sdp
 * @returns {Bytes | null} null: none, or two that differ
 */
export function fingerprintOf(sdp) {
  const found = new Set(Array.from(sdp.matchAll(/^a=fingerprint:sha-256 ([0-9a-f:]{95})\s*$/gim), ([, hex = ""]) => hex.toLowerCase().replaceAll(":", "")));
  const [only] = found;
  return found.size === 1 && only?.length === 64 ? fromHex(only, 32) : null;
}
