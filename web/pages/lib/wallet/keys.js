// Ed25519 keys by WebCrypto: the account's, out of a seed, and the session's, which nobody can copy.

import { concat, fromBase64url, fromHex } from "./bytes.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** Signs bytes. @typedef {{ publicKey: Bytes, sign: (bytes: Uint8Array) => Promise<Bytes> }} Signer */

const ED25519 = "Ed25519";
/** PKCS #8 of an Ed25519 key without attributes (RFC 8410 §7), up to the seed. */
const PKCS8_HEAD = fromHex("302e020100300506032b657004220420");

/** Why there are no keys here, with what to do about it. */
export class KeysUnavailable extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "KeysUnavailable";
  }
}

/**
 * @returns {Promise<string | null>} what is missing, as a sentence; null: all is there
 */
export async function whyNoKeys() {
  if (!globalThis.crypto?.subtle) {
    return "This page came over plain http, where browsers switch cryptography off. Open it over https, or on the relay's own machine at 127.0.0.1.";
  }
  try {
    await crypto.subtle.generateKey(ED25519, false, ["sign", "verify"]);
    return null;
  } catch {
    return "This browser cannot sign with Ed25519. Update it (Chromium 137, Firefox 129 and Safari 17 can), or pay with sutantra-node wallet.";
  }
}

/** @returns {Bytes} 32 random bytes */
export function newSeed() {
  return crypto.getRandomValues(new Uint8Array(32));
}

/**
 * The account's signer.
 * @param {Uint8Array} seed 32 bytes
 * @returns {Promise<Signer>}
 */
export async function accountKey(seed) {
  if (seed.length !== 32) throw new RangeError("a seed has 32 bytes");
  const pkcs8 = concat(PKCS8_HEAD, seed);
  // WebCrypto derives no public key; the JWK of a private one names it (RFC 8037 §2).
  const open = await crypto.subtle.importKey("pkcs8", pkcs8, ED25519, true, ["sign"]);
  const { x } = await crypto.subtle.exportKey("jwk", open);
  const key = await crypto.subtle.importKey("pkcs8", pkcs8, ED25519, false, ["sign"]);
  return signer(key, fromBase64url(x ?? ""));
}

/**
 * A key that signs vouchers; its secret part never leaves the browser's key store.
 * @returns {Promise<{ privateKey: CryptoKey, publicKey: Bytes }>} both may be kept in IndexedDB
 */
export async function newSessionKey() {
  const pair = /** @type {CryptoKeyPair} */ (await crypto.subtle.generateKey(ED25519, false, ["sign", "verify"]));
  return { privateKey: pair.privateKey, publicKey: new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)) };
}

/** @param {CryptoKey} key @param {Bytes} publicKey @returns {Signer} */
export function signer(key, publicKey) {
  return {
    publicKey,
    sign: async (bytes) => new Uint8Array(await crypto.subtle.sign(ED25519, key, Uint8Array.from(bytes))),
  };
}

/**
 * @param {Uint8Array} publicKey
 * @param {Uint8Array} signature
 * @param {Uint8Array} bytes
 * @returns {Promise<boolean>} false also for a key that is none
 */
export async function verify(publicKey, signature, bytes) {
  try {
    const key = await crypto.subtle.importKey("raw", Uint8Array.from(publicKey), ED25519, false, ["verify"]);
    return await crypto.subtle.verify(ED25519, key, Uint8Array.from(signature), Uint8Array.from(bytes));
  } catch {
    return false;
  }
}
