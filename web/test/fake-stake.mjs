// Stake in the fake chain: validators of every state, records in the chain's JSON, and just enough of
// its rules that delegating changes what is shown.

import { createHash } from "node:crypto";

const SUT = 1_000_000_000n;
export const WINDOW = 100;
export const UNBONDING_MS = 20_000;

/** @param {string} hex */
const addressOf = (hex) => createHash("sha256").update(Buffer.from(hex, "hex")).digest("hex").slice(0, 40).toUpperCase();

/** @type {[moniker: string, sut: bigint, bps: number, status: string, missed: number, website: string][]} */
const ROWS = [
  ["Lighthouse", 41_250n, 500, "voting", 0, "https://lighthouse.example"],
  ["Baobab", 30_110n, 300, "voting", 2, ""],
  ["North by Northwest Validation Services", 22_400n, 1000, "voting", 31, "https://nnw.example/validator"],
  ["", 9_001n, 0, "voting", 1, ""],
  ["Kite", 800n, 700, "waiting", 0, "javascript:alert(1)"],
  ["Sleeper", 12_700n, 500, "jailed", 64, ""],
  ["Two Hands", 3_420n, 900, "tombstoned", 0, ""],
];

/** The chain's JSON of a validator. @param {typeof ROWS[number]} row @param {number} at */
export function validatorRecord([moniker, sut, bps, status, missed, website], at) {
  const account = (0xa0 + at).toString(16).repeat(32);
  const key = (0xc0 + at).toString(16).repeat(32);
  return {
    account,
    consensus_key: key,
    moniker,
    website,
    commission: { bps, max_bps: 2000, step_bps: 100 },
    commission_changed_ms: 0,
    tokens: (sut * SUT).toString(),
    shares: (sut * SUT).toString(),
    power: status === "voting" ? sut.toString() : "0",
    settled: "0",
    per_share: "0",
    commission_due: "0",
    jailed: status === "jailed" ? { until_ms: Date.now() + 300_000, height: 31 } : null,
    slashed: status === "tombstoned" ? { infraction_height: 18, height: 20, bps: 500 } : null,
    since_height: at < 4 ? 0 : 9,
    status,
    address: addressOf(key),
    missed_blocks: missed,
  };
}

export const VALIDATORS = ROWS.map(validatorRecord);

export const PARAMS = {
  fee_base: "10000",
  fee_per_byte: "10",
  fee_per_voucher: "1000",
  validators_max: 4,
  power_unit: SUT.toString(),
  delegation_min: SUT.toString(),
  self_delegation_min: SUT.toString(),
  unbonding_ms: UNBONDING_MS,
  signed_window_blocks: WINDOW,
  signed_min_bps: 5000,
  downtime_jail_ms: 600_000,
  double_sign_bps: 500,
  voting_ms: 60_000,
};

export class FakeStake {
  validators = structuredClone(VALIDATORS);
  /** By delegator and validator. @type {Map<string, any>} */
  delegations = new Map();
  proposals = [
    { number: 1, proposer: VALIDATORS[0]?.account, title: "Room for more validators", text: "Twelve who want to join are waiting.", change: { kind: "params", params: { ...PARAMS, validators_max: 16 } }, height: 12, ends_ms: Date.now() - 1000, state: "passed", yes_power: "93760", no_power: "9001", total_power: "102761" },
    { number: 2, proposer: VALIDATORS[1]?.account, title: "", text: "", change: { kind: "upgrade", upgrade: { name: "v0.8.0", height: 90_000, info: "sha256 of the program: ab12" } }, height: 44, ends_ms: Date.now() + 3_600_000, state: "voting", yes_power: "41250", no_power: "9001", total_power: "102761" },
  ];
  upgrade = null;

  /** Whether a validator signs a block: each misses in a pattern of its own. @param {number} at @param {number} height */
  signs(at, height) {
    const { status } = this.validators[at] ?? {};
    if (status !== "voting") return false;
    return at !== 2 ? !(at === 1 && height % 47 === 0) : height % 7 > 1;
  }

  voting() {
    return this.validators.filter(({ status }) => status === "voting");
  }

  /** @param {string} what @param {string} id @returns {unknown} undefined: not its business */
  query(what, id) {
    switch (what) {
      case "validators":
        return this.validators;
      case "validator":
        return this.validators.find(({ account }) => account === id) ?? null;
      case "delegations":
        return [...this.delegations.values()].filter(({ delegator }) => delegator === id);
      case "delegators":
        return [...this.delegations.values(), ...this.validators.map(({ account, tokens }) => ({ delegator: account, validator: account, amount: tokens }))].filter(({ validator }) => validator === id).map(({ delegator, amount }) => ({ delegator, amount }));
      case "proposals":
        return this.proposals;
      case "proposal":
        return this.proposals.find(({ number }) => String(number) === id) ?? null;
      case "upgrade":
        return this.upgrade;
      case "params":
        return PARAMS;
      default:
        return undefined;
    }
  }

  /** @param {string} delegator @param {string} operator */
  #delegation(delegator, operator) {
    const key = delegator + operator;
    const made = this.delegations.get(key) ?? { delegator, validator: operator, shares: "0", amount: "0", rewards: "0", incoming: [], leaving: [] };
    this.delegations.set(key, made);
    return made;
  }

  /** @param {string} delegator @param {string} operator @param {bigint} amount */
  #change(delegator, operator, amount) {
    const mine = this.#delegation(delegator, operator);
    mine.amount = mine.shares = (BigInt(mine.amount) + amount).toString();
    mine.rewards = amount > 0n ? "1234567" : "0";
    const validator = this.validators.find(({ account }) => account === operator);
    if (validator) validator.tokens = (BigInt(validator.tokens) + amount).toString();
    return mine;
  }

  /** @param {string} signer @param {any} payload @param {number} height @returns {bigint} what the account pays, less what it gets */
  apply(signer, payload, height) {
    const amount = BigInt(payload.amount ?? 0);
    switch (payload.kind) {
      case "delegate":
        this.#change(signer, payload.validator, amount);
        return amount;
      case "undelegate":
        this.#change(signer, payload.validator, -amount).leaving.push({ height, to: null, amount: amount.toString(), complete_ms: Date.now() + UNBONDING_MS });
        return 0n;
      case "redelegate":
        this.#change(signer, payload.from, -amount).leaving.push({ height, to: payload.to, amount: amount.toString(), complete_ms: Date.now() + UNBONDING_MS });
        this.#change(signer, payload.to, amount);
        return 0n;
      case "withdraw_rewards": {
        const mine = this.#delegation(signer, payload.validator);
        const free = mine.leaving.filter((/** @type {any} */ each) => each.complete_ms <= Date.now());
        mine.leaving = mine.leaving.filter((/** @type {any} */ each) => each.complete_ms > Date.now());
        /** @type {bigint} */
        const paid = BigInt(mine.rewards) + free.filter((/** @type {any} */ each) => each.to === null).reduce((/** @type {bigint} */ sum, /** @type {any} */ each) => sum + BigInt(each.amount), 0n);
        mine.rewards = "0";
        return -paid;
      }
      default:
        return 0n;
    }
  }
}
