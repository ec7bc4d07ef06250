// The newest blocks as they come: by WebSocket, or by asking where there is none.

import { Backoff } from "../backoff.js";
import { TypedEvents } from "../events.js";
import { sentenceOf } from "../explorer.js";
import { fromBase64 } from "../wallet/bytes.js";
import { decodeTransaction, transactionHash } from "../wallet/transaction.js";

/** @typedef {{ height: number, timeMs: number, transactions: number, hash: string, proposer: string, validatorsHash: string }} Block */
/** A transaction as a sentence. @typedef {{ hash: string, parts: import("../explorer.js").Part[], code: number, log: string }} Told */

/** Without a WebSocket blocks are asked for this often. */
const POLL_MS = 1000;
/** Blocks that are kept: one more than the bars and the grids show. */
export const BLOCKS_KEPT = 101;
/** The RPC gives so many at once. */
const BLOCKS_ASKED = 20;
/** Blocks whose transactions are kept as sentences. */
const TOLD_MAX = 64;

/** @extends {TypedEvents<{ change: null, trouble: string | null }>} */
export class BlockFeed extends TypedEvents {
  /** Newest first. @type {Block[]} */
  blocks = [];
  /** By height. @type {Map<number, Told[]>} */
  #told = new Map();
  #chain;
  #loading = false;
  #connected = false;

  /** @param {import("../wallet/chain.js").Chain} chain */
  constructor(chain) {
    super();
    this.#chain = chain;
  }

  /** Height of the newest block that is known. */
  get height() {
    return this.blocks[0]?.height ?? this.#chain.info.height;
  }

  async start() {
    await this.load();
    this.#follow(new Backoff());
    setInterval(() => !this.#connected && !document.hidden && void this.load(), POLL_MS);
    document.addEventListener("visibilitychange", () => !document.hidden && void this.load());
  }

  /** @param {Backoff} backoff */
  #follow(backoff) {
    const address = new URL(`${this.#chain.info.rpc}/websocket`, location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address);
    socket.onopen = () => socket.send(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "subscribe", params: { query: "tm.event='NewBlock'" } }));
    socket.onmessage = () => {
      this.#connected = true;
      backoff.reset();
      if (!document.hidden) void this.load();
    };
    socket.onclose = () => {
      this.#connected = false;
      setTimeout(() => this.#follow(backoff), backoff.next());
    };
  }

  /** Asks for what is new. */
  async load() {
    if (this.#loading) return;
    this.#loading = true;
    try {
      const newest = this.blocks[0]?.height ?? 0;
      // From the newest known block on: a range that begins behind the chain's last one is an error. It
      // is one too where the chain began anew; then everything is asked for.
      const since = newest ? { minHeight: String(newest), maxHeight: "0" } : {};
      const { last_height, block_metas } = await this.#chain.call("blockchain", since).catch(() => this.#chain.call("blockchain", {}));
      const metas = (block_metas ?? []).map(asBlock);
      const top = Number(last_height);
      // After a long sleep, or on another chain, the gap is not filled: it begins anew.
      const fresh = top < newest || Math.min(...metas.map((/** @type {Block} */ block) => block.height)) > newest + 1;
      const grew = top !== newest;
      this.#take(metas, fresh);
      if (grew) await this.#older();
      this.emit("trouble", null);
      if (grew) this.emit("change", null);
    } catch {
      this.emit("trouble", "The chain does not answer. This page tries again by itself; is sutantra-node still running?");
    } finally {
      this.#loading = false;
    }
  }

  /** @param {Block[]} metas @param {boolean} anew */
  #take(metas, anew) {
    const before = anew ? [] : this.blocks;
    const known = new Set(before.map(({ height }) => height));
    this.blocks = [...metas.filter(({ height }) => !known.has(height)), ...before].sort((one, other) => other.height - one.height).slice(0, BLOCKS_KEPT);
  }

  /** Fills up on the first visit. */
  async #older() {
    for (let tries = 0; tries * BLOCKS_ASKED < BLOCKS_KEPT; tries += 1) {
      const oldest = this.blocks.at(-1)?.height ?? 1;
      if (this.blocks.length >= BLOCKS_KEPT || oldest <= 1) return;
      const { block_metas } = await this.#chain.call("blockchain", { minHeight: String(Math.max(1, oldest - BLOCKS_ASKED)), maxHeight: String(oldest - 1) });
      const more = (block_metas ?? []).map(asBlock).filter((/** @type {Block} */ block) => block.height < oldest);
      if (more.length === 0) return;
      this.#take(more, false);
    }
  }

  /** A block's transactions, decoded. @param {number} height @returns {Promise<Told[]>} */
  async tell(height) {
    const known = this.#told.get(height);
    if (known) return known;
    const [{ block }, { txs_results }] = await Promise.all([this.#chain.call("block", { height: String(height) }), this.#chain.call("block_results", { height: String(height) })]);
    const list = await Promise.all((block.data.txs ?? []).map((/** @type {string} */ tx, /** @type {number} */ at) => told(fromBase64(tx), txs_results?.[at])));
    this.#told.set(height, list);
    const oldest = this.#told.keys().next().value;
    if (this.#told.size > TOLD_MAX && oldest !== undefined) this.#told.delete(oldest);
    return list;
  }
}

/** @param {Uint8Array} bytes @param {any} result of its execution @returns {Promise<Told>} */
export async function told(bytes, result) {
  const [hash, code, log] = [await transactionHash(bytes), Number(result?.code ?? 0), String(result?.log ?? "")];
  try {
    return { hash, parts: sentenceOf(decodeTransaction(bytes)), code, log };
  } catch {
    return { hash, parts: ["bytes that are no transaction of this chain"], code, log };
  }
}

/** @param {any} meta @returns {Block} */
export function asBlock(meta) {
  const { header } = meta;
  return {
    height: Number(header.height),
    timeMs: Date.parse(header.time),
    transactions: Number(meta.num_txs),
    hash: String(meta.block_id?.hash ?? ""),
    proposer: String(header.proposer_address ?? "").toUpperCase(),
    validatorsHash: String(header.validators_hash ?? ""),
  };
}
