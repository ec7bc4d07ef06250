// Records of stake as the chain's JSON has them, as values: amounts are BigInt, what follows from them
// is reckoned here. Pure.

import { duration } from "../pay-view.js";
import { sut, units } from "../wallet/balance.js";

/** @typedef {"voting" | "waiting" | "jailed" | "tombstoned"} Status */

/**
 * @typedef {object} Validator
 * @property {string} operator hex, the account behind it
 * @property {string} address hex in capitals, as blocks name it
 * @property {string} consensusKey hex
 * @property {string} moniker
 * @property {string} website
 * @property {{ bps: number, max_bps: number, step_bps: number }} commission
 * @property {bigint} tokens units staked with it
 * @property {bigint} commissionDue units
 * @property {bigint} power in the engine; 0: it does not vote
 * @property {Status} status
 * @property {{ until_ms: number, height: number } | null} jailed
 * @property {{ infraction_height: number, height: number, bps: number } | null} slashed
 * @property {number} missed blocks of the window
 * @property {number} sinceHeight
 */

/** @typedef {{ height: number, to: string | null, amount: bigint, completeMs: number }} Departure */

/**
 * @typedef {object} Delegation
 * @property {string} validator hex
 * @property {bigint} amount units that its shares are worth
 * @property {bigint} rewards units due
 * @property {number} incoming moves of stake that came and can still be cut
 * @property {Departure[]} leaving
 */

/**
 * @typedef {object} Proposal
 * @property {number} number
 * @property {string} proposer hex
 * @property {string} title
 * @property {string} text
 * @property {{ kind: "params", params: Record<string, any> } | { kind: "upgrade", upgrade: Upgrade }} change
 * @property {number} height
 * @property {number} endsMs
 * @property {"voting" | "passed" | "rejected"} state
 * @property {bigint} yes
 * @property {bigint} no
 * @property {bigint} total power that may vote
 */

/** @typedef {{ name: string, height: number, info: string }} Upgrade */

/** A number that JSON has as digits, whatever its size. @param {unknown} value */
const whole = (value) => BigInt(/** @type {string | number} */ (value ?? 0));

/** @param {any} record @returns {Validator} */
export function asValidator(record) {
  return {
    operator: String(record.account),
    address: String(record.address ?? "").toUpperCase(),
    consensusKey: String(record.consensus_key),
    moniker: String(record.moniker ?? ""),
    website: String(record.website ?? ""),
    commission: { bps: Number(record.commission?.bps ?? 0), max_bps: Number(record.commission?.max_bps ?? 0), step_bps: Number(record.commission?.step_bps ?? 0) },
    tokens: units(record.tokens),
    commissionDue: units(record.commission_due ?? "0"),
    power: whole(record.power),
    status: ["voting", "jailed", "tombstoned"].includes(record.status) ? record.status : "waiting",
    jailed: record.jailed ?? null,
    slashed: record.slashed ?? null,
    missed: Number(record.missed_blocks ?? 0),
    sinceHeight: Number(record.since_height ?? 0),
  };
}

/** @param {any} record @returns {Delegation} */
export function asDelegation(record) {
  return {
    validator: String(record.validator),
    amount: units(record.amount),
    rewards: units(record.rewards ?? "0"),
    incoming: (record.incoming ?? []).length,
    leaving: (record.leaving ?? []).map((/** @type {any} */ each) => ({ height: Number(each.height), to: each.to ?? null, amount: units(each.amount), completeMs: Number(each.complete_ms) })),
  };
}

/** @param {any} record @returns {Proposal} */
export function asProposal(record) {
  return {
    number: Number(record.number),
    proposer: String(record.proposer),
    title: String(record.title ?? ""),
    text: String(record.text ?? ""),
    change: record.change,
    height: Number(record.height),
    endsMs: Number(record.ends_ms),
    state: record.state,
    yes: whole(record.yes_power),
    no: whole(record.no_power),
    total: whole(record.total_power),
  };
}

/** @type {Record<Status, number>} */
const ORDER = { voting: 0, waiting: 1, jailed: 2, tombstoned: 3 };

/** Who votes first, and by stake. @param {Validator[]} validators */
export function ranked(validators) {
  return [...validators].sort((one, other) => ORDER[one.status] - ORDER[other.status] || (one.tokens === other.tokens ? (one.operator < other.operator ? -1 : 1) : one.tokens > other.tokens ? -1 : 1));
}

/** What people call it. @param {{ moniker: string, operator: string }} validator */
export function nameOf({ moniker, operator }) {
  return moniker.trim() || `Validator ${operator.slice(0, 8)}`;
}

/** Percent of a whole, to a hundredth. @param {bigint} part @param {bigint} all @returns {number | null} null: of nothing */
export function percentOf(part, all) {
  return all > 0n ? Number((part * 10_000n) / all) / 100 : null;
}

/** The same for people: what is there is never said to be nothing. @param {bigint} part @param {bigint} all */
export function percentWords(part, all) {
  const percent = percentOf(part, all);
  if (percent === null) return "–";
  return percent === 0 && part > 0n ? "< 0.01 %" : `${percent} %`;
}

/** Blocks of the window in which a validator could sign. @param {Validator} validator @param {number} windowBlocks @param {number} height */
export function countedBlocks({ sinceHeight }, windowBlocks, height) {
  return Math.max(0, Math.min(windowBlocks, height - sinceHeight));
}

/**
 * Percent of the window's blocks that it signed.
 * @param {Validator} validator
 * @param {number} windowBlocks
 * @param {number} height
 * @returns {number | null} null: it does not vote, or there was no block yet
 */
export function uptime(validator, windowBlocks, height) {
  const counted = countedBlocks(validator, windowBlocks, height);
  if (validator.status !== "voting" || counted === 0) return null;
  return Math.max(0, Math.round(((counted - validator.missed) / counted) * 10_000) / 100);
}

/** What is staked with those who vote. @param {Validator[]} validators */
export function bondedOf(validators) {
  return validators.filter(({ status }) => status === "voting").reduce((sum, { tokens }) => sum + tokens, 0n);
}

/** What people read for each status. @type {Record<Status, { word: string, help: string }>} */
export const STATUS = {
  voting: { word: "Voting", help: "It proposes blocks and signs them." },
  waiting: { word: "Waiting", help: "Others have more stake, or it has too little: it does not sign blocks, and earns nothing." },
  jailed: { word: "Jailed", help: "It missed too many blocks. Its operator can ask to be let out." },
  tombstoned: { word: "Banned", help: "It signed two blocks of one height: it never votes again. Take your stake back, or move it." },
};

/**
 * Parameters that a proposal would change.
 * @param {Record<string, any>} now
 * @param {Record<string, any>} then
 * @returns {{ name: string, from: unknown, to: unknown }[]}
 */
export function changesOf(now, then) {
  return Object.keys(then)
    .filter((name) => String(now[name]) !== String(then[name]))
    .map((name) => ({ name, from: now[name] ?? null, to: then[name] }));
}

/**
 * A parameter's value with its unit: times end in `_ms`, shares in `_bps`, amounts are texts.
 * @param {string} name
 * @param {unknown} value
 */
export function parameterWords(name, value) {
  if (value === null || value === undefined) return "–";
  if (name.endsWith("_ms")) return duration(Number(value));
  if (name.endsWith("_bps")) return `${Number(value) / 100} %`;
  return typeof value === "string" ? sut(units(value)) : String(value);
}
