// The hash of a CometBFT 0.38 header (`types.Header.Hash`): a Merkle tree of its 14 fields in protobuf.

import { rootOfLeaves } from "./merkle.mjs";

/** @typedef {import("@cosmjs/tendermint-rpc").comet38.Header} Header */
/** @typedef {import("@cosmjs/tendermint-rpc").comet38.BlockId} BlockId */

/** @param {bigint} value @returns {number[]} */
const varint = (value) => (value < 0x80n ? [Number(value)] : [Number(value & 0x7fn) | 0x80, ...varint(value >> 7n)]);

/** A field of a number; none where it is zero. @param {number} tag @param {number} value */
const number = (tag, value) => (value === 0 ? [] : [tag, ...varint(BigInt(value))]);

/** A field of bytes; none where there are none. @param {number} tag @param {Uint8Array} value */
const bytes = (tag, value) => (value.length === 0 ? [] : [tag, ...varint(BigInt(value.length)), ...value]);

/** @param {BlockId | null} id that of the first block's predecessor is empty */
function blockId(id) {
  const parts = id ? [...number(0x08, id.parts.total), ...bytes(0x12, id.parts.hash)] : [];
  return [...bytes(0x0a, id?.hash ?? new Uint8Array()), 0x12, parts.length, ...parts];
}

/** @param {Header} header @returns {Uint8Array} */
export function hashHeader(header) {
  const ms = header.time.getTime();
  const seconds = Math.floor(ms / 1000);
  const nanos = (ms - seconds * 1000) * 1_000_000 + (header.time.nanoseconds ?? 0);
  return rootOfLeaves([
    [...number(0x08, header.version.block), ...number(0x10, header.version.app)],
    bytes(0x0a, Buffer.from(header.chainId)),
    number(0x08, header.height),
    [...number(0x08, seconds), ...number(0x10, nanos)],
    blockId(header.lastBlockId),
    ...[header.lastCommitHash, header.dataHash, header.validatorsHash, header.nextValidatorsHash, header.consensusHash, header.appHash, header.lastResultsHash, header.evidenceHash, header.proposerAddress].map((hash) => bytes(0x0a, hash)),
  ].map((field) => Uint8Array.from(field)));
}
