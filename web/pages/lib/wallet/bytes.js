// Bytes as messages carry them: big-endian fields of fixed length, and their text forms.

/** Bytes of their own memory, as WebCrypto wants them. @typedef {Uint8Array<ArrayBuffer>} Bytes */

/** What came over a wire and is not what its layout says. */
export class DecodeError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "DecodeError";
  }
}

/** Builds a message, integers big-endian. */
export class Writer {
  /** @type {number[]} */
  #bytes = [];

  /** @param {number} value */
  u8(value) {
    return this.#integer(BigInt(value), 1);
  }

  /** @param {number} value */
  u16(value) {
    return this.#integer(BigInt(value), 2);
  }

  /** @param {number} value */
  u32(value) {
    return this.#integer(BigInt(value), 4);
  }

  /** @param {bigint} value */
  u64(value) {
    return this.#integer(value, 8);
  }

  /** @param {bigint} value */
  u128(value) {
    return this.#integer(value, 16);
  }

  /**
   * @param {Uint8Array} field
   * @param {number} [length] that the layout demands
   */
  bytes(field, length = field.length) {
    if (field.length !== length) throw new RangeError(`a field of ${length} bytes got ${field.length}`);
    for (const byte of field) this.#bytes.push(byte);
    return this;
  }

  /** @returns {Bytes} */
  take() {
    return Uint8Array.from(this.#bytes);
  }

  /** @param {bigint} value @param {number} size */
  #integer(value, size) {
    if (value < 0n || value >> BigInt(8 * size) !== 0n) throw new RangeError(`${value} does not fit into ${size} bytes`);
    for (let shift = 8 * (size - 1); shift >= 0; shift -= 8) this.#bytes.push(Number((value >> BigInt(shift)) & 255n));
    return this;
  }
}

/** Reads a message, integers big-endian. Every method throws `DecodeError` where bytes are missing. */
export class Reader {
  #bytes;
  #at = 0;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
  }

  get left() {
    return this.#bytes.length - this.#at;
  }

  u8() {
    return Number(this.#integer(1));
  }

  u16() {
    return Number(this.#integer(2));
  }

  u32() {
    return Number(this.#integer(4));
  }

  u64() {
    return this.#integer(8);
  }

  u128() {
    return this.#integer(16);
  }

  /** @param {number} length @returns {Bytes} a copy */
  bytes(length) {
    if (length > this.left) throw new DecodeError(`${length} bytes are needed, ${this.left} are left`);
    const field = Uint8Array.from(this.#bytes.subarray(this.#at, this.#at + length));
    this.#at += length;
    return field;
  }

  /** Nothing may follow. */
  end() {
    if (this.left > 0) throw new DecodeError(`${this.left} bytes too many`);
  }

  /** @param {number} size */
  #integer(size) {
    let value = 0n;
    for (const byte of this.bytes(size)) value = (value << 8n) | BigInt(byte);
    return value;
  }
}

/** @param {Uint8Array} bytes */
export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {string} text hex digits of either case
 * @param {number} [length] bytes demanded
 * @returns {Bytes}
 */
export function fromHex(text, length) {
  const wrongLength = length === undefined ? text.length % 2 !== 0 : text.length !== 2 * length;
  if (wrongLength || !/^[0-9a-f]*$/i.test(text)) {
    throw new DecodeError(length === undefined ? "these are no hex digits in pairs" : `these are not ${2 * length} hex digits`);
  }
  return Uint8Array.from({ length: text.length / 2 }, (_, at) => Number.parseInt(text.slice(2 * at, 2 * at + 2), 16));
}

/** Base64 with padding (RFC 4648 §4). @param {Uint8Array} bytes */
export function toBase64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** @param {string} text @returns {Bytes} */
export function fromBase64(text) {
  let plain = "";
  try {
    plain = atob(text);
  } catch {
    throw new DecodeError("this is no base64");
  }
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
}

/** Base64url without padding (RFC 4648 §5), as bearer tokens are written. @param {Uint8Array} bytes */
export function toBase64url(bytes) {
  return toBase64(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** @param {string} text @returns {Bytes} */
export function fromBase64url(text) {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) throw new DecodeError("this is no base64url without padding");
  return fromBase64(text.replaceAll("-", "+").replaceAll("_", "/"));
}

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

/** @param {Uint8Array} one @param {Uint8Array} other */
export function equal(one, other) {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

/** @param {string} text @returns {Bytes} */
export function utf8(text) {
  return Uint8Array.from(new TextEncoder().encode(text));
}

/** @param {Uint8Array} bytes @returns {Promise<Bytes>} */
export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", Uint8Array.from(bytes)));
}
