// A world small enough to hold in a test: a chain that takes transactions, a relay that takes vouchers,
// locks over several tabs. No network, no timer.

import "fake-indexeddb/auto";

import { verifyBindAck } from "../pages/lib/wallet/bind.js";
import { fromHex, sha256, toHex } from "../pages/lib/wallet/bytes.js";
import { ChainError, derivedId, sentenceFor } from "../pages/lib/wallet/chain.js";
import { accountKey } from "../pages/lib/wallet/keys.js";
import { PaymentWallet } from "../pages/lib/wallet/pool.js";
import { preimage } from "../pages/lib/wallet/preimage.js";
import { Store } from "../pages/lib/wallet/store.js";
import { decodeTransaction } from "../pages/lib/wallet/transaction.js";

export { verifyBindAck };

export const CHAIN_ID = "sutantra-test-1";
export const RELAY = await accountKey(new Uint8Array(32).fill(8));
export const PAYEE = toHex(new Uint8Array(32).fill(2));
export const STREAM = toHex(new Uint8Array(32).fill(3));
export const RELAY_FINGERPRINT = "06".repeat(32);
export const CLIENT_FINGERPRINT = "05".repeat(32);
export const RATE = 1_000_000n;

/** @param {string} hex */
export const sdpWith = (hex) => `v=0\r\na=fingerprint:sha-256 ${(hex.match(/../g) ?? []).join(":").toUpperCase()}\r\n`;

/** Web Locks, shared by the tabs of one browser. @returns {any} */
export function fakeLocks() {
  /** @type {Map<string, Promise<unknown>>} */
  const held = new Map();
  return {
    /** @param {string} name @param {any} options @param {any} [callback] */
    async request(name, options, callback = options) {
      if (options.ifAvailable && held.has(name)) return callback(null);
      while (held.has(name)) await held.get(name)?.catch(() => {});
      const work = Promise.resolve().then(() => callback({ name }));
      held.set(name, work);
      try {
        return await work;
      } finally {
        held.delete(name);
      }
    },
  };
}

/** A chain with just the rules that a wallet meets. */
export class FakeChain {
  id = CHAIN_ID;
  info = {
    chain_id: CHAIN_ID,
    rpc: "/rpc",
    height: 100,
    block_time_ms: 0,
    faucet: true,
    relay: { account: PAYEE, relay_key: toHex(RELAY.publicKey), fingerprint: RELAY_FINGERPRINT },
    params: { fee_base: "10000", fee_per_byte: "10", fee_per_voucher: "1000", min_deposit: "2000000" },
    unproved: true,
  };
  /** @type {Map<string, { balance: bigint, nonce: number }>} */
  accounts = new Map();
  /** @type {Map<string, any>} */
  channels = new Map();
  relayKey = toHex(RELAY.publicKey);
  /** @type {any} */
  record = {
    id: STREAM,
    creator: "04".repeat(32),
    title: "A stream",
    policy: "paid",
    terms: [{ version: 1, rate_per_second: RATE.toString(), tier_bps: [2500, 5000, 10_000], from_height: 1, ticket_price: "0", ticket_ms: 0 }],
    split: [{ version: 1, creator_bps: 7000, origin_bps: 0 }],
  };
  /** @type {any[]} */
  transactions = [];
  /** The next transaction fails in its block with this code. */
  failWith = 0;

  async refresh() {
    return this.info;
  }

  /** @param {string} account */
  async account(account) {
    return this.accounts.get(account) ?? { balance: 0n, nonce: 0 };
  }

  async stream() {
    return this.record;
  }

  /** @param {string} payee */
  async relay(payee) {
    return payee === PAYEE ? { relay_key: this.relayKey } : null;
  }

  /** @param {string} id */
  async channel(id) {
    return structuredClone(this.channels.get(id) ?? null);
  }

  /** @param {string} payer */
  async channelsOf(payer) {
    return structuredClone([...this.channels.values()].filter((channel) => channel.payer === payer));
  }

  /** @param {string} account */
  async faucet(account) {
    const given = 1_000_000_000_000n;
    const before = await this.account(account);
    this.accounts.set(account, { ...before, balance: before.balance + given });
    return given;
  }

  /** @param {Uint8Array} bytes @param {(step: "sent" | "in-block") => void} [progress] */
  async submit(bytes, progress = () => {}) {
    const { body } = decodeTransaction(bytes);
    const account = await this.account(body.signer);
    if (body.nonce !== account.nonce) throw new ChainError(3, sentenceFor(3));
    const fee = 10_000n + 10n * BigInt(bytes.length);
    if (BigInt(body.fee) < fee) throw new ChainError(5, sentenceFor(5));
    progress("sent");
    this.transactions.push(body);
    this.accounts.set(body.signer, { balance: account.balance - BigInt(body.fee), nonce: account.nonce + 1 });
    if (this.failWith) {
      const code = this.failWith;
      this.failWith = 0;
      throw new ChainError(code, sentenceFor(code), { charged: true });
    }
    await this.#apply(body);
    this.info.height += 1;
    progress("in-block");
    return { hash: toHex(await sha256(bytes)), height: this.info.height, events: [] };
  }

  /** @param {any} body */
  async #apply({ signer, nonce, payload }) {
    const channel = this.channels.get(payload.channel);
    switch (payload.kind) {
      case "open_channel": {
        const id = await derivedId("channel", fromHex(signer), nonce);
        this.channels.set(id, {
          id,
          payer: signer,
          voucher_key: payload.voucher_key,
          deposits: BigInt(payload.deposit),
          redeemed: 0n,
          reserves: payload.reserves.map((/** @type {any} */ reserve) => ({ ...reserve, amount: BigInt(reserve.amount) })),
          close_requested: null,
          closed: false,
          expires_height: payload.expires_height,
        });
        return;
      }
      case "top_up":
        channel.deposits += BigInt(payload.amount);
        channel.reserves = payload.reserves.map((/** @type {any} */ reserve) => ({ ...reserve, amount: BigInt(reserve.amount) }));
        return;
      case "request_close":
        channel.close_requested = { height: this.info.height, time_ms: 0 };
        return;
      case "finalize":
        channel.closed = true;
        return;
    }
  }
}

let worlds = 0;

/**
 * A browser with a funded wallet.
 * @param {{ chain?: FakeChain, locks?: any, name?: string, funded?: boolean, now?: () => number }} [options]
 */
export async function browser({ chain = new FakeChain(), locks = fakeLocks(), name = `world-${++worlds}`, funded = true, now } = {}) {
  const store = await Store.open(name);
  const wallet = await PaymentWallet.open({ chain: /** @type {any} */ (chain), store, locks, ...(now && { now }) });
  await wallet.create();
  if (funded) await wallet.fund();
  return { chain, locks, name, store, wallet };
}

/** The terms' JSON of the fake relay. @param {Record<string, unknown>} [change] */
export function termsJson(change = {}) {
  return {
    stream: STREAM,
    payee: PAYEE,
    relay_key: toHex(RELAY.publicKey),
    relay_fp: RELAY_FINGERPRINT,
    terms_version: 1,
    rate: RATE.toString(),
    tier: 2,
    cadence_ms: 1000,
    grace_ms: 3000,
    pause_max_s: 60,
    min_prepay: "2000000",
    ...change,
  };
}

/** The relay's signature over a Bind. @param {Uint8Array} signedBind @param {import("../pages/lib/wallet/keys.js").Signer} [key] */
export async function acknowledge(signedBind, key = RELAY) {
  return key.sign(await preimage("bindAck", CHAIN_ID, signedBind.slice(0, 272)));
}
