// R17 R18 R19 R23 R31 R34 R48 R49 R52 R119
// The money spine in Chromium: a creator sets a price, viewers pay by the second, and the books of the
// chain balance to the unit.
//
//   node e2e/money.mjs --node ../target/release/sutantra-node
//
// A publishes at a price. B pays nothing and gets nothing. C pays, stops, pays again, tops up, lives
// through a change of price, closes. D buys a ticket of a second stream and is shut out of it.

import { parseArgs } from "node:util";

import { ChainReader } from "./lib/chain.mjs";
import { LocalNet } from "./lib/localnet.mjs";
import { RelayNode, engine } from "./lib/node.mjs";
import { must, pause, run, said, stats, until } from "./lib/scenario.mjs";

/** The relay's grace, and the second that it may take besides. */
const STOP_MS_MAX = 3000 + 1000 + 2000;
/** From the voucher to the picture. */
const RESUME_MS_MAX = 1000 + 500;
const FRAMES_MIN = 100;
const PRICE = "0.001";
const LATER_PRICE = "0.00105";
/** Two cores encode, decode and draw everything. */
const LOOK = { width: 480, height: 700, dark: false, phone: true };

const { values } = parseArgs({
  options: {
    node: { type: "string", default: "../target/release/sutantra-node" },
    frames: { type: "string", default: String(FRAMES_MIN) },
    // Who makes the blocks: "embedded", or "spawn" for a real CometBFT.
    comet: { type: "string", default: "embedded" },
    // A network of so many validators, and a relay that follows it from afar.
    validators: { type: "string", default: "0" },
  },
});

/** @typedef {import("./lib/scenario.mjs").Page} Page */

/** @type {(() => void | Promise<void>)[]} */
const endings = [];

await run(async (start) => {
  const validators = Number(values.validators);
  const net = validators > 0 ? await LocalNet.start(values.node, validators) : null;
  const node = net ?? (await RelayNode.start(values.node, await engine(values.comet)));
  endings.push(() => node.end());
  const chain = new ChainReader(node.base);
  const chromium = await start("chromium");
  const open = async () => {
    const page = await chromium.open();
    await page.emulate(LOOK);
    return page;
  };

  // A publishes at a price.
  const a = await open();
  const stream = await register(a, node.base, { policy: "paid", price: PRICE, creatorPercent: "70" });
  const record = await chain.query(`/stream/${stream}`);
  must(record.policy === "paid", `the chain says the policy is ${record.policy}`);
  must(record.terms[0].rate_per_second === "1000000", `the chain says the price is ${record.terms[0].rate_per_second}`);

  // B has no wallet: words, terms, and not one packet.
  const refused = await withoutWallet(a, node.base, stream);
  must(refused.status === 402, `without a payment the relay answers ${refused.status}`);
  must(refused.body.error === "Payment required", `the refusal says ${refused.body.error}`);
  must(refused.body.accepts[0].extra.terms.rate === "1000000", "the terms are not those of the chain");
  must(refused.required !== null, "the header PAYMENT-REQUIRED is missing");
  // Nor may just anybody publish it, or come for data alone.
  for (const [what, path, direction] of [["publisher", "whip", "sendonly"], ["data-only peer", "whep", null]]) {
    const answer = await withoutWallet(a, node.base, stream, path ?? "", direction ?? null);
    must(answer.status >= 400 && answer.status < 500, `a ${what} without payment or token is answered ${answer.status}`);
  }
  const b = await open();
  await b.goto(`${node.base}/watch/${stream}`);
  await until("B's page to ask for money", () => b.evaluate("window.sutantra.state === 'payment' || !document.getElementById('pay-now').hidden")).catch(async (error) =>
    must(false, `${error.message}; the page says: ${await said(b)}`),
  );
  await pause(1500);
  const nothing = await stats(b);
  must((nothing?.packets ?? 0) === 0 && (nothing?.framesDecoded ?? 0) === 0, `B received ${nothing?.packets} packets unpaid`);
  await b.close();

  // C pays.
  const c = await open();
  await c.goto(`${node.base}/watch/${stream}`);
  await until("C's account to be funded", async () => BigInt(await c.evaluate("window.sutantra.wallet.balance()")) > 0n, { timeoutMs: 30_000 });
  const [account, funded] = [await c.evaluate("window.sutantra.wallet.account"), BigInt(await c.evaluate("window.sutantra.wallet.balance()"))];
  await idle(c);
  await c.evaluate("void window.sutantra.wallet.watch()");
  await until("C's first frame", async () => ((await stats(c))?.framesDecoded ?? 0) > 0, { timeoutMs: 30_000 }).catch(async (error) =>
    must(false, `${error.message}; the page says: ${await said(c)}; payment: ${JSON.stringify(await c.evaluate("window.sutantra.payment"))}; the node: ${node.log.slice(-600)}`),
  );
  await until(`${values.frames} frames`, async () => (await stats(c)).framesDecoded > Number(values.frames), { timeoutMs: 30_000 });
  const pool = await c.evaluate("window.sutantra.wallet.pool");
  const paidEarly = BigInt(await c.evaluate("window.sutantra.wallet.paid()"));
  must(paidEarly > 0n, "C watched and paid nothing");

  // C's signing stops: so do the packets; it goes on: so do they, with a keyframe.
  // In a network, one validator dies in each round; at last the one that the relay asks first.
  /** @type {number[]} */
  const stops = [];
  /** @type {[number, number][]} */
  const killed = [];
  for (let round = 0; round < 2; round += 1) {
    if (net) {
      const index = round === 0 ? 2 : 0;
      for (const [before, pid] of killed) await net.validatorBack(before, pid);
      killed.push([index, await net.killValidator(index)]);
    }
    await c.evaluate("window.sutantra.wallet.pausePaying()");
    const heldAt = performance.now();
    const lastAt = await untilSilent(c);
    stops.push(Math.round(lastAt - heldAt));
    const before = await stats(c);
    await pause(1500);
    const still = await stats(c);
    must(packets(still) === packets(before), `${packets(still) - packets(before)} packets came while nothing was paid`);
    await c.evaluate("window.sutantra.wallet.resumePaying()");
    const resumedAt = performance.now();
    await until("a frame after paying again", async () => (await stats(c)).framesDecoded > still.framesDecoded, { everyMs: 20 });
    const resumedMs = performance.now() - resumedAt;
    const after = await stats(c);
    must(resumedMs <= RESUME_MS_MAX, `the picture came ${Math.round(resumedMs)} ms after the voucher`);
    must(after.keyFrames > still.keyFrames, "the picture went on without a keyframe");
    stops.push(Math.round(resumedMs));
    await pause(2000);
  }
  for (const [index, pid] of killed) await net?.validatorBack(index, pid);
  const [stoppedMs = Infinity, , stoppedAgainMs = Infinity] = stops;
  must(stoppedMs <= STOP_MS_MAX && stoppedAgainMs <= STOP_MS_MAX, `media stopped ${stoppedMs} and ${stoppedAgainMs} ms after the signing`);

  // A top-up and a new price while watching.
  const depositsBefore = BigInt((await chain.query(`/channel/${pool}`)).deposits);
  await idle(c);
  await c.evaluate("window.sutantra.wallet.topUp(100000000)");
  await until("the top-up on chain", async () => BigInt((await chain.query(`/channel/${pool}`)).deposits) === depositsBefore + 100_000_000n).catch(async (error) =>
    must(false, `${error.message}: ${JSON.stringify(await chain.query(`/channel/${pool}`))}; payment: ${JSON.stringify(await c.evaluate("window.sutantra.payment"))}; the network: ${net?.log.slice(-500)}; the relay: ${(await net?.relayLog())?.slice(-1200)}`),
  );
  const sessions = await c.evaluate("window.sutantra.sessions");
  await a.evaluate(`(() => {
    document.getElementById('new-price').value = '${LATER_PRICE}';
    document.getElementById('change-price').requestSubmit();
  })()`);
  const later = await until("the new price on chain", async () => (await chain.query(`/stream/${stream}`)).terms[1]);
  must(later.rate_per_second === "1050000", `the new price is ${later.rate_per_second}`);
  await until("the height of the new price", async () => (await chain.height()) > later.from_height + 4, { timeoutMs: 40_000 });
  await until("a voucher at the new price", async () => {
    const payment = await c.evaluate("window.sutantra.payment");
    return JSON.stringify(payment).includes("1050000") || (await c.evaluate("window.sutantra.payment.termsVersion")) === 2;
  }, { timeoutMs: 15_000 }).catch(async (error) => must(false, `${error.message}: ${JSON.stringify(await c.evaluate("window.sutantra.payment"))}`));
  const moving = (await stats(c)).framesDecoded;
  await until("frames at the new price", async () => (await stats(c)).framesDecoded > moving + 20);
  must((await c.evaluate("window.sutantra.sessions")) === sessions, "the change of price cost C its session");

  // D buys a ticket of another stream, and is shut out of it.
  const a2 = await open();
  const ticketed = await register(a2, node.base, { policy: "ticketed", ticketPrice: "1", ticketMinutes: "10", creatorPercent: "70" });
  const d = await open();
  await d.goto(`${node.base}/watch/${ticketed}`);
  await until("D's account to be funded", async () => BigInt(await d.evaluate("window.sutantra.wallet.balance()")) > 0n, { timeoutMs: 30_000 });
  const viewer = await d.evaluate("window.sutantra.wallet.account");
  must(((await stats(d))?.framesDecoded ?? 0) === 0, "D saw the stream without a ticket");
  await idle(d);
  await d.evaluate("void window.sutantra.wallet.buyTicket()");
  await until("D's first frames", async () => ((await stats(d))?.framesDecoded ?? 0) > 10, { timeoutMs: 30_000 }).catch(async (error) =>
    must(false, `${error.message}; the page says: ${await said(d)}; the node: ${node.log.slice(-400)}`),
  );
  await a2.evaluate(`(() => {
    document.getElementById('viewer').value = '${viewer}';
    document.getElementById('shut-out').click();
  })()`);
  await until("D's access to be gone on chain", async () => !(await chain.hasAccess(ticketed, viewer)), { timeoutMs: 20_000 });
  // One second and a half without a packet; on a busy machine the last ones take their time.
  const isStill = async () => {
    const before = await stats(d);
    await pause(1500);
    const after = await stats(d);
    return after === null || before === null || packets(after) === packets(before) || after.framesDecoded === 0;
  };
  await until("D to be shut out", isStill, { timeoutMs: 10_000 }).catch(async () =>
    must(false, `D still receives after it was shut out; the relay: ${net ? (await net.relayLog()).slice(-1500) : node.log.slice(-600)}`),
  );

  // C closes: the relay redeems, the rest comes back, and nothing is missing.
  await idle(c);
  await c.evaluate("void window.sutantra.wallet.closePool()");
  await until("C's channel to be closed", async () => (await chain.query(`/channel/${pool}`)).closed === true, { timeoutMs: 90_000, everyMs: 500 }).catch(async (error) =>
    must(false, `${error.message}: ${JSON.stringify(await chain.query(`/channel/${pool}`))}; payment: ${JSON.stringify(await c.evaluate("window.sutantra.payment"))}`),
  );
  const redeemed = await chain.events(`channel_redeemed.channel='${pool}'`, "channel_redeemed");
  const sum = (/** @type {string} */ name) => redeemed.reduce((total, event) => total + BigInt(event[name] ?? "0"), 0n);
  const [paid, fee, creatorShare, payeeShare] = [sum("paid"), sum("fee"), sum("creator_share"), sum("payee_share")];
  must(paid > 0n && paid === fee + creatorShare + payeeShare + sum("origin_share"), `the parts of ${paid} do not add up`);
  const fees = (await chain.events(`fee.payer='${account}'`, "fee")).reduce((total, event) => total + BigInt(event["amount"] ?? "0"), 0n);
  const left = BigInt((await chain.query(`/account/${account}`)).balance);
  must(funded - left === paid + fees, `C spent ${funded - left}, its vouchers came to ${paid} and its fees to ${fees}`);
  const supply = await chain.supply();
  must(supply.found === supply.current, `all accounts, channels and pools hold ${supply.found}, genesis less what was burned is ${supply.current}`);

  return {
    scenario: "money",
    ...(net ? { validators, killed: killed.map(([index]) => index) } : {}),
    stream,
    pausedMs: [stops[0], stops[2]],
    resumedMs: [stops[1], stops[3]],
    spent: (funded - left).toString(),
    paid: paid.toString(),
    creatorShare: creatorShare.toString(),
    relayShare: payeeShare.toString(),
    splitFee: fee.toString(),
    transactionFees: fees.toString(),
    burned: supply.burned.toString(),
  };
});

for (const end of endings.reverse()) await end();

/** Until the page has done what it was asked: a person finds its buttons shut until then. @param {Page} page */
async function idle(page) {
  await until("the page to be idle", () => page.evaluate("window.sutantra.payment.policy !== null && window.sutantra.payment.busy === null"), { timeoutMs: 30_000 });
}

/** Video and audio. @param {any} record */
function packets(record) {
  return record ? record.packets + (record.audioPackets ?? 0) : 0;
}

/** Resolves with the time of the last packet. @param {Page} page */
async function untilSilent(page) {
  let [count, at] = [-1, performance.now()];
  await until("the media to stop", async () => {
    const now = packets(await stats(page));
    if (now !== count) [count, at] = [now, performance.now()];
    return performance.now() - at > 800;
  }, { timeoutMs: 15_000, everyMs: 50 });
  return at;
}

/**
 * Publishes a test pattern as a stream of the chain, as a person would.
 * @param {Page} page @param {string} base @param {Record<string, string>} fields
 * @returns {Promise<string>} the stream's id
 */
async function register(page, base, fields) {
  await page.goto(`${base}/publish`);
  await until("the chain on the Publish page", () => page.evaluate("!document.getElementById('who').hidden"));
  await page.evaluate(`(() => {
    const fields = ${JSON.stringify({ size: "640x360", codec: "VP8", ...fields })};
    for (const [id, value] of Object.entries(fields)) {
      const field = document.getElementById(id);
      field.value = value;
      field.dispatchEvent(new Event('change', { bubbles: true }));
      field.dispatchEvent(new Event('input', { bubbles: true }));
    }
    const bitrate = document.getElementById('bitrate');
    bitrate.value = '600';
    bitrate.dispatchEvent(new Event('input', { bubbles: true }));
    document.getElementById('source-pattern').click();
  })()`);
  await until("the test pattern", () => page.evaluate("!document.getElementById('start').disabled"));
  await page.evaluate("document.getElementById('start').click()");
  await until("the publisher to be live", () => page.evaluate("window.sutantra.state === 'live'"), { timeoutMs: 30_000 }).catch(async (error) =>
    must(false, `${error.message}; the page says: ${await said(page)} ${await page.evaluate("document.getElementById('money-said')?.textContent")}`),
  );
  return page.evaluate("window.sutantra.published");
}

/**
 * A request of somebody who has no wallet.
 * @param {Page} page @param {string} base @param {string} stream @param {string} [path]
 * @param {string | null} [direction] null: no media, a data channel alone
 */
function withoutWallet(page, base, stream, path = "whep", direction = "recvonly") {
  return page.evaluate(`(async () => {
    const pc = new RTCPeerConnection();
    if (${JSON.stringify(direction)}) pc.addTransceiver('video', { direction: ${JSON.stringify(direction)} });
    else pc.createDataChannel('sutantra/pay/1');
    const offer = await pc.createOffer();
    const answer = await fetch('${base}/${path}/${stream}', { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: offer.sdp });
    const result = { status: answer.status, required: answer.headers.get('PAYMENT-REQUIRED'), body: await answer.json() };
    pc.close();
    return result;
  })()`);
}
