// As much of protobuf as headers, votes and proofs need: fields of numbers and of bytes.

import { DecodeError } from "../wallet/bytes.js";

/** @typedef {number[]} Field a field's bytes; none where it has its default */

/** @param {bigint} value @returns {number[]} */
export function varint(value) {
  const bytes = [];
  for (let rest = BigInt.asUintN(64, value); ; rest >>= 7n) {
    if (rest < 0x80n) return [...bytes, Number(rest)];
    bytes.push(Number(rest & 0x7fn) | 0x80);
  }
}

/** @param {number} number of the field @param {bigint} value @returns {Field} */
export const integer = (number, value) => (value === 0n ? [] : [(number << 3) | 0, ...varint(value)]);

/** @param {number} number @param {bigint} value @returns {Field} `sfixed64` */
export function fixed64(number, value) {
  if (value === 0n) return [];
  return [(number << 3) | 1, ...Array.from({ length: 8 }, (_, at) => Number((BigInt.asUintN(64, value) >> BigInt(8 * at)) & 0xffn))];
}

/** @param {number} number @param {ArrayLike<number>} value @returns {Field} */
export const bytes = (number, value) => (value.length === 0 ? [] : message(number, value));

/** A message is there even where it is empty. @param {number} number @param {ArrayLike<number>} value @returns {Field} */
export const message = (number, value) => [(number << 3) | 2, ...varint(BigInt(value.length)), ...Array.from(value)];

/**
 * A message's fields by number, those of bytes only: a number's value is skipped.
 * @param {Uint8Array} from
 * @returns {Map<number, Uint8Array[]>}
 * @throws {DecodeError}
 */
export function fieldsOf(from) {
  let at = 0;
  const number = () => {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = from[at++];
      if (byte === undefined) throw new DecodeError("a message ends in the middle of a number");
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new DecodeError("a number has too many bytes");
  };
  /** @type {Map<number, Uint8Array[]>} */
  const fields = new Map();
  while (at < from.length) {
    const tag = number();
    if ((tag & 7) === 0) {
      number();
      continue;
    }
    if ((tag & 7) !== 2) throw new DecodeError(`a field of type ${tag & 7} is none of ours`);
    const length = number();
    if (length > from.length - at) throw new DecodeError("a field is longer than its message");
    const field = tag >> 3;
    fields.set(field, [...(fields.get(field) ?? []), from.slice(at, at + length)]);
    at += length;
  }
  return fields;
}
