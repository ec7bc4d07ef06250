import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

import { cadence, moneyIn, searchFor, sentenceOf, usualMs } from "../pages/lib/explorer.js";
import { fromHex } from "../pages/lib/wallet/bytes.js";
import { decodeTransaction } from "../pages/lib/wallet/transaction.js";

const money = JSON.parse(await readFile(new URL("../../chain-types/vectors/money.json", import.meta.url), "utf8"));
/** @param {import("../pages/lib/explorer.js").Part[]} parts */
const plain = (parts) => parts.map((part) => (typeof part === "string" ? part : `<${part.id.slice(0, 2)}>`)).join("");

test("every kind of transaction has a sentence of its own", () => {
  const said = new Map(
    money.transactions.map((/** @type {any} */ { body, bytes }) => [body.payload.kind, plain(sentenceOf(decodeTransaction(fromHex(bytes))))]),
  );
  assert.equal(said.size, 31);
  assert.equal(said.get("transfer"), "<ea> sent 5 SUT to <09>");
  assert.match(String(said.get("register_stream")), /^<ea> registered the stream “.*”, paid by the second at 0\.001 SUT\/s; 70 % go to the creator$/);
  assert.equal(said.get("open_channel"), "<ea> opened a pool with 5 SUT, reserved for <09>");
  assert.match(String(said.get("redeem")), /^<ea> collected .* out of the pool <01>$/);
  assert.equal(said.get("create_validator"), "<ea> became the validator “Löwe” with 5 SUT of its own; it keeps 5 % of rewards");
  assert.equal(said.get("edit_validator"), "<ea> changed its validator: the name to “Tiger”, the commission to 6 %");
  assert.equal(said.get("delegate"), "<ea> staked 5 SUT with <09>");
  assert.equal(said.get("redelegate"), "<ea> moved 5 SUT of stake from <09> to <0a>");
  assert.equal(said.get("vote"), "<ea> voted for <11>");
  assert.equal(said.get("revoke_access"), "<ea> shut <09> out of the stream <03>");
  for (const [kind, sentence] of said) assert.doesNotMatch(String(sentence), /undefined|of kind/, String(kind));
});

test("a search is a height, an id, an address, a name, or a hint", () => {
  assert.deepEqual(searchFor(" 42 "), { kind: "height", height: 42 });
  assert.deepEqual(searchFor(`0x${"AB".repeat(32)}`), { kind: "id", id: "ab".repeat(32) });
  assert.deepEqual(searchFor("ab".repeat(20)), { kind: "address", address: "AB".repeat(20) });
  assert.deepEqual(searchFor(" Löwe "), { kind: "name", name: "Löwe" });
  for (const text of ["", " ", "x", "ab".repeat(31), "ab".repeat(33)]) assert.equal(searchFor(text).kind, "nothing", text);
});

test("money moved in a block is the sum of its events", () => {
  const event = (/** @type {string} */ type, /** @type {Record<string, string>} */ attributes) => ({ type, attributes: Object.entries(attributes).map(([key, value]) => ({ key, value })) });
  assert.deepEqual(moneyIn([event("channel_redeemed", { paid: "7" }), event("fee", { amount: "5", burned: "3" }), event("channel_redeemed", { paid: "1" })]), { paid: 8n, burned: 3n });
  assert.deepEqual(moneyIn([]), { paid: 0n, burned: 0n });
});

test("the strip shows how long each block took", () => {
  const blocks = [
    { height: 4, timeMs: 4000, transactions: 1 },
    { height: 3, timeMs: 2000, transactions: 0 },
    { height: 2, timeMs: 1000, transactions: 0 },
    { height: 1, timeMs: 0, transactions: 0 },
  ];
  assert.deepEqual(cadence(blocks, 2), [
    { height: 3, ms: 1000, share: 0.5, transactions: 0 },
    { height: 4, ms: 2000, share: 1, transactions: 1 },
  ]);
  assert.equal(usualMs(cadence(blocks, 9)), 1000);
  assert.equal(usualMs([]), null);
  assert.deepEqual(cadence([], 9), []);
});
