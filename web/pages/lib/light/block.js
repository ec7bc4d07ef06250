// A block's header as CometBFT 0.38 hashes it, its validators, and their signatures under it.

import { concat, fromBase64, fromHex, sha256, toHex, utf8 } from "../wallet/bytes.js";
import { verify } from "../wallet/keys.js";
import { bytes, fixed64, integer, message, varint } from "./protobuf.js";

/** @typedef {import("../wallet/bytes.js").Bytes} Bytes */
/** @typedef {{ key: string, power: bigint, address: string }} Member a validator: key and address in hex */

/** A block that its validators did not sign, or not so. */
export class NotProved extends Error {
  /** @param {string} message @param {{ absent?: boolean }} [more] */
  constructor(message, { absent = false } = {}) {
    super(message);
    this.name = "NotProved";
    /** The answer says that there is no such record: at the height that was signed last. */
    this.absent = absent;
  }
}

const FLAG_COMMIT = 2;
const PRECOMMIT = 2n;

/** @param {ArrayLike<number>[]} leaves @returns {Promise<Bytes>} root of RFC 6962's tree */
export async function merkleRoot(leaves) {
  const [only] = leaves;
  if (!only) return sha256(new Uint8Array());
  if (leaves.length === 1) return sha256(Uint8Array.from([0, ...Array.from(only)]));
  const split = 2 ** (Math.ceil(Math.log2(leaves.length)) - 1);
  return sha256(concat(Uint8Array.of(1), await merkleRoot(leaves.slice(0, split)), await merkleRoot(leaves.slice(split))));
}

/** `google.protobuf.Timestamp` of a time with up to nine decimals. @param {string} text */
function timestamp(text) {
  const match = /^(.*?)(?:\.(\d{1,9}))?Z$/.exec(text);
  if (!match) throw new NotProved(`${text} is no time of a block`);
  const seconds = BigInt(Date.parse(`${match[1]}Z`)) / 1000n;
  return [...integer(1, seconds), ...integer(2, BigInt((match[2] ?? "").padEnd(9, "0")))];
}

/** @param {any} id @returns {number[]} */
const parts = (id) => [...integer(1, BigInt(id?.parts?.total ?? 0)), ...bytes(2, fromHex(String(id?.parts?.hash ?? "")))];

/** @param {any} header as the RPC has it @returns {Promise<string>} hex in capitals */
export async function headerHash(header) {
  const hash = (/** @type {string} */ name) => bytes(1, fromHex(String(header[name] ?? "")));
  const leaves = [
    [...integer(1, BigInt(header.version.block)), ...integer(2, BigInt(header.version.app ?? 0))],
    bytes(1, utf8(header.chain_id)),
    integer(1, BigInt(header.height)),
    timestamp(header.time),
    [...bytes(1, fromHex(String(header.last_block_id?.hash ?? ""))), ...message(2, parts(header.last_block_id))],
    ...["last_commit_hash", "data_hash", "validators_hash", "next_validators_hash", "consensus_hash", "app_hash", "last_results_hash", "evidence_hash", "proposer_address"].map(hash),
  ];
  return toHex(await merkleRoot(leaves)).toUpperCase();
}

/** @param {Member[]} members in the engine's order @returns {Promise<string>} hex in capitals */
export async function membersHash(members) {
  return toHex(await merkleRoot(members.map(({ key, power }) => [...message(1, bytes(1, fromHex(key))), ...integer(2, power)]))).toUpperCase();
}

/** @param {any} validator of the RPC @returns {Promise<Member>} the address is reckoned, not believed */
export async function asMember(validator) {
  const key = fromBase64(String(validator.pub_key?.value ?? ""));
  return { key: toHex(key), power: BigInt(validator.voting_power), address: toHex((await sha256(key)).slice(0, 20)).toUpperCase() };
}

/** What a validator signs for a block (`CanonicalVote`). @param {any} commit @param {any} signature @param {string} chainId */
function signedBytes(commit, signature, chainId) {
  const id = commit.block_id;
  const vote = [
    ...integer(1, PRECOMMIT),
    ...fixed64(2, BigInt(commit.height)),
    ...fixed64(3, BigInt(commit.round)),
    ...message(4, [...bytes(1, fromHex(String(id.hash))), ...message(2, parts(id))]),
    ...message(5, timestamp(signature.timestamp)),
    ...bytes(6, utf8(chainId)),
  ];
  return Uint8Array.from([...varint(BigInt(vote.length)), ...vote]);
}

/**
 * Checks that more than two thirds of these validators signed this header.
 * @param {{ header: any, commit: any }} signed as the RPC's `commit` has it
 * @param {Member[]} members
 * @param {string} chainId
 * @returns {Promise<{ signers: Set<string>, signed: bigint, total: bigint }>} keys of who signed
 * @throws {NotProved}
 */
export async function checkSigned({ header, commit }, members, chainId) {
  if (header.chain_id !== chainId) throw new NotProved("the block is of another chain");
  if (String(header.height) !== String(commit.height)) throw new NotProved("the signatures are for another height");
  if ((await headerHash(header)) !== String(commit.block_id.hash).toUpperCase()) throw new NotProved("the signatures are for another block");
  if ((await membersHash(members)) !== String(header.validators_hash).toUpperCase()) throw new NotProved("these are not the validators that the block names");
  const byAddress = new Map(members.map((member) => [member.address, member]));
  /** @type {Set<string>} */
  const signers = new Set();
  let signed = 0n;
  for (const signature of commit.signatures) {
    const member = byAddress.get(String(signature.validator_address).toUpperCase());
    if (Number(signature.block_id_flag) !== FLAG_COMMIT || !member || signers.has(member.key)) continue;
    if (!(await verify(fromHex(member.key), fromBase64(String(signature.signature)), signedBytes(commit, signature, chainId)))) throw new NotProved(`the signature of validator ${member.address} is wrong`);
    signers.add(member.key);
    signed += member.power;
  }
  const total = members.reduce((sum, { power }) => sum + power, 0n);
  if (signed * 3n <= total * 2n) throw new NotProved(`only ${signed} of ${total} of power signed this block`);
  return { signers, signed, total };
}

