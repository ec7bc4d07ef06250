// PaymentWallet: the account, its pools, and the one writer that signs out of each.
//
// A pool is a deposit on chain that pays relays by vouchers. What is signed is on the disk before it
// is signed: a crash then costs a voucher that nobody has, never a sum that somebody has twice.

import { TypedEvents } from "../events.js";
import { units } from "./balance.js";
import { toHex } from "./bytes.js";
import { DEFAULT_CAPS, dayOf } from "./caps.js";
import { ChainError, derivedId } from "./chain.js";
import { accountKey, newSeed, newSessionKey } from "./keys.js";
import { cost } from "./lane.js";
import { PoolWriter } from "./pool-writer.js";
import { PayRefused } from "./terms.js";
import { encodeBody, feeMin, signTransaction } from "./transaction.js";
import { seedOf, wordsOf } from "./words.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./chain.js").Chain} Chain */
/** @typedef {import("./chain.js").ChannelRecord} ChannelRecord */
/** @typedef {import("./keys.js").Signer} Signer */
/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./store.js").PoolRow} PoolRow */
/** @typedef {import("./store.js").LaneRow} LaneRow */
/** @typedef {(step: "signed" | "sent" | "in-block") => void} Progress */

/** A pool holds at most so much of a stream's rate: this page comes from the relay that is paid. */
export const POOL_MINUTES = 15;
/** Why, for the person. */
export const POOL_WHY = `These pages come from the relay that you pay, so the wallet in them risks at most ${POOL_MINUTES} minutes of the price at a time. What you do not use comes back.`;
/** How long a relay can count on its reserve: 30 minutes at a block a second. */
const RESERVE_BLOCKS = 1800;
/** After a day anybody may close a pool that was forgotten, and its rest comes back. */
const EXPIRES_BLOCKS = 86_400;
/** A transaction that is in no block by then never will be. */
const VALID_BLOCKS = 120;
/** A pool that is not on chain by then was never opened. */
const OPENING_MS = 120_000;
const SIGNATURE_BYTES = 64;

/**
 * A pool as a person sees it.
 * @typedef {object} Pool
 * @property {string} channel hex
 * @property {string | null} payee hex, null: opened elsewhere
 * @property {"opening" | "open" | "closing" | "closed"} state
 * @property {bigint} deposits
 * @property {bigint} signed promised to relays so far
 * @property {bigint} redeemed taken by relays so far
 * @property {bigint} left still to be promised
 * @property {boolean} mine this browser holds its voucher key
 * @property {number} expiresHeight
 * @property {{ height: number, time_ms: number } | null} closeRequested
 */

/** What a deposit for a price is: 15 minutes of it, and never below what the chain takes. @param {bigint} rate @param {bigint} minDeposit */
export function depositFor(rate, minDeposit) {
  const minutes = cost(rate, BigInt(POOL_MINUTES) * 60_000n);
  return minutes > minDeposit ? minutes : minDeposit;
}

/** @extends {TypedEvents<{ change: null }>} */
export class PaymentWallet extends TypedEvents {
  /** @type {Bytes | null} */
  #seed = null;
  /** @type {Signer | null} */
  #key = null;
  #locks;
  #now;

  /**
   * @param {{ chain: Chain, store: Store, locks?: LockManager, now?: () => number }} needs
   */
  constructor({ chain, store, locks = navigator.locks, now = Date.now }) {
    super();
    this.chain = chain;
    this.store = store;
    this.#locks = locks;
    this.#now = now;
  }

  /** @param {{ chain: Chain, store: Store, locks?: LockManager, now?: () => number }} needs */
  static async open(needs) {
    const wallet = new PaymentWallet(needs);
    await wallet.reload();
    return wallet;
  }

  /** Reads the account anew; another tab may have made it. */
  async reload() {
    const row = await this.store.read((access) => access.get("account", "me"));
    await this.#use(row?.seed ?? null);
  }

  /** The account in hex, null: there is none yet. */
  get account() {
    return this.#key && toHex(this.#key.publicKey);
  }

  /** The account's signer. @returns {Signer} */
  get key() {
    if (!this.#key) throw new PayRefused("keys", "There is no wallet in this browser yet. Make one, or bring yours by its 24 words.");
    return this.#key;
  }

  // ---- The account

  /** Makes an account, unless there is one. */
  async create() {
    await this.#locks.request("sutantra/account/new", async () => {
      await this.reload();
      if (!this.#key) await this.#keep(newSeed(), false);
    });
  }

  /** The 24 words; whoever has them has the money. */
  async words() {
    if (!this.#seed) throw new PayRefused("keys", "There is no wallet in this browser yet.");
    return wordsOf(this.#seed);
  }

  /** Whether the person has seen the words. */
  async noted() {
    return (await this.store.read((access) => access.get("account", "me")))?.noted ?? false;
  }

  async markNoted() {
    await this.store.write(async (access) => {
      const row = await access.get("account", "me");
      if (row) await access.put("account", { ...row, noted: true });
    });
    this.emit("change", null);
  }

  /** @param {string} text 24 words; replaces the account of this browser */
  async importWords(text) {
    await this.#keep(await seedOf(text), true);
  }

  /** @param {Bytes} seed @param {boolean} noted */
  async #keep(seed, noted) {
    await this.store.write((access) => access.put("account", { id: "me", seed, createdMs: this.#now(), noted }));
    await this.#use(seed);
    this.emit("change", null);
  }

  /** @param {Bytes | null} seed */
  async #use(seed) {
    this.#seed = seed;
    this.#key = seed && (await accountKey(seed));
  }

  /** Units that the account can spend. */
  async balance() {
    return this.account ? (await this.chain.account(this.account)).balance : 0n;
  }

  /** Asks the faucet. @returns {Promise<bigint>} what it gave */
  async fund() {
    const given = await this.chain.faucet(toHex(this.key.publicKey));
    this.emit("change", null);
    return given;
  }

  /** What the chain takes for a transaction now. @param {import("./transaction.js").Payload} payload */
  feeOf(payload) {
    const body = { signer: toHex(this.key.publicKey), fee_payer: null, nonce: 0, valid_until_height: 0, fee: "0", payload };
    return feeMin(/** @type {any} */ (this.chain.info.params), payload, encodeBody(body).length + SIGNATURE_BYTES);
  }

  /**
   * Signs and sends one transaction, and waits for its block. One at a time for each account, over
   * all tabs: the next nonce is then always the chain's.
   * @param {import("./transaction.js").Payload | ((nonce: number) => Promise<import("./transaction.js").Payload>)} what
   * @param {Progress} [progress]
   */
  async transact(what, progress = () => {}) {
    const key = this.key;
    const account = toHex(key.publicKey);
    const included = await this.#locks.request(`sutantra/account/${account}`, async () => {
      const [{ balance, nonce }, info] = await Promise.all([this.chain.account(account), this.chain.refresh()]);
      const payload = typeof what === "function" ? await what(nonce) : what;
      const body = { signer: account, fee_payer: null, nonce, valid_until_height: info.height + VALID_BLOCKS, fee: "0", payload };
      const fee = feeMin(/** @type {any} */ (info.params), payload, encodeBody(body).length + SIGNATURE_BYTES);
      if (balance < fee) throw new ChainError(4, "This account cannot pay the fee. Fund it first.");
      const bytes = await signTransaction({ ...body, fee: fee.toString() }, key, this.chain.id);
      progress("signed");
      const result = await this.chain.submit(bytes, progress);
      return { ...result, nonce, fee, payload };
    });
    this.emit("change", null);
    return included;
  }

  // ---- Pools

  /** All pools of the account, those of other browsers included; newest first. @returns {Promise<Pool[]>} */
  async pools() {
    const account = this.account;
    if (!account) return [];
    const [records, [rows, lanes]] = await Promise.all([
      this.chain.channelsOf(account),
      this.store.read(async (access) => [await access.all("pools", [this.chain.id]), await access.all("lanes", [this.chain.id])]),
    ]);
    const mine = /** @type {PoolRow[]} */ (rows).filter((row) => row.account === account);
    const known = new Map(records.map((record) => [record.id, record]));
    /** @param {string} channel */
    const signedOn = (channel) => /** @type {LaneRow[]} */ (lanes).filter((lane) => lane.channel === channel).reduce((sum, lane) => sum + lane.cumulative, 0n);
    const pools = mine.map((row) => asPool(row, known.get(row.channel) ?? null, signedOn(row.channel)));
    const elsewhere = records.filter((record) => !mine.some((row) => row.channel === record.id)).map((record) => asPool(null, record, record.redeemed));
    await this.#settleRows(mine, known);
    const order = { open: 0, opening: 1, closing: 2, closed: 3 };
    return [...pools, ...elsewhere].sort((one, other) => order[one.state] - order[other.state]);
  }

  /** Brings what this browser remembers in line with the chain. @param {PoolRow[]} rows @param {Map<string, ChannelRecord>} known */
  async #settleRows(rows, known) {
    const changed = rows.flatMap((row) => {
      const record = known.get(row.channel);
      const lost = !record && row.state === "opening" && this.#now() - row.openedMs > OPENING_MS;
      const state = lost ? "closed" : record ? stateOf(record) : row.state;
      const deposits = record?.deposits ?? row.deposits;
      return state === row.state && deposits === row.deposits ? [] : [{ ...row, state, deposits }];
    });
    if (changed.length === 0) return;
    await this.store.write(async (access) => {
      for (const row of changed) await access.put("pools", row);
    });
  }

  /**
   * Opens a pool whose money is reserved for one relay.
   * @param {{ payee: string, rate: bigint, deposit?: bigint, progress?: Progress }} what
   * @returns {Promise<string>} channel, hex
   */
  async openPool({ payee, rate, deposit, progress }) {
    const account = toHex(this.key.publicKey);
    const { privateKey, publicKey } = await newSessionKey();
    let channel = "";
    await this.transact(async (nonce) => {
      channel = await derivedId("channel", this.key.publicKey, nonce);
      const { height, params } = this.chain.info;
      const amount = deposit ?? depositFor(rate, units(params["min_deposit"]));
      // The key must survive what follows: without it the money waits for the pool's end.
      /** @type {PoolRow} */
      const row = {
        chain: this.chain.id,
        channel,
        account,
        payee,
        voucherKey: privateKey,
        voucherPublic: toHex(publicKey),
        deposits: amount,
        expiresHeight: height + EXPIRES_BLOCKS,
        state: "opening",
        openedMs: this.#now(),
      };
      await this.store.write((access) => access.put("pools", row));
      return {
        kind: "open_channel",
        deposit: amount.toString(),
        voucher_key: row.voucherPublic,
        expires_height: row.expiresHeight,
        reserves: [{ payee, amount: amount.toString(), until_height: height + RESERVE_BLOCKS }],
      };
    }, progress).catch(async (error) => {
      // The chain said no: there is no such pool. Without its word the row stays until it speaks.
      if (channel && error instanceof ChainError && error.code !== 0) {
        await this.store.write((access) => access.delete("pools", [this.chain.id, channel]));
      }
      throw error;
    });
    await this.#setState(channel, "open");
    return channel;
  }

  /**
   * Adds to a pool, and keeps all of it for its relay for another half hour.
   * @param {string} channel hex
   * @param {bigint} amount
   * @param {Progress} [progress]
   */
  async topUp(channel, amount, progress) {
    const [row, record] = await Promise.all([this.#row(channel), this.chain.channel(channel)]);
    if (!record) throw new ChainError(6, "The chain does not know this pool. Open a new one.");
    const { height } = this.chain.info;
    const others = record.reserves
      .filter((reserve) => reserve.payee !== row?.payee && reserve.until_height > height)
      .reduce((sum, reserve) => sum + reserve.amount, 0n);
    const reserves = row ? [{ payee: row.payee, amount: (record.deposits + amount - record.redeemed - others).toString(), until_height: 0 }] : [];
    await this.transact(async () => {
      const until_height = this.chain.info.height + RESERVE_BLOCKS;
      return { kind: "top_up", channel, amount: amount.toString(), reserves: reserves.map((reserve) => ({ ...reserve, until_height })) };
    }, progress);
    await this.store.write(async (access) => {
      const now = await access.get("pools", [this.chain.id, channel]);
      if (now) await access.put("pools", { ...now, deposits: record.deposits + amount });
    });
    this.emit("change", null);
  }

  /** Begins to close a pool: relays collect what they were promised, then the rest comes back. @param {string} channel @param {Progress} [progress] */
  async requestClose(channel, progress) {
    await this.transact({ kind: "request_close", channel }, progress);
    await this.#setState(channel, "closing");
  }

  /** Takes the rest out of a pool whose window has ended. @param {string} channel @param {Progress} [progress] */
  async finalize(channel, progress) {
    const done = await this.transact({ kind: "finalize", channel }, progress);
    await this.#setState(channel, "closed");
    return done;
  }

  /** @param {string} channel @returns {Promise<PoolRow | null>} */
  #row(channel) {
    return this.store.read((access) => access.get("pools", [this.chain.id, channel]));
  }

  /** @param {string} channel @param {PoolRow["state"]} state */
  async #setState(channel, state) {
    await this.store.write(async (access) => {
      const row = await access.get("pools", [this.chain.id, channel]);
      if (row) await access.put("pools", { ...row, state });
    });
    this.emit("change", null);
  }

  /**
   * The right to sign out of a pool for this relay, which one tab has at a time.
   * @param {string} payee hex
   * @returns {Promise<PoolWriter | null>} null: there is no pool with money for this relay
   * @throws {PayRefused} another tab has it
   */
  async writer(payee) {
    const open = (await this.pools()).filter((pool) => pool.state === "open" && pool.mine && pool.payee === payee && pool.left > 0n);
    for (const pool of open.sort((one, other) => (one.left > other.left ? -1 : 1))) {
      const release = await hold(this.#locks, `sutantra/pool/${this.chain.id}/${pool.channel}`);
      const row = release && (await this.#row(pool.channel));
      if (row) return new PoolWriter({ chainId: this.chain.id, store: this.store, row, release, now: this.#now });
      release?.();
    }
    if (open.length > 0) throw new PayRefused("busy", "Another tab of this browser pays from your pool. Close that tab, or watch there.");
    return null;
  }

  // ---- Caps and what was spent

  /** @returns {Promise<{ perStream: bigint, perDay: bigint }>} */
  async caps() {
    return (await this.store.read((access) => access.get("caps", this.chain.id))) ?? DEFAULT_CAPS;
  }

  /** @param {{ perStream: bigint, perDay: bigint }} caps */
  async setCaps({ perStream, perDay }) {
    await this.store.write((access) => access.put("caps", { chain: this.chain.id, perStream, perDay }));
    this.emit("change", null);
  }

  /** What was promised today, by stream. */
  spentToday() {
    return this.store.read((access) => access.all("sums", [this.chain.id, dayOf(this.#now())]));
  }
}

/** @param {bigint} one @param {bigint} other */
const most = (one, other) => (one > other ? one : other);

/** @param {ChannelRecord} record @returns {"open" | "closing" | "closed"} */
function stateOf(record) {
  return record.closed ? "closed" : record.close_requested ? "closing" : "open";
}

/** @param {PoolRow | null} row @param {ChannelRecord | null} record @param {bigint} signed @returns {Pool} */
function asPool(row, record, signed) {
  const deposits = record?.deposits ?? row?.deposits ?? 0n;
  const promised = most(signed, record?.redeemed ?? 0n);
  return {
    channel: record?.id ?? row?.channel ?? "",
    payee: row?.payee ?? null,
    state: record ? stateOf(record) : row?.state ?? "closed",
    deposits,
    signed: promised,
    redeemed: record?.redeemed ?? 0n,
    left: deposits > promised ? deposits - promised : 0n,
    mine: row !== null,
    expiresHeight: record?.expires_height ?? row?.expiresHeight ?? 0,
    closeRequested: record?.close_requested ?? null,
  };
}

/**
 * A lock that is held until the returned function is called.
 * @param {LockManager} locks
 * @param {string} name
 * @returns {Promise<(() => void) | null>} null: somebody else holds it
 */
function hold(locks, name) {
  return new Promise((resolve, reject) => {
    locks
      .request(name, { ifAvailable: true }, (lock) => {
        if (!lock) return resolve(null);
        return new Promise((release) => resolve(() => release(null)));
      })
      .catch(reject);
  });
}
