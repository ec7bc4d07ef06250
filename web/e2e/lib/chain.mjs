// The chain by its RPC, as any explorer reads it.

import { must } from "./scenario.mjs";

export class ChainReader {
  /** @param {string} base */
  constructor(base) {
    this.base = base;
  }

  /** @param {string} method @param {Record<string, unknown>} params @returns {Promise<any>} */
  async call(method, params = {}) {
    const answer = await fetch(`${this.base}/rpc`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
    });
    const { result, error } = await answer.json();
    must(!error, `${method}: ${JSON.stringify(error)}`);
    return result;
  }

  /** A record as JSON. @param {string} path @returns {Promise<any>} */
  async query(path) {
    const { response } = await this.call("abci_query", { path });
    must(response.code === 0, `${path}: ${response.log}`);
    return JSON.parse(Buffer.from(response.value ?? "", "base64").toString());
  }

  /** Whether the viewer's right is on chain. @param {string} stream @param {string} viewer @returns {Promise<boolean>} */
  async hasAccess(stream, viewer) {
    const path = `/access/${stream}/${viewer}`;
    const { response } = await this.call("abci_query", { path });
    must(response.code === 0 || response.log.includes("no such record"), `${path}: ${response.log}`);
    return response.code === 0;
  }

  async height() {
    return Number((await this.call("status")).sync_info.latest_block_height);
  }

  /** Events of one kind in the transactions that a query finds. @param {string} query @param {string} kind @returns {Promise<Record<string, string>[]>} */
  async events(query, kind) {
    /** @type {any[]} */
    const found = [];
    for (let page = 1; ; page += 1) {
      const { txs, total_count } = await this.call("tx_search", { query, page: String(page), per_page: "100" });
      found.push(...txs);
      if (found.length >= Number(total_count) || txs.length === 0) break;
    }
    const [, key = "", value = ""] = /^\w+\.(\w+)='(.*)'$/.exec(query) ?? [];
    const events = found.flatMap(({ tx_result }) => tx_result.events).filter((/** @type {any} */ event) => event.type === kind);
    const records = events.map((/** @type {any} */ event) => Object.fromEntries(event.attributes.map((/** @type {any} */ each) => [each.key, each.value])));
    return records.filter((record) => record[key] === value);
  }

  /** All money: what is found, and what there must be. */
  async supply() {
    const { genesis } = await this.call("genesis");
    const known = new Set(genesis.app_state.accounts.map((/** @type {any} */ each) => each.account));
    for (const transfer of await this.every("transfer")) known.add(transfer["to"]);
    const balances = await Promise.all([...known].map(async (each) => BigInt((await this.query(`/account/${each}`)).balance)));
    /** @type {Set<string>} */
    const channels = new Set();
    for (const opened of await this.every("channel_opened")) channels.add(opened["channel"] ?? "");
    const held = await Promise.all([...channels].map(async (each) => this.query(`/channel/${each}`)));
    const inChannels = held.filter(({ closed }) => !closed).reduce((sum, { deposits, redeemed }) => sum + BigInt(deposits) - BigInt(redeemed), 0n);
    const supply = await this.query("/supply");
    const pools = BigInt(supply.fee_pool) + BigInt(supply.bonded) + BigInt(supply.rewards_held);
    const found = balances.reduce((sum, each) => sum + each, 0n) + inChannels + pools;
    return { found, current: BigInt(supply.genesis) - BigInt(supply.burned), burned: BigInt(supply.burned) };
  }

  /** Every event of a kind, found by its blocks. @param {string} kind @returns {Promise<Record<string, string>[]>} */
  async every(kind) {
    const { txs } = await this.call("tx_search", { query: "tx.height>0", per_page: "100", page: "1" }).catch(() => ({ txs: [] }));
    const all = txs.flatMap((/** @type {any} */ tx) => tx.tx_result.events).filter((/** @type {any} */ event) => event.type === kind);
    return all.map((/** @type {any} */ event) => Object.fromEntries(event.attributes.map((/** @type {any} */ each) => [each.key, each.value])));
  }
}
