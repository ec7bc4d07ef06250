// What members of a room sign: texts, by the key that their node id is the hash of.

import { fromHex, randomBytes, toHex, utf8 } from "../bytes.js";
import { PUBLIC_KEY_BYTES, SIGNATURE_BYTES, nodeIdOf } from "../identity.js";
import { webcrypto } from "../webcrypto.js";

/** Keys whose import and id are remembered: members sign again and again. Beyond it the oldest go. */
const KEYS_MAX = 512;

/**
 * An `Identity` is one.
 * @typedef {object} Signer
 * @property {string} nodeId
 * @property {string} pk public key, hex
 * @property {(bytes: Uint8Array) => Promise<Uint8Array>} sign
 */

/** @type {Map<string, Promise<{ id: string, key: CryptoKey } | null>>} */
const known = new Map();

/** @param {Signer} signer @param {string} text @returns {Promise<string>} hex */
export async function signText(signer, text) {
  return toHex(await signer.sign(utf8(text)));
}

/** @param {unknown} pk hex @param {unknown} signature hex @param {string} text */
export async function verifyText(pk, signature, text) {
  const holder = await holderOf(pk);
  const bytes = fromHex(signature, SIGNATURE_BYTES);
  return holder !== null && bytes !== null && webcrypto.subtle.verify("Ed25519", holder.key, bytes, utf8(text));
}

/** The id of the node with a key. @param {unknown} pk hex @returns {Promise<string | null>} null: not a key */
export async function idOf(pk) {
  return (await holderOf(pk))?.id ?? null;
}

/** SHA-256 of a text. @param {string} text @returns {Promise<string>} hex */
export async function textHash(text) {
  return toHex(new Uint8Array(await webcrypto.subtle.digest("SHA-256", utf8(text))));
}

/** @param {number} length in bytes */
export const randomHex = (length) => toHex(randomBytes(length));

/** @param {unknown} pk */
function holderOf(pk) {
  if (typeof pk !== "string") return Promise.resolve(null);
  const held = known.get(pk);
  if (held) return held;
  const made = (async () => {
    const raw = fromHex(pk, PUBLIC_KEY_BYTES);
    if (!raw) return null;
    try {
      return { id: await nodeIdOf(raw), key: await webcrypto.subtle.importKey("raw", raw, "Ed25519", false, ["verify"]) };
    } catch {
      return null; // Not a point of the curve.
    }
  })();
  known.set(pk, made);
  const [oldest] = known.keys();
  if (known.size > KEYS_MAX && oldest !== undefined) known.delete(oldest);
  return made;
}
