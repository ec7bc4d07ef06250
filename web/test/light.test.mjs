// The browser's own proofs, against answers of a real chain.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

import { asMember, checkSigned, headerHash, membersHash } from "../pages/lib/light/block.js";
import { fieldsOf, varint } from "../pages/lib/light/protobuf.js";
import { LightReader } from "../pages/lib/light/reader.js";
import { checkRecord } from "../pages/lib/light/record.js";
import { delegationKey, readDelegation, readValidator, validatorKey, worth } from "../pages/lib/light/stake.js";
import { BorshReader, BorshWriter } from "../pages/lib/wallet/borsh.js";
import { fromBase64, fromHex, toHex } from "../pages/lib/wallet/bytes.js";

const real = JSON.parse(await readFile(new URL("light.json", import.meta.url), "utf8"));
const { header, commit } = real.commit.signed_header;
const members = await Promise.all(real.validators.validators.map(asMember));
const { response } = real.query;
const proof = fromBase64(response.proofOps.ops[0].data);

/** A copy in which something is different. @param {any} whole @param {(copy: any) => void} change */
function changed(whole, change) {
  const copy = structuredClone(whole);
  change(copy);
  return copy;
}

test("a header's hash is what its validators signed", async () => {
  assert.equal(await headerHash(header), commit.block_id.hash);
  assert.equal(await membersHash(members), header.validators_hash);
  const { signed, total } = await checkSigned({ header, commit }, members, header.chain_id);
  assert.equal(signed, total);
});

test("a block that is not signed so is refused, whatever was changed", async () => {
  /** @param {RegExp} why @param {(copy: any) => void} change @param {any[]} [who] */
  const refused = (why, change, who = members) => assert.rejects(checkSigned(changed({ header, commit }, change), who, header.chain_id), why);
  await refused(/another block/, (copy) => (copy.header.app_hash = "00".repeat(32)));
  await refused(/another block/, (copy) => (copy.header.time = "2026-01-01T00:00:00Z"));
  await refused(/another height/, (copy) => (copy.commit.height = "1"));
  await refused(/another chain/, (copy) => (copy.header.chain_id = "another"));
  await refused(/not the validators/, () => {}, [{ ...members[0], power: 11n }]);
  await refused(/not the validators/, () => {}, []);
  await refused(/signature of validator .* is wrong/, (copy) => (copy.commit.signatures[0].timestamp = "2026-01-01T00:00:00Z"));
  await refused(/signature of validator .* is wrong/, (copy) => (copy.commit.round = 1));
  await refused(/only 0 of/, (copy) => (copy.commit.signatures[0].block_id_flag = 3));
  await refused(/only 0 of/, (copy) => (copy.commit.signatures = []));
  await assert.rejects(checkSigned({ header, commit: { ...commit, signatures: [...commit.signatures, { block_id_flag: 2, validator_address: "AA" }] } }, [{ ...members[0], power: 0n }], header.chain_id));
});

test("a record leads to the state's root, and nothing else does", async () => {
  const [key, value, root] = [fromHex(real.key), fromBase64(response.value), fromHex(header.app_hash)];
  await checkRecord(root, key, value, proof);
  const account = new BorshReader(value);
  assert.equal(account.u128().toString(), real.account.balance);
  /** @param {Uint8Array} bytes */
  const flipped = (bytes) => bytes.map((byte, at) => (at === bytes.length - 1 ? byte ^ 1 : byte));
  await assert.rejects(checkRecord(flipped(root), key, value, proof), /does not lead/);
  await assert.rejects(checkRecord(root, flipped(key), value, proof), /another record/);
  await assert.rejects(checkRecord(root, key, flipped(value), proof), /another value/);
  await assert.rejects(checkRecord(root, key, new Uint8Array(), proof), /another value/);
  await assert.rejects(checkRecord(root, key, value, new Uint8Array()), { message: "the answer proves no record", absent: false });
  await assert.rejects(checkRecord(root, key, value, Uint8Array.of(0x12, 0)), { message: "the answer proves no record", absent: true });
  for (let length = 1; length < proof.length; length += 1) await assert.rejects(checkRecord(root, key, value, proof.slice(0, length)));
  // A changed byte is accepted only where the tree's shape does not ask the proof: how it says that it hashes.
  const read = (/** @type {Uint8Array} */ bytes) => {
    const fields = fieldsOf(fieldsOf(bytes).get(1)?.[0] ?? new Uint8Array());
    return JSON.stringify([fields.get(1), fields.get(2), fields.get(4)?.map((step) => [fieldsOf(step).get(2), fieldsOf(step).get(3)])]);
  };
  let refused = 0;
  for (let at = 0; at < proof.length; at += 1) {
    const other = proof.map((byte, index) => (index === at ? byte ^ 0x55 : byte));
    const accepted = await checkRecord(root, key, value, other).then(() => true, () => false);
    if (accepted) assert.equal(read(other), read(proof), `byte ${at}`);
    else refused += 1;
  }
  assert.ok(refused > proof.length * 0.75, `${refused} of ${proof.length} changes are refused`);
});

test("numbers and fields of messages are read, broken ones refused", () => {
  assert.deepEqual(varint(300n), [0xac, 2]);
  assert.equal(varint(-1n).length, 10);
  assert.deepEqual([...(fieldsOf(Uint8Array.of(0x08, 0x96, 1, 0x12, 2, 7, 8)).get(2) ?? [])], [Uint8Array.of(7, 8)]);
  for (const bytes of [[0x12], [0x12, 5, 1], [0x0d, 0, 0, 0, 0], [0x08, 0xff], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]) assert.throws(() => fieldsOf(Uint8Array.from(bytes)), { name: "DecodeError" }, String(bytes));
});

/** A chain that gives these answers. @param {Partial<{ commit: any, validators: any, query: any }>} [other] */
const chainOf = (other = {}) => {
  const answers = /** @type {Record<string, any>} */ ({ commit: other.commit ?? real.commit, validators: other.validators ?? real.validators, abci_query: other.query ?? real.query });
  /** @type {any} */
  const chain = { id: header.chain_id, call: async (/** @type {string} */ method) => answers[method] };
  return chain;
};

const atTime = Date.parse(header.time) + 1000;

/** What one browser keeps. @param {string | null} [kept] */
function memoryOf(kept = null) {
  const memory = { text: kept, get: () => memory.text, set: (/** @type {string} */ _, /** @type {string} */ text) => void (memory.text = text) };
  return memory;
}

test("a browser proves a record, and holds later blocks against the validators that it knows", async () => {
  const memory = memoryOf();
  const now = () => atTime;
  const [proved] = await new LightReader(chainOf(), { memory, now }).prove([fromHex(real.key)]);
  assert.equal(toHex(proved?.value ?? new Uint8Array()), toHex(fromBase64(response.value)));
  assert.equal(proved?.firstHeight, Number(header.height));
  await new LightReader(chainOf(), { memory, now }).prove([fromHex(real.key)]);
  const kept = JSON.parse(String(memory.text));
  /** @param {any} trust @param {RegExp} why */
  const refused = (trust, why) => assert.rejects(new LightReader(chainOf(), { memory: memoryOf(JSON.stringify({ ...kept, ...trust })), now }).prove([fromHex(real.key)]), why);
  // The same height with another hash, a height before, and other validators than those it follows from.
  await refused({ hash: "00".repeat(32) }, /another block/);
  await refused({ height: kept.height + 50 }, /and showed block/);
  const ahead = memoryOf(JSON.stringify({ ...kept, height: kept.height + 5 }));
  await new LightReader(chainOf(), { memory: ahead, now }).prove([fromHex(real.key)]);
  assert.equal(JSON.parse(String(ahead.text)).height, kept.height + 5, "a block before is no news");
  const stranger = { key: "01".repeat(32), address: "AA", power: "21" };
  await refused({ height: 1, members: [stranger] }, /too few of the validators/);
  await refused({ height: 1, members: [stranger, { ...kept.members[0], power: "10" }] }, /too few of the validators/);
  await new LightReader(chainOf(), { memory: memoryOf(JSON.stringify({ ...kept, height: 1, members: [stranger, { ...kept.members[0], power: "11" }] })), now }).prove([fromHex(real.key)]);
  // What was kept too long ago binds nobody any more.
  const [anew] = await new LightReader(chainOf(), { memory: memoryOf(JSON.stringify({ ...kept, height: 1, timeMs: 0, members: [stranger] })), now }).prove([fromHex(real.key)]);
  assert.equal(anew?.firstHeight, Number(header.height));
  // A relay that gives no proof, or another record's.
  await assert.rejects(new LightReader(chainOf({ query: { response: { ...response, proofOps: null } } }), { memory, now }).prove([fromHex(real.key)]), /no proof/);
  await assert.rejects(new LightReader(chainOf(), { memory, now }).prove([validatorKey("ab".repeat(32))]), /another record/);
});

test("records of stake are read, and shares are worth what the chain says", () => {
  const writer = new BorshWriter();
  writer.fixed(new Uint8Array(32), 32).string("Löwe").string("").u16(500).u16(2000).u16(100).u64(9n).u128(950n).u128(1000n).u64(1n);
  const validator = readValidator(writer.take());
  assert.deepEqual(validator, { moniker: "Löwe", commissionBps: 500, tokens: 950n, shares: 1000n });
  assert.deepEqual(readDelegation(new BorshWriter().u128(7n).u128(0n).take()), { shares: 7n });
  assert.equal(worth(7n, validator), 6n);
  assert.equal(worth(7n, { tokens: 0n, shares: 0n }), 0n);
  assert.equal(delegationKey("01".repeat(32), "02".repeat(32)).length, 71);
  assert.equal(validatorKey("01".repeat(32)).length, 36);
});
