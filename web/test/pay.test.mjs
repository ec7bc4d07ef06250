import assert from "node:assert/strict";
import test from "node:test";

import { BIND_BODY_BYTES, fingerprintOf } from "../pages/lib/wallet/bind.js";
import { Writer, concat, fromBase64, fromHex, toBase64, toHex, utf8 } from "../pages/lib/wallet/bytes.js";
import { TYPES } from "../pages/lib/wallet/frames.js";
import { admissionTotal, lastsMs, payableMs, signedTotal } from "../pages/lib/wallet/lane.js";
import { MediaClock } from "../pages/lib/wallet/media-clock.js";
import { PAY_CHANNEL_LABEL, Payer, isDearer } from "../pages/lib/wallet/pay.js";
import { PayRefused, checkTerms, readTerms } from "../pages/lib/wallet/terms.js";
import { decodeVoucher, openVoucher } from "../pages/lib/wallet/voucher.js";
import { CHAIN_ID, CLIENT_FINGERPRINT, PAYEE, RATE, RELAY, RELAY_FINGERPRINT, STREAM, acknowledge, browser, sdpWith, termsJson } from "./wallet-world.mjs";

const OFFER = sdpWith(CLIENT_FINGERPRINT);
const ANSWER = sdpWith(RELAY_FINGERPRINT);

/** @param {string} reason */
const refusedFor = (reason) => (/** @type {unknown} */ error) => error instanceof PayRefused && error.reason === reason;

/** @param {Record<string, unknown>} [terms] @param {unknown} [lane] */
const required = (terms = {}, lane) => ({
  x402Version: 2,
  error: "Payment required",
  resource: "/whep/x",
  accepts: [{ scheme: "sutantra-stream", network: `sutantra:${CHAIN_ID}`, payTo: PAYEE, amount: "2000000", asset: "SUT", maxTimeoutSeconds: 60, extra: { terms: termsJson(terms), lane } }],
});

/** A page that watches, and the relay's end of its pay channel. @param {{ world?: Awaited<ReturnType<typeof browser>>, agreedRate?: bigint, withPool?: boolean }} [options] */
async function page({ world, agreedRate = RATE, withPool = true } = {}) {
  const { chain, wallet, ...rest } = world ?? (await browser());
  if (withPool && (await wallet.pools()).length === 0) await wallet.openPool({ payee: PAYEE, rate: RATE });
  let now = 1000;
  const received = { packets: 0, bytes: 0 };
  const payer = new Payer({ chain: /** @type {any} */ (chain), wallet, stream: STREAM, agreedRate, now: () => now, every: () => () => {} });
  /** @type {Uint8Array[]} */
  const sent = [];
  const channel = {
    readyState: "open",
    binaryType: "",
    /** @type {any} */ onopen: null,
    /** @type {any} */ onmessage: null,
    send: (/** @type {Uint8Array} */ frame) => void sent.push(frame),
  };
  /** @type {any[]} */
  const made = [];
  const pc = { createDataChannel: (/** @type {any[]} */ ...made_) => (made.push(made_), channel) };
  payer.attach(/** @type {any} */ (pc), async () => received);
  /** @param {Record<string, unknown>} [terms] @param {unknown} [lane] */
  const authorize = async (terms, lane) => {
    const header = JSON.parse(new TextDecoder().decode(fromBase64(await payer.authorize(required(terms, lane), OFFER))));
    const bind = fromHex(header.payload.bind);
    const voucher = header.payload.voucher ? decodeVoucher(fromHex(header.payload.voucher).slice(0, 176)) : null;
    return { header, bind, voucher };
  };
  /** @param {Uint8Array} bind @param {unknown} [lane] */
  const response = async (bind, lane) => toBase64(utf8(JSON.stringify({ success: true, bindAck: toHex(await acknowledge(bind)), lane })));
  const join = async () => {
    const { bind, voucher } = await authorize();
    await payer.accepted(await response(bind), ANSWER);
    assert.ok(voucher);
    return voucher;
  };
  /** Media for so long, the payer looking at it four times a second. @param {number} ms @param {{ media?: boolean, served?: (nowMs: number) => void | Promise<void> }} [how] */
  const play = async (ms, { media = true, served } = {}) => {
    for (let at = 0; at < ms; at += 250) {
      now += 250;
      if (media) received.packets += 10;
      if (media) received.bytes += 1000;
      await payer.tick();
      await served?.(now);
    }
  };
  /** @param {number} lane @param {number} servedMs @param {number} [state] */
  const ack = (lane, servedMs, state = 1) =>
    payer.receive(new Writer().u8(TYPES.payAck).u8(1).u32(lane).u128(0n).u64(0n).u64(BigInt(servedMs)).u8(state).take());
  const vouchers = () => sent.filter((frame) => frame[0] === TYPES.voucher).map((frame) => decodeVoucher(frame.slice(2, 178)));
  return { payer, chain, wallet, ...rest, sent, channel, made, authorize, response, join, play, ack, vouchers, advance: (/** @type {number} */ ms) => (now += ms) };
}

test("the pay channel is in the offer, unordered", async () => {
  const { made } = await page();
  assert.deepEqual(made, [[PAY_CHANNEL_LABEL, { ordered: false }]]);
});

test("a 402 becomes a bind over both fingerprints and the first voucher", async () => {
  const { authorize, chain, wallet, payer } = await page();
  const { header, bind, voucher } = await authorize();
  assert.deepEqual([header.x402Version, header.scheme, header.network], [2, "sutantra-stream", `sutantra:${CHAIN_ID}`]);
  const [pool] = await wallet.pools();
  assert.equal(toHex(bind.slice(16, 48)), STREAM);
  assert.equal(toHex(bind.slice(48, 80)), wallet.account);
  assert.equal(toHex(bind.slice(80, 112)), chain.channels.get(pool?.channel ?? "").voucher_key);
  assert.equal(toHex(bind.slice(144, 176)), CLIENT_FINGERPRINT);
  assert.equal(toHex(bind.slice(176, 208)), RELAY_FINGERPRINT);
  assert.equal(toHex(bind.slice(208, 240)), pool?.channel);
  assert.equal(toHex(bind.slice(240, 272)), toHex((await readTerms(termsJson())).hash));
  assert.equal(bind.length, BIND_BODY_BYTES + 64);
  assert.equal(voucher?.cumulative, 2_000_000n);
  assert.equal(payer.sight.paid, 2_000_000n);
});

test("a wallet refuses what the chain does not say, and signs nothing", async () => {
  const stranger = "0b".repeat(32);
  /** @param {string} reason @param {Record<string, unknown>} terms @param {(chain: import("./wallet-world.mjs").FakeChain) => void} [change] */
  const check = async (reason, terms, change) => {
    const { authorize, chain, wallet } = await page();
    change?.(chain);
    await assert.rejects(authorize(terms), refusedFor(reason), reason);
    assert.equal((await wallet.pools())[0]?.signed, 0n, reason);
  };
  await check("relay", { relay_key: stranger });
  await check("relay", { payee: stranger });
  await check("relay", {}, (chain) => (chain.relayKey = stranger));
  await check("rate", { rate: (RATE + 1n).toString() });
  await check("rate", { tier: 1 });
  await check("version", { terms_version: 9 });
  await check("version", { tier: 3 });
  await check("prepay", { min_prepay: "2000001" });
  await check("terms", { cadence_ms: 249 });
  await check("terms", { cadence_ms: 10_001 });
  await check("terms", { rate: -1 });
  await check("terms", { relay_fp: "06" });
  await check("stream", { stream: stranger });
});

test("a dust price may ask for four entries' fees in advance, and no more", async () => {
  const record = { terms: [{ version: 1, rate_per_second: "1", tier_bps: [1, 1, 10_000] }] };
  /** @param {string} asked */
  const check = async (asked) => checkTerms(await readTerms(termsJson({ rate: "1", min_prepay: asked })), /** @type {any} */ (record), RELAY.publicKey, 1000n);
  await check("4000");
  await assert.rejects(check("4001"), refusedFor("prepay"));
});

test("another kind of payment, or no terms at all, is refused", async () => {
  const { payer } = await page();
  for (const body of [{ accepts: [] }, { accepts: [{ scheme: "exact", network: "base" }] }, { accepts: [{ ...required().accepts[0], network: "sutantra:other" }] }]) {
    await assert.rejects(payer.authorize(body, OFFER), refusedFor("terms"));
  }
  await assert.rejects(payer.authorize(required(), "v=0\r\n"), refusedFor("keys"));
});

test("without a pool the person is asked to open one", async () => {
  const { payer, authorize } = await page({ withPool: false });
  await assert.rejects(authorize(), refusedFor("pool"));
  assert.equal(payer.sight.state, "stopped");
});

test("an answer from another certificate, or without the relay's signature, plays nothing", async () => {
  const { payer, authorize, response } = await page();
  const { bind } = await authorize();
  const good = await response(bind);
  await assert.rejects(payer.accepted(good, sdpWith("0f".repeat(32))), refusedFor("tampered"));
  await assert.rejects(payer.accepted(null, ANSWER), refusedFor("tampered"));
  await assert.rejects(payer.accepted("not base64 of json", ANSWER), refusedFor("tampered"));
  const forged = toBase64(utf8(JSON.stringify({ bindAck: "00".repeat(64) })));
  await assert.rejects(payer.accepted(forged, ANSWER), refusedFor("tampered"));
  const own = toBase64(utf8(JSON.stringify({ bindAck: toHex(bind.slice(272)) })));
  await assert.rejects(payer.accepted(own, ANSWER), refusedFor("tampered"));
  assert.equal(payer.sight.state, "stopped");
  await payer.accepted(good, ANSWER);
  assert.equal(payer.sight.state, "paying");
});

test("a fingerprint is read from a description, and two that differ are none", () => {
  assert.equal(toHex(fingerprintOf(OFFER) ?? new Uint8Array()), CLIENT_FINGERPRINT);
  assert.equal(toHex(fingerprintOf(OFFER + OFFER) ?? new Uint8Array()), CLIENT_FINGERPRINT);
  assert.equal(fingerprintOf(OFFER + ANSWER), null);
  assert.equal(fingerprintOf("a=fingerprint:sha-1 00:11\r\n"), null);
});

test("each cadence is paid for two cadences ahead of what was served", async () => {
  const { join, play, ack, vouchers, payer } = await page();
  const { lane } = await join();
  let served = 0;
  await play(10_000, {
    served: async (now) => {
      served += 250;
      if (now % 1000 === 0) await ack(lane, served);
    },
  });
  const totals = vouchers().map((voucher) => voucher.cumulative);
  assert.ok(totals.length >= 9 && totals.length <= 14, `${totals.length} vouchers in ten seconds`);
  for (const [at, total] of totals.entries()) assert.ok(at === 0 || total > (totals[at - 1] ?? 0n), "totals rise");
  const last = totals.at(-1) ?? 0n;
  assert.ok(last >= 11n * RATE && last <= signedTotal(RATE, 10_000n, 1000), `${last}`);
  assert.equal(payer.sight.paid, last);
});

test("a relay that claims more than came is paid for what came", async () => {
  const { join, play, ack, vouchers } = await page();
  const { lane } = await join();
  await play(4000, { served: () => ack(lane, 600_000) });
  const last = vouchers().at(-1)?.cumulative ?? 0n;
  // At most what the clock counted, 2 % and a second more, and two cadences.
  assert.ok(last <= signedTotal(RATE, payableMs(600_000n, 4500n), 1000), `${last}`);
  await play(60_000, { media: false, served: () => ack(lane, 600_000) });
  assert.ok((vouchers().at(-1)?.cumulative ?? 0n) <= signedTotal(RATE, payableMs(600_000n, 4500n), 1000));
});

test("held means that nothing is signed, and resuming pays at once", async () => {
  const { join, play, ack, vouchers, payer } = await page();
  const { lane } = await join();
  await play(2000, { served: (now) => ack(lane, now - 1000) });
  payer.hold();
  const before = vouchers().length;
  await play(5000, { served: () => ack(lane, 7000, 2) });
  await payer.receive(new Writer().u8(TYPES.payReq).u8(1).u32(lane).u128(9n * RATE).u128(0n).u32(100).take());
  assert.equal(vouchers().length, before);
  assert.equal(payer.sight.state, "held");
  payer.resume();
  await payer.refresh();
  assert.equal(vouchers().length, before + 1);
  assert.equal(payer.sight.state, "paying");
});

test("a person who paused is not made to pay by a new connection", async () => {
  const { authorize, join, payer } = await page();
  await join();
  payer.hold();
  await assert.rejects(authorize(), refusedFor("consent"));
});

test("a request for money is answered before the cadence", async () => {
  const { join, play, ack, vouchers, payer } = await page();
  const { lane } = await join();
  await play(1000);
  const before = vouchers().length;
  await ack(lane, 1000);
  await payer.receive(new Writer().u8(TYPES.payReq).u8(1).u32(lane).u128(RATE).u128(0n).u32(0).take());
  assert.equal(vouchers().length, before + 1);
});

test("a lane goes on where it was when the connection comes back", async () => {
  const { join, play, ack, vouchers, authorize, payer, channel } = await page();
  const { lane } = await join();
  await play(5000, { served: (now) => ack(lane, now - 1000) });
  const last = vouchers().at(-1);
  payer.attach(/** @type {any} */ ({ createDataChannel: () => channel }), async () => ({ packets: 0, bytes: 0 }));
  const { voucher } = await authorize();
  assert.ok(last && voucher);
  assert.equal(voucher.lane, last.lane);
  assert.ok(voucher.cumulative >= last.cumulative && voucher.cumulative <= admissionTotal(RATE, 5500n, 1000, 2_000_000n));
  assert.ok(voucher.nonce > last.nonce);
});

test("a debt of an earlier session is paid up to what was received, and no further", async () => {
  const world = await browser();
  const first = await page({ world });
  const { lane } = await first.join();
  await first.play(5000, { served: (now) => first.ack(lane, now - 1000) });
  first.payer.close();
  await new Promise((resolve) => setImmediate(resolve));
  const second = await page({ world });
  const { voucher } = await second.authorize({}, { lane, due: (8n * RATE).toString(), paid: (7n * RATE).toString(), served_ms: 6000 });
  assert.equal(voucher?.cumulative, 8n * RATE);
  // Two cadences may run on while a connection ends: once, for they do not count as received.
  const ran = { lane, due: (10n * RATE).toString(), paid: (9n * RATE).toString(), served_ms: 8000 };
  assert.equal((await second.authorize({}, ran)).voucher?.cumulative, 10n * RATE);
  // What was lost beyond it is the person's to decide, and only as much as can be lost so.
  const lost = { lane, due: (12n * RATE).toString(), paid: (10n * RATE).toString(), served_ms: 10_000 };
  const asked = await second.authorize({}, lost).catch((error) => error);
  assert.ok(refusedFor("claim")(asked) && asked.amount > 2n * RATE && asked.amount <= 4n * RATE);
  second.payer.forgive();
  // The first refusal of a connection names no lane: the yes waits for the one that does.
  await second.authorize({});
  assert.equal((await second.authorize({}, lost)).voucher?.cumulative, 12n * RATE);
  await assert.rejects(second.authorize({}, { lane, due: (500n * RATE).toString(), paid: (100n * RATE).toString(), served_ms: 500_000 }), refusedFor("claim"));
});

test("what is owed at an earlier price is paid before the session begins", async () => {
  const world = await browser();
  const first = await page({ world });
  const { lane } = await first.join();
  await first.play(5000, { served: (now) => first.ack(lane, now - 1000) });
  first.payer.close();
  await new Promise((resolve) => setImmediate(resolve));
  const second = await page({ world });
  setPrice(second, RATE / 2n);
  const now = { terms_version: 2, rate: (RATE / 2n).toString(), min_prepay: RATE.toString() };
  const entered = await second.authorize(now);
  assert.notEqual(entered.voucher?.lane, lane);
  const owing = { lane, due: (7n * RATE + 500_000n).toString(), paid: (7n * RATE).toString(), served_ms: 7500 };
  const settled = await second.authorize(now, owing);
  assert.deepEqual([settled.voucher?.lane, settled.voucher?.termsVersion, settled.voucher?.cumulative], [lane, 1, 7n * RATE + 500_000n]);
  await assert.rejects(second.authorize(now, { ...owing, due: (70n * RATE).toString(), served_ms: 70_000 }), refusedFor("claim"));
  await assert.rejects(second.authorize(now, { ...owing, lane: 77 }), refusedFor("claim"));
});

/** A price from version 2 on. @param {Awaited<ReturnType<typeof page>>} where @param {bigint} rate */
function setPrice({ chain }, rate) {
  chain.record.terms.push({ ...chain.record.terms[0], version: 2, rate_per_second: rate.toString(), from_height: 200 });
  const json = JSON.stringify(termsJson({ terms_version: 2, rate: rate.toString(), min_prepay: (2n * rate).toString() }));
  return concat(new Writer().u8(TYPES.terms).u8(1).take(), utf8(json));
}

test("a new price gets a new bind and a lane of its own, and the relay says when it counts", async () => {
  const where = await page();
  const { join, play, ack, vouchers, payer, sent } = where;
  const { lane } = await join();
  await play(2000, { served: (now) => ack(lane, now - 1000) });
  const cheaper = RATE / 2n;
  await payer.receive(setPrice(where, cheaper));
  const bind = sent.find((frame) => frame[0] === TYPES.bind);
  assert.ok(bind);
  const first = vouchers().find((voucher) => voucher.termsVersion === 2);
  assert.ok(first && first.lane !== lane);
  assert.equal(first.cumulative, 2n * cheaper);
  // The old lane is paid until the relay counts on the new one.
  await play(1000, { served: () => ack(lane, 3000) });
  assert.equal(vouchers().at(-1)?.lane, lane);
  await ack(first.lane, 500);
  assert.equal(payer.sight.terms?.termsVersion, 1, "not before the relay has acknowledged the bind");
  await payer.receive(concat(new Writer().u8(TYPES.bindAck).u8(1).take(), await acknowledge(bind.slice(2))));
  await ack(first.lane, 500);
  assert.equal(payer.sight.terms?.termsVersion, 2);
  await play(3000, { served: () => ack(first.lane, 3500) });
  assert.equal(vouchers().at(-1)?.lane, first.lane);
  assert.ok((vouchers().at(-1)?.cumulative ?? 0n) > 2n * cheaper);
});

test("a price that rises is asked about before it is paid", async () => {
  const where = await page();
  const { join, payer, vouchers } = where;
  await join();
  await payer.receive(setPrice(where, 2n * RATE));
  assert.equal(payer.sight.asked?.rate, 2n * RATE);
  assert.ok(!vouchers().some((voucher) => voucher.termsVersion === 2));
  payer.agree();
  await payer.refresh();
  assert.ok(vouchers().some((voucher) => voucher.termsVersion === 2));
  assert.equal(payer.sight.asked, null);
  assert.equal(isDearer(110n, 100n), false);
  assert.equal(isDearer(111n, 100n), true);
});

test("new terms that name another certificate or a wrong price are not signed", async () => {
  for (const change of [{ relay_fp: "0e".repeat(32) }, { rate: (2n * RATE).toString() }]) {
    const where = await page({ agreedRate: 10n * RATE });
    await where.join();
    setPrice(where, RATE);
    const json = JSON.stringify(termsJson({ terms_version: 2, ...change }));
    await where.payer.receive(concat(new Writer().u8(TYPES.terms).u8(1).take(), utf8(json)));
    assert.ok(where.payer.sight.trouble, JSON.stringify(change));
    assert.ok(!where.vouchers().some((voucher) => voucher.termsVersion === 2));
  }
});

test("a pool that is used up says so, and a top-up lets it go on", async () => {
  const world = await browser();
  const channel = await world.wallet.openPool({ payee: PAYEE, rate: RATE, deposit: 4n * RATE });
  const { join, play, ack, payer, vouchers } = await page({ world });
  const { lane } = await join();
  await play(6000, { served: (now) => ack(lane, now - 1000) });
  assert.equal(payer.sight.state, "stopped");
  assert.equal(payer.sight.trouble?.reason, "pool");
  const before = vouchers().length;
  await world.wallet.topUp(channel, 10n * RATE);
  await payer.refresh();
  assert.equal(vouchers().length, before + 1);
  assert.equal(payer.sight.state, "paying");
});

test("the relay's notices reach the page, and broken frames do no harm", async () => {
  const { join, payer } = await page();
  await join();
  /** @type {unknown[]} */
  const heard = [];
  payer.on("gate", (gate) => heard.push(gate));
  payer.on("error", (error) => heard.push(error));
  await payer.receive(fromHex("4101000001"));
  await payer.receive(fromHex("41"));
  await payer.receive(fromHex("ff01"));
  await payer.receive(concat(fromHex("7f011132"), utf8("Payment required")));
  assert.deepEqual(heard, [{ open: false, reason: "overdue" }, { code: 4402, message: "Payment required" }]);
  assert.equal(payer.sight.state, "over");
});

test("a ticket needs no pool: the account itself signs the bind", async () => {
  const { authorize, chain, wallet, payer, response } = await page({ withPool: false });
  chain.record.policy = "ticketed";
  const { bind, voucher } = await authorize();
  assert.equal(voucher, null);
  assert.equal(toHex(bind.slice(80, 112)), wallet.account);
  assert.equal(toHex(bind.slice(208, 240)), "00".repeat(32));
  await payer.accepted(await response(bind), ANSWER);
});

test("where nothing is sold, the account signs in to the relay that the chain names", async () => {
  const { payer, wallet, chain, response } = await page({ withPool: false });
  const header = JSON.parse(new TextDecoder().decode(fromBase64(await payer.authorize({ error: "bind_missing" }, OFFER))));
  const bind = fromHex(header.payload.bind);
  assert.equal(toHex(bind.slice(80, 112)), wallet.account);
  assert.equal(toHex(bind.slice(112, 144)), toHex(RELAY.publicKey));
  await payer.accepted(await response(bind), ANSWER);
  chain.relayKey = "0b".repeat(32);
  await assert.rejects(payer.authorize({ error: "bind_missing" }, OFFER), refusedFor("relay"));
});

test("the relay's copy of a newer voucher raises the total", async () => {
  const { join, payer, wallet, sent, play, ack } = await page();
  const { lane } = await join();
  await play(2000, { served: (now) => ack(lane, now - 1000) });
  const newest = sent.filter((frame) => frame[0] === TYPES.voucher).at(-1);
  assert.ok(newest);
  const key = fromHex((await wallet.store.read((access) => access.all("pools")))[0]?.voucherPublic ?? "");
  assert.ok(await openVoucher(newest.slice(2), key, CHAIN_ID));
  const before = payer.sight.paid;
  await payer.receive(concat(new Writer().u8(TYPES.paySync).u8(1).take(), newest.slice(2)));
  assert.equal(payer.sight.paid, before);
});

test("media is counted in the relay's slots, through pauses and throttled timers", () => {
  const clock = new MediaClock();
  let packets = 0;
  let total = 0;
  for (let now = 0; now < 10_000; now += 250) total += clock.observe(now, ++packets);
  assert.equal(total, 10_000);
  for (let now = 10_000; now < 20_000; now += 250) total += clock.observe(now, packets);
  assert.equal(total, 10_000, "silence counts nothing");
  for (let now = 20_000; now < 30_000; now += 1000) total += clock.observe(now, ++packets);
  assert.ok(total >= 19_000 && total <= 20_000, `a timer of one second: ${total}`);
  total = 0;
  packets += 1;
  assert.ok(clock.observe(90_000, packets) <= 5000, "a page that slept says little about the time");
  clock.restart();
  assert.equal(clock.observe(90_750, 1), 500, "a new connection counts from zero");
});

test("what is left lasts as long as the price says", () => {
  assert.equal(lastsMs(RATE, 900n * RATE), 900_000n);
  assert.equal(lastsMs(0n, 1n), null);
});
