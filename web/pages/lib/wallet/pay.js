// A paying session: terms, the wallet's checks, Bind over both fingerprints, vouchers each cadence.
//
// `Payer` lives as long as the person watches one stream; connections come and go under it. It never
// signs more than the lane's arithmetic allows, and nothing at all while it is paused.

import { TypedEvents } from "../events.js";
import { fingerprintOf, signBind, verifyBindAck } from "./bind.js";
import { units } from "./balance.js";
import { DecodeError, fromHex, toHex } from "./bytes.js";
import { termsAt } from "./chain.js";
import { enteringTotal, fromRow, hearServed, settlingTotal } from "./claims.js";
import { bindFrame, readFrame, voucherFrame } from "./frames.js";
import { admissionTotal, cost, payableMs, rateOfTier, signedTotal } from "./lane.js";
import { MediaClock } from "./media-clock.js";
import { PayRefused, checkTerms, readTerms } from "./terms.js";
import { envelope, readResponse, requirementIn } from "./x402.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./chain.js").Chain} Chain */
/** @typedef {import("./frames.js").RelayFrame} RelayFrame */
/** @typedef {import("./frames.js").LaneState} LaneState */
/** @typedef {import("./frames.js").GateReason} GateReason */
/** @typedef {import("./pool.js").PaymentWallet} PaymentWallet */
/** @typedef {import("./pool-writer.js").PoolWriter} PoolWriter */
/** @typedef {import("./claims.js").Lane} Lane */
/** @typedef {import("./terms.js").Terms} Terms */

export const PAY_CHANNEL_LABEL = "sutantra/pay/1";
/** How often media is counted and a voucher may be due. */
const TICK_MS = 250;
/** A relay's acknowledgement makes a voucher due a little early: it is the freshest word on the lane. */
const EARLY = 0.75;
/** A price that rises by more than this over what the person agreed to is asked about, percent. */
const RISE_PERCENT = 10n;
/** What waits for the data channel to open. */
const QUEUE_MAX = 16;

/**
 * What the person should know:
 * `idle` nothing is paid · `binding` terms are being settled · `paying` · `late` the relay waits for money ·
 * `held` the person has paused paying · `stopped` the wallet will not sign, see `trouble` · `over` the
 * relay has ended the session.
 * @typedef {"idle" | "binding" | "paying" | "late" | "held" | "stopped" | "over"} PayState
 */

/**
 * @typedef {object} PaySight
 * @property {PayState} state
 * @property {Terms | null} terms in force for us
 * @property {bigint} paid promised for this stream out of this pool, all sessions
 * @property {bigint} left in the pool
 * @property {bigint} deposits in the pool
 * @property {string | null} channel the pool, hex
 * @property {LaneState | null} lane as the relay last said
 * @property {bigint} servedMs as the relay last said, this lane
 * @property {PayRefused | null} trouble
 * @property {Terms | null} asked new terms that the person has to agree to
 */

/**
 * @typedef {object} PayEvents
 * @property {PaySight} change
 * @property {{ open: boolean, reason: GateReason }} gate the relay opened or closed the media
 * @property {{ code: number, message: string }} error the relay's own words
 * @property {import("./frames.js").Receipt} receipt signed by the relay
 */

/** Terms of a stream where nothing is sold, unless the relay says others with its refusal. */
const USUAL_TERMS = { rate: "0", tier: 2, cadence_ms: 1000, grace_ms: 3000, pause_max_s: 60, min_prepay: "0" };

/** @extends {TypedEvents<PayEvents>} */
export class Payer extends TypedEvents {
  /** @type {PoolWriter | null} */
  #writer = null;
  /** @type {PaySight} */
  #sight = { state: "idle", terms: null, paid: 0n, left: 0n, deposits: 0n, channel: null, lane: null, servedMs: 0n, trouble: null, asked: null };
  /** Lanes by number. @type {Map<number, Lane>} */
  #lanes = new Map();
  /** The lane that media is counted on. @type {Lane | null} */
  #current = null;
  /** The lane of a new price, until the relay counts on it. @type {Lane | null} */
  #next = null;
  /** The Bind that the relay has to acknowledge over the channel. @type {{ signed: Bytes, terms: Terms } | null} */
  #pendingBind = null;
  /** @type {RTCDataChannel | null} */
  #channel = null;
  /** @type {Bytes[]} */
  #queue = [];
  /** @type {Bytes | null} */
  #clientFingerprint = null;
  /** @type {Bytes | null} */
  #relayFingerprint = null;
  /** The Bind that was sent with the offer, and who has to answer it. @type {{ signed: Bytes, relayKey: Bytes, relayFingerprint: Bytes } | null} */
  #offered = null;
  /** @type {(() => Promise<{ packets: number, bytes: number }>) | null} */
  #meter = null;
  #meterBytes = 0;
  #clock = new MediaClock();
  #held = false;
  #forgiven = false;
  #stopTimer = () => {};
  /** Frames are handled one after the other: signing is not instant. */
  #work = Promise.resolve();

  /**
   * @param {object} needs
   * @param {Chain} needs.chain
   * @param {PaymentWallet} needs.wallet
   * @param {string} needs.stream id, hex
   * @param {bigint} needs.agreedRate units per second that the person said yes to
   * @param {() => number} [needs.now] monotonic, ms
   * @param {(ms: number, work: () => void) => () => void} [needs.every] calls `work` until the returned function is called
   */
  constructor({ chain, wallet, stream, agreedRate, now = () => performance.now(), every = repeat }) {
    super();
    this.chain = chain;
    this.wallet = wallet;
    this.stream = stream;
    this.agreedRate = agreedRate;
    this.now = now;
    this.every = every;
  }

  get sight() {
    return this.#sight;
  }

  // ---- What WhepClient asks

  /**
   * Before the offer: the pay channel has to be in it.
   * @param {RTCPeerConnection} pc
   * @param {() => Promise<{ packets: number, bytes: number }>} meter
   */
  attach(pc, meter) {
    this.detach();
    const channel = pc.createDataChannel(PAY_CHANNEL_LABEL, { ordered: false });
    channel.binaryType = "arraybuffer";
    channel.onopen = () => {
      for (const frame of this.#queue.splice(0)) channel.send(frame);
    };
    channel.onmessage = ({ data }) => data instanceof ArrayBuffer && this.receive(new Uint8Array(data));
    this.#channel = channel;
    this.#meter = meter;
    this.#meterBytes = 0;
    this.#clock.restart();
  }

  /** The connection is gone; lanes and sums stay. */
  detach() {
    this.#stopTimer();
    this.#channel = null;
    this.#queue = [];
    this.#meter = null;
    this.#pendingBind = null;
    this.#next = null;
  }

  /**
   * The value of PAYMENT-SIGNATURE for an offer.
   * @param {any} required the body of a 402
   * @param {string} offerSdp
   * @returns {Promise<string>}
   * @throws {PayRefused}
   */
  async authorize(required, offerSdp) {
    try {
      return await this.#authorize(required, offerSdp);
    } catch (error) {
      if (error instanceof PayRefused) this.#show({ state: "stopped", trouble: error });
      throw error;
    }
  }

  /** @param {any} required @param {string} offerSdp */
  async #authorize(required, offerSdp) {
    if (this.#held) throw new PayRefused("consent", "You have paused paying. Press Resume to go on.");
    this.#show({ state: "binding", trouble: null });
    if (!required?.accepts) return this.#signIn(required, offerSdp);
    const { raw, said } = requirementIn(required, this.chain.id);
    const terms = await readTerms(raw);
    if (toHex(terms.stream) !== this.stream) throw new PayRefused("stream", "The relay asks to be paid for another stream. Do not pay it.");
    const record = await this.#check(terms);
    if (record.policy === "paid") this.#checkConsent(terms);
    this.#clientFingerprint = ownFingerprint(offerSdp);
    this.#relayFingerprint = terms.relayFingerprint;
    const pays = record.policy === "paid" && terms.rate > 0n;
    const writer = pays ? await this.#takeWriter(terms) : null;
    const signed = await this.#bind(terms, writer);
    this.#offered = { signed, relayKey: terms.relayKey, relayFingerprint: terms.relayFingerprint };
    /** @type {Record<string, string>} */
    const payload = { bind: toHex(signed) };
    if (writer) {
      const lane = await this.#laneFor(terms, writer);
      const old = said && said.lane !== terms.lane ? await this.#oldLane(terms, writer, Number(said.lane)) : null;
      // The first 402 names no lane, since no Bind was shown yet: the person's yes waits for the one that does.
      if (said) {
        hearServed(old ?? lane, said, this.#forgiven);
        this.#forgiven = false;
      }
      payload["voucher"] = toHex(old ? await this.#sign(old, writer, settlingTotal(old, said)) : await this.#sign(lane, writer, enteringTotal(lane, said)));
      this.#current = lane;
    } else {
      this.#current = null;
    }
    this.#show({ terms });
    return envelope(this.chain.id, payload);
  }

  /**
   * A ticket or a place on the list: nothing is paid, the account shows itself.
   * @param {any} refused
   * @param {string} offerSdp
   */
  async #signIn(refused, offerSdp) {
    const { account, relay_key, fingerprint } = this.chain.info.relay;
    const [stream, relay] = await Promise.all([this.chain.stream(this.stream), this.chain.relay(account)]);
    const version = stream && termsAt(stream, this.chain.info.height)?.version;
    if (!version) throw new PayRefused("stream", "The chain does not know this stream.");
    const usual = { ...USUAL_TERMS, stream: this.stream, payee: account, relay_key, relay_fp: fingerprint, terms_version: version };
    const terms = await readTerms(refused?.terms ?? usual);
    if (String(relay?.relay_key) !== toHex(terms.relayKey)) {
      throw new PayRefused("relay", "This relay's key is not the one that the chain has for its account. Watch through another relay.");
    }
    this.#current = null;
    this.#clientFingerprint = ownFingerprint(offerSdp);
    const signed = await this.#bind(terms, null);
    this.#offered = { signed, relayKey: terms.relayKey, relayFingerprint: terms.relayFingerprint };
    return envelope(this.chain.id, { bind: toHex(signed) });
  }

  /**
   * The relay's answer: it must be the relay that the chain names, behind the certificate it named.
   * @param {string | null} response the value of PAYMENT-RESPONSE
   * @param {string} answerSdp
   * @throws {PayRefused}
   */
  async accepted(response, answerSdp) {
    const offered = this.#offered;
    if (!offered) return;
    const { relayKey, relayFingerprint, signed } = offered;
    const fingerprint = fingerprintOf(answerSdp);
    const settled = readResponse(response);
    const ack = typeof settled?.bindAck === "string" ? hexOrNull(settled.bindAck, 64) : null;
    const same = fingerprint !== null && toHex(fingerprint) === toHex(relayFingerprint);
    if (!same || !ack || !(await verifyBindAck(signed, ack, relayKey, this.chain.id))) {
      const error = new PayRefused("tampered", "The answer does not come from the relay that you pay: somebody may sit in between. Nothing was played. Try another network.");
      this.#show({ state: "stopped", trouble: error });
      throw error;
    }
    if (this.#current && settled.lane) this.#current.servedMs = most(this.#current.servedMs, BigInt(Math.trunc(Number(settled.lane.served_ms ?? 0))));
    this.#show({ state: "paying", trouble: null });
    this.#stopTimer();
    if (this.#current) this.#stopTimer = this.every(TICK_MS, () => void this.tick());
  }

  /** The relay did not take what was signed. @param {string} message its reason */
  refused(message) {
    if (this.#sight.state === "binding") this.#show({ state: "stopped", trouble: new PayRefused("terms", message) });
  }

  /** The chain says that the pool cannot pay. @param {PayRefused} trouble */
  lostPool(trouble) {
    this.#show({ state: "stopped", trouble });
  }

  // ---- What the person asks

  /** Stops signing. The relay lets the media run out within its grace. */
  hold() {
    this.#held = true;
    this.#show({ state: "held" });
  }

  /** Signs again, at once. */
  resume() {
    this.#held = false;
    this.#show({ state: this.#channel ? "paying" : "idle", trouble: null });
    void this.#enqueue(() => this.#pay(true));
  }

  get held() {
    return this.#held;
  }

  /** The person agrees to the price that was asked. */
  agree() {
    const asked = this.#sight.asked;
    if (!asked) return;
    this.agreedRate = asked.rate;
    this.#show({ asked: null });
    if (this.#channel) void this.#enqueue(() => this.#adopt(asked));
  }

  /** The pool was topped up, or a cap raised. */
  refresh() {
    return this.#enqueue(async () => {
      await this.#showSums();
      if (this.#sight.state === "stopped" && this.#channel) this.#show({ state: this.#held ? "held" : "paying", trouble: null });
      await this.#pay(true);
    });
  }

  /** For good: lets the pool go to other tabs. */
  close() {
    this.detach();
    this.#writer?.release();
    this.#writer = null;
    this.#current = null;
    this.#lanes.clear();
    this.#show({ state: "idle", terms: null, channel: null });
  }

  // ---- What the relay says

  /** @param {Uint8Array} bytes */
  receive(bytes) {
    /** @type {RelayFrame | null} */
    let frame = null;
    try {
      frame = readFrame(bytes);
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      // A broken frame says nothing; the channel itself is reliable.
    }
    const heard = frame;
    if (heard) void this.#enqueue(() => this.#hear(heard));
    return this.#work;
  }

  /** @param {RelayFrame} frame */
  async #hear(frame) {
    switch (frame.type) {
      case "payAck": {
        const lane = this.#lanes.get(frame.lane);
        if (!lane) return;
        lane.servedMs = most(lane.servedMs, frame.servedMs);
        if (lane === this.#next && frame.servedMs > 0n && lane.acked) this.#switch(lane);
        if (lane === this.#current) {
          const state = this.#sight.state;
          const said = frame.state === "late" || frame.state === "paused" ? "late" : "paying";
          this.#show({ lane: frame.state, servedMs: lane.servedMs, state: state === "paying" || state === "late" ? said : state });
        }
        return this.#pay(false, EARLY);
      }
      case "payReq":
        return this.#pay(true);
      case "paySync": {
        for (const lane of this.#lanes.values()) {
          const row = await this.#writer?.raise(lane.terms, frame.voucher);
          if (row) lane.cumulative = most(lane.cumulative, row.cumulative);
        }
        return this.#showSums();
      }
      case "terms":
        return this.#newTerms(frame.json);
      case "bindAck": {
        const pending = this.#pendingBind;
        if (!pending || !(await verifyBindAck(pending.signed, frame.signature, pending.terms.relayKey, this.chain.id))) return;
        this.#pendingBind = null;
        const lane = this.#lanes.get(pending.terms.lane);
        if (lane) lane.acked = true;
        return;
      }
      case "receipt":
        return this.emit("receipt", frame.receipt);
      case "gateNotice":
        return this.emit("gate", { open: frame.open, reason: frame.reason });
      case "error":
        if (frame.code >= 4000) this.#show({ state: this.#held ? "held" : "over" });
        return this.emit("error", { code: frame.code, message: frame.message });
    }
  }

  /** A price that will hold soon. @param {string} json */
  async #newTerms(json) {
    try {
      const raw = JSON.parse(json);
      const terms = await readTerms(raw);
      if (toHex(terms.stream) !== this.stream || this.#lanes.has(terms.lane)) return;
      await this.#check(terms);
      if (!this.#relayFingerprint || toHex(terms.relayFingerprint) !== toHex(this.#relayFingerprint)) {
        throw new PayRefused("tampered", "New terms name another certificate than this connection has.");
      }
      if (isDearer(terms.rate, this.agreedRate)) return this.#show({ asked: terms });
      await this.#adopt(terms);
    } catch (error) {
      if (error instanceof PayRefused) return this.#show({ trouble: error });
      if (error instanceof SyntaxError) return;
      throw error;
    }
  }

  /** Binds to new terms and prepays their lane. @param {Terms} terms */
  async #adopt(terms) {
    const writer = this.#writer;
    if (!writer || !this.#clientFingerprint) return;
    try {
      const signed = await this.#bind(terms, writer);
      const lane = await this.#laneFor(terms, writer);
      const total = admissionTotal(terms.rate, payableMs(lane.servedMs, lane.mediaMs), terms.cadenceMs, terms.minPrepay);
      const voucher = await this.#sign(lane, writer, total);
      this.#pendingBind = { signed, terms };
      this.#next = lane;
      this.#send(bindFrame(signed));
      this.#send(voucherFrame(voucher));
    } catch (error) {
      if (!(error instanceof PayRefused)) throw error;
      // The relay repeats its terms: next time there may be money for them.
      this.#lanes.delete(terms.lane);
      this.#show({ trouble: error });
    }
  }

  /** The relay counts on the new price's lane now. @param {Lane} lane */
  #switch(lane) {
    this.#current = lane;
    this.#next = null;
    this.#show({ terms: lane.terms });
  }

  // ---- Signing

  /** Counts media, and signs when a cadence has passed. */
  async tick() {
    const meter = this.#meter;
    if (!meter) return;
    const { packets, bytes } = await meter();
    if (meter !== this.#meter) return;
    const ms = BigInt(this.#clock.observe(this.now(), packets));
    const more = BigInt(Math.max(0, bytes - this.#meterBytes));
    this.#meterBytes = bytes;
    if (this.#current) {
      this.#current.mediaMs += ms;
      this.#current.bytes += more;
    }
    await this.#enqueue(() => this.#pay(false));
  }

  /**
   * @param {boolean} asked the relay or the person wants it now
   * @param {number} [share] of a cadence that has to have passed
   */
  async #pay(asked, share = 1) {
    const writer = this.#writer;
    if (this.#held || !writer || !this.#channel) return;
    for (const lane of [this.#current, this.#next]) {
      if (!lane) continue;
      const { rate, cadenceMs } = lane.terms;
      if (!asked && this.now() - lane.signedAt < cadenceMs * share) continue;
      const total = signedTotal(rate, payableMs(lane.servedMs, lane.mediaMs), cadenceMs);
      if (total <= lane.cumulative) continue;
      try {
        this.#send(voucherFrame(await this.#sign(lane, writer, total)));
      } catch (error) {
        if (!(error instanceof PayRefused)) throw error;
        if (this.#sight.trouble?.message !== error.message || this.#sight.state !== "stopped") this.#show({ state: "stopped", trouble: error });
        return;
      }
    }
  }

  /** @param {Lane} lane @param {PoolWriter} writer @param {bigint} total */
  async #sign(lane, writer, total) {
    const { signed, lane: row } = await writer.sign(lane.terms, { total, mediaMs: lane.mediaMs, bytes: lane.bytes, servedMs: lane.servedMs });
    lane.cumulative = row.cumulative;
    lane.signedAt = this.now();
    await this.#showSums();
    return signed;
  }

  /** @param {Terms} terms @param {PoolWriter | null} writer null: the account itself signs */
  #bind(terms, writer) {
    const key = writer?.key ?? this.wallet.key;
    const bind = {
      stream: terms.stream,
      viewer: this.wallet.key.publicKey,
      holderKey: key.publicKey,
      relayKey: terms.relayKey,
      clientFingerprint: this.#clientFingerprint ?? new Uint8Array(32),
      relayFingerprint: terms.relayFingerprint,
      ...(writer && { channel: fromHex(writer.channel, 32) }),
      termsHash: terms.hash,
    };
    return signBind(bind, key, null, this.chain.id);
  }

  /** @param {Terms} terms @param {PoolWriter} writer @returns {Promise<Lane>} */
  async #laneFor(terms, writer) {
    const known = this.#lanes.get(terms.lane);
    if (known) return known;
    const lane = { ...fromRow(await writer.lane(terms)), terms };
    this.#lanes.set(terms.lane, lane);
    return lane;
  }

  /** @param {Terms} terms @returns {Promise<PoolWriter>} */
  async #takeWriter(terms) {
    const payee = toHex(terms.payee);
    const { left, open } = this.#writer ? await this.#writer.sums() : { left: 0n, open: false };
    if (this.#writer && (this.#writer.payee !== payee || left === 0n || !open)) {
      this.#writer.release();
      this.#writer = null;
      this.#lanes.clear();
    }
    this.#writer ??= await this.wallet.writer(payee);
    if (!this.#writer) throw new PayRefused("pool", "There is no pool with money for this relay. Open one to watch.");
    return this.#writer;
  }

  /** The terms against the chain's word. @param {Terms} terms */
  async #check(terms) {
    const [stream, relay] = await Promise.all([this.chain.stream(this.stream), this.chain.relay(toHex(terms.payee))]);
    if (!stream) throw new PayRefused("stream", "The chain does not know this stream.");
    checkTerms(terms, stream, relay ? hexOrNull(String(relay.relay_key), 32) : null, units(this.chain.info.params["fee_per_voucher"]));
    return stream;
  }

  /** @param {Terms} terms @param {PoolWriter} writer @param {number} number @returns {Promise<Lane>} */
  async #oldLane(terms, writer, number) {
    const known = this.#lanes.get(number);
    if (known) return known;
    const row = await writer.laneOf(number);
    const stream = row && (await this.chain.stream(row.stream));
    const version = stream?.terms.find(({ version }) => version === row?.termsVersion);
    if (!row || !version) throw new PayRefused("claim", "The relay says that something is owed, and this wallet knows nothing of it. Open a new pool, or watch through another relay.");
    const rate = rateOfTier(units(version.rate_per_second), version.tier_bps[terms.tier] ?? 10_000);
    const lane = { ...fromRow(row), terms: { ...terms, stream: fromHex(row.stream, 32), termsVersion: row.termsVersion, lane: number, rate } };
    this.#lanes.set(number, lane);
    return lane;
  }

  /** The person pays for what the relay says was lost on the way; for the next connection only. */
  forgive() {
    this.#forgiven = true;
  }

  /** @param {Terms} terms */
  #checkConsent(terms) {
    if (!isDearer(terms.rate, this.agreedRate)) return;
    this.#show({ asked: terms });
    throw new PayRefused("consent", "The price has risen since you agreed to it.");
  }

  // ---- Plumbing

  /** @param {Bytes} frame */
  #send(frame) {
    if (this.#channel?.readyState === "open") this.#channel.send(frame);
    else if (this.#queue.length < QUEUE_MAX) this.#queue.push(frame);
  }

  /** @param {() => Promise<void> | void} work @returns {Promise<void>} */
  #enqueue(work) {
    const done = this.#work.then(work);
    // A failure of one frame must not stop the next; it is told where a person sees it.
    this.#work = done.catch((error) => this.emit("error", { code: 0, message: error instanceof Error ? error.message : String(error) }));
    return this.#work;
  }

  async #showSums() {
    const writer = this.#writer;
    if (!writer) return;
    const [{ deposits, left }, paid] = await Promise.all([writer.sums(), writer.paidFor(this.stream)]);
    this.#show({ deposits, left, paid, channel: writer.channel });
  }

  /** @param {Partial<PaySight>} change */
  #show(change) {
    this.#sight = { ...this.#sight, ...change };
    this.emit("change", this.#sight);
  }
}

/** Whether a rate is beyond what was agreed to, by more than a little. @param {bigint} rate @param {bigint} agreed */
export function isDearer(rate, agreed) {
  return rate * 100n > agreed * (100n + RISE_PERCENT);
}

/** How long what is left lasts at a price, ms; null where nothing is charged. @param {Terms | null} terms @param {bigint} left */
export function timeLeftMs(terms, left) {
  return terms && terms.rate > 0n && cost(terms.rate, 1_000_000_000n) > 0n ? Number((left * 1000n) / terms.rate) : null;
}

/** @param {number} ms @param {() => void} work */
function repeat(ms, work) {
  const timer = setInterval(work, ms);
  return () => clearInterval(timer);
}

/** @param {string} offerSdp */
function ownFingerprint(offerSdp) {
  const fingerprint = fingerprintOf(offerSdp);
  if (!fingerprint) throw new PayRefused("keys", "This browser names no SHA-256 certificate fingerprint, so nothing can be tied to the connection.");
  return fingerprint;
}

/** @param {string} text @param {number} length */
function hexOrNull(text, length) {
  try {
    return fromHex(text, length);
  } catch {
    return null;
  }
}

/** @param {bigint} one @param {bigint} other */
const most = (one, other) => (one > other ? one : other);
