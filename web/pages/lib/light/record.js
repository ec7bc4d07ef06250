// A record under an app hash: a path of hashes from it to the root (ICS-23, the tree of `jmt`).

import { concat, equal, sha256, utf8 } from "../wallet/bytes.js";
import { NotProved } from "./block.js";
import { fieldsOf } from "./protobuf.js";

/** @typedef {import("../wallet/bytes.js").Bytes} Bytes */

const LEAF = utf8("JMT::LeafNode");
const NODE = utf8("JMT::IntrnalNode");
const HASH_BYTES = 32;
/** A tree of 2⁶⁴ records is no deeper. */
const STEPS_MAX = 256;

/** @param {Map<number, Uint8Array[]>} fields @param {number} number */
const one = (fields, number) => fields.get(number)?.[0] ?? new Uint8Array();

/**
 * Checks that under `root` the key has this value.
 * @param {Uint8Array} root the app hash
 * @param {Uint8Array} key
 * @param {Uint8Array} value
 * @param {Uint8Array} proof `CommitmentProof`
 * @throws {NotProved | import("../wallet/bytes.js").DecodeError}
 */
export async function checkRecord(root, key, value, proof) {
  const kinds = fieldsOf(proof);
  const exists = kinds.get(1)?.[0];
  if (!exists) throw new NotProved("the answer proves no record", { absent: kinds.has(2) });
  const fields = fieldsOf(exists);
  if (!equal(one(fields, 1), key)) throw new NotProved("the proof is about another record");
  if (value.length === 0 || !equal(one(fields, 2), value)) throw new NotProved("the proof is about another value");
  const steps = fields.get(4) ?? [];
  if (steps.length > STEPS_MAX) throw new NotProved("the proof is too long");
  // The shape is the tree's own, whatever the proof says that it is.
  let hash = await sha256(concat(LEAF, await sha256(key), await sha256(value)));
  for (const step of steps) {
    const inner = fieldsOf(step);
    const [prefix, suffix] = [one(inner, 2), one(inner, 3)];
    const [left, right] = [prefix.slice(NODE.length), suffix];
    if (!equal(prefix.slice(0, NODE.length), NODE) || left.length + right.length !== HASH_BYTES || (left.length !== 0 && right.length !== 0)) throw new NotProved("a step of the proof has another shape than the tree's");
    hash = await sha256(concat(NODE, left, hash, right));
  }
  if (!equal(hash, root)) throw new NotProved("the proof does not lead to the state that the validators signed");
}
