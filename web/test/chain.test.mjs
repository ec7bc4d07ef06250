import assert from "node:assert/strict";
import { createServer } from "node:http";
import test from "node:test";

import { toBase64, utf8 } from "../pages/lib/wallet/bytes.js";
import { Chain, ChainError, sentenceFor, termsAt } from "../pages/lib/wallet/chain.js";
import { isWindowOver } from "../pages/lib/watching.js";

/**
 * A CometBFT RPC that answers by a script.
 * @param {(call: { method: string, params: any }) => unknown} answer throws for a JSON-RPC error
 * @param {(chain: Chain, calls: { method: string, params: any }[]) => Promise<void>} work
 */
async function withRpc(answer, work) {
  /** @type {{ method: string, params: any }[]} */
  const calls = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const call = JSON.parse(Buffer.concat(chunks).toString());
    calls.push(call);
    response.setHeader("content-type", "application/json");
    try {
      response.end(JSON.stringify({ jsonrpc: "2.0", id: call.id, result: answer(call) }));
    } catch (error) {
      response.end(JSON.stringify({ jsonrpc: "2.0", id: call.id, error: { code: -32603, message: "Internal error", data: error instanceof Error ? error.message : "" } }));
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(null)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const info = /** @type {any} */ ({ chain_id: "c", rpc: `http://127.0.0.1:${port}/rpc`, params: {} });
  try {
    await work(new Chain(info, { wait: async () => {} }), calls);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** @param {unknown} record */
const found = (record) => ({ response: { code: 0, value: toBase64(utf8(JSON.stringify(record))) } });
const HASH = "AB".repeat(32);

test("records are read, and what the chain does not know is null or nothing", async () => {
  const records = /** @type {Record<string, unknown>} */ ({ "/account/0a": { balance: "7", nonce: 3 }, "/stream/0b": { id: "0b", title: "Überfahrt" } });
  await withRpc(
    ({ params }) => (records[params.path] ? found(records[params.path]) : { response: { code: 6, log: "no such record" } }),
    async (chain) => {
      assert.deepEqual(await chain.account("0a"), { balance: 7n, nonce: 3 });
      assert.deepEqual(await chain.account("0c"), { balance: 0n, nonce: 0 });
      assert.equal((await chain.stream("0b"))?.title, "Überfahrt");
      assert.equal(await chain.stream("0c"), null);
      assert.deepEqual(await chain.channelsOf("0a"), []);
    },
  );
});

test("a question that the chain refuses is an error with its code", async () => {
  await withRpc(
    () => ({ response: { code: 1, log: "bad path" } }),
    (chain) => assert.rejects(chain.query("/x"), (error) => error instanceof ChainError && error.code === 1 && error.log === "bad path"),
  );
});

test("a transaction is sent as base64 and followed into its block", async () => {
  let asked = 0;
  await withRpc(
    ({ method }) => {
      if (method === "broadcast_tx_sync") return { code: 0, hash: HASH };
      asked += 1;
      if (asked < 3) throw new Error("tx not found");
      return { height: "9", tx_result: { code: 0, events: [] } };
    },
    async (chain, calls) => {
      /** @type {string[]} */
      const steps = [];
      assert.deepEqual(await chain.submit(Uint8Array.from([1, 2]), (step) => steps.push(step)), { hash: HASH, height: 9, events: [] });
      assert.deepEqual(steps, ["sent", "in-block"]);
      assert.equal(calls[0]?.params.tx, "AQI=");
      assert.equal(Buffer.from(calls[1]?.params.hash, "base64").toString("hex").toUpperCase(), HASH);
    },
  );
});

test("a transaction that the mempool refuses was never charged, one that fails in its block was", async () => {
  await withRpc(
    () => ({ code: 5, log: "fee" }),
    (chain) => assert.rejects(chain.submit(new Uint8Array(1)), (error) => error instanceof ChainError && error.code === 5 && !error.charged && error.message === sentenceFor(5)),
  );
  await withRpc(
    ({ method }) => (method === "tx" ? { height: "9", tx_result: { code: 4 } } : { code: 0, hash: HASH }),
    (chain) => assert.rejects(chain.submit(new Uint8Array(1)), (error) => error instanceof ChainError && error.code === 4 && error.charged),
  );
});

test("a transaction that no block takes is reported as unknown, not as failed", async () => {
  await withRpc(
    ({ method }) => {
      if (method === "tx") throw new Error("tx not found");
      return { code: 0, hash: HASH };
    },
    (chain) => assert.rejects(chain.submit(new Uint8Array(1)), (error) => error instanceof ChainError && error.code === 0 && /may still come/.test(error.message)),
  );
});

test("every code of the chain has a sentence", () => {
  for (let code = 1; code <= 18; code += 1) assert.match(sentenceFor(code), /^[A-Z].{15,}[.?]$/, String(code));
  assert.equal(sentenceFor(77, "odd"), "The chain refused with code 77: odd.");
});

test("the terms in force are the newest whose height has come", () => {
  const stream = /** @type {any} */ ({ terms: [{ version: 1, from_height: 5 }, { version: 2, from_height: 10 }] });
  for (const [height, version] of [[4, undefined], [5, 1], [9, 1], [10, 2], [99, 2]]) assert.equal(termsAt(stream, Number(height))?.version, version, String(height));
});

test("a pool's window needs its time and its blocks", () => {
  const info = (/** @type {number} */ height, /** @type {number} */ block_time_ms) => /** @type {any} */ ({ height, block_time_ms, params: { close_window_ms: 10_000, close_window_blocks: 10 } });
  const requested = { height: 100, time_ms: 50_000 };
  assert.equal(isWindowOver(requested, info(110, 60_000)), true);
  assert.equal(isWindowOver(requested, info(109, 90_000)), false);
  assert.equal(isWindowOver(requested, info(200, 59_999)), false);
  assert.equal(isWindowOver(null, info(200, 90_000)), false);
});
