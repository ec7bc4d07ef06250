// The access token that a creator signs: who may do what on one stream, until when.
//
// Body, 170 bytes, big-endian: token_id 16 ‖ stream 32 ‖ viewer 32 ‖ holder_key 32 ‖ issuer_key 32 ‖
// grants u32 ‖ max_layer u8 ‖ payment_status u8 ‖ rev_epoch u32 ‖ not_before u64 ‖ valid_until u64
// (unix ms). As a bearer token: base64url of body ‖ signature.

import { Writer, concat, fromBase64url, toBase64url } from "./bytes.js";
import { preimage } from "./preimage.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */

export const GRANTS = /** @type {const} */ ({ subscribe: 1, publish: 2, data: 4, relay: 8, hidden: 16, moderate: 32 });
/** No cap on the layer. */
export const ANY_LAYER = 255;
/** `payment_status` Free: a token makes nobody work for nothing on a paid stream. */
export const STATUS_FREE = 1;
const TOKEN_BYTES = 234;
const ZERO_KEY = new Uint8Array(32);

/**
 * @typedef {object} TokenFields
 * @property {Uint8Array} tokenId 16 random bytes
 * @property {Uint8Array} stream
 * @property {Uint8Array} [viewer] zeros: whoever bears it
 * @property {Uint8Array} [holderKey] zeros: it is only borne
 * @property {number} grants bits of `GRANTS`
 * @property {number} [maxLayer]
 * @property {number} [paymentStatus] 1 Free, 2 Current or 6 Sponsored
 * @property {number} [revEpoch] the stream's revocation epoch
 * @property {bigint} notBeforeMs
 * @property {bigint} validUntilMs
 */

/**
 * @param {TokenFields} fields
 * @param {import("./keys.js").Signer} issuer
 * @param {string} chainId
 * @returns {Promise<string>} a bearer token
 */
export async function signToken(fields, issuer, chainId) {
  const body = new Writer()
    .bytes(fields.tokenId, 16)
    .bytes(fields.stream, 32)
    .bytes(fields.viewer ?? ZERO_KEY, 32)
    .bytes(fields.holderKey ?? ZERO_KEY, 32)
    .bytes(issuer.publicKey, 32)
    .u32(fields.grants)
    .u8(fields.maxLayer ?? ANY_LAYER)
    .u8(fields.paymentStatus ?? STATUS_FREE)
    .u32(fields.revEpoch ?? 0)
    .u64(fields.notBeforeMs)
    .u64(fields.validUntilMs)
    .take();
  return toBase64url(concat(body, await issuer.sign(await preimage("token", chainId, body))));
}

/**
 * The id and the holder of a bearer token, for the Bind that goes with it. Its signature is the relay's business.
 * @param {string} bearer
 * @returns {{ tokenId: Bytes, holderKey: Bytes } | null} null: no token of this layout
 */
export function readToken(bearer) {
  try {
    const bytes = fromBase64url(bearer);
    return bytes.length === TOKEN_BYTES ? { tokenId: bytes.slice(0, 16), holderKey: bytes.slice(80, 112) } : null;
  } catch {
    return null;
  }
}
