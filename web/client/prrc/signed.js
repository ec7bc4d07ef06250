// What members of a room sign: texts, by the key that their node id is the hash of.

import { fromHex, randomBytes, toBase32, toHex, utf8 } from "../bytes.js";

const ED25519 = "Ed25519";
const ID_BYTES = 20;
/** Keys that were imported and whose id was hashed; beyond it the oldest go. */
const KEYS_MAX = 512;

/**
 * @typedef {object} Signer
 * @property {string} nodeId
 * @property {string} publicKey hex
 * @property {(bytes: Uint8Array<ArrayBuffer>) => Promise<Uint8Array>} sign
 */

/** @type {Map<string, Promise<{ id: string, key: CryptoKey } | null>>} */
const keys = new Map();

/** A signer with a new key, for one run. @returns {Promise<Signer>} */
export async function makeSigner() {
  const pair = /** @type {CryptoKeyPair} */ (await crypto.subtle.generateKey(ED25519, false, ["sign", "verify"]));
  const publicKey = toHex(new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)));
  const nodeId = await idOf(publicKey);
  if (nodeId === null) throw new Error("a key that was just made has an id");
  return { nodeId, publicKey, sign: async (bytes) => new Uint8Array(await crypto.subtle.sign(ED25519, pair.privateKey, bytes)) };
}

/** @param {Signer} signer @param {string} text @returns {Promise<string>} hex */
export async function signText(signer, text) {
  return toHex(await signer.sign(utf8(text)));
}

/** @param {unknown} publicKey hex @param {unknown} signature hex @param {string} text */
export async function verifyText(publicKey, signature, text) {
  const known = await keyOf(publicKey);
  const bytes = fromHex(signature, 64);
  return known !== null && bytes !== null && crypto.subtle.verify(ED25519, known.key, bytes, utf8(text));
}

/** The id of a node by its key. @param {unknown} publicKey hex @returns {Promise<string | null>} null: not a key */
export async function idOf(publicKey) {
  return (await keyOf(publicKey))?.id ?? null;
}

/** SHA-256 of a text. @param {string} text @returns {Promise<string>} hex */
export async function textHash(text) {
  return toHex(new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(text))));
}

/** @param {number} length in bytes */
export const randomHex = (length) => toHex(randomBytes(length));

/** @param {unknown} publicKey */
function keyOf(publicKey) {
  if (typeof publicKey !== "string") return Promise.resolve(null);
  const held = keys.get(publicKey);
  if (held) return held;
  const made = (async () => {
    const raw = fromHex(publicKey, 32);
    if (!raw) return null;
    try {
      const key = await crypto.subtle.importKey("raw", raw, ED25519, false, ["verify"]);
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", raw));
      return { id: `sn1${toBase32(hash.subarray(0, ID_BYTES))}`, key };
    } catch {
      return null; // Not a point of the curve.
    }
  })();
  keys.set(publicKey, made);
  const [oldest] = keys.keys();
  if (keys.size > KEYS_MAX && oldest !== undefined) keys.delete(oldest);
  return made;
}
