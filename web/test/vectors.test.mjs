// One file of vectors for both languages: what the chain's own crate wrote comes out here to the byte.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

import { needsSecondSignature, signBind, verifyBindAck } from "../pages/lib/wallet/bind.js";
import { DecodeError, fromHex, toHex, utf8 } from "../pages/lib/wallet/bytes.js";
import { derivedId } from "../pages/lib/wallet/chain.js";
import { FRAME_BYTES_MAX, bindFrame, packFrames, readFrame, unpackFrames, voucherFrame } from "../pages/lib/wallet/frames.js";
import { accountKey, verify } from "../pages/lib/wallet/keys.js";
import { laneNumber, minPrepay, payableMs, signedTotal } from "../pages/lib/wallet/lane.js";
import { preimage } from "../pages/lib/wallet/preimage.js";
import { readTerms } from "../pages/lib/wallet/terms.js";
import { decodeTransaction, encodeBody, feeMin, signTransaction, transactionHash } from "../pages/lib/wallet/transaction.js";
import { openVoucher } from "../pages/lib/wallet/voucher.js";

const money = JSON.parse(await readFile(new URL("../../chain-types/vectors/money.json", import.meta.url), "utf8"));
const chainId = money.chain_id;
const payer = await accountKey(fromHex(money.seeds.payer));
const relay = await accountKey(fromHex(money.seeds.relay));
/** @param {string} name */
const frame = (name) => fromHex(money.frames.find((/** @type {any} */ each) => each.name === name).bytes);

test("public keys and the ids of streams and channels come out", async () => {
  assert.equal(toHex(payer.publicKey), money.public.payer);
  assert.equal(toHex(relay.publicKey), money.public.relay);
  assert.equal(await derivedId("stream", payer.publicKey, 3), money.ids.stream_of_payer_nonce_3);
  assert.equal(await derivedId("channel", payer.publicKey, 3), money.ids.channel_of_payer_nonce_3);
});

test("every kind of transaction is read, and written back to the byte", async () => {
  const kinds = new Set();
  for (const { body, bytes, hash } of money.transactions) {
    const { kind } = body.payload;
    kinds.add(kind);
    const decoded = decodeTransaction(fromHex(bytes));
    // The chain's JSON writes “taken away” and “as it was” both as null.
    const shown = kind === "update_stream" && decoded.body.payload["origin_relay"] === "" ? { ...decoded.body, payload: { ...decoded.body.payload, origin_relay: null } } : decoded.body;
    assert.deepEqual(shown, body, kind);
    const encoded = toHex(encodeBody(decoded.body));
    assert.equal(encoded + decoded.signature + (decoded.fee_payer_signature ?? ""), bytes, kind);
    assert.equal((await transactionHash(fromHex(bytes))).toLowerCase(), hash.toLowerCase(), kind);
    const signed = await preimage("transaction", chainId, encodeBody(decoded.body));
    assert.equal(await verify(fromHex(body.signer), fromHex(decoded.signature), signed), true, kind);
    if (body.fee_payer === null) assert.equal(toHex(await signTransaction(decoded.body, payer, chainId)), bytes, kind);
  }
  assert.equal(kinds.size, 31);
});

test("bytes that are no transaction are refused, whatever is wrong with them", () => {
  const bytes = fromHex(money.transactions.find((/** @type {any} */ each) => each.body.fee_payer === null).bytes);
  /** @param {Uint8Array} changed */
  const refused = (changed) => assert.throws(() => decodeTransaction(changed), DecodeError);
  for (let length = 0; length < bytes.length; length += 1) refused(bytes.subarray(0, length));
  refused(Uint8Array.from([...bytes, 0]));
  for (const tag of [31, 200]) refused(bytes.map((byte, at) => (at === 65 ? tag : byte)));
  refused(bytes.map((byte, at) => (at === 61 ? 1 : byte))); // A fee of 2⁹⁶.
});

test("the fee of a transaction is the table's", () => {
  const { params, transfer_in_200_bytes, redeem_of_one_in_600_bytes } = money.fees;
  assert.equal(feeMin(params, { kind: "transfer" }, 200), BigInt(transfer_in_200_bytes));
  assert.equal(feeMin(params, { kind: "redeem", entries: ["00"] }, 600), BigInt(redeem_of_one_in_600_bytes));
});

test("lane numbers, prepayment and totals are the relay's", async () => {
  const { lanes } = money;
  for (const [tier, expected] of lanes.numbers_by_tier.entries()) {
    assert.equal(await laneNumber(fromHex(lanes.relay_key), fromHex(lanes.stream), lanes.terms_version, tier), expected);
  }
  for (const total of lanes.totals) {
    const rate = BigInt(total.rate);
    const payable = payableMs(BigInt(total.served_ms), BigInt(total.media_ms));
    assert.equal(payable, BigInt(total.payable_ms), JSON.stringify(total));
    assert.equal(signedTotal(rate, payable, total.cadence_ms, total.sessions), BigInt(total.signed_total), JSON.stringify(total));
    assert.equal(minPrepay(rate, total.cadence_ms, BigInt(lanes.fee_per_voucher)), BigInt(total.min_prepay), JSON.stringify(total));
  }
});

test("terms have one hash, in whatever order their keys came", async () => {
  const raw = JSON.parse(money.terms.json);
  const terms = await readTerms(raw);
  assert.equal(toHex(terms.hash), money.terms.hash);
  const sorted = Object.fromEntries(Object.entries(raw).sort(([one], [other]) => (one < other ? -1 : 1)));
  assert.equal(toHex((await readTerms(sorted)).hash), money.terms.hash);
  assert.equal(terms.rate, BigInt(raw.rate));
});

test("the voucher is the relay's to the byte", async () => {
  const voucher = await openVoucher(fromHex(money.voucher.signed), payer.publicKey, chainId);
  assert.equal(voucher?.cumulative, 42_000_000n);
  assert.equal(toHex(voucherFrame(fromHex(money.voucher.signed))), toHex(frame("voucher")));
});

test("a bind and the relay's answer come out, with one signature and with two", async () => {
  for (const which of ["with_channel", "with_token_and_channel"]) {
    const expected = fromHex(money.bind[which]);
    const at = (/** @type {number} */ index) => expected.slice(16 + 32 * index, 48 + 32 * index);
    const bind = {
      tokenId: expected.slice(0, 16),
      stream: at(0),
      viewer: at(1),
      holderKey: at(2),
      relayKey: at(3),
      clientFingerprint: at(4),
      relayFingerprint: at(5),
      channel: at(6),
      termsHash: at(7),
    };
    const keyOf = (/** @type {string} */ hex) => [payer, relay].find((key) => toHex(key.publicKey) === hex);
    const holder = keyOf(toHex(bind.holderKey));
    assert.ok(holder, "the holder is one of the two keys");
    if (!needsSecondSignature(bind)) {
      assert.equal(toHex(await signBind(bind, holder, null, chainId)), toHex(expected));
      continue;
    }
    await assert.rejects(signBind(bind, holder, null, chainId), TypeError);
    const voucherKey = await accountKey(new Uint8Array(32).fill(9));
    assert.equal(toHex(await signBind(bind, holder, voucherKey, chainId)), toHex(expected));
  }
  const bind = fromHex(money.bind.with_channel);
  const ack = fromHex(money.bind.ack_of_with_channel);
  assert.equal(await verifyBindAck(bind, ack, relay.publicKey, chainId), true);
  assert.equal(await verifyBindAck(bind, ack, payer.publicKey, chainId), false, "another relay's key");
  assert.equal(await verifyBindAck(bind, ack, relay.publicKey, "another-chain"), false);
  const swapped = bind.map((byte, index) => (index === 176 ? byte ^ 1 : byte));
  assert.equal(await verifyBindAck(swapped, ack, relay.publicKey, chainId), false, "another fingerprint of the relay");
  assert.equal(await verifyBindAck(bind, bind.slice(272, 336), relay.publicKey, chainId), false, "the viewer's own signature");
});

test("every frame of a relay is read", async () => {
  const terms = readFrame(frame("terms"));
  assert.deepEqual(terms, { type: "terms", json: money.terms.json });
  assert.deepEqual(readFrame(frame("bind_ack")), { type: "bindAck", signature: fromHex(money.bind.ack_of_with_channel) });
  const ack = readFrame(frame("pay_ack"));
  assert.deepEqual(ack, { type: "payAck", lane: 7, cumulative: 42_000_000n, sentBytes: 1_000_000n, servedMs: 41_500n, state: "active" });
  const due = readFrame(frame("pay_req"));
  assert.ok(due?.type === "payReq" && due.lane === 7 && due.due === 5n && due.paid === 4n);
  assert.deepEqual(readFrame(frame("pay_sync")), { type: "paySync", voucher: fromHex(money.voucher.signed) });
  const receipt = readFrame(frame("receipt"));
  assert.ok(receipt?.type === "receipt");
  assert.equal(toHex(receipt.receipt.relayKey), money.public.relay);
  assert.equal(await verify(relay.publicKey, receipt.signature, await preimage("receipt", chainId, receipt.body)), true);
  assert.deepEqual(readFrame(frame("gate_notice")), { type: "gateNotice", open: false, reason: "overdue" });
  assert.deepEqual(readFrame(frame("error")), { type: "error", code: 4402, message: "Payment required" });
});

test("frames of the payer come out to the byte", () => {
  assert.equal(toHex(bindFrame(fromHex(money.bind.with_channel))), toHex(frame("bind")));
  const frames = [frame("pay_ack"), frame("error")];
  assert.deepEqual(unpackFrames(packFrames(frames)), frames);
  assert.equal(toHex(packFrames([fromHex("aabb")])), "0002aabb");
});

test("a frame of another version or an unknown type is passed over, a broken one is refused", () => {
  assert.equal(readFrame(fromHex("1102")), null);
  assert.equal(readFrame(fromHex("3001aabb")), null);
  /** @param {Uint8Array} bytes */
  const refused = (bytes) => assert.throws(() => readFrame(bytes), DecodeError);
  refused(fromHex("11"));
  refused(frame("pay_ack").slice(0, -1));
  refused(Uint8Array.from([...frame("pay_ack"), 0]));
  refused(frame("pay_ack").map((byte, at) => (at === 38 ? 9 : byte)));
  refused(fromHex("4101020000"));
  refused(fromHex("4101000063"));
  refused(fromHex("7f0111"));
  refused(fromHex("7f011132ff"));
  refused(Uint8Array.from([0x7f, 1, 0, 0, ...utf8("x".repeat(FRAME_BYTES_MAX))]));
  assert.throws(() => unpackFrames(fromHex("0003aabb")), DecodeError);
});
