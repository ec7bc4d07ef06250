// The wallet of this browser as the explorer uses it: whether there is one, what it has staked, and
// its transactions one at a time.

import { TypedEvents } from "../events.js";
import { whyNoKeys } from "../wallet/keys.js";
import { PaymentWallet } from "../wallet/pool.js";
import { Store } from "../wallet/store.js";
import { asDelegation } from "./records.js";

/** @typedef {import("./records.js").Delegation} Delegation */

/** What each step of a transaction is to the person who waits. */
export const STEPS = { signed: "Sending to the chain…", sent: "Sent. Waiting for a block…", "in-block": "Done: it is in a block." };

/** @extends {TypedEvents<{ change: null }>} */
export class Purse extends TypedEvents {
  /** @type {PaymentWallet | null} */
  #wallet = null;
  /** @type {Promise<void> | null} */
  #opening = null;
  #chain;
  /** Why this browser cannot sign, null: it can. @type {string | null} */
  why = null;

  /** @param {import("../wallet/chain.js").Chain} chain */
  constructor(chain) {
    super();
    this.#chain = chain;
  }

  /** Opens the wallet, once. */
  open() {
    this.#opening ??= (async () => {
      this.why = await whyNoKeys();
      if (this.why === null) this.#wallet = await PaymentWallet.open({ chain: this.#chain, store: await Store.open() });
    })();
    return this.#opening;
  }

  /** The account in hex, null: this browser has none. */
  get account() {
    return this.#wallet?.account ?? null;
  }

  /** @returns {PaymentWallet} @throws {Error} there is none */
  get wallet() {
    if (!this.#wallet?.account) throw new Error(this.why ?? "This browser has no wallet yet. Make one on the Wallet page.");
    return this.#wallet;
  }

  /** @returns {Promise<bigint>} units that it can spend */
  async balance() {
    return this.account === null ? 0n : this.wallet.balance();
  }

  /** @returns {Promise<Delegation[]>} the largest first */
  async delegations() {
    if (this.account === null) return [];
    const records = await this.#chain.list(`/delegations/${this.account}`, ({ validator }) => validator);
    return records.map(asDelegation).sort((one, other) => (one.amount > other.amount ? -1 : 1));
  }

  /** @param {import("../wallet/transaction.js").Payload} payload @param {(words: string) => void} say */
  async transact(payload, say) {
    const done = await this.wallet.transact(payload, (step) => say(STEPS[step]));
    this.emit("change", null);
    return done;
  }
}

/** What an error of a transaction is to a person: the advice, and the chain's own words where there are any. @param {unknown} error */
export function adviceOf(error) {
  if (!(error instanceof Error)) return String(error);
  const log = "log" in error ? String(error.log) : "";
  return log && !error.message.includes(log) ? `${error.message} The chain says: ${log}${/[.!?]$/.test(log) ? "" : "."}` : error.message;
}
