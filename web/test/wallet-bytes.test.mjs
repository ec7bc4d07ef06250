import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

import { AMOUNT_MAX, AmountError, parseSut, sut, ticking, toSut, units } from "../pages/lib/wallet/balance.js";
import { BorshReader, BorshWriter } from "../pages/lib/wallet/borsh.js";
import { DecodeError, Reader, Writer, fromBase64url, fromHex, sha256, toBase64url, toHex, utf8 } from "../pages/lib/wallet/bytes.js";
import { accountKey, newSessionKey, signer, verify, whyNoKeys } from "../pages/lib/wallet/keys.js";
import { chainTag, preimage } from "../pages/lib/wallet/preimage.js";
import { GRANTS, readToken, signToken } from "../pages/lib/wallet/token.js";
import { decodeVoucher, encodeVoucher, openVoucher, signVoucher } from "../pages/lib/wallet/voucher.js";
import { WordsError, seedOf, wordsOf } from "../pages/lib/wallet/words.js";

const SEVEN = new Uint8Array(32).fill(7);

test("a message holds its integers big-endian and a field that does not fit is refused", () => {
  const bytes = new Writer().u8(1).u16(2).u32(3).u64(4n).u128(5n).bytes(fromHex("aabb"), 2).take();
  assert.equal(toHex(bytes), "010002" + "00000003" + "0000000000000004" + "00000000000000000000000000000005" + "aabb");
  const reader = new Reader(bytes);
  assert.deepEqual([reader.u8(), reader.u16(), reader.u32(), reader.u64(), reader.u128()], [1, 2, 3, 4n, 5n]);
  assert.throws(() => reader.end(), DecodeError);
  assert.throws(() => reader.bytes(3), DecodeError);
  assert.throws(() => new Writer().u8(256), RangeError);
  assert.throws(() => new Writer().u64(-1n), RangeError);
  assert.throws(() => new Writer().bytes(SEVEN, 31), RangeError);
});

test("hex and base64url round trip, and what is neither has an error", () => {
  assert.equal(toBase64url(fromHex("fbff")), "-_8");
  assert.equal(toHex(fromBase64url("-_8")), "fbff");
  assert.equal(toHex(fromHex("AbCd")), "abcd");
  for (const bad of ["a", "0x", "zz"]) assert.throws(() => fromHex(bad), DecodeError, bad);
  assert.throws(() => fromHex("aa", 2), DecodeError);
  for (const bad of ["+/==", "-_8=", "a"]) assert.throws(() => fromBase64url(bad), DecodeError, bad);
});

test("borsh is little-endian with lengths of four bytes", () => {
  const writer = new BorshWriter();
  writer.u16(0x0102).u128(1n).string("é").option(null, () => {}).option(7, (value) => writer.u8(value));
  const bytes = writer.list([1, 2], (item) => writer.u32(item)).bool(true).take();
  assert.equal(toHex(bytes), "0201" + "01000000000000000000000000000000" + "02000000c3a9" + "00" + "0107" + "020000000100000002000000" + "01");
  const reader = new BorshReader(bytes);
  assert.deepEqual(
    [reader.u16(), reader.u128(), reader.string(), reader.option(() => reader.u8()), reader.option(() => reader.u8()), reader.list(() => reader.u32()), reader.bool()],
    [0x0102, 1n, "é", null, 7, [1, 2], true],
  );
  reader.end();
});

test("borsh that lies about lengths, tags or text is refused before memory is taken", () => {
  /** @param {string} hex @param {(reader: BorshReader) => unknown} read */
  const refused = (hex, read) => assert.throws(() => read(new BorshReader(fromHex(hex))), DecodeError, hex);
  refused("ffffffff", (reader) => reader.list(() => reader.u8()));
  refused("05000000aabb", (reader) => reader.list(() => reader.u8()));
  refused("02000000c328", (reader) => reader.string());
  refused("02", (reader) => reader.bool());
  refused("02", (reader) => reader.option(() => 1));
  refused("0000", (reader) => reader.u32());
});

test("people write SUT and programs write units", () => {
  /** @param {string} text @param {bigint | null} expected */
  const check = (text, expected) => {
    if (expected === null) assert.throws(() => parseSut(text), AmountError, text);
    else assert.equal(parseSut(text), expected, text);
  };
  check("1.5", 1_500_000_000n);
  check(" 0.000000001 ", 1n);
  check("12", 12_000_000_000n);
  for (const bad of ["0.0000000001", "", ".5", "1.", "-1", "1e9", "1,5", "99999999999999999999999"]) check(bad, null);
  assert.equal(units("5"), 5n);
  assert.equal(units(String(AMOUNT_MAX)), AMOUNT_MAX);
  for (const bad of [5, "", "+5", "-1", "0x5", String(AMOUNT_MAX + 1n), null]) assert.throws(() => units(bad), AmountError, String(bad));
});

test("amounts read at a glance, cut and never rounded up", () => {
  /** @param {bigint} amount @param {string} text */
  const check = (amount, text) => assert.equal(sut(amount), text);
  check(0n, "0 SUT");
  check(42n, "42 nSUT");
  check(1000n, "0.000001 SUT");
  check(1_234_567n, "0.001234 SUT");
  check(999_999_999n, "0.9999 SUT");
  check(1_500_000_000n, "1.5 SUT");
  check(1_234_567_890_123n, "1234.56 SUT");
  check(12_345_678_000_000_000n, "12 345 678 SUT");
  check(-1_500_000_000n, "-1.5 SUT");
  assert.equal(toSut(1n), "0.000000001");
  assert.equal(toSut(-1_500_000_000n), "-1.5");
  assert.equal(ticking(1_234_567_890n, 6), "1.234567 SUT");
  assert.equal(ticking(5n, 3), "0.000 SUT");
});

// The vectors of BIP-39 for 256 bits of entropy.
test("a seed is the entropy of its 24 words", async () => {
  /** @param {number} byte @param {string} words */
  const check = async (byte, words) => {
    const seed = new Uint8Array(32).fill(byte);
    assert.equal((await wordsOf(seed)).join(" "), words);
    assert.deepEqual(await seedOf(`  ${words.toUpperCase().replaceAll(" ", ",\n")} `), seed);
  };
  await check(0x00, `${"abandon ".repeat(23)}art`);
  await check(0xff, `${"zoo ".repeat(23)}vote`);
  await check(0x7f, `${"legal winner thank year wave sausage worth useful ".repeat(3).split(" ").slice(0, 23).join(" ")} title`);
  await check(0x80, `${"letter advice cage absurd amount doctor acoustic avoid ".repeat(3).split(" ").slice(0, 23).join(" ")} bless`);
});

test("words that are no wallet say which word or what is wrong", async () => {
  await assert.rejects(seedOf("abandon"), new WordsError("A wallet has 24 words; these are 1."));
  await assert.rejects(seedOf(`${"abandon ".repeat(22)}abandno art`), /Word 23, “abandno”/);
  await assert.rejects(seedOf("abandon ".repeat(24)), /do not fit together/);
});

test("a signature is bound to its domain and its chain", async () => {
  assert.equal(toHex(await chainTag("sutantra-test-1")), "ee31badd0fdd2a12");
  const signed = await preimage("voucher", "sutantra-test-1", fromHex("01"));
  assert.equal(toHex(signed), `${toHex(utf8("sutantra/vchr/v1"))}ee31badd0fdd2a1201`);
});

// The vector of the protocol, made with ed25519-dalek.
test("the voucher of the protocol comes out to the byte", async () => {
  const key = await accountKey(SEVEN);
  assert.equal(toHex(key.publicKey), "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c");
  const voucher = {
    channel: new Uint8Array(32).fill(1),
    payee: new Uint8Array(32).fill(2),
    stream: new Uint8Array(32).fill(3),
    lane: 1,
    termsVersion: 1,
    nonce: 42n,
    cumulative: 42_000_000n,
    mediaMs: 42_000n,
    bytes: 13_125_000n,
    qos: new Uint8Array(32),
  };
  const body = encodeVoucher(voucher);
  assert.equal(
    toHex(await sha256(await preimage("voucher", "sutantra-test-1", body))),
    "5cda8b6b07392ff313f14a249942e545fc4cf3e616525e85a419cdc15af432c9",
  );
  const signed = await signVoucher(voucher, key, "sutantra-test-1");
  assert.equal(
    toHex(signed.slice(176)),
    "6421b8008f8e06a89f74dc1455a1b0eba739fb190356f8c0d0c120c6b86d48a94c61e660a2af99335e1999e35a590bea67fe499a60426bade917f2c8c4c9870c",
  );
  assert.deepEqual(decodeVoucher(body), voucher);
  assert.deepEqual(await openVoucher(signed, key.publicKey, "sutantra-test-1"), voucher);
  assert.equal(await openVoucher(signed, key.publicKey, "sutantra-test-2"), null, "another chain");
  assert.equal(await openVoucher(signed.slice(1), key.publicKey, "sutantra-test-1"), null, "a byte short");
  signed[100] = (signed[100] ?? 0) ^ 1;
  assert.equal(await openVoucher(signed, key.publicKey, "sutantra-test-1"), null, "a bit flipped");
});

test("a session key signs and cannot be taken out", async () => {
  assert.equal(await whyNoKeys(), null);
  const { privateKey, publicKey } = await newSessionKey();
  assert.equal(privateKey.extractable, false);
  await assert.rejects(crypto.subtle.exportKey("pkcs8", privateKey));
  const signature = await signer(privateKey, publicKey).sign(SEVEN);
  assert.equal(await verify(publicKey, signature, SEVEN), true);
  assert.equal(await verify(publicKey, signature, new Uint8Array(32)), false);
  assert.equal(await verify(new Uint8Array(3), signature, SEVEN), false);
});

test("a creator signs the bearer tokens that the relay reads", async () => {
  const { tokens, issuer_seed } = JSON.parse(await readFile(new URL("../../chain-types/vectors/token.json", import.meta.url), "utf8"));
  const issuer = await accountKey(fromHex(issuer_seed));
  assert.ok(tokens.length > 0);
  for (const { name, chain_id, bearer, ...token } of tokens) {
    const made = await signToken(
      {
        tokenId: fromHex(token.token_id),
        stream: fromHex(token.stream),
        viewer: fromHex(token.viewer),
        holderKey: fromHex(token.holder_key),
        grants: token.grants,
        maxLayer: token.max_layer,
        paymentStatus: token.payment_status,
        revEpoch: token.rev_epoch,
        notBeforeMs: BigInt(token.not_before_ms),
        validUntilMs: BigInt(token.valid_until_ms),
      },
      issuer,
      chain_id,
    );
    assert.equal(made, bearer, name);
    assert.deepEqual(readToken(made), { tokenId: fromHex(token.token_id), holderKey: fromHex(token.holder_key) });
  }
  assert.equal(readToken("AAAA"), null);
  assert.equal(readToken("not a token"), null);
  assert.equal(GRANTS.publish, 2);
});
