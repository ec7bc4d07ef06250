// What a signature covers: domain (16 ASCII) ‖ SHA-256(chain id)[0..8] ‖ body. One domain, one type.

import { concat, sha256, utf8 } from "./bytes.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */

export const DOMAINS = /** @type {const} */ ({
  stream: "sutantra/strm/v1",
  channel: "sutantra/chan/v1",
  transaction: "sutantra/tran/v1",
  voucher: "sutantra/vchr/v1",
  receipt: "sutantra/rcpt/v1",
  token: "sutantra/tokn/v1",
  bind: "sutantra/bind/v2",
  bindAck: "sutantra/bnda/v1",
  qualityReport: "sutantra/qrep/v1",
});

/** @typedef {keyof typeof DOMAINS} Domain */

/** @type {Map<string, Promise<Bytes>>} */
const tags = new Map();

/** The first 8 bytes of SHA-256(chain id). @param {string} chainId @returns {Promise<Bytes>} */
export function chainTag(chainId) {
  const known = tags.get(chainId);
  if (known) return known;
  const tag = sha256(utf8(chainId)).then((hash) => hash.slice(0, 8));
  tags.set(chainId, tag);
  return tag;
}

/**
 * @param {Domain} domain
 * @param {string} chainId
 * @param {Uint8Array} body
 * @returns {Promise<Bytes>} what is signed
 */
export async function preimage(domain, chainId, body) {
  return concat(utf8(DOMAINS[domain]), await chainTag(chainId), body);
}
