import assert from "node:assert/strict";
import test from "node:test";

import { UNITS_PER_SUT } from "../pages/lib/wallet/balance.js";
import { fromHex, toHex } from "../pages/lib/wallet/bytes.js";
import { checkCaps, dayOf } from "../pages/lib/wallet/caps.js";
import { ChainError } from "../pages/lib/wallet/chain.js";
import { depositFor } from "../pages/lib/wallet/pool.js";
import { PayRefused, readTerms } from "../pages/lib/wallet/terms.js";
import { openVoucher } from "../pages/lib/wallet/voucher.js";
import { FakeChain, PAYEE, RATE, browser, termsJson } from "./wallet-world.mjs";

const terms = await readTerms(termsJson());
/** @param {bigint} total @param {bigint} [mediaMs] */
const sight = (total, mediaMs = 0n) => ({ total, mediaMs, bytes: 0n, servedMs: 0n });
/** @param {string} reason */
const refusedFor = (reason) => (/** @type {unknown} */ error) => error instanceof PayRefused && error.reason === reason;

/** @param {{ chain?: FakeChain, now?: () => number }} [options] */
async function withPool(options) {
  const world = await browser(options);
  const channel = await world.wallet.openPool({ payee: PAYEE, rate: RATE });
  const writer = await world.wallet.writer(PAYEE);
  assert.ok(writer);
  return { ...world, channel, writer };
}

test("a wallet is one account for all tabs, and its words bring it back", async () => {
  const one = await browser();
  const words = await one.wallet.words();
  assert.equal(words.length, 24);
  await one.wallet.create();
  const again = await browser({ name: one.name, funded: false });
  assert.equal(again.wallet.account, one.wallet.account);
  const other = await browser({ funded: false });
  assert.notEqual(other.wallet.account, one.wallet.account);
  await other.wallet.importWords(words.join(" "));
  assert.equal(other.wallet.account, one.wallet.account);
  assert.equal(await other.wallet.noted(), true);
});

test("a pool holds 15 minutes of the price, and never less than the chain takes", () => {
  assert.equal(depositFor(RATE, 2_000_000n), 900n * RATE);
  assert.equal(depositFor(1n, 2_000_000n), 2_000_000n);
});

test("a pool is opened with its money reserved for the relay", async () => {
  const { chain, channel, wallet } = await withPool();
  const { payload } = chain.transactions[0];
  assert.equal(payload.deposit, (900n * RATE).toString());
  assert.deepEqual(payload.reserves, [{ payee: PAYEE, amount: payload.deposit, until_height: 1900 }]);
  const [pool] = await wallet.pools();
  assert.ok(pool);
  assert.deepEqual([pool.channel, pool.state, pool.mine, pool.left], [channel, "open", true, 900n * RATE]);
  assert.equal(chain.channels.get(channel).voucher_key, (await wallet.store.read((access) => access.all("pools")))[0]?.voucherPublic);
});

test("a pool that the chain refused leaves nothing behind", async () => {
  const world = await browser();
  world.chain.failWith = 4;
  await assert.rejects(world.wallet.openPool({ payee: PAYEE, rate: RATE }), (error) => error instanceof ChainError && error.code === 4);
  assert.deepEqual(await world.wallet.pools(), []);
  assert.equal(await world.wallet.writer(PAYEE), null);
});

test("the voucher key is kept before the pool is opened", async () => {
  const world = await browser();
  world.chain.submit = async () => {
    const [row] = await world.store.read((access) => access.all("pools"));
    assert.equal(row?.state, "opening");
    assert.equal(row?.voucherKey.extractable, false);
    throw new ChainError(0, "the page was closed here");
  };
  await assert.rejects(world.wallet.openPool({ payee: PAYEE, rate: RATE }));
  const [row] = await world.store.read((access) => access.all("pools"));
  assert.equal(row?.state, "opening", "the chain has not said no: the key stays");
});

test("vouchers count upwards and verify under the pool's key", async () => {
  const { writer, chain, channel } = await withPool();
  const key = fromHex(chain.channels.get(channel).voucher_key);
  const first = await openVoucher((await writer.sign(terms, sight(2_000_000n))).signed, key, chain.id);
  const second = await openVoucher((await writer.sign(terms, sight(3_000_000n, 1000n))).signed, key, chain.id);
  assert.deepEqual([first?.nonce, first?.cumulative, first?.mediaMs], [1n, 2_000_000n, 0n]);
  assert.deepEqual([second?.nonce, second?.cumulative, second?.mediaMs], [2n, 3_000_000n, 1000n]);
  assert.deepEqual(await writer.sums(), { deposits: 900n * RATE, signed: 3_000_000n, left: 897_000_000n, open: true });
});

test("no voucher is for less than the one before, whatever is asked", async () => {
  const { writer } = await withPool();
  await writer.sign(terms, sight(3_000_000n, 5000n));
  const { lane } = await writer.sign(terms, sight(1n, 1n));
  assert.deepEqual([lane.cumulative, lane.mediaMs, lane.nonce], [3_000_000n, 5000n, 2n]);
});

test("what is signed is on the disk before it is signed", async () => {
  const { writer, store, chain } = await withPool();
  /** @type {bigint[]} */
  const onDiskAtSigning = [];
  const { key } = writer;
  const sign = key.sign;
  key.sign = async (bytes) => {
    const [lane] = await store.read((access) => access.all("lanes"));
    const [sum] = await store.read((access) => access.all("sums"));
    onDiskAtSigning.push(lane?.cumulative ?? 0n, sum?.spent ?? 0n);
    return sign(bytes);
  };
  await writer.sign(terms, sight(2_000_000n));
  assert.deepEqual(onDiskAtSigning, [2_000_000n, 2_000_000n]);
  // A crash between the write and the signature: the next voucher goes on from the higher sum.
  key.sign = () => Promise.reject(new Error("the tab was killed"));
  await assert.rejects(writer.sign(terms, sight(5_000_000n)));
  key.sign = sign;
  const voucher = await openVoucher((await writer.sign(terms, sight(4_000_000n))).signed, key.publicKey, chain.id);
  assert.deepEqual([voucher?.cumulative, voucher?.nonce], [5_000_000n, 3n]);
});

test("a write that fails signs nothing", async () => {
  const { writer, store } = await withPool();
  let signatures = 0;
  const { key } = writer;
  key.sign = async () => {
    signatures += 1;
    return new Uint8Array(64);
  };
  store.write = () => Promise.reject(new Error("the disk is full"));
  await assert.rejects(writer.sign(terms, sight(2_000_000n)), /the disk is full/);
  assert.equal(signatures, 0);
});

test("a pool never promises more than it holds, over all its lanes", async () => {
  const { writer } = await withPool();
  const dearer = await readTerms(termsJson({ terms_version: 2 }));
  await writer.sign(terms, sight(500n * RATE));
  await writer.sign(dearer, sight(400n * RATE));
  await assert.rejects(writer.sign(terms, sight(500n * RATE + 1n)), refusedFor("pool"));
  assert.equal((await writer.sums()).left, 0n);
  await assert.rejects(writer.sign(await readTerms(termsJson({ payee: "0b".repeat(32) })), sight(1n)), refusedFor("pool"));
});

test("a viewer's wallet does not pay for transport between relays", async () => {
  const { writer } = await withPool();
  await assert.rejects(writer.sign(await readTerms(termsJson({ stream: "00".repeat(32) })), sight(1n)), refusedFor("stream"));
});

test("caps stop the wallet for a stream and for a day, and a new day begins at zero", async () => {
  let now = Date.UTC(2026, 10, 22, 12);
  const { writer, wallet } = await withPool({ now: () => now });
  await wallet.setCaps({ perStream: 10n * RATE, perDay: 12n * RATE });
  await writer.sign(terms, sight(10n * RATE));
  await assert.rejects(writer.sign(terms, sight(10n * RATE + 1n)), refusedFor("cap"));
  const other = await readTerms(termsJson({ stream: "0c".repeat(32) }));
  await writer.sign(other, sight(2n * RATE));
  await assert.rejects(writer.sign(other, sight(2n * RATE + 1n)), refusedFor("cap"));
  // The newest voucher may be signed again at any time: it promises nothing more.
  await writer.sign(terms, sight(10n * RATE));
  now += 24 * 3_600_000;
  await writer.sign(terms, sight(11n * RATE));
  assert.deepEqual((await wallet.spentToday()).map((row) => row.spent), [RATE]);
  assert.equal(dayOf(now), "2026-11-23");
});

test("a cap counts to the unit", () => {
  const caps = { perStream: 10n, perDay: 15n };
  const row = (/** @type {string} */ stream, /** @type {bigint} */ spent) => ({ chain: "c", day: "d", stream, spent, title: "" });
  checkCaps([row("a", 9n)], "a", 1n, caps);
  assert.throws(() => checkCaps([row("a", 9n)], "a", 2n, caps), refusedFor("cap"));
  checkCaps([row("a", 9n), row("b", 5n)], "b", 1n, caps);
  assert.throws(() => checkCaps([row("a", 9n), row("b", 5n)], "b", 2n, caps), refusedFor("cap"));
});

test("one tab writes to a pool, and the next may when it lets go", async () => {
  const { wallet, writer, chain, locks, name } = await withPool();
  const tab = await browser({ chain, locks, name, funded: false });
  await assert.rejects(tab.wallet.writer(PAYEE), refusedFor("busy"));
  await writer.sign(terms, sight(2_000_000n));
  writer.release();
  await new Promise((resolve) => setImmediate(resolve));
  const second = await tab.wallet.writer(PAYEE);
  assert.ok(second);
  assert.equal((await second.lane(terms)).cumulative, 2_000_000n);
  await assert.rejects(wallet.writer(PAYEE), refusedFor("busy"));
});

test("two tabs send transactions one after the other, each with its own nonce", async () => {
  const world = await browser();
  const tab = await browser({ ...world, funded: false });
  await Promise.all([world.wallet.openPool({ payee: PAYEE, rate: RATE }), tab.wallet.openPool({ payee: PAYEE, rate: RATE })]);
  assert.deepEqual(world.chain.transactions.map(({ nonce }) => nonce), [0, 1]);
});

test("a top-up keeps all of the pool for its relay", async () => {
  const { wallet, chain, channel, writer } = await withPool();
  await writer.sign(terms, sight(900n * RATE));
  chain.channels.get(channel).redeemed = 100n * RATE;
  await wallet.topUp(channel, 300n * RATE);
  const { payload } = chain.transactions.at(-1);
  assert.equal(payload.amount, (300n * RATE).toString());
  assert.equal(payload.reserves[0].amount, (1100n * RATE).toString());
  assert.equal((await writer.sums()).left, 300n * RATE);
  await writer.sign(terms, sight(901n * RATE));
});

test("a pool that closes signs no more, and one of another browser can still be closed", async () => {
  const { wallet, chain, channel, writer } = await withPool();
  await wallet.requestClose(channel);
  await assert.rejects(writer.sign(terms, sight(1n)), refusedFor("closed"));
  assert.equal((await wallet.pools())[0]?.state, "closing");
  await wallet.finalize(channel);
  assert.equal((await wallet.pools())[0]?.state, "closed");

  const open = await wallet.openPool({ payee: PAYEE, rate: RATE });
  const elsewhere = await browser({ chain, funded: false });
  await elsewhere.wallet.importWords((await wallet.words()).join(" "));
  const found = (await elsewhere.wallet.pools()).find((pool) => pool.channel === open);
  assert.deepEqual([found?.mine, found?.state], [false, "open"]);
  assert.equal(await elsewhere.wallet.writer(PAYEE), null, "its voucher key is in the other browser");
  await elsewhere.wallet.requestClose(open);
});

test("the relay's copy of a voucher may only raise what the wallet believes", async () => {
  const { writer } = await withPool();
  const { signed: older } = await writer.sign(terms, sight(2_000_000n));
  const { signed: newer, lane } = await writer.sign(terms, sight(3_000_000n));
  assert.equal((await writer.raise(terms, older))?.cumulative, 3_000_000n);
  // The disk was restored from an older copy.
  const forgetful = await withPool();
  assert.equal(await forgetful.writer.raise(terms, newer), null, "under another pool's key");
  await writer.sign(terms, sight(2n));
  assert.deepEqual([(await writer.raise(terms, newer))?.nonce, lane.nonce], [3n, 2n]);
  assert.equal(await writer.raise(await readTerms(termsJson({ terms_version: 2 })), newer), null, "of another lane");
  assert.equal(await writer.raise(terms, newer.map((byte, at) => (at === 127 ? byte ^ 1 : byte))), null, "forged");
});

test("an account without money for the fee hears so before anything is sent", async () => {
  const world = await browser({ funded: false });
  await assert.rejects(world.wallet.openPool({ payee: PAYEE, rate: RATE }), (error) => error instanceof ChainError && error.code === 4);
  assert.equal(world.chain.transactions.length, 0);
  assert.ok((await world.wallet.fund()) >= UNITS_PER_SUT);
  assert.equal(toHex(world.wallet.key.publicKey), world.wallet.account);
});
