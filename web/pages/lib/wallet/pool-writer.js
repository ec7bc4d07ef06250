// The one writer of a pool: signs its vouchers, each on the disk before it is signed.

import { fromHex, toHex } from "./bytes.js";
import { DEFAULT_CAPS, checkCaps, dayOf } from "./caps.js";
import { signer } from "./keys.js";
import { PayRefused } from "./terms.js";
import { openVoucher, signVoucher } from "./voucher.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./store.js").PoolRow} PoolRow */
/** @typedef {import("./store.js").LaneRow} LaneRow */
/** @typedef {import("./terms.js").Terms} Terms */

/** Signs vouchers out of one pool. */
export class PoolWriter {
  #store;
  #chainId;
  #row;
  #key;
  #release;
  #now;

  /** @param {{ chainId: string, store: Store, row: PoolRow, release: () => void, now?: () => number }} needs */
  constructor({ chainId, store, row, release, now = Date.now }) {
    this.#chainId = chainId;
    this.#store = store;
    this.#row = row;
    this.#release = release;
    this.#now = now;
    this.#key = signer(row.voucherKey, fromHex(row.voucherPublic, 32));
  }

  get channel() {
    return this.#row.channel;
  }

  get payee() {
    return this.#row.payee;
  }

  /** The voucher key: it signs the Bind as well. */
  get key() {
    return this.#key;
  }

  /** What is known of a lane. @param {Terms} terms @returns {Promise<LaneRow>} zeros for a new one */
  async lane(terms) {
    return (await this.#store.read((access) => access.get("lanes", this.#laneKey(terms)))) ?? this.#newLane(terms);
  }

  /** A lane of this pool by its number. @param {number} number @returns {Promise<LaneRow | null>} */
  async laneOf(number) {
    const lanes = await this.#store.read((access) => access.all("lanes", [this.#chainId, this.#row.channel]));
    return lanes.find((lane) => lane.lane === number) ?? null;
  }

  /** Deposits and what was promised out of them. */
  async sums() {
    return this.#store.read(async (access) => {
      const row = await access.get("pools", [this.#chainId, this.#row.channel]);
      const lanes = await access.all("lanes", [this.#chainId, this.#row.channel]);
      const signed = lanes.reduce((sum, lane) => sum + lane.cumulative, 0n);
      const deposits = row?.deposits ?? this.#row.deposits;
      return { deposits, signed, left: deposits - signed, open: row?.state === "open" };
    });
  }

  /** What was promised for one stream, at all its prices. @param {string} stream hex */
  async paidFor(stream) {
    const lanes = await this.#store.read((access) => access.all("lanes", [this.#chainId, this.#row.channel]));
    return lanes.filter((lane) => lane.stream === stream).reduce((sum, lane) => sum + lane.cumulative, 0n);
  }

  /**
   * Signs a lane's total. The new state is on the disk before the signature is made.
   * @param {Terms} terms
   * @param {{ total: bigint, mediaMs: bigint, bytes: bigint, servedMs: bigint }} sight
   * @returns {Promise<{ signed: Bytes, lane: LaneRow }>} never for less than before
   * @throws {PayRefused} beyond a cap or the pool
   */
  async sign(terms, { total, mediaMs, bytes, servedMs }) {
    if (terms.stream.every((byte) => byte === 0)) throw new PayRefused("stream", "A viewer's wallet does not pay for transport between relays.");
    if (toHex(terms.payee) !== this.#row.payee) throw new PayRefused("pool", "This pool is for another relay.");
    const lane = await this.#store.write(async (access) => {
      const day = dayOf(this.#now());
      const before = (await access.get("lanes", this.#laneKey(terms))) ?? this.#newLane(terms);
      const cumulative = total > before.cumulative ? total : before.cumulative;
      const more = cumulative - before.cumulative;
      const row = await access.get("pools", [this.#chainId, this.#row.channel]);
      const signed = (await access.all("lanes", [this.#chainId, this.#row.channel])).reduce((sum, each) => sum + each.cumulative, 0n);
      if (!row || row.state !== "open") throw new PayRefused("closed", "The pool is closing. Open a new one to go on.");
      if (signed + more > row.deposits) throw new PayRefused("pool", "The pool is used up. Top it up to go on.");
      const today = await access.all("sums", [this.#chainId, day]);
      if (more > 0n) checkCaps(today, before.stream, more, (await access.get("caps", this.#chainId)) ?? DEFAULT_CAPS);
      const lane = {
        ...before,
        cumulative,
        nonce: before.nonce + 1n,
        mediaMs: most(before.mediaMs, mediaMs),
        bytes: most(before.bytes, bytes),
        servedMs: most(before.servedMs, servedMs),
      };
      const spent = today.find((sum) => sum.stream === before.stream) ?? { chain: this.#chainId, day, stream: before.stream, spent: 0n, title: "" };
      await access.put("lanes", lane);
      await access.put("sums", { ...spent, spent: spent.spent + more });
      return lane;
    });
    const voucher = {
      channel: fromHex(this.#row.channel, 32),
      payee: terms.payee,
      stream: terms.stream,
      lane: terms.lane,
      termsVersion: terms.termsVersion,
      nonce: lane.nonce,
      cumulative: lane.cumulative,
      mediaMs: lane.mediaMs,
      bytes: lane.bytes,
      qos: new Uint8Array(32),
    };
    return { signed: await signVoucher(voucher, this.#key, this.#chainId), lane };
  }

  /**
   * Takes the relay's copy of our newest voucher. It may only raise what the wallet believes.
   * @param {Terms} terms
   * @param {Uint8Array} signed
   * @returns {Promise<LaneRow | null>} null: not a voucher of this lane under our key
   */
  async raise(terms, signed) {
    const voucher = await openVoucher(signed, this.#key.publicKey, this.#chainId);
    if (!voucher || voucher.lane !== terms.lane || toHex(voucher.channel) !== this.#row.channel || toHex(voucher.payee) !== toHex(terms.payee) || toHex(voucher.stream) !== toHex(terms.stream)) {
      return null;
    }
    return this.#store.write(async (access) => {
      const before = (await access.get("lanes", this.#laneKey(terms))) ?? this.#newLane(terms);
      const lane = {
        ...before,
        nonce: most(before.nonce, voucher.nonce),
        cumulative: most(before.cumulative, voucher.cumulative),
        mediaMs: most(before.mediaMs, voucher.mediaMs),
        bytes: most(before.bytes, voucher.bytes),
      };
      await access.put("lanes", lane);
      return lane;
    });
  }

  /** Lets another tab have the pool. */
  release() {
    this.#release();
  }

  /** @param {Terms} terms */
  #laneKey(terms) {
    return [this.#chainId, this.#row.channel, toHex(terms.payee), toHex(terms.stream), terms.lane];
  }

  /** @param {Terms} terms @returns {LaneRow} */
  #newLane(terms) {
    return {
      chain: this.#chainId,
      channel: this.#row.channel,
      payee: toHex(terms.payee),
      stream: toHex(terms.stream),
      lane: terms.lane,
      termsVersion: terms.termsVersion,
      nonce: 0n,
      cumulative: 0n,
      mediaMs: 0n,
      bytes: 0n,
      servedMs: 0n,
    };
  }
}

/** @param {bigint} one @param {bigint} other */
const most = (one, other) => (one > other ? one : other);
