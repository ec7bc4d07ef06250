// Frames of a data channel: round trips, and that nothing broken gets through or breaks anything.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { deflateRawSync } from "node:zlib";

import { concat, fromHex, toHex, utf8 } from "../client/bytes.js";
import { Decoder, Encoder } from "../client/codec.js";
import { BATCH, BIN, DEFLATE, FRAG, frame, fragment, KIND, parse, Reassembler, SCTP_MESSAGE_BYTES_MAX, SIGNED, toBytes, unpackBatch } from "../client/framing.js";
import { frameText, Identity, verify } from "../client/identity.js";

const VECTORS = JSON.parse(await readFile(new URL("../client/test-vectors.json", import.meta.url), "utf8"));
const FREE = { mustBeSigned: false };

/** Numbers that follow from a seed (mulberry32). @param {number} seed */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @param {() => number} rng @param {number} length @param {number} letters of the alphabet: few compress well */
const bytes = (rng, length, letters) => Uint8Array.from({ length }, () => Math.floor(rng() * letters));

/** @param {Uint8Array[]} frames @param {Decoder} [decoder] */
async function decoded(frames, decoder = new Decoder()) {
  const results = [];
  for (const one of frames) results.push(await decoder.decode(one, FREE));
  return results;
}

/** @param {Uint8Array} one @param {Decoder} [decoder] @param {{ mustBeSigned: boolean }} [demand] */
function refuses(one, decoder = new Decoder(), demand = FREE, code = "bad_frame") {
  return assert.rejects(async () => decoder.decode(one, demand), { name: "SutantraError", code });
}

test("what is sent arrives, of any size, letter and number", async () => {
  const rng = random(7);
  for (let round = 0; round < 60; round += 1) {
    const bin = rng() < 0.5;
    const kind = Math.floor(rng() * 4);
    const count = rng() < 0.5 ? 1 : 1 + Math.floor(rng() * 20);
    const longest = count === 1 ? [40, 1025, 70_000, 300_000][Math.floor(rng() * 4)] ?? 0 : 300;
    const messages = Array.from({ length: count }, () => {
      const some = bytes(rng, Math.floor(rng() * longest), rng() < 0.5 ? 4 : 128);
      return bin ? some : utf8(new TextDecoder().decode(some) + "é漢🙂");
    });
    const frames = await new Encoder().encode(messages, { bin, kind });
    assert.ok(frames.every(({ length }) => length <= SCTP_MESSAGE_BYTES_MAX));
    const results = await decoded(frames);
    assert.ok(results.slice(0, -1).every((result) => result === null), "the last piece completes it");
    const last = results.at(-1);
    assert.equal(last?.kind, kind);
    assert.deepEqual(last?.messages.map((message) => toHex(toBytes(message).bytes)), messages.map(toHex));
    assert.ok(last?.messages.every((message) => (typeof message === "string") === !bin));
  }
});

// R97
test("1,025 bytes are compressed and 1,024 are not, nor what compression makes no smaller", async () => {
  const flags = async (/** @type {Uint8Array} */ message) => parse((await new Encoder().encode([message], { bin: true, kind: 0 }))[0] ?? new Uint8Array()).flags;
  assert.equal(await flags(new Uint8Array(1025).map((_, i) => i % 64)), BIN | DEFLATE);
  assert.equal(await flags(new Uint8Array(1024).map((_, i) => i % 64)), BIN);
  assert.equal(await flags(bytes(random(1), 1025, 256)), BIN);
  // A receiver refuses more than a hundredfold, so what shrinks so far goes in pieces as it is.
  assert.equal(await flags(new Uint8Array(200_000)), BIN | FRAG);
});

test("the shared vectors are read, and made where a maker has no choice", async () => {
  for (const { name, kind, bin, messages, frames, from, to } of VECTORS.frames) {
    const key = /** @type {Uint8Array} */ (fromHex(VECTORS.keys[0].pk));
    const decoder = new Decoder((seq, covered, signature) => verify(key, frameText(from, to, seq, covered), signature));
    const results = await decoded(frames.map((/** @type {string} */ hex) => fromHex(hex)), decoder);
    assert.equal(results.at(-1)?.kind, kind, name);
    assert.deepEqual(results.at(-1)?.messages.map((message) => toHex(toBytes(message).bytes)), messages, name);
    if (name.includes("deflated") || frames.length > 1 || from) continue;
    const made = await new Encoder().encode(messages.map((/** @type {string} */ hex) => fromHex(hex)), { bin, kind });
    assert.deepEqual(made.map(toHex), frames, name);
  }
});

test("every cut of a frame is refused, or is a whole frame of fewer messages", async () => {
  const messages = Array.from({ length: 40 }, (_, i) => utf8(`message ${i} of forty, which are alike and so compress`));
  const [batch] = await new Encoder().encode(messages, { bin: false, kind: 0 });
  assert.ok(batch && parse(batch).flags === (BATCH | DEFLATE));
  for (let length = 0; length < batch.length; length += 1) await refuses(batch.subarray(0, length));

  const [plain] = await new Encoder().encode(messages.slice(0, 3), { bin: false, kind: 0 });
  const fewer = new Set();
  for (let length = 0; length < (plain?.length ?? 0); length += 1) {
    const result = await new Decoder().decode(/** @type {Uint8Array} */ (plain).subarray(0, length), FREE).catch((error) => error.code);
    if (result !== "bad_frame") fewer.add(result.messages.length);
  }
  assert.deepEqual([...fewer], [0, 1, 2]);
});

test("broken frames are refused by name", async () => {
  const check = (/** @type {string} */ _what, /** @type {number[]} */ some = []) => refuses(Uint8Array.from(some));
  await check("nothing");
  await check("half a head", [0x40]);
  await check("version 0", [0x00, 0]);
  await check("version 2", [0x80, 0]);
  await check("a flag of the future", [0x60, 0]);
  await check("kind 4", [0x40, 4]);
  await check("a length that never ends", [0x44, 0, 0x80, 0x80, 0x80, 0x80, 0x01]);
  await check("a length beyond the end", [0x44, 0, 5, 1, 2]);
  await check("text that is not UTF-8", [0x40, 0, 0xff]);
  await check("no deflate", [0x42, 0, 0xff, 0xff]);
  await check("a fragment without a head", [0x48, 0, 0, 0, 0, 1, 0, 0, 0]);
  await check("piece 1 of 1", [0x48, 0, 0, 0, 0, 1, 0, 1, 0, 1, 65]);
  await check("an empty piece", [0x48, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
  await refuses(frame(BIN, 0, new Uint8Array(SCTP_MESSAGE_BYTES_MAX - 1)));
  await refuses(concat(frame(DEFLATE, 0, deflateRawSync(utf8("x".repeat(50)))), Uint8Array.of(1)));
  assert.throws(() => unpackBatch(new Uint8Array(5000)), { code: "bad_frame" });
});

test("a message inflates to no more than a hundredfold", async () => {
  const bomb = deflateRawSync(new Uint8Array(1_000_000));
  assert.ok(bomb.length < 10_000);
  await refuses(frame(BIN | DEFLATE, 0, bomb));
  const bearable = deflateRawSync(Buffer.from("0123456789".repeat(100) + toHex(bytes(random(3), 400, 256))));
  assert.equal((await decoded([frame(DEFLATE, 0, bearable)]))[0]?.messages[0]?.length, 1800);
});

test("pieces come together in any order, those of two messages among each other", async () => {
  const one = frame(BIN, KIND.APPLICATION, bytes(random(4), 50_000, 256));
  const two = frame(BIN, KIND.COMMIT, bytes(random(5), 40_000, 256));
  const pieces = [...fragment(one, 1), ...fragment(two, 2)];
  for (const order of [pieces, [...pieces].reverse(), [...pieces].sort((a, b) => (a[9] ?? 0) - (b[9] ?? 0))]) {
    const reassembler = new Reassembler();
    const whole = order.map((piece) => reassembler.push(piece)).filter((result) => result !== null);
    assert.deepEqual(new Set(whole.map(toHex)), new Set([toHex(one), toHex(two)]));
  }
});

test("a piece twice, pieces of another message and more than 4 MiB are refused, and what follows is read", async () => {
  const pieces = fragment(frame(BIN, 0, bytes(random(6), 40_000, 256)), 9);
  const reassembler = new Reassembler();
  const [first, second] = /** @type {[Uint8Array, Uint8Array]} */ (/** @type {unknown} */ (pieces));
  reassembler.push(first);
  assert.throws(() => reassembler.push(first), { code: "bad_frame" });
  const foreign = second.slice();
  foreign[1] = KIND.COMMIT;
  assert.throws(() => reassembler.push(foreign), { code: "bad_frame" });
  assert.ok(pieces.map((piece) => reassembler.push(piece)).at(-1), "the same id begins anew");

  const endless = new Reassembler();
  const flood = () => {
    for (let index = 0; index < 300; index += 1) {
      const head = Uint8Array.of(0, 0, 0, 1, index >> 8, index & 255, 1, 44);
      endless.push(frame(FRAG, 0, concat(head, new Uint8Array(16_000))));
    }
  };
  assert.throws(flood, { code: "bad_frame" });
});

// R91
test("a signed message is read once, by the one it is for, from the one who wrote it", async () => {
  const [ada, bob, eve] = await Promise.all([1, 2, 3].map((byte) => Identity.fromSeed(new Uint8Array(32).fill(byte))));
  assert.ok(ada && bob && eve);
  const encoder = new Encoder({ sign: (seq, covered) => ada.sign(frameText(ada.nodeId, bob.nodeId, seq, covered)) });
  const reader = (/** @type {Identity} */ from, /** @type {string} */ to) => new Decoder((seq, covered, signature) => verify(from.publicKey, frameText(from.nodeId, to, seq, covered), signature));
  const [first] = await encoder.encode([utf8("first")], { bin: false, kind: 1 });
  const [second] = await encoder.encode([utf8("second")], { bin: false, kind: 1 });
  assert.ok(first && second && parse(first).flags & SIGNED);

  const demand = { mustBeSigned: true };
  const bobs = reader(ada, bob.nodeId);
  // One may overtake the other on another way; neither counts twice.
  assert.deepEqual((await bobs.decode(second, demand))?.messages, ["second"]);
  assert.deepEqual((await bobs.decode(first, demand))?.messages, ["first"]);
  for (const again of [first, second]) await refuses(again, bobs, demand, "bad_signature");

  await refuses(first, reader(eve, bob.nodeId), demand, "bad_signature");
  await refuses(first, reader(ada, eve.nodeId), demand, "bad_signature");
  await refuses(first, new Decoder(), demand, "bad_signature");
  for (const at of [1, 2, first.length - 65, first.length - 1]) {
    const changed = first.slice();
    changed[at] = (changed[at] ?? 0) ^ 1;
    await refuses(changed, reader(ada, bob.nodeId), demand, "bad_signature");
  }
  await refuses(frame(0, 1, utf8("unsigned")), reader(ada, bob.nodeId), demand, "bad_signature");
  await refuses(frame(SIGNED, 1, new Uint8Array(71)), reader(ada, bob.nodeId), demand, "bad_signature");
});

test("no random bytes end in anything but messages or a named refusal", async () => {
  const rng = random(11);
  const decoder = new Decoder();
  for (let round = 0; round < 3000; round += 1) {
    const some = bytes(rng, Math.floor(rng() * 60), 256);
    if (some.length > 1) {
      some[0] = 0x40 | ((some[0] ?? 0) & 0x1f);
      some[1] = (some[1] ?? 0) & 3;
    }
    const result = await decoder.decode(some, FREE).catch((error) => error);
    assert.ok(result === null || Array.isArray(result.messages) || ["bad_frame", "bad_signature"].includes(result.code), String(result));
  }
});
