// What a coordinator carries counts once: it keeps what it likes and tells it again when and where it likes.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fromBase64, utf8 } from "../client/bytes.js";
import { PeerChannel, LABEL } from "../client/channel.js";
import { Encoder } from "../client/codec.js";
import { Identity } from "../client/identity.js";
import { Relay } from "../client/relay.js";
import { Ledger, Numbers, seqAt } from "../client/replay.js";

const NOW = 1_700_000_000_000;
const seeded = (/** @type {number} */ byte) => Identity.fromSeed(new Uint8Array(32).fill(byte));
const [ada, bob] = [await seeded(1), await seeded(2)];

/** @param {{ take: (...args: any[]) => void }} taker @param {any[]} args @param {boolean} counts */
function check(taker, args, counts) {
  if (counts) taker.take(...args);
  else assert.throws(() => taker.take(...args), { name: "SutantraError", code: "bad_signature" });
}

/** A receiver that knows Ada's key. @param {() => number} [now] */
async function receiver(now = () => NOW) {
  const relay = new Relay(bob.nodeId, bob, async () => undefined, now);
  await relay.learn(ada.nodeId, ada.pk);
  return relay;
}

let clock = NOW;

/** One signed frame of Ada's in base64, who has just begun. @param {string} text @param {string} [to] */
async function signed(text, to = bob.nodeId) {
  clock += 1;
  const [data] = await new Relay(ada.nodeId, ada, async () => undefined, () => clock).frames(to, text, 0);
  return data;
}

/** @param {Relay} relay @param {string | undefined} data @param {string} [to] */
const opened = async (relay, data, to = bob.nodeId) => (await relay.open({ from: ada.nodeId, room: "global", data }, { to }))?.messages;

test("a number counts once, and not after 64 later ones", () => {
  const numbers = new Numbers();
  for (const seq of [5n, 3n, 200n]) check(numbers, [seq], true);
  for (const seq of [5n, 3n, 200n]) check(numbers, [seq], false);
  for (let seq = 201n; seq < 262n; seq += 1n) check(numbers, [seq], true);
  check(numbers, [4n], true);
  check(numbers, [2n], false);
  check(numbers, [1000n], true);
  check(numbers, [5n], false);
  check(numbers, [6n], true);
});

test("a number of before this node began, or of a time to come, does not count", () => {
  let now = NOW;
  const ledger = new Ledger(() => now);
  check(ledger, ["ada", seqAt(NOW - 120_000)], false);
  check(ledger, ["ada", seqAt(NOW - 119_999)], true);
  check(ledger, ["ada", seqAt(NOW + 120_001)], false);
  check(ledger, ["ada", seqAt(NOW + 120_000)], true);
  now += 3_600_000;
  check(ledger, ["bob", seqAt(NOW)], true);
  check(ledger, ["bob", seqAt(now)], true);
});

test("a sender that was forgotten among a thousand is not believed twice", () => {
  let now = NOW;
  const ledger = new Ledger(() => now);
  check(ledger, ["ada", seqAt(NOW)], true);
  for (let n = 0; n < 1024; n += 1) check(ledger, [`sender ${n}`, seqAt((now += 1))], true);
  check(ledger, ["ada", seqAt(NOW)], false);
  check(ledger, ["ada", seqAt(now)], true);
});

test("a relayed message counts once, whoever else the coordinator names in between", async () => {
  const relay = await receiver();
  const data = await signed("pay bob");
  assert.deepEqual(await opened(relay, data), ["pay bob"]);
  await assert.rejects(opened(relay, data), { code: "bad_signature" });
  // What it invents has no good signature, and pushes nobody out.
  for (let n = 0; n < 1100; n += 1) await relay.open({ from: `nobody ${n}`, room: "global", data }, { to: bob.nodeId }).catch(() => {});
  await assert.rejects(opened(relay, data), { code: "bad_signature" });
  assert.deepEqual(await opened(relay, await signed("pay eve")), ["pay eve"]);
});

test("what a node heard is not told to it again after it began anew", async () => {
  const data = await signed("vote yes");
  assert.deepEqual(await opened(await receiver(), data), ["vote yes"]);
  await assert.rejects(opened(await receiver(() => NOW + 600_000), data), { code: "bad_signature" });
});

test("a sender that begins anew goes on above what it sent before", async () => {
  const relay = await receiver();
  for (const text of ["one", "two"]) assert.deepEqual(await opened(relay, await signed(text)), [text]);
});

test("a broadcast counts in its room and in no other", async () => {
  const relay = await receiver();
  const [data, other] = [await signed("to all", "global"), await signed("to learners", "learning")];
  assert.deepEqual(await opened(relay, data, "global"), ["to all"]);
  await assert.rejects(opened(relay, data, "global"), { code: "bad_signature" });
  await assert.rejects(opened(relay, other, "global"), { code: "bad_signature" });
  assert.deepEqual(await opened(relay, other, "learning"), ["to learners"]);
});

test("what the coordinator brought does not count again on a channel, nor on two of them", async () => {
  const relay = await receiver();
  /** @type {any[]} */
  const heard = [];
  const channel = () => {
    const one = Object.assign(new EventTarget(), { label: LABEL, readyState: "open", binaryType: "" });
    const ports = {
      verify: (/** @type {bigint} */ seq, /** @type {Uint8Array} */ covered, /** @type {Uint8Array} */ signature) => relay.verify(ada.nodeId, bob.nodeId, seq, covered, signature),
      take: (/** @type {bigint} */ seq) => relay.take(ada.nodeId, bob.nodeId, seq),
    };
    new PeerChannel(/** @type {any} */ (one), { message: ({ data }) => heard.push(data), error: ({ code }) => heard.push(code), closed: () => {} }, ports);
    return one;
  };
  const [first, second] = [channel(), channel()];
  const bring = async (/** @type {EventTarget} */ to, /** @type {string | undefined} */ data) => {
    const before = heard.length;
    to.dispatchEvent(Object.assign(new Event("message"), { data: fromBase64(data) }));
    while (heard.length === before) await new Promise((resolve) => setImmediate(resolve));
  };
  const relayed = await signed("once");
  assert.deepEqual(await opened(relay, relayed), ["once"]);
  await bring(first, relayed);
  const direct = await signed("twice");
  for (const one of [first, second]) await bring(one, direct);
  assert.deepEqual(heard, ["bad_signature", "twice", "bad_signature"]);
  await assert.rejects(opened(relay, direct), { code: "bad_signature" });
});

test("numbers are the clock, and go on where it stands still or goes back", async () => {
  const times = [NOW, NOW, NOW - 5000, NOW + 1];
  /** @type {bigint[]} */
  const seqs = [];
  const encoder = new Encoder({
    now: () => times.shift() ?? 0,
    sign: async (seq) => {
      seqs.push(seq);
      return new Uint8Array(64);
    },
  });
  for (const text of ["a", "b", "c", "d"]) await encoder.encode([utf8(text)], { bin: false, kind: 0 });
  assert.deepEqual(seqs, [seqAt(NOW), seqAt(NOW) + 1n, seqAt(NOW) + 2n, seqAt(NOW + 1)]);
});
