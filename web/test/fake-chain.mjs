// A chain's HTTP face over the world of the tests: for working on the pages without a relay. It takes
// transactions and answers queries; nobody validates anything, and no media is paid.

import { toHex } from "../pages/lib/wallet/bytes.js";
import { ChainError } from "../pages/lib/wallet/chain.js";
import { decodeTransaction, transactionHash } from "../pages/lib/wallet/transaction.js";
import { FakeStake } from "./fake-stake.mjs";
import { FakeChain, PAYEE, STREAM } from "./wallet-world.mjs";

const BLOCK_MS = 1000;
const GENESIS = 10n ** 18n;

/** @param {unknown} value */
const json = (value) => JSON.stringify(value, (_, each) => (typeof each === "bigint" ? each.toString() : each));

export class ChainFace {
  chain = new FakeChain();
  stake = new FakeStake();
  /** @type {{ height: number, timeMs: number, txs: { bytes: Uint8Array, code: number }[] }[]} */
  blocks = [];
  /** @type {Map<string, { height: number, bytes: Uint8Array, code: number }>} */
  found = new Map();
  /** @type {{ bytes: Uint8Array, code: number }[]} */
  #waiting = [];
  #begunMs = Date.now() - 60 * BLOCK_MS;

  constructor() {
    Object.assign(this.chain.record, { created: Date.now(), ended: null, codecs: ["VP8", "opus"], issuers: [], origin_relay: null, title: "Harbour at night, by the second", rev_epoch: 0 });
    for (let height = 1; height <= 60; height += 1) this.#close(this.#begunMs + height * BLOCK_MS + (height % 7) * 40);
    setInterval(() => this.#close(Date.now()), BLOCK_MS).unref();
  }

  /** @param {number} timeMs */
  #close(timeMs) {
    const height = (this.blocks.at(-1)?.height ?? 0) + 1;
    this.blocks.push({ height, timeMs, txs: this.#waiting.splice(0) });
    Object.assign(this.chain.info, { height, block_time_ms: timeMs, params: { ...this.chain.info.params, close_window_ms: 10_000, close_window_blocks: 10, notice_blocks: 10 } });
    for (const tx of this.blocks.at(-1)?.txs ?? []) void transactionHash(tx.bytes).then((hash) => this.found.set(hash, { height, ...tx }));
  }

  /** @param {Uint8Array} bytes */
  async #take(bytes) {
    let code = 0;
    try {
      await this.chain.submit(bytes);
      const { body } = decodeTransaction(bytes);
      const account = await this.chain.account(body.signer);
      const pays = this.stake.apply(body.signer, body.payload, this.blocks.length);
      this.chain.accounts.set(body.signer, { ...account, balance: account.balance - pays });
    } catch (error) {
      if (!(error instanceof ChainError) || !error.charged) return { code: error instanceof ChainError ? error.code : 1, hash: "" };
      code = error.code;
    }
    this.#waiting.push({ bytes, code });
    return { code: 0, hash: await transactionHash(bytes) };
  }

  /** @param {string} path @param {number} height @returns {Promise<unknown>} null: no such record */
  async #query(path, height = this.blocks.length) {
    const [, what = "", id, by] = path.split("/");
    const staked = this.stake.query(what, id ?? "");
    if (staked !== undefined) return staked;
    switch (what) {
      case "account":
        return this.chain.accounts.get(id ?? "") ?? null;
      case "stream":
        return id === STREAM ? this.chain.record : null;
      case "streams":
        return [this.chain.record];
      case "relay":
        return this.chain.relay(id ?? "");
      case "relays":
        return [{ account: PAYEE, relay_key: this.chain.relayKey, endpoint: "", bond: "0", min_share_bps: 500, since_height: 1 }];
      case "channel":
        return this.chain.channel(id ?? "");
      case "channels":
        return id === "by-payer" ? this.chain.channelsOf(by ?? "") : [...this.chain.channels.values()];
      case "supply":
        return { genesis: GENESIS, burned: GENESIS / 40n + BigInt(height ** 2) * 10_000n, current: GENESIS, fee_pool: 12_345_678n, bonded: BigInt(102_761 + Math.floor(height / 13) * 7) * 10n ** 9n, rewards_held: 5_000_000n };
      default:
        return null;
    }
  }

  /** @param {{ method: string, params: any }} call @returns {Promise<unknown>} */
  async #call({ method, params }) {
    const height = Number(params?.height ?? 0) || this.blocks.length;
    const block = this.blocks[height - 1];
    switch (method) {
      case "abci_query": {
        const record = await this.#query(String(params.path), height);
        return { response: record === null ? { code: 6, log: "no such record" } : { code: 0, value: Buffer.from(json(record)).toString("base64") } };
      }
      case "broadcast_tx_sync":
        return this.#take(Uint8Array.from(Buffer.from(params.tx, "base64")));
      case "tx": {
        const hash = toHex(Uint8Array.from(Buffer.from(params.hash, "base64"))).toUpperCase();
        const found = this.found.get(hash);
        if (!found) throw new Error(`tx (${hash}) not found`);
        return { hash, height: String(found.height), tx: Buffer.from(found.bytes).toString("base64"), tx_result: { code: found.code, events: [] } };
      }
      case "blockchain": {
        const most = Math.min(Number(params?.maxHeight ?? 0) || this.blocks.length, this.blocks.length);
        const least = Math.max(Number(params?.minHeight ?? 0) || 1, most - 19);
        const metas = this.blocks.slice(least - 1, most).reverse();
        return { last_height: String(this.blocks.length), block_metas: metas.map((each) => ({ block_id: { hash: "AB".repeat(32) }, num_txs: String(each.txs.length), header: this.#header(each) })) };
      }
      case "block":
        if (!block) throw new Error("no such height");
        return { block_id: { hash: "AB".repeat(32) }, block: { header: this.#header(block), data: { txs: block.txs.map(({ bytes }) => Buffer.from(bytes).toString("base64")) } } };
      case "block_results":
        return { txs_results: block?.txs.map(({ code }) => ({ code, events: [] })) ?? [] };
      case "validators": {
        const voting = this.stake.voting();
        return { block_height: String(height), total: String(voting.length), validators: voting.map(({ address, power }) => ({ address, voting_power: power, pub_key: { value: "" } })) };
      }
      case "commit":
        return { signed_header: { commit: { signatures: this.stake.validators.flatMap((each, at) => (each.status === "voting" ? [{ block_id_flag: this.stake.signs(at, height) ? 2 : 1, validator_address: this.stake.signs(at, height) ? each.address : "" }] : [])) } } };
      case "tx_search":
        return { txs: [], total_count: "0" };
      case "block_search":
        return { blocks: [], total_count: "0" };
      default:
        throw new Error(`no method ${method}`);
    }
  }

  /** @param {{ height: number, timeMs: number }} block */
  #header({ height, timeMs }) {
    return { height: String(height), time: new Date(timeMs).toISOString(), app_hash: "CD".repeat(32), validators_hash: "EE".repeat(32), proposer_address: this.stake.voting()[height % 4]?.address ?? "" };
  }

  /**
   * @param {string} path
   * @param {string} body
   * @returns {Promise<string | null>} JSON; null: not the chain's business
   */
  async answer(path, body) {
    if (path === "/api/chain") return json(this.chain.info);
    if (path === "/api/faucet") {
      const amount = await this.chain.faucet(JSON.parse(body).account);
      const hash = "EF".repeat(32);
      this.found.set(hash, { height: this.blocks.length, bytes: new Uint8Array(), code: 0 });
      return json({ hash, amount });
    }
    if (path.startsWith("/api/earnings/")) return json({ paid_viewers: 3, owed: "41000000", accepted: "44000000", redeemed: "12000000" });
    if (path !== "/rpc") return null;
    const asked = JSON.parse(body);
    return json(Array.isArray(asked) ? await Promise.all(asked.map((call) => this.#respond(call))) : await this.#respond(asked));
  }

  /** @param {any} call */
  async #respond(call) {
    try {
      return { jsonrpc: "2.0", id: call.id, result: await this.#call(call) };
    } catch (error) {
      return { jsonrpc: "2.0", id: call.id, error: { code: -32603, message: "Internal error", data: error instanceof Error ? error.message : String(error) } };
    }
  }

  /** The body of a 402 for the paid stream. @param {Record<string, unknown>} terms */
  paymentRequired(terms) {
    return json({ x402Version: 2, error: "Payment required", accepts: [{ scheme: "sutantra-stream", network: `sutantra:${this.chain.id}`, payTo: PAYEE, amount: "2000000", asset: "SUT", maxTimeoutSeconds: 60, extra: { terms } }] });
  }
}
