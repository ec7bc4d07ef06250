// R1 R107
// Other people's programs read the chain: CosmJS's CometBFT client and Go's `cometbft light`, from the
// embedded engine and from a real CometBFT, with the same questions to both; then every route of the
// one is laid beside the other's. A primary that changes one bit of a header is found out.
//
//   node e2e/interop.mjs --node ../target/release/sutantra-node [--comet-bin FILE]

import assert from "node:assert/strict";
import { parseArgs } from "node:util";

import { WebSocket } from "ws";

import { embedded, spawned } from "./lib/engines.mjs";
import { hashHeader } from "./lib/header.mjs";
import { LightProxy, Liar } from "./lib/light-proxy.mjs";
import { cometBinary } from "./lib/processes.mjs";
import { batchClient, proved, sendAndRead } from "./lib/reader.mjs";
import { differences, routes, skeleton } from "./lib/routes.mjs";
import { run, until } from "./lib/scenario.mjs";

/** @typedef {import("./lib/engines.mjs").RunningChain} RunningChain */
/** @typedef {import("./lib/reader.mjs").Known} Known */

const { values } = parseArgs({
  options: { node: { type: "string", default: "../target/release/sutantra-node" }, "comet-bin": { type: "string" } },
});

/** Height of the header that a reader trusts at first. */
const TRUSTED = 1;

/** CometBFT leaves the aunts of a block's only transaction out; we say that there are none. */
const MAY_DIFFER = /\.aunts is only/;

/** @type {(() => Promise<void>)[]} */
const endings = [];
/** @template {{ end: () => Promise<void> }} T @param {T} started @returns {T} */
function ended(started) {
  endings.push(() => started.end());
  return started;
}

/** A client of an address. @param {string} rpc */
function client(rpc) {
  const made = batchClient(rpc);
  endings.push(async () => made.disconnect());
  return made;
}

await run(async () => {
  try {
    const comet = cometBinary(values["comet-bin"]);
    const own = ended(await embedded(values.node));
    const real = ended(await spawned(values.node, comet, own.home));
    // One after the other: nothing goes on after a failure.
    const ownKnown = await read(comet, own);
    const realKnown = await read(comet, real);
    const compared = await layBeside(own, ownKnown, real, realKnown);
    return { engines: 2, routes: compared };
  } finally {
    for (const end of endings.reverse()) await end();
  }
});
// CosmJS's WebSocket client goes on reconnecting after its `disconnect`.
process.exit();

/** @param {string} comet @param {RunningChain} chain @returns {Promise<Known>} */
async function read(comet, chain) {
  const known = await sendAndRead(chain);
  await throughLightClient(comet, chain, known);
  await lyingPrimary(comet, chain, known);
  return known;
}

/** @param {RunningChain} chain */
async function trusted(chain) {
  const { signed_header } = await chain.call("commit", { height: String(TRUSTED) });
  return { height: TRUSTED, hash: signed_header.commit.block_id.hash };
}

/** Blocks, transactions and subscriptions, as Go's light client lets them through. @param {string} comet @param {RunningChain} chain @param {Known} known */
async function throughLightClient(comet, chain, { height, tx, txHash }) {
  const proxy = ended(await LightProxy.start(comet, await chain.chainId(), { primary: chain.rpc, witness: chain.rpc, ...(await trusted(chain)) }));
  const [verified, direct] = [client(proxy.rpc), client(chain.rpc)];
  const block = await verified.block(height);
  assert.deepEqual(block, await direct.block(height));
  assert.deepEqual(await verified.commit(height), await direct.commit(height));
  assert.deepEqual(await verified.blockResults(height), await direct.blockResults(height));
  assert.deepEqual((await verified.validators({ height })).validators, (await direct.validators({ height })).validators);
  assert.deepEqual(await verified.tx({ hash: txHash }), await direct.tx({ hash: txHash }));
  await proved(proxy.rpc, { tx, txHash }, block.block.header.dataHash);
  assert.equal((await verified.status()).nodeInfo.network, await chain.chainId());
  await assert.rejects(verified.tx({ hash: Buffer.alloc(32), prove: true }), /not found/);
  const heights = await subscribed(proxy.ws);
  assert.equal(heights[1], (heights[0] ?? 0) + 1, "each block is told");
  await proxy.end();
}

/** The heights of two new blocks. CosmJS looks for events under another id than the proxy's. @param {string} url @returns {Promise<number[]>} */
async function subscribed(url) {
  const socket = new WebSocket(`${url}/websocket`);
  /** @type {number[]} */
  const heights = [];
  socket.on("message", (text) => {
    const height = JSON.parse(String(text)).result?.data?.value?.header?.height;
    if (height) heights.push(Number(height));
  });
  try {
    await new Promise((resolve, reject) => void socket.once("open", resolve).once("error", reject));
    socket.send(JSON.stringify({ jsonrpc: "2.0", id: 7, method: "subscribe", params: { query: "tm.event='NewBlockHeader'" } }));
    await until("two headers through the light client", async () => heights.length >= 2);
    return heights;
  } finally {
    socket.terminate();
  }
}

/** One bit of a header changed, with the old hash and with the hash of what was made of it. @param {string} comet @param {RunningChain} chain @param {Known} known */
async function lyingPrimary(comet, chain, { height }) {
  const honest = await client(chain.rpc).commit(height);
  const clumsy = ended(await Liar.start(chain.rpc, height));
  const forged = hashHeader((await client(clumsy.rpc).commit(height)).header);
  assert.notDeepEqual(forged, honest.commit.blockId.hash);
  const careful = ended(await Liar.start(chain.rpc, height, Buffer.from(forged).toString("hex").toUpperCase()));
  const trust = await trusted(chain);
  const chainId = await chain.chainId();
  const ask = async (/** @type {Liar} */ liar, /** @type {string} */ witness) => {
    const proxy = ended(await LightProxy.start(comet, chainId, { primary: liar.rpc, witness, ...trust }));
    const through = client(proxy.rpc);
    const answers = await Promise.allSettled([through.commit(height), through.block(height)]);
    await proxy.end();
    assert.ok(liar.lies > 0, "it was asked, and lied");
    liar.lies = 0;
    return answers;
  };
  const honestWitnesses = `${chain.rpc},${chain.rpc}`;
  // A header that is not what its signatures are for: a witness takes the primary's place.
  const [commit, block] = await ask(clumsy, honestWitnesses);
  assert.deepEqual(commit.status === "fulfilled" && commit.value.commit.blockId, honest.commit.blockId);
  assert.match(String(block.status === "rejected" && block.reason), /does not match/);
  // A header that they do not sign: refused whoever the witness is.
  for (const witness of [honestWitnesses, careful.rpc]) {
    const answers = await ask(careful, witness);
    for (const answer of answers) assert.equal(answer.status, "rejected");
    assert.match(String(answers[0].status === "rejected" && answers[0].reason), /wrong signature/);
  }
}

/** Every route of both engines: refused by both alike, or answered in the same form. @param {RunningChain} own @param {Known} ownKnown @param {RunningChain} real @param {Known} realKnown */
async function layBeside(own, ownKnown, real, realKnown) {
  const calls = async (/** @type {RunningChain} */ chain, /** @type {Known} */ { height, txHash, key }) => {
    const { block_id } = await chain.call("block", { height: String(height) });
    // A transaction that is checked, and refused alike: its nonce was used.
    const { tx } = await chain.call("tx", { hash: Buffer.from(txHash).toString("base64") });
    return routes({ height, blockHash: block_id.hash, txHash: Buffer.from(txHash).toString("hex"), tx, key: Buffer.from(key).toString("hex") });
  };
  const [ours, theirs] = [await calls(own, ownKnown), await calls(real, realKnown)];
  for (const [at, { method, params }] of ours.entries()) {
    const words = `${method} ${JSON.stringify(params)}`;
    const [here, there] = await Promise.all([own.ask(method, params), real.ask(method, theirs[at]?.params ?? {})]);
    assert.equal(here.error?.code, there.error?.code, `${words}: ${JSON.stringify([here.error, there.error])}`);
    if (here.error) continue;
    const found = differences(skeleton(here.result, method), skeleton(there.result, method));
    assert.deepEqual(found.filter((sentence) => !MAY_DIFFER.test(sentence)), [], words);
  }
  return ours.length;
}
