// Records that this browser has checked itself: under a header that validators signed, who follow from
// those that it saw when it first met the chain.
//
// What is kept is the newest header's validators. A later header counts when more than two thirds of
// its own validators signed it, and more than a third of the power that was kept (CometBFT's skipping
// verification). The first header is believed: it comes from this relay.

import { fromBase64, fromHex, toHex } from "../wallet/bytes.js";
import { NotProved, asMember, checkSigned } from "./block.js";
import { checkRecord } from "./record.js";

/** @typedef {import("./block.js").Member} Member */
/** @typedef {import("../wallet/bytes.js").Bytes} Bytes */
/** Validators of a height and of the next one, as they were verified. @typedef {{ height: number, timeMs: number, hash: string, members: Member[], firstHeight: number }} Trust */
/** @typedef {{ get: (chainId: string) => string | null, set: (chainId: string, text: string) => void }} Memory */

/** @typedef {{ value: Bytes, height: number, signed: bigint, total: bigint, firstHeight: number }} Proved height: of the header that it is under */

/** Validators that were kept longer ago may have left with their stake, and can promise anything. */
const TRUST_MS = 14 * 24 * 3_600_000;

/** A relay may ask several nodes, of which one has its blocks a little later. */
const BEHIND_MAX = 10;

/** What a browser keeps between visits. @type {Memory} */
export const browserMemory = {
  get: (chainId) => localStorage.getItem(`light:${chainId}`),
  set: (chainId, text) => localStorage.setItem(`light:${chainId}`, text),
};

export class LightReader {
  #chain;
  #memory;
  #now;

  /**
   * @param {import("../wallet/chain.js").Chain} chain
   * @param {{ memory?: Memory, now?: () => number }} [options]
   */
  constructor(chain, { memory = browserMemory, now = Date.now } = {}) {
    this.#chain = chain;
    this.#memory = memory;
    this.#now = now;
  }

  /**
   * Records with their proofs, all of one height.
   * @param {Uint8Array[]} keys
   * @returns {Promise<Proved[]>}
   * @throws {NotProved} and whatever the chain says
   */
  async prove(keys) {
    const answer = await this.#chain.call("commit", {});
    const { header, commit } = answer.signed_header;
    const height = Number(header.height);
    const members = await this.#members(height);
    const { signers, signed, total } = await checkSigned({ header, commit }, members, this.#chain.id);
    const firstHeight = await this.#trust(height, Date.parse(header.time), String(commit.block_id.hash), members, signers);
    // The header of a height has the state's root of the one before.
    const root = fromHex(String(header.app_hash));
    return Promise.all(
      keys.map(async (key) => {
        const { response } = await this.#chain.call("abci_query", { path: "/store/app/key", data: toHex(key), height: String(height - 1), prove: true });
        const ops = response.proofOps?.ops ?? [];
        if (Number(response.code ?? 0) !== 0 || ops.length !== 1) throw new NotProved(String(response.log || "the relay gave no proof"));
        const value = fromBase64(String(response.value ?? ""));
        await checkRecord(root, key, value, fromBase64(String(ops[0].data)));
        return { value, height, signed, total, firstHeight };
      }),
    );
  }

  /** @param {number} height @returns {Promise<Member[]>} */
  async #members(height) {
    /** @type {any[]} */
    const found = [];
    for (let page = 1; ; page += 1) {
      const { validators, total } = await this.#chain.call("validators", { height: String(height), page: String(page), per_page: "100" });
      found.push(...validators);
      if (found.length >= Number(total) || validators.length === 0) break;
    }
    return Promise.all(found.map(asMember));
  }

  /**
   * Holds a verified header against what is kept, and keeps it.
   * @param {number} height @param {number} timeMs @param {string} hash @param {Member[]} members @param {Set<string>} signers
   * @returns {Promise<number>} the height where this browser's trust began
   */
  async #trust(height, timeMs, hash, members, signers) {
    const kept = this.#kept();
    if (kept) {
      if (height < kept.height - BEHIND_MAX) throw new NotProved(`this relay shows block ${height}, and showed block ${kept.height} before`);
      if (height === kept.height && hash !== kept.hash) throw new NotProved(`this relay shows another block ${height} than before`);
      const total = kept.members.reduce((sum, { power }) => sum + power, 0n);
      const signed = kept.members.filter(({ key }) => signers.has(key)).reduce((sum, { power }) => sum + power, 0n);
      if (signed * 3n <= total) throw new NotProved(`too few of the validators of block ${kept.height}, which this browser knows, signed block ${height}`);
    }
    const firstHeight = kept?.firstHeight ?? height;
    if (kept && height < kept.height) return firstHeight;
    this.#memory.set(this.#chain.id, JSON.stringify({ height, timeMs, hash, firstHeight, members: members.map(({ key, power, address }) => ({ key, address, power: power.toString() })) }));
    return firstHeight;
  }

  /** @returns {Trust | null} null: nothing, or nothing that still binds anybody */
  #kept() {
    const text = this.#memory.get(this.#chain.id);
    if (text === null) return null;
    try {
      const kept = JSON.parse(text);
      if (this.#now() - kept.timeMs >= TRUST_MS) return null;
      return { ...kept, members: kept.members.map((/** @type {any} */ each) => ({ ...each, power: BigInt(each.power) })) };
    } catch {
      return null;
    }
  }
}

