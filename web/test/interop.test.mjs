// What the interop scenario judges by: trees, headers' hashes, skeletons of answers.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fromRfc3339WithNanoseconds } from "@cosmjs/tendermint-rpc";

import { hashHeader } from "../e2e/lib/header.mjs";
import { leafHash, rootOf, rootOfLeaves } from "../e2e/lib/merkle.mjs";
import { differences, skeleton } from "../e2e/lib/routes.mjs";

/** Of the header below, as Go's `types.Header.Hash` of CometBFT 0.38.26 computes it. */
const HASH = "4982ddfcce5655c30c19802255a9aa23b6dba2070c67beec033c99a18637209b";

const hex = (/** @type {Uint8Array | null} */ bytes) => bytes && Buffer.from(bytes).toString("hex");

test("a leaf and its aunts give the root, a wrong place does not", () => {
  const leaves = Array.from({ length: 3 }, (_, at) => Buffer.from(`leaf ${at}`));
  const [a, b, c] = [0, 1, 2].map((at) => leafHash(Buffer.from(`leaf ${at}`)));
  assert.ok(a && b && c);
  const root = rootOfLeaves(leaves);
  const left = rootOfLeaves(leaves.slice(0, 2));
  assert.equal(hex(rootOf(a, 0, 3, [b, c])), hex(root));
  assert.equal(hex(rootOf(b, 1, 3, [a, c])), hex(root));
  assert.equal(hex(rootOf(c, 2, 3, [left])), hex(root));
  assert.notEqual(hex(rootOf(a, 1, 3, [b, c])), hex(root));
  assert.equal(rootOf(a, 0, 3, [b]), null);
  assert.equal(rootOf(c, 2, 3, [a, b]), null);
  assert.equal(rootOf(a, 3, 3, [b, c]), null);
});

test("a header's hash is CometBFT's", () => {
  const bytes = (/** @type {string} */ text) => Uint8Array.from(Buffer.from(text, "hex"));
  const header = {
    version: { block: 11, app: 1 },
    chainId: "HEADER_CHAIN",
    height: 2,
    time: fromRfc3339WithNanoseconds("2026-11-22T19:56:51.222914289Z"),
    lastBlockId: { hash: bytes("AA".repeat(32)), parts: { total: 1, hash: bytes("BB".repeat(32)) } },
    lastCommitHash: bytes("01".repeat(32)),
    dataHash: bytes("02".repeat(32)),
    validatorsHash: bytes("03".repeat(32)),
    nextValidatorsHash: bytes("03".repeat(32)),
    consensusHash: bytes("04".repeat(32)),
    appHash: bytes("0000000000000000"),
    lastResultsHash: bytes("05".repeat(32)),
    evidenceHash: bytes("06".repeat(32)),
    proposerAddress: bytes("07".repeat(20)),
  };
  assert.equal(hex(hashHeader(header)), HASH);
  assert.notEqual(hex(hashHeader({ ...header, height: 3 })), HASH);
  assert.notEqual(hex(hashHeader({ ...header, lastBlockId: null })), HASH);
});

test("answers of other form are told apart, lists and nulls are not held against anybody", () => {
  const check = (/** @type {unknown} */ one, /** @type {unknown} */ other, /** @type {string[]} */ expected) =>
    assert.deepEqual(differences(skeleton(one), skeleton(other)), expected);
  check({ a: 1, b: ["x"] }, { a: 2, b: [] }, []);
  check({ a: null }, { a: { b: 1 } }, []);
  check({ a: 1 }, { a: "1" }, [".a is number here, string there"]);
  check({ a: { b: 1 } }, { a: {} }, [".a.b is only here"]);
  check([{ a: 1 }], [{ b: 1 }], ["[].a is only here", "[].b is only there"]);
});
