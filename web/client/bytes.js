// Bytes and the text forms that the coordinator's protocol gives them.

import { webcrypto } from "./webcrypto.js";

/** Bytes of their own memory, as WebCrypto wants them. @typedef {Uint8Array<ArrayBuffer>} Bytes */

const ENCODER = new TextEncoder();
/** RFC 4648 §6, lower case, no padding. */
const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** @param {string} text @returns {Bytes} */
export const utf8 = (text) => ENCODER.encode(text);

/** @param {...Uint8Array} parts @returns {Bytes} */
export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** @param {Uint8Array} bytes */
export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {unknown} text
 * @param {number} [length] in bytes, that it must have
 * @returns {Bytes | null} null: not so many bytes in hexadecimal
 */
export function fromHex(text, length) {
  if (typeof text !== "string" || text.length % 2 !== 0 || /[^0-9a-fA-F]/.test(text)) return null;
  if (length !== undefined && text.length !== 2 * length) return null;
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** @param {Uint8Array} bytes */
export function toBase32(bytes) {
  let text = "";
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff; // At most 4 bits wait, so 12 are enough.
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += BASE32[(held >> bits) & 31];
    }
  }
  return bits > 0 ? text + BASE32[(held << (5 - bits)) & 31] : text;
}

/** @param {Uint8Array} bytes */
export function toBase64(bytes) {
  let text = "";
  // In pieces: a call takes only so many arguments.
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

/** @param {unknown} text @returns {Bytes | null} null: not base64 */
export function fromBase64(text) {
  if (typeof text !== "string") return null;
  try {
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  } catch {
    return null;
  }
}

/** RFC 4648 §5 without padding. @param {Uint8Array} bytes */
export function toBase64url(bytes) {
  return toBase64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** @param {unknown} text @returns {Bytes | null} null: not base64url */
export function fromBase64url(text) {
  if (typeof text !== "string" || /[^A-Za-z0-9_-]/.test(text)) return null;
  return fromBase64(text.replaceAll("-", "+").replaceAll("_", "/"));
}

/** @param {number} length @returns {Bytes} */
export const randomBytes = (length) => webcrypto.getRandomValues(new Uint8Array(length));
