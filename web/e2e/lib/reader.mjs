// What anybody who reads a CometBFT chain does, by CosmJS: the same questions whatever makes the blocks.

import assert from "node:assert/strict";

import { Comet38Client, HttpBatchClient, WebsocketClient, pubkeyToRawAddress } from "@cosmjs/tendermint-rpc";

import { accountKey } from "../../pages/lib/wallet/keys.js";
import { signTransaction } from "../../pages/lib/wallet/transaction.js";
import { hashHeader } from "./header.mjs";
import { leafHash, rootOf, sha256 } from "./merkle.mjs";
import { until } from "./scenario.mjs";

/** CometBFT answers so many in one batch unless its operator allows more. */
const BATCH_MAX = 10;
/** Enough for a transfer's length, whatever the parameters of a development chain. */
const FEE = "100000";
const TRANSFERS = 3;

/** @typedef {import("./engines.mjs").RunningChain} RunningChain */
/** @typedef {{ height: number, tx: Buffer, txHash: Uint8Array, to: string, key: Uint8Array }} Known */

/** @param {Uint8Array} bytes */
const hex = (bytes) => Buffer.from(bytes).toString("hex");

/**
 * Everything of a stream, until it is stopped.
 * @template T
 * @param {import("xstream").Stream<T>} stream
 */
function collect(stream) {
  /** @type {T[]} */
  const items = [];
  /** @type {unknown[]} */
  const errors = [];
  const subscription = stream.subscribe({ next: (item) => void items.push(item), error: (error) => void errors.push(error) });
  return { items, errors, stop: () => subscription.unsubscribe() };
}

/**
 * A client that asks in batches. It holds a timer until it is disconnected.
 * @param {string} rpc
 */
export const batchClient = (rpc) => Comet38Client.create(new HttpBatchClient(rpc, { batchSizeLimit: BATCH_MAX, dispatchInterval: 5 }));

/**
 * Three transfers, one by each way of sending, seen by subscribers, then read over both transports.
 * @param {RunningChain} chain
 * @returns {Promise<Known>} a height and a transaction that others may ask for
 */
export async function sendAndRead(chain) {
  const [http, ws] = [batchClient(chain.rpc), Comet38Client.create(new WebsocketClient(chain.ws))];
  try {
    // At once: this client sends nothing any more if it connects while it has nothing to send.
    await ws.health();
    const known = await send(chain, http, ws);
    const [overHttp, overWs] = [await read(http, chain, known), await read(ws, chain, known)];
    assert.deepEqual(overHttp, overWs, `${chain.engine}: both transports give the same`);
    await refused(http, known);
    return known;
  } finally {
    http.disconnect();
    ws.disconnect();
  }
}

/** @param {RunningChain} chain @param {Comet38Client} http @param {Comet38Client} ws @returns {Promise<Known>} */
async function send(chain, http, ws) {
  const signer = await accountKey(await chain.faucetSeed());
  const account = hex(signer.publicKey);
  const chainId = await chain.chainId();
  const to = hex(sha256(signer.publicKey));
  const blocks = collect(ws.subscribeNewBlock());
  const headers = collect(ws.subscribeNewBlockHeader());
  const txs = collect(ws.subscribeTx(`transfer.to = '${to}'`));
  await until("a subscriber to see a block", async () => blocks.items.length > 0 && headers.items.length > 0);

  const record = await http.abciQuery({ path: `/account/${account}`, data: new Uint8Array() });
  const { nonce } = JSON.parse(Buffer.from(record.value).toString());
  const signed = await Promise.all(
    Array.from({ length: TRANSFERS }, async (_, at) => {
      const body = { signer: account, fee_payer: null, nonce: Number(nonce) + at, valid_until_height: 0, fee: FEE, payload: { kind: "transfer", to, amount: String(10_000_000 + at) } };
      return signTransaction(body, signer, chainId);
    }),
  );
  const [first, second, third] = /** @type {[Buffer, Buffer, Buffer]} */ (signed.map((bytes) => Buffer.from(bytes)));
  const sync = await http.broadcastTxSync({ tx: first });
  assert.equal(sync.code, 0, sync.log);
  assert.equal(hex(sync.hash), hex(sha256(first)));
  const async_ = await ws.broadcastTxAsync({ tx: second });
  assert.equal(hex(async_.hash), hex(sha256(second)));
  const commit = await http.broadcastTxCommit({ tx: third });
  assert.deepEqual([commit.checkTx.code, commit.txResult?.code], [0, 0], commit.checkTx.log ?? "");

  await until("subscribers to see the transfers", async () => txs.items.length >= TRANSFERS);
  await until("subscribers to see their block", async () => blocks.items.some(({ header }) => header.height === commit.height) && headers.items.some(({ height }) => height === commit.height));
  for (const each of [blocks, headers, txs]) {
    each.stop();
    assert.deepEqual(each.errors, []);
  }
  assert.deepEqual(new Set(txs.items.map(({ hash }) => hex(hash))), new Set(signed.map((bytes) => hex(sha256(bytes)))), "each transfer is told once");
  assert.ok(txs.items.every(({ result }) => result.code === 0));
  const heights = blocks.items.map(({ header }) => header.height);
  assert.deepEqual(heights, heights.map((_, at) => (heights[0] ?? 0) + at), "no block is left out");
  const told = blocks.items.find(({ header }) => header.height === commit.height);
  const { block, blockId } = await http.block(commit.height);
  assert.deepEqual(told?.header, block.header);
  assert.deepEqual(headers.items.find(({ height }) => height === commit.height), block.header);
  assert.equal(hex(hashHeader(block.header)), hex(blockId.hash), "a header has the hash that its block is named by");

  await chain.reaches(commit.height + 2);
  const key = Buffer.concat([Buffer.from("acct/"), Buffer.from(to, "hex")]);
  return { height: commit.height, tx: third, txHash: commit.hash, to, key };
}

/**
 * Everything that stays as it is.
 * @param {Comet38Client} client @param {RunningChain} chain @param {Known} known
 */
async function read(client, chain, { height, tx, txHash, to, key }) {
  const chainId = await chain.chainId();
  // In one batch, where the transport has such.
  const [block, next, results, commit, validators, all, found, one, every, metas, searched, genesis] = await Promise.all([
    client.block(height),
    client.block(height + 1),
    client.blockResults(height),
    client.commit(height),
    client.validators({ height, page: 1, per_page: 5 }),
    client.validatorsAll(height),
    client.tx({ hash: txHash }),
    client.txSearch({ query: `transfer.to='${to}'`, per_page: 1, page: 2, order_by: "asc" }),
    client.txSearchAll({ query: `transfer.to='${to}'`, per_page: 1 }),
    client.blockchain(height, height + 1),
    client.blockSearchAll({ query: `block.height>=${height} AND block.height<=${height + 1}` }),
    client.genesis(),
  ]);
  assert.equal(block.block.header.chainId, chainId);
  assert.equal(genesis.chainId, chainId);
  assert.equal(hex(hashHeader(next.block.header)), hex(next.blockId.hash));
  assert.deepEqual(next.block.header.lastBlockId, block.blockId, "blocks form a chain");
  assert.ok(block.block.txs.some((each) => hex(each) === hex(tx)));
  assert.deepEqual(results.results.map(({ code }) => code), block.block.txs.map(() => 0));
  assert.ok(results.results.every(({ events }) => events.some(({ type }) => type === "transfer")), "events come with the results");
  assert.ok(commit.canonical);
  assert.deepEqual(commit.commit.blockId, block.blockId);
  assert.deepEqual(commit.commit.signatures.length, all.validators.length);
  assert.deepEqual(next.block.lastCommit?.signatures, commit.commit.signatures);
  assert.deepEqual(validators.validators, all.validators);
  for (const { address, pubkey } of all.validators) {
    assert.equal(hex(address), hex(pubkeyToRawAddress("ed25519", pubkey?.data ?? new Uint8Array())));
  }

  assert.deepEqual([found.height, hex(found.tx), found.result.code], [height, hex(tx), 0]);
  // CosmJS cannot read the proof of a block's only transaction, of which CometBFT leaves out the aunts.
  if (block.block.txs.length > 1) {
    const { proof } = await client.tx({ hash: txHash, prove: true });
    assert.deepEqual(proof && [hex(proof.rootHash), proof.proof.total], [hex(block.block.header.dataHash), block.block.txs.length]);
  }
  await proved(chain.rpc, { tx, txHash }, block.block.header.dataHash);
  assert.equal(every.totalCount, TRANSFERS);
  assert.equal(one.totalCount, TRANSFERS);
  assert.deepEqual(one.txs.map(({ hash }) => hex(hash)), [every.txs.map(({ hash }) => hex(hash))[1]], "pages follow the order of the chain");
  assert.ok(every.txs.some(({ hash }) => hex(hash) === hex(txHash)));

  assert.deepEqual(metas.blockMetas.map(({ blockId }) => hex(blockId.hash)), [next, block].map(({ blockId }) => hex(blockId.hash)));
  assert.deepEqual(searched.blocks, [block, next]);

  const [there, absent] = await Promise.all([key, Buffer.from("acct/nobody")].map((data) => client.abciQuery({ path: "/store/app/key", data, height: height + 1, prove: true })));
  assert.equal(there?.code ?? 0, 0, there?.log);
  assert.deepEqual(there?.proof?.ops.map((op) => [op.type, hex(op.key)]), [["ics23:jmt", hex(key)]]);
  assert.ok(there?.value && there.value.length > 0 && there.height === height + 1);
  assert.equal(absent?.value.length, 0);
  assert.equal(absent?.proof?.ops.length, 1, "what is not there is proved as well");

  const [status, info, waiting] = await Promise.all([client.status(), client.abciInfo(), client.numUnconfirmedTxs(), client.health()]);
  assert.equal(status.nodeInfo.network, chainId);
  assert.equal(status.nodeInfo.version.split(".").length, 3);
  assert.ok(status.syncInfo.latestBlockHeight >= height + 1 && !status.syncInfo.catchingUp);
  assert.ok((info.lastBlockHeight ?? 0) >= height + 1);
  assert.equal(waiting.total, 0);
  return { block, next, results, commit, all, found, every, searched, genesis, there, absent };
}

/**
 * A transaction with its proof, which is followed up to the header's hash of its data.
 * @param {string} rpc @param {{ tx: Uint8Array, txHash: Uint8Array }} known @param {Uint8Array} dataHash
 */
export async function proved(rpc, { tx, txHash }, dataHash) {
  const body = { jsonrpc: "2.0", id: 1, method: "tx", params: { hash: Buffer.from(txHash).toString("base64"), prove: true } };
  const answer = await fetch(rpc, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  const { result } = await answer.json();
  const { total, index, leaf_hash, aunts = [] } = result.proof.proof;
  const bytes = (/** @type {string} */ base64) => Buffer.from(base64, "base64");
  assert.equal(hex(bytes(result.tx)), hex(tx));
  assert.equal(hex(bytes(leaf_hash)), hex(leafHash(sha256(tx))));
  const root = rootOf(bytes(leaf_hash), Number(index), Number(total), aunts.map(bytes));
  assert.equal(root && hex(root), hex(dataHash), "it is proved to be in its block");
}

/** @param {Comet38Client} client @param {Known} known */
async function refused(client, { tx, height }) {
  await assert.rejects(client.block(1_000_000_000), /must be less than or equal to/);
  await assert.rejects(client.block(-1), /greater than 0/);
  await assert.rejects(client.tx({ hash: Buffer.alloc(32) }), /not found/);
  await assert.rejects(client.broadcastTxSync({ tx }), /already exists in cache/);
  await assert.rejects(client.validators({ height, page: 99 }), /page should be within/);
  const garbage = await client.broadcastTxSync({ tx: Buffer.from("no transaction") });
  assert.notEqual(garbage.code, 0);
  assert.notEqual(garbage.log, "");
  const path = await client.abciQuery({ path: "/no/such/path", data: new Uint8Array() });
  assert.notEqual(path.code, 0);
}
