// The money side of Publish: registers streams, signs who may publish, sets prices, lets people in.

import { request } from "./http.js";
import { AmountError, parseSut, units } from "./wallet/balance.js";
import { fromHex } from "./wallet/bytes.js";
import { Chain, derivedId } from "./wallet/chain.js";
import { whyNoKeys } from "./wallet/keys.js";
import { PaymentWallet } from "./wallet/pool.js";
import { Store, keepForGood } from "./wallet/store.js";
import { GRANTS, STATUS_FREE, signToken } from "./wallet/token.js";

/** @typedef {import("./wallet/chain.js").StreamRecord} StreamRecord */
/** @typedef {import("./wallet/chain.js").Policy} Policy */
/** @typedef {import("./wallet/pool.js").Progress} Progress */

/** A publish token lasts for a long evening. */
const TOKEN_MS = 12 * 3_600_000;
/** Clocks differ: a token counts from a minute ago. */
const SKEW_MS = 60_000;
/** Half and three quarters for the lower tiers, the whole for the best. */
const TIER_BPS = [5000, 7500, 10_000];
const TITLE_BYTES_MAX = 128;
const RATE_MAX = (1n << 64n) - 1n;
/** Any layer. */
const ANY_LAYER = 255;
/** As far ahead as a number of JSON goes. */
const FOR_GOOD_MS = Number.MAX_SAFE_INTEGER;

/**
 * @typedef {object} StreamForm what a person filled in
 * @property {string} title
 * @property {Policy} policy
 * @property {string} price SUT per second
 * @property {string} ticketPrice SUT
 * @property {string} ticketMinutes
 * @property {string} creatorPercent
 * @property {string} originPercent
 */

/** A form that cannot be sent as it is. */
export class FormError extends Error {
  /** @param {keyof StreamForm} field @param {string} message */
  constructor(field, message) {
    super(message);
    this.name = "FormError";
    this.field = field;
  }
}

/** @param {StreamForm} form @returns {import("./wallet/transaction.js").Payload} @throws {FormError} */
export function registration(form) {
  const title = form.title.trim();
  if (new TextEncoder().encode(title).length > TITLE_BYTES_MAX) throw new FormError("title", "This title is too long for the chain. Shorten it.");
  return {
    kind: "register_stream",
    title,
    policy: form.policy,
    price: priceOf(form),
    split: splitOf(form),
    origin_relay: null,
    issuers: [],
    codecs: [],
    ext: {},
  };
}

/** @param {StreamForm} form */
export function priceOf(form) {
  const rate = form.policy === "paid" ? amount("price", form.price) : 0n;
  if (form.policy === "paid" && rate === 0n) throw new FormError("price", "A price of nothing: choose “Everybody” instead, or write one.");
  if (rate > RATE_MAX) throw new FormError("price", "That is more than a second can cost.");
  const ticket = form.policy === "ticketed" ? amount("ticketPrice", form.ticketPrice) : 0n;
  const minutes = Number(form.ticketMinutes);
  if (form.policy === "ticketed" && !(minutes >= 1 && minutes <= 5_256_000)) throw new FormError("ticketMinutes", "Write for how many minutes a ticket is good.");
  return {
    rate_per_second: rate.toString(),
    tier_bps: TIER_BPS,
    ticket_price: ticket.toString(),
    ticket_ms: form.policy === "ticketed" ? Math.round(minutes * 60_000) : 0,
  };
}

/** @param {StreamForm} form */
export function splitOf(form) {
  const [creator_bps, origin_bps] = [bps("creatorPercent", form.creatorPercent), bps("originPercent", form.originPercent)];
  if (creator_bps + origin_bps > 10_000) throw new FormError("creatorPercent", "Together the shares are more than the whole.");
  return { creator_bps, origin_bps };
}

/** @param {keyof StreamForm} field @param {string} text */
function amount(field, text) {
  try {
    return parseSut(text);
  } catch (error) {
    throw new FormError(field, error instanceof AmountError ? error.message : String(error));
  }
}

/** @param {keyof StreamForm} field @param {string} text percent */
function bps(field, text) {
  const value = Math.round(Number(text) * 100);
  if (text.trim() === "" || !(value >= 0 && value <= 10_000)) throw new FormError(field, "A share is between 0 and 100 percent.");
  return value;
}

export class Creator {
  /** @param {Chain} chain @param {PaymentWallet} wallet */
  constructor(chain, wallet) {
    this.chain = chain;
    this.wallet = wallet;
  }

  /** @returns {Promise<Creator | null>} null: no chain here @throws {Error} this browser has no keys */
  static async open() {
    const chain = await Chain.find();
    if (!chain) return null;
    const missing = await whyNoKeys();
    if (missing) throw new Error(missing);
    return new Creator(chain, await PaymentWallet.open({ chain, store: await Store.open() }));
  }

  /** An account with money for fees, where play money flows. */
  async ready() {
    await this.wallet.create();
    void keepForGood();
    if (this.chain.info.faucet && (await this.wallet.balance()) === 0n) await this.wallet.fund();
  }

  /** Streams of this account that have not ended; newest first. @returns {Promise<StreamRecord[]>} */
  async mine() {
    const { account } = this.wallet;
    if (!account) return [];
    /** @type {StreamRecord[]} */
    const all = (await this.chain.query(`/streams/by-creator/${account}`)) ?? [];
    return all.filter((stream) => stream.ended === null).sort((one, other) => other.created - one.created);
  }

  /** @param {StreamForm} form @param {Progress} [progress] @returns {Promise<string>} the stream's id */
  async register(form, progress) {
    const payload = registration(form);
    const { nonce } = await this.wallet.transact(payload, progress);
    return derivedId("stream", this.wallet.key.publicKey, nonce);
  }

  /** A token that lets this browser publish. @param {string} stream @param {number} [nowMs] */
  async token(stream, nowMs = Date.now()) {
    const record = await this.chain.stream(stream);
    return signToken(
      {
        tokenId: crypto.getRandomValues(new Uint8Array(16)),
        stream: fromHex(stream, 32),
        grants: GRANTS.publish,
        revEpoch: record?.rev_epoch ?? 0,
        notBeforeMs: BigInt(nowMs - SKEW_MS),
        validUntilMs: BigInt(nowMs + TOKEN_MS),
      },
      this.wallet.key,
      this.chain.id,
    );
  }

  /** A new price, as soon as the chain's notice allows. @param {StreamRecord} record @param {string} price SUT per second @param {Progress} [progress] */
  setPrice(record, price, progress) {
    const before = record.terms.at(-1);
    return this.wallet.transact(
      {
        kind: "set_price",
        stream: record.id,
        price: {
          rate_per_second: amount("price", price).toString(),
          tier_bps: before?.tier_bps ?? TIER_BPS,
          ticket_price: before?.ticket_price ?? "0",
          ticket_ms: before?.ticket_ms ?? 0,
        },
        from_height: 0,
      },
      progress,
    );
  }

  /** @param {string} stream @param {Progress} [progress] */
  end(stream, progress) {
    return this.wallet.transact({ kind: "end_stream", stream }, progress);
  }

  /** @param {string} stream @param {string} viewer account, hex @param {Progress} [progress] */
  grant(stream, viewer, progress) {
    return this.wallet.transact({ kind: "grant_access", stream, viewer, valid_until: FOR_GOOD_MS, payment_status: STATUS_FREE, max_layer: ANY_LAYER }, progress);
  }

  /** @param {string} stream @param {string} viewer account, hex @param {Progress} [progress] */
  revoke(stream, viewer, progress) {
    return this.wallet.transact({ kind: "revoke_access", stream, viewer }, progress);
  }

  /** What this relay's books say about a stream. @param {string} stream */
  async earnings(stream) {
    const { paid_viewers, owed, accepted, redeemed } = await (await request(`/api/earnings/${stream}`, { cache: "no-store" })).json();
    return { viewers: Number(paid_viewers), owed: units(String(owed)), accepted: units(String(accepted)), redeemed: units(String(redeemed)) };
  }
}
