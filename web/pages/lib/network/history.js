// What happened to a validator, out of the events that the node keeps an index of.

import { sut, units } from "../wallet/balance.js";

/** @typedef {{ height: number, words: string, bad: boolean, who: string | null }} Happening who: an account it is about */

/** The node looks through so many blocks for one question. */
const BLOCKS_SEARCHED = 990;
/** Blocks whose events are read, and transactions, for each question. */
const FOUND_MAX = 8;

/** @typedef {Record<string, string>} Attributes */
/** @typedef {{ by: "block" | "tx", key: string, bad?: boolean, words: (event: Attributes) => string, who?: (event: Attributes) => string | null }} Kind */

const amount = (/** @type {string | undefined} */ text) => sut(units(text ?? "0"));

/** @type {[type: string, kind: Kind][]} */
const KINDS = [
  ["validator_jailed", { by: "block", key: "validator", bad: true, words: ({ missed }) => `Jailed: it missed ${missed} blocks of the window` }],
  ["validator_slashed", { by: "block", key: "validator", bad: true, words: ({ amount: cut, infraction_height }) => `Cut by ${amount(cut)} for signing twice at block ${infraction_height}` }],
  ["validator_tombstoned", { by: "block", key: "validator", bad: true, words: () => "Banned for good" }],
  ["validator_created", { by: "tx", key: "validator", words: () => "Registered" }],
  ["validator_edited", { by: "tx", key: "validator", words: () => "Changed its description or commission" }],
  ["validator_unjailed", { by: "tx", key: "validator", words: () => "Let out of jail" }],
  ["stake_bonded", { by: "tx", key: "validator", words: ({ amount: put }) => `${amount(put)} staked by`, who: ({ delegator }) => delegator ?? null }],
  ["stake_unbonding", { by: "tx", key: "validator", words: ({ amount: left }) => `${amount(left)} taken back by`, who: ({ delegator }) => delegator ?? null }],
  ["stake_moved", { by: "tx", key: "to", words: ({ amount: moved }) => `${amount(moved)} moved here by`, who: ({ delegator }) => delegator ?? null }],
  ["stake_moved", { by: "tx", key: "from", words: ({ amount: moved }) => `${amount(moved)} moved away by`, who: ({ delegator }) => delegator ?? null }],
];

/**
 * Events of one kind in which an attribute has a value.
 * @param {any[]} events @param {string} type @param {string} key @param {string} value
 * @returns {Attributes[]}
 */
export function eventsOf(events, type, key, value) {
  return (events ?? [])
    .filter((event) => event.type === type)
    .map((event) => Object.fromEntries(event.attributes.map((/** @type {any} */ each) => [each.key, String(each.value)])))
    .filter((attributes) => attributes[key] === value);
}

/**
 * The newest first. Empty also where the node keeps no index.
 * @param {import("../wallet/chain.js").Chain} chain
 * @param {string} operator
 * @param {number} height
 * @returns {Promise<Happening[]>}
 */
export async function historyOf(chain, operator, height) {
  const found = await Promise.all(KINDS.map(([type, kind]) => search(chain, type, kind, operator, height).catch(() => [])));
  return found.flat().sort((one, other) => other.height - one.height);
}

/** @param {import("../wallet/chain.js").Chain} chain @param {string} type @param {Kind} kind @param {string} operator @param {number} height @returns {Promise<Happening[]>} */
async function search(chain, type, kind, operator, height) {
  const query = `${type}.${kind.key}='${operator}'`;
  /** @param {number} at @param {any[]} events */
  const asHappenings = (at, events) => eventsOf(events, type, kind.key, operator).map((event) => ({ height: at, words: kind.words(event), bad: kind.bad ?? false, who: kind.who?.(event) ?? null }));
  if (kind.by === "tx") {
    const { txs } = await chain.call("tx_search", { query, prove: false, page: "1", per_page: String(FOUND_MAX), order_by: "desc" });
    return txs.flatMap((/** @type {any} */ tx) => asHappenings(Number(tx.height), tx.tx_result?.events));
  }
  const since = Math.max(0, height - BLOCKS_SEARCHED);
  const { blocks } = await chain.call("block_search", { query: `${query} AND block.height>${since}`, page: "1", per_page: String(FOUND_MAX), order_by: "desc" });
  const heights = blocks.map((/** @type {any} */ each) => Number(each.block.header.height));
  const results = await chain.batch(heights.map((/** @type {number} */ each) => ["block_results", { height: String(each) }]));
  return heights.flatMap((/** @type {number} */ each, /** @type {number} */ at) => asHappenings(each, results[at]?.finalize_block_events));
}
