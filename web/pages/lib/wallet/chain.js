// The chain as a wallet sees it: queries and transactions over CometBFT's RPC, answers as sentences.
//
// What is read here is this relay's word: until a light client checks headers and proofs, rate and
// relay key are taken from it unproved, and pages that pay say so.

import { RequestError, request } from "../http.js";
import { units } from "./balance.js";
import { Writer, fromBase64, sha256, toBase64, toHex, utf8 } from "./bytes.js";
import { DOMAINS } from "./preimage.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */

/** How often a transaction that was sent is asked for. */
const POLL_MS = 200;
/** Questions of one batch: what CometBFT takes. */
const BATCH = 10;
/** Records of one answer, and answers that are asked for, of a long list. */
const LIST_RECORDS = 500;
const LIST_PAGES = 10;
/** A transaction that is in no block by then is reported as lost; it may still come. */
const INCLUSION_MS = 30_000;

/**
 * @typedef {object} ChainInfo
 * @property {string} chain_id
 * @property {string} rpc
 * @property {number} height
 * @property {number} block_time_ms
 * @property {boolean} faucet
 * @property {{ account: string, relay_key: string, fingerprint: string }} relay
 * @property {Record<string, any>} params
 * @property {boolean} unproved
 */

/**
 * @typedef {object} StreamTerms
 * @property {number} version
 * @property {string} rate_per_second
 * @property {number[]} tier_bps
 * @property {number} from_height
 * @property {string} ticket_price
 * @property {number} ticket_ms
 */

/** @typedef {"free" | "paid" | "ticketed" | "allow_list"} Policy */

/**
 * @typedef {object} StreamRecord
 * @property {string} id
 * @property {string} creator
 * @property {string} title
 * @property {Policy} policy
 * @property {StreamTerms[]} terms oldest first
 * @property {{ version: number, creator_bps: number, origin_bps: number }[]} split
 * @property {string | null} origin_relay
 * @property {string[]} issuers
 * @property {number} rev_epoch
 * @property {string[]} codecs
 * @property {number} created
 * @property {number | null} ended
 */

/**
 * @typedef {object} ChannelRecord
 * @property {string} id
 * @property {string} payer
 * @property {string} voucher_key
 * @property {bigint} deposits
 * @property {bigint} redeemed
 * @property {{ payee: string, amount: bigint, until_height: number }[]} reserves
 * @property {{ height: number, time_ms: number } | null} close_requested
 * @property {boolean} closed
 * @property {number} expires_height
 */

/** What each result code of the chain means to the person who sent the transaction. */
const CODES = /** @type {Record<number, string>} */ ({
  1: "The chain cannot read this transaction. Check amounts and texts.",
  2: "The signature does not fit. Is this wallet for another chain?",
  3: "Another transaction of this account came first. Try again.",
  4: "There is not enough money in the account. Fund it, or choose a smaller amount.",
  5: "The fee is too small for the chain. Reload the page to learn its fees.",
  6: "There is no such thing on this chain. It may have been started anew: reload the page.",
  7: "It belongs to another account.",
  8: "This voucher was paid already.",
  9: "These vouchers are for another relay.",
  10: "The pool is not in the state for this: it is closing, closed, or its window has not ended yet.",
  11: "The reserve does not fit into what is free in the pool.",
  12: "The stream has no such price any more. Reload the page to see the present one.",
  13: "This price ceased to hold too long ago.",
  14: "The evidence proves nothing.",
  15: "This evidence was given before.",
  16: "The transaction is too large.",
  17: "The transaction came too late for its last block. Try again.",
  18: "The stream's policy, or a rule of the chain, does not allow this.",
});

/** A transaction that had no effect, or a question that the chain did not answer. */
export class ChainError extends Error {
  /**
   * @param {number} code of the chain; 0: no answer of the chain
   * @param {string} message for a person
   * @param {{ log?: string, hash?: string, charged?: boolean }} [more]
   */
  constructor(code, message, { log = "", hash = "", charged = false } = {}) {
    super(message);
    this.name = "ChainError";
    this.code = code;
    this.log = log;
    this.hash = hash;
    /** It is in a block: its fee is spent. */
    this.charged = charged;
  }
}

/** @param {number} code @param {string} [log] */
export function sentenceFor(code, log = "") {
  return CODES[code] ?? `The chain refused with code ${code}${log ? `: ${log}` : ""}.`;
}

export class Chain {
  #wait;
  #id = 0;

  /**
   * @param {ChainInfo} info
   * @param {{ wait?: (ms: number) => Promise<void> }} [options]
   */
  constructor(info, { wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms)) } = {}) {
    this.info = info;
    this.#wait = wait;
  }

  get id() {
    return this.info.chain_id;
  }

  /** The chain of this relay. @returns {Promise<Chain | null>} null: it runs without one */
  static async find() {
    const info = await chainInfo();
    return info && new Chain(info);
  }

  /** Learns height and parameters anew. */
  async refresh() {
    const info = await chainInfo();
    if (info) this.info = info;
    return this.info;
  }

  /**
   * One call of CometBFT's JSON-RPC.
   * @param {string} method
   * @param {Record<string, unknown>} [params]
   * @returns {Promise<any>}
   */
  async call(method, params = {}) {
    const response = await request(this.info.rpc, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: ++this.#id, method, params }),
      cache: "no-store",
    });
    const { result, error } = await response.json();
    if (error) throw new ChainError(0, String(error.data || error.message || "The chain does not answer."));
    return result;
  }

  /**
   * Several calls at once.
   * @param {[method: string, params: Record<string, unknown>][]} calls
   * @returns {Promise<any[]>} results in the order of the calls, null where there is none
   */
  async batch(calls) {
    /** @type {any[]} */
    const results = [];
    for (let at = 0; at < calls.length; at += BATCH) {
      const part = calls.slice(at, at + BATCH).map(([method, params], index) => ({ jsonrpc: "2.0", id: index, method, params }));
      const response = await request(this.info.rpc, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(part), cache: "no-store" });
      const answers = [await response.json()].flat();
      results.push(...part.map(({ id }) => answers.find((answer) => answer.id === id)?.result ?? null));
    }
    return results;
  }

  /**
   * @param {string} path of `abci_query`
   * @param {{ height?: number, data?: string }} [more] an older height; what follows which record, hex
   * @returns {Promise<any>} null: no such record
   */
  async query(path, { height = 0, data = "" } = {}) {
    const { response } = await this.call("abci_query", { path, data, height: String(height), prove: false });
    const code = Number(response.code ?? 0);
    if (code === 6) return null;
    if (code !== 0) throw new ChainError(code, sentenceFor(code, String(response.log ?? "")), { log: String(response.log ?? "") });
    if (!response.value) return null;
    return JSON.parse(new TextDecoder().decode(fromBase64(response.value)));
  }

  /**
   * A whole list, however many answers it takes.
   * @param {string} path of `abci_query`
   * @param {(record: any) => string} keyOf the id by which it is ordered, hex
   * @returns {Promise<any[]>}
   */
  async list(path, keyOf) {
    /** @type {any[]} */
    const all = [];
    for (let page = 0; page < LIST_PAGES; page += 1) {
      const last = all.at(-1);
      const records = (await this.query(path, { data: last === undefined ? "" : keyOf(last) })) ?? [];
      all.push(...records);
      if (records.length < LIST_RECORDS) break;
    }
    return all;
  }

  /** @param {string} account hex @returns {Promise<{ balance: bigint, nonce: number }>} zeros: the chain does not know it yet */
  async account(account) {
    const record = await this.query(`/account/${account}`);
    return record ? { balance: units(record.balance), nonce: Number(record.nonce) } : { balance: 0n, nonce: 0 };
  }

  /** @param {string} stream hex @returns {Promise<StreamRecord | null>} */
  stream(stream) {
    return this.query(`/stream/${stream}`);
  }

  /** @returns {Promise<StreamRecord[]>} */
  streams() {
    return this.list("/streams", ({ id }) => id);
  }

  /** @param {string} channel hex @returns {Promise<ChannelRecord | null>} */
  async channel(channel) {
    const record = await this.query(`/channel/${channel}`);
    return record && asChannel({ id: channel, ...record });
  }

  /** @param {string} payer hex @returns {Promise<ChannelRecord[]>} */
  async channelsOf(payer) {
    const list = await this.list(`/channels/by-payer/${payer}`, (entry) => entry.id ?? entry);
    return Promise.all(list.map((/** @type {any} */ entry) => (typeof entry === "string" ? this.channel(entry) : asChannel(entry)))).then((all) =>
      all.filter((one) => one !== null),
    );
  }

  /** @param {string} stream @param {string} viewer */
  access(stream, viewer) {
    return this.query(`/access/${stream}/${viewer}`);
  }

  /** @param {string} account hex */
  relay(account) {
    return this.query(`/relay/${account}`);
  }

  /**
   * Sends a transaction and waits until it is in a block.
   * @param {Bytes} bytes
   * @param {(step: "sent" | "in-block") => void} [progress]
   * @returns {Promise<{ hash: string, height: number, events: any[] }>}
   * @throws {ChainError}
   */
  async submit(bytes, progress = () => {}) {
    const { code = 0, log = "", hash = "" } = await this.call("broadcast_tx_sync", { tx: toBase64(bytes) });
    if (Number(code) !== 0) throw new ChainError(Number(code), sentenceFor(Number(code), log), { log, hash });
    progress("sent");
    const included = await this.waitFor(hash);
    progress("in-block");
    return included;
  }

  /**
   * @param {string} hash hex
   * @returns {Promise<{ hash: string, height: number, events: any[] }>}
   * @throws {ChainError} it failed in its block, or is in none
   */
  async waitFor(hash) {
    const query = { hash: toBase64(Uint8Array.from(hash.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))), prove: false };
    for (let waited = 0; waited < INCLUSION_MS; waited += POLL_MS) {
      const found = await this.call("tx", query).catch((error) => {
        // Not in a block yet: the RPC knows no other word for it than an error.
        if (error instanceof ChainError || (error instanceof RequestError && error.refusal === "busy")) return null;
        throw error;
      });
      if (found) {
        const { code = 0, log = "", events = [] } = found.tx_result ?? {};
        if (Number(code) !== 0) throw new ChainError(Number(code), sentenceFor(Number(code), log), { log, hash, charged: true });
        return { hash, height: Number(found.height), events };
      }
      await this.#wait(POLL_MS);
    }
    throw new ChainError(0, "The transaction is in no block yet. It may still come: look at your balance before you try again.", { hash });
  }

  /**
   * Asks the faucet of a chain for trying things out.
   * @param {string} account hex
   * @returns {Promise<bigint>} what it gave
   */
  async faucet(account) {
    const response = await request("/api/faucet", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ account }),
    });
    const { hash, amount } = await response.json();
    await this.waitFor(String(hash));
    return units(amount);
  }
}

/** @returns {Promise<ChainInfo | null>} */
async function chainInfo() {
  try {
    return await (await request("/api/chain", { cache: "no-store" })).json();
  } catch (error) {
    if (error instanceof RequestError && error.refusal === "not-live") return null;
    throw error;
  }
}

/** @param {any} record @returns {ChannelRecord} */
function asChannel(record) {
  return {
    id: String(record.id ?? record.channel),
    payer: String(record.payer),
    voucher_key: String(record.voucher_key),
    deposits: units(record.deposits),
    redeemed: units(record.redeemed),
    reserves: (record.reserves ?? []).map((/** @type {any} */ reserve) => ({ ...reserve, amount: units(reserve.amount) })),
    close_requested: record.close_requested ?? null,
    closed: record.closed === true,
    expires_height: Number(record.expires_height),
  };
}

/**
 * The terms in force at a height: the newest version whose height has come.
 * @param {StreamRecord} stream
 * @param {number} height
 */
export function termsAt(stream, height) {
  return [...stream.terms].reverse().find(({ from_height }) => from_height <= height) ?? null;
}

/** The id of what an account makes with its transaction `nonce`, before the chain has it. @param {"stream" | "channel"} what @param {Uint8Array} account @param {number} nonce */
export async function derivedId(what, account, nonce) {
  const named = new Writer().bytes(utf8(DOMAINS[what])).bytes(account, 32).u64(BigInt(nonce)).take();
  return toHex(await sha256(named));
}
