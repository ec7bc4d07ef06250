// The money side of Watch: finds out what a stream costs, keeps the wallet, and pays while it plays.

import { liveStream } from "./api.js";
import { TypedEvents } from "./events.js";
import { RequestError } from "./http.js";
import { readStats } from "./stats.js";
import { duration } from "./pay-view.js";
import { sut, units } from "./wallet/balance.js";
import { Chain, termsAt } from "./wallet/chain.js";
import { whyNoKeys } from "./wallet/keys.js";
import { rateOfTier } from "./wallet/lane.js";
import { Payer } from "./wallet/pay.js";
import { PaymentWallet, depositFor } from "./wallet/pool.js";
import { Store, keepForGood } from "./wallet/store.js";
import { PayRefused } from "./wallet/terms.js";

/** @typedef {import("./pay-view.js").PayFacts} PayFacts */
/** @typedef {import("./viewer.js").Viewer} Viewer */
/** @typedef {import("./wallet/chain.js").StreamRecord} StreamRecord */

/** Full quality. */
const TIER_FULL = 2;
/** How often a pool that closes is looked at. */
const CLOSING_MS = 1000;
const STEPS = { signed: "Sending to the chain…", sent: "Sent. Waiting for a block…", "in-block": "In a block." };

/** @extends {TypedEvents<{ change: null }>} */
export class Watching extends TypedEvents {
  /** @type {Chain | null} */
  chain = null;
  /** @type {PaymentWallet | null} */
  wallet = null;
  /** @type {Payer | null} */
  payer = null;
  /** @type {StreamRecord | null} */
  record = null;
  /** Why the relay holds the media back, as it last said. @type {import("./wallet/frames.js").GateReason} */
  gate = "open";
  /** @type {PayFacts} */
  facts = {
    policy: "free",
    rate: 0n,
    ticketPrice: 0n,
    ticketMs: 0,
    account: null,
    balance: null,
    faucet: false,
    noKeys: null,
    busy: null,
    failed: null,
    note: null,
    deposit: 0n,
    agreed: false,
    allowed: false,
    sight: null,
  };

  /** @param {Viewer} viewer */
  constructor(viewer) {
    super();
    this.viewer = viewer;
    viewer.on("state", ({ state, detail }) => {
      if (state === "payment" || state === "token" || state === "refused") this.payer?.refused(`The relay did not take it: ${detail}`);
    });
  }

  /** Whether this stream is for who pays, has a ticket or is on a list. */
  get restricted() {
    return this.facts.policy !== "free";
  }

  /** Learns what the stream costs; on a first visit makes the wallet, and fills it where play money flows. */
  async discover() {
    const name = this.viewer.stream;
    const [stream, chain] = await Promise.all([liveStream(name).catch(() => null), Chain.find().catch(() => null)]);
    const id = stream?.stream_id ?? (/^[0-9a-f]{64}$/.test(name) ? name : null);
    if (!chain || !id) return;
    this.chain = chain;
    await this.#readStream(id);
    if (!this.record || this.record.policy === "free") return;
    const noKeys = await whyNoKeys();
    this.#set({ noKeys, faucet: chain.info.faucet });
    if (noKeys) return;
    if (!this.wallet) {
      const store = await Store.open().catch(() => null);
      if (!store) return this.#set({ noKeys: "This browser keeps nothing for this page, so no wallet can live in it. Open a window that is not private, or allow this page to store data." });
      this.wallet = await PaymentWallet.open({ chain, store });
      this.wallet.on("change", () => void this.refresh());
    }
    await this.wallet.create();
    void keepForGood();
    this.#set({ account: this.wallet.account });
    await this.refresh();
    if (this.facts.balance === 0n && this.facts.faucet) await this.fund().catch(() => {});
    if (this.record.policy !== "paid") {
      if (this.facts.allowed) this.#admit();
    } else if (this.#agreedRate() !== null && !this.payer) {
      this.#pay(this.#agreedRate() ?? 0n);
    }
  }

  /** Balance, access and price, as the chain has them now. */
  async refresh() {
    const { chain, wallet, record } = this;
    if (!chain || !record) return;
    await chain.refresh().catch(() => {});
    await this.#readStream(record.id);
    if (!wallet?.account) return;
    const [balance, access] = await Promise.all([wallet.balance(), this.restricted ? chain.access(record.id, wallet.account) : null]);
    this.#set({ balance, allowed: this.#counts(access) || record.creator === wallet.account });
    // Let in while waiting at the door.
    if (this.facts.allowed && record.policy !== "paid" && this.viewer.state === "token") {
      this.#admit();
      this.viewer.retry();
    }
  }

  /** How it stands, for a debugger and for tests. @returns {import("./diagnostics.js").PaymentDiagnostics} */
  get diagnostics() {
    const { sight, policy, failed, busy, rate } = this.facts;
    return {
      state: sight?.state ?? "none",
      policy,
      reason: sight?.trouble?.reason ?? null,
      message: sight?.trouble?.message ?? failed,
      busy,
      gate: this.gate,
      rate: (sight?.terms?.rate ?? rate).toString(),
      termsVersion: sight?.terms?.termsVersion ?? null,
      paid: (sight?.paid ?? 0n).toString(),
      left: (sight?.left ?? 0n).toString(),
      lane: sight?.lane ?? null,
      servedMs: Number(sight?.servedMs ?? 0n),
      asked: sight?.asked ? sight.asked.rate.toString() : null,
    };
  }

  // ---- What the person asks

  /** Yes to the price: takes a pool, or opens one, and plays. */
  async watch() {
    const { chain, wallet, record } = this;
    if (!chain || !wallet || !record) return;
    const { rate, deposit } = this.facts;
    await this.#act("Looking at your pools…", async () => {
      const payee = chain.info.relay.account;
      const usable = (await wallet.pools()).some((pool) => pool.mine && pool.state === "open" && pool.payee === payee && pool.left >= rate * 10n);
      if (!usable) {
        this.#set({ busy: "Opening a pool…" });
        await wallet.openPool({ payee, rate, deposit, progress: (step) => this.#set({ busy: STEPS[step] }) });
      }
      sessionStorage.setItem(this.#agreedKey(), rate.toString());
      this.#pay(rate);
      this.#set({ note: null });
      // A session that another pool paid is over; the next one begins with this pool's voucher.
      this.viewer.client?.close();
      this.viewer.retry();
    });
  }

  async buyTicket() {
    const { wallet, record } = this;
    if (!wallet || !record) return;
    await this.#act("Buying the ticket…", async () => {
      const terms = termsAt(record, this.chain?.info.height ?? 0);
      if (!terms) return;
      await wallet.transact(
        { kind: "buy_access", stream: record.id, terms_version: terms.version, max_price: terms.ticket_price },
        (step) => this.#set({ busy: STEPS[step] }),
      );
      await this.refresh();
      this.#admit();
      this.viewer.retry();
    });
  }

  pause() {
    this.payer?.hold();
  }

  resume() {
    this.payer?.resume();
    if (this.viewer.state === "payment") this.viewer.retry();
  }

  /** Adds another 15 minutes. @param {bigint} [amount] */
  async topUp(amount = this.facts.deposit) {
    const channel = this.facts.sight?.channel;
    if (!this.wallet || !channel) return;
    await this.#act("Topping up…", async () => {
      await this.wallet?.topUp(channel, amount, (step) => this.#set({ busy: STEPS[step] }));
      await this.payer?.refresh();
      if (this.viewer.state === "payment") this.viewer.retry();
    });
  }

  /** Stops watching and closes the pool; its rest comes back when the window has ended. */
  async close() {
    const channel = this.facts.sight?.channel;
    if (!this.wallet || !channel) return;
    await this.#act("Closing the pool…", async () => {
      const left = this.facts.sight?.left ?? 0n;
      this.#stopPaying();
      await this.wallet?.requestClose(channel, (step) => this.#set({ busy: STEPS[step] }));
      const window = duration(Number(this.chain?.info.params["close_window_ms"] ?? 0));
      this.#set({ note: `The pool is closing: ${sut(left)} come back to your account in ${window}, once the relay has collected what it was promised.` });
      void this.#finalizeLater(channel);
    });
    this.viewer.retry();
  }

  agree() {
    const rate = this.facts.sight?.asked?.rate;
    if (rate === undefined) return;
    sessionStorage.setItem(this.#agreedKey(), rate.toString());
    this.payer?.agree();
    if (this.viewer.state === "payment") this.viewer.retry();
  }

  settle() {
    this.payer?.forgive();
    this.viewer.retry();
  }

  async fund() {
    await this.#act("Asking the faucet…", async () => void (await this.wallet?.fund()));
    await this.refresh();
  }

  async retry() {
    await this.discover();
    this.viewer.retry();
  }

  // ---- How

  /** Pays from now on at up to this rate. @param {bigint} rate */
  #pay(rate) {
    const { chain, wallet, record } = this;
    if (!chain || !wallet || !record) return;
    if (!this.payer) {
      this.#follow(new Payer({ chain, wallet, stream: record.id, agreedRate: rate }));
    } else {
      this.payer.agreedRate = rate;
    }
    this.#set({ agreed: true });
  }

  /** Signs in by the account itself: a ticket, or the list. */
  #admit() {
    const { chain, wallet, record } = this;
    if (chain && wallet && record && !this.payer) this.#follow(new Payer({ chain, wallet, stream: record.id, agreedRate: 0n }));
  }

  /** @param {Payer} payer */
  #follow(payer) {
    this.payer = payer;
    payer.on("change", (sight) => this.payer === payer && this.#set({ sight }));
    payer.on("gate", ({ open, reason }) => {
      this.gate = open ? "open" : reason;
      this.emit("change", null);
      if (this.gate === "channel") void this.#whyNoPool(payer);
    });
    payer.on("error", ({ message }) => this.#set({ failed: message }));
    this.viewer.payment = {
      attach: (pc) => {
        this.gate = "open";
        this.#set({ failed: null });
        payer.attach(pc, async () => {
          const stats = await readStats(pc);
          return { packets: stats.packets + stats.audioPackets, bytes: stats.bytes + stats.audioBytes };
        });
      },
      authorize: async (refused, sdp) => (refused.body?.accepts || refused.body?.error === "bind_missing" ? payer.authorize(refused.body, sdp) : null),
      accepted: (response, sdp) => payer.accepted(response, sdp),
      detach: () => payer.detach(),
    };
  }

  /** The relay says that the pool cannot pay: the chain knows whether it is closing or empty. @param {Payer} payer */
  async #whyNoPool(payer) {
    const channel = payer.sight.channel;
    const pool = (await this.wallet?.pools().catch(() => []))?.find((each) => each.channel === channel);
    if (pool && pool.state !== "open") payer.lostPool(new PayRefused("closed", "The pool is closing, so nothing can be paid from it. Open a new one to go on."));
    else if (pool && pool.left < this.facts.rate * 5n) payer.lostPool(new PayRefused("pool", "The pool is used up. Top it up to go on."));
  }

  #stopPaying() {
    sessionStorage.removeItem(this.#agreedKey());
    this.payer?.close();
    this.payer = null;
    this.viewer.payment = null;
    this.viewer.client?.close();
    this.#set({ agreed: false, sight: null });
  }

  /** Takes the rest out of a pool when its window has ended, while the page is open. @param {string} channel */
  async #finalizeLater(channel) {
    const { chain, wallet } = this;
    while (chain && wallet) {
      await new Promise((resolve) => setTimeout(resolve, CLOSING_MS));
      const [record, info] = await Promise.all([chain.channel(channel).catch(() => null), chain.refresh().catch(() => chain.info)]);
      if (!record || record.closed) return;
      if (!isWindowOver(record.close_requested, info)) continue;
      const done = await wallet.finalize(channel).catch(() => null);
      if (done !== null) this.#set({ note: "The pool is closed, and its rest is back in your account." });
    }
  }

  /** @param {string} busy @param {() => Promise<void>} work */
  async #act(busy, work) {
    if (this.facts.busy) return;
    this.#set({ busy, failed: null });
    try {
      await work();
    } catch (error) {
      this.#set({ failed: error instanceof RequestError || error instanceof Error ? error.message : String(error) });
    } finally {
      this.#set({ busy: null });
    }
  }

  /** @param {string} id */
  async #readStream(id) {
    const { chain } = this;
    const record = await chain?.stream(id).catch(() => null);
    if (!chain || !record) return;
    this.record = record;
    const terms = termsAt(record, chain.info.height);
    const rate = terms ? rateOfTier(units(terms.rate_per_second), terms.tier_bps[TIER_FULL] ?? 10_000) : 0n;
    this.#set({
      policy: record.policy,
      rate,
      ticketPrice: units(terms?.ticket_price ?? "0"),
      ticketMs: terms?.ticket_ms ?? 0,
      deposit: depositFor(rate, units(chain.info.params["min_deposit"] ?? "0")),
    });
  }

  /** @param {any} access record of the chain */
  #counts(access) {
    const current = access && [1, 2, 3, 6].includes(access.payment_status);
    return current && access.valid_until > Date.now() && access.rev_epoch === (this.record?.rev_epoch ?? 0);
  }

  #agreedKey() {
    return `agreed:${this.chain?.id}:${this.record?.id}`;
  }

  #agreedRate() {
    const kept = sessionStorage.getItem(this.#agreedKey());
    return kept !== null && /^\d+$/.test(kept) ? BigInt(kept) : null;
  }

  /** @param {Partial<PayFacts>} change */
  #set(change) {
    this.facts = { ...this.facts, ...change };
    this.emit("change", null);
  }
}

/**
 * Whether a pool's close window has ended: both its time and its blocks.
 * @param {{ height: number, time_ms: number } | null} requested
 * @param {import("./wallet/chain.js").ChainInfo} info
 */
export function isWindowOver(requested, info) {
  if (!requested) return false;
  const { close_window_ms, close_window_blocks } = info.params;
  return info.block_time_ms - requested.time_ms >= Number(close_window_ms) && info.height - requested.height >= Number(close_window_blocks);
}
