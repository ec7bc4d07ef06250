// Borsh, the encoding of transactions and records: little-endian, lengths as u32, no padding.

import { DecodeError } from "./bytes.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */

/** No list or text of ours is longer; a length beyond it is a lie about what follows. */
const LENGTH_MAX = 1 << 20;

export class BorshWriter {
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

  /** @param {boolean} value */
  bool(value) {
    return this.u8(value ? 1 : 0);
  }

  /** @param {Uint8Array} field @param {number} length that the type fixes */
  fixed(field, length) {
    if (field.length !== length) throw new RangeError(`a field of ${length} bytes got ${field.length}`);
    for (const byte of field) this.#bytes.push(byte);
    return this;
  }

  /** @param {string} text */
  string(text) {
    const bytes = new TextEncoder().encode(text);
    return this.u32(bytes.length).fixed(bytes, bytes.length);
  }

  /**
   * @template T
   * @param {T | null} value
   * @param {(value: T) => void} write
   */
  option(value, write) {
    this.u8(value === null ? 0 : 1);
    if (value !== null) write(value);
    return this;
  }

  /**
   * @template T
   * @param {readonly T[]} items
   * @param {(item: T) => void} write
   */
  list(items, write) {
    this.u32(items.length);
    items.forEach((item) => write(item));
    return this;
  }

  /** @returns {Bytes} */
  take() {
    return Uint8Array.from(this.#bytes);
  }

  /** @param {bigint} value @param {number} size */
  #integer(value, size) {
    if (value < 0n || value >> BigInt(8 * size) !== 0n) throw new RangeError(`${value} does not fit into ${size} bytes`);
    for (let shift = 0; shift < 8 * size; shift += 8) this.#bytes.push(Number((value >> BigInt(shift)) & 255n));
    return this;
  }
}

/** Every method throws `DecodeError` where the bytes are not what borsh writes. */
export class BorshReader {
  #bytes;
  #at = 0;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
  }

  /** Bytes read so far. */
  get at() {
    return this.#at;
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

  bool() {
    return this.#tag() === 1;
  }

  /** @param {number} length @returns {Bytes} a copy */
  fixed(length) {
    if (length > this.left) throw new DecodeError(`${length} bytes are needed, ${this.left} are left`);
    const field = Uint8Array.from(this.#bytes.subarray(this.#at, this.#at + length));
    this.#at += length;
    return field;
  }

  string() {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.fixed(this.#length()));
    } catch (error) {
      if (error instanceof DecodeError) throw error;
      throw new DecodeError("a text is not UTF-8");
    }
  }

  /** @template T @param {() => T} read @returns {T | null} */
  option(read) {
    return this.#tag() === 1 ? read() : null;
  }

  /** @template T @param {() => T} read @returns {T[]} */
  list(read) {
    const length = this.#length();
    // Each item has a byte at least: a length beyond that is refused before memory is taken for it.
    if (length > this.left) throw new DecodeError(`${length} items are announced, ${this.left} bytes are left`);
    return Array.from({ length }, () => read());
  }

  /** Nothing may follow. */
  end() {
    if (this.left > 0) throw new DecodeError(`${this.left} bytes too many`);
  }

  #length() {
    const length = this.u32();
    if (length > LENGTH_MAX) throw new DecodeError(`a length of ${length} is beyond any of ours`);
    return length;
  }

  #tag() {
    const tag = this.u8();
    if (tag > 1) throw new DecodeError(`${tag} is neither yes nor no`);
    return tag;
  }

  /** @param {number} size */
  #integer(size) {
    return this.fixed(size).reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }
}
