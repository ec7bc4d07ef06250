// R26 R108
// `kill -9` of the whole node at random moments while viewers pay: no voucher that was on the disk is
// lost, none is paid twice, the chain goes on, and it serves again soon.
//
//   node e2e/money-crash.mjs --node ../target/release/sutantra-node [--rounds 100] [--payers 3]
//
// The payers are `wallet watch` processes, half of them over the data channel, half by POST.

import { parseArgs } from "node:util";

import { ChainReader } from "./lib/chain.mjs";
import { RelayNode } from "./lib/node.mjs";
import { Payer } from "./lib/payer.mjs";
import { must, pause, run, until } from "./lib/scenario.mjs";

/** What is accepted is on the disk after a group sync; this much later it must survive. */
const SYNC_MS = 150;
/** From the kill to the first payer that is let in again; printed, and judged with the machine's noise. */
const SERVING_MS_MAX = 2000;
const NOISE_MS = 6000;

const { values } = parseArgs({
  options: {
    node: { type: "string", default: "../target/release/sutantra-node" },
    rounds: { type: "string", default: "100" },
    payers: { type: "string", default: "3" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
  },
});
const rounds = Number(values.rounds);
const random = dice(Number(values.seed));

/** Enough of an offer to be asked for money. */
const OFFER = `v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 ${Array(32).fill("AB").join(":")}\r\n`;

/** @type {(() => void | Promise<void>)[]} */
const endings = [];

await run(async () => {
  const node = await RelayNode.start(values.node, () => [], { demo: true });
  endings.push(() => node.end());
  const chain = new ChainReader(node.base);
  const payers = await Promise.all(Array.from({ length: Number(values.payers) }, (_, at) => Payer.create(values.node, node.base, at)));
  endings.push(...payers.map((payer) => () => payer.end()));

  /** @type {number[]} */
  const servingMs = [];
  let [vouchersLost, height] = [0, 0];
  for (let round = 0; round < rounds; round += 1) {
    for (const payer of payers) payer.watch();
    await pause(300 + random() * 2200);
    const accepted = (await earnings(node.base)).accepted;
    await pause(SYNC_MS + random() * 300);
    height = await chain.height();
    await node.kill();
    const killedAt = performance.now();
    await Promise.all(payers.map((payer) => payer.over()));
    await node.restart();
    await until("the node to serve again", async () => (await fetch(`${node.base}/whep/demo`, { method: "POST", headers: { "Content-Type": "application/sdp" }, body: OFFER }).catch(() => null))?.status === 402, { everyMs: 10 });
    servingMs.push(Math.round(performance.now() - killedAt));
    const kept = (await earnings(node.base)).accepted;
    if (kept < accepted) vouchersLost += 1;
    must(kept >= accepted, `round ${round + 1} (seed ${values.seed}): ${accepted} were accepted, ${kept} are left after the kill`);
    await until("the chain to go on", async () => (await chain.height()) > height, { everyMs: 20 });
  }

  // Every pool is closed: what was redeemed is what was signed, once.
  let [signed, redeemed] = [0n, 0n];
  for (const payer of payers) {
    payer.wallet("close", "--wait");
    const record = await chain.query(`/channel/${payer.pool}`);
    must(record.closed === true, `pool ${payer.pool} is not closed`);
    const paid = (await chain.events(`channel_redeemed.channel='${payer.pool}'`, "channel_redeemed")).reduce((sum, event) => sum + BigInt(event["paid"] ?? "0"), 0n);
    must(paid <= payer.signed, `pool ${payer.pool} paid ${paid}, its payer signed ${payer.signed}`);
    signed += payer.signed;
    redeemed += paid;
  }
  must(redeemed > 0n, "nothing was redeemed");
  const supply = await chain.supply();
  must(supply.found === supply.current, `all accounts, channels and pools hold ${supply.found}, genesis less what was burned is ${supply.current}`);
  servingMs.sort((a, b) => a - b);
  const at = (/** @type {number} */ part) => servingMs[Math.min(servingMs.length - 1, Math.floor(servingMs.length * part))] ?? 0;
  must(at(0.5) <= SERVING_MS_MAX && at(1) <= SERVING_MS_MAX + NOISE_MS, `it served again after ${at(0.5)} ms (median), ${at(1)} ms at worst`);
  return { scenario: "money-crash", seed: Number(values.seed), rounds, payers: payers.length, vouchersLost, servingMs: { p50: at(0.5), p99: at(0.99), max: at(1) }, height: await chain.height(), signed: signed.toString(), redeemed: redeemed.toString() };
});

for (const end of endings.reverse()) await end();

/** @param {string} base @returns {Promise<{ accepted: bigint }>} */
async function earnings(base) {
  const { accepted } = await (await fetch(`${base}/api/earnings/demo`)).json();
  return { accepted: BigInt(accepted) };
}

/** mulberry32 @param {number} seed */
function dice(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 4294967296;
  };
}
