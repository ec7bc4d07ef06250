// CometBFT's Merkle tree (RFC 6962 over SHA-256): from a leaf and its aunts to the root.

import { createHash } from "node:crypto";

/** @param {number} prefix @param {Uint8Array[]} parts */
const hash = (prefix, ...parts) => createHash("sha256").update(Uint8Array.of(prefix)).update(Buffer.concat(parts)).digest();

/** @param {Uint8Array} bytes */
export const leafHash = (bytes) => hash(0, bytes);

/** @param {Uint8Array} bytes */
export const sha256 = (bytes) => createHash("sha256").update(bytes).digest();

/** Leaves on the left: the largest power of two below the total. @param {number} total */
const splitOf = (total) => 2 ** (Math.ceil(Math.log2(total)) - 1);

/** @param {Uint8Array[]} leaves one at least @returns {Uint8Array} */
export function rootOfLeaves(leaves) {
  const [only] = leaves;
  if (leaves.length === 1 && only) return leafHash(only);
  const split = splitOf(leaves.length);
  return hash(1, rootOfLeaves(leaves.slice(0, split)), rootOfLeaves(leaves.slice(split)));
}

/**
 * The root that a leaf at `index` of `total` has with these aunts, innermost first; null where their
 * number does not fit.
 * @param {Uint8Array} leaf its hash
 * @param {number} index
 * @param {number} total
 * @param {readonly Uint8Array[]} aunts
 * @returns {Uint8Array | null}
 */
export function rootOf(leaf, index, total, aunts) {
  if (index < 0 || index >= total) return null;
  if (total === 1) return aunts.length === 0 ? leaf : null;
  const aunt = aunts.at(-1);
  if (!aunt) return null;
  const split = splitOf(total);
  const inner = aunts.slice(0, -1);
  if (index < split) {
    const left = rootOf(leaf, index, split, inner);
    return left && hash(1, left, aunt);
  }
  const right = rootOf(leaf, index - split, total - split, inner);
  return right && hash(1, aunt, right);
}
