// What several views ask for, once a block: validators and their names, parameters, supply.

import { units } from "../wallet/balance.js";
import { asValidator, bondedOf, nameOf, ranked } from "./records.js";

/** @typedef {import("./records.js").Validator} Validator */

/**
 * @typedef {object} Supply
 * @property {bigint} genesis
 * @property {bigint} burned
 * @property {bigint} current
 * @property {bigint} feePool
 * @property {bigint} bonded
 * @property {bigint} rewardsHeld
 */

/** Heights whose supply is drawn, and how far back they reach: the application keeps so many. */
const SAMPLES = 33;
const SAMPLED_BLOCKS = 960;

/** @param {any} record @returns {Supply} */
export function asSupply(record) {
  const [genesis, burned] = [units(record.genesis), units(record.burned)];
  return { genesis, burned, current: genesis - burned, feePool: units(record.fee_pool ?? "0"), bonded: units(record.bonded ?? "0"), rewardsHeld: units(record.rewards_held ?? "0") };
}

/**
 * Heights to ask for, oldest first: multiples of a step, so that the next visit asks for the same ones.
 * @param {number} height the newest
 * @param {{ most?: number, blocks?: number }} [bounds]
 */
export function sampledHeights(height, { most = SAMPLES, blocks = SAMPLED_BLOCKS } = {}) {
  const first = Math.max(1, height - blocks + 1);
  const step = Math.max(1, Math.ceil((height - first + 1) / (most - 1)));
  const heights = [];
  for (let at = Math.ceil(first / step) * step; at < height; at += step) heights.push(at);
  return [...heights, height];
}

export class Book {
  #chain;
  /** @type {Validator[]} */
  #validators = [];
  /** @type {Map<string, Validator>} */
  #byOperator = new Map();
  /** @type {Map<string, Validator>} */
  #byAddress = new Map();
  /** Answers of this block, by question. @type {Map<string, Promise<any>>} */
  #answers = new Map();
  #height = -1;
  /** @type {Map<number, Supply>} */
  #supplies = new Map();
  #now;

  /** @param {import("../wallet/chain.js").Chain} chain @param {() => number} height the newest one that is known */
  constructor(chain, height) {
    this.#chain = chain;
    this.#now = height;
  }

  /** @template T @param {string} question @param {() => Promise<T>} ask @returns {Promise<T>} */
  #once(question, ask) {
    const height = this.#now();
    if (height !== this.#height) this.forget();
    this.#height = height;
    const known = this.#answers.get(question);
    if (known) return known;
    const answer = ask();
    this.#answers.set(question, answer);
    answer.catch(() => this.#answers.delete(question));
    return answer;
  }

  /** Whatever is asked next is asked of the chain. */
  forget() {
    this.#answers.clear();
  }

  /** By rank. @returns {Promise<Validator[]>} empty where the chain has no stake */
  validators() {
    return this.#once("validators", async () => {
      const records = await this.#chain.list("/validators", ({ account }) => account);
      this.#validators = ranked(records.map(asValidator));
      this.#byOperator = new Map(this.#validators.map((each) => [each.operator, each]));
      this.#byAddress = new Map(this.#validators.map((each) => [each.address, each]));
      return this.#validators;
    });
  }

  /** Units staked with those who vote. */
  async bonded() {
    return bondedOf(await this.validators());
  }

  /** @param {string} operator @returns {Validator | null} as it was when validators were last read */
  validator(operator) {
    return this.#byOperator.get(operator) ?? null;
  }

  /** @param {string} address as blocks name it @returns {Validator | null} */
  byAddress(address) {
    return this.#byAddress.get(address) ?? null;
  }

  /** The name of a validator, null: this account is none. @param {string} operator */
  nameOf = (/** @type {string} */ operator) => {
    const found = this.validator(operator);
    return found && nameOf(found);
  };

  /** @returns {Promise<Record<string, any>>} the chain's parameters */
  params() {
    return this.#once("params", async () => (await this.#chain.query("/params")) ?? {});
  }

  /** @returns {Promise<Supply>} */
  supply() {
    return this.#once("supply", async () => asSupply(await this.#chain.query("/supply")));
  }

  /** The supply over the last blocks, oldest first. @param {number} height @returns {Promise<{ height: number, supply: Supply }[]>} */
  async supplies(height) {
    const heights = sampledHeights(height);
    const lacking = heights.filter((each) => !this.#supplies.has(each));
    const answers = await this.#chain.batch(lacking.map((each) => ["abci_query", { path: "/supply", data: "", height: String(each), prove: false }]));
    lacking.forEach((each, at) => {
      const response = answers[at]?.response;
      // Heights that are no longer kept are not drawn.
      if (response?.value && Number(response.code ?? 0) === 0) this.#supplies.set(each, asSupply(JSON.parse(atob(response.value))));
    });
    for (const each of this.#supplies.keys()) if (!heights.includes(each)) this.#supplies.delete(each);
    return heights.flatMap((each) => {
      const supply = this.#supplies.get(each);
      return supply ? [{ height: each, supply }] : [];
    });
  }
}
