// One peer's connection: offers, answers and candidates both ways until a data channel is open, and again
// when the network fails it.

import { Attempts, TIMINGS, TRIES_MAX } from "./attempts.js";
import { toHex, randomBytes } from "./bytes.js";
import { LABEL, PeerChannel } from "./channel.js";
import { asSutantraError, SutantraError } from "./errors.js";
import { fingerprintOf } from "./identity.js";

/** What travels beside a description or candidate. @typedef {{ room?: string, sid?: string, fpSig?: string, pk?: string }} SignalMeta */
/** @typedef {import("./attempts.js").Timings} Timings */
/** @typedef {{ type: "offer" | "answer", sdp: string } | { type: "ice-candidate", candidate: any }} OutSignal */

/** From the channel's end to the connection's. */
const GOODBYE_MS = 500;
/** Candidates that wait for their description; more are dropped. */
const EARLY_CANDIDATES_MAX = 64;

/**
 * What a link asks of its owner.
 * @typedef {object} LinkPorts
 * @property {() => RTCPeerConnection} createConnection
 * @property {(signal: OutSignal, sid: string) => Promise<void>} signal signs and sends; rejects where it cannot
 * @property {(sdp: string, meta: SignalMeta) => Promise<void>} check rejects with `unverified_peer`
 * @property {import("./codec.js").Verify} verify of signed frames
 * @property {import("./replay.js").Take} take of signed frames
 * @property {() => void} opened the link's channel is open
 * @property {(received: import("./channel.js").Received) => void} message
 * @property {() => boolean} present whether signals reach the peer, as far as is known
 * @property {(why: string) => void} lost the channel that `opened` told of is gone
 * @property {(why: string) => void} closed for good, once
 * @property {(error: SutantraError) => void} error
 * @property {() => void} changed another RTCPeerConnection or RTCDataChannel
 */

export class Link {
  /** @type {RTCPeerConnection | null} */
  connection = null;
  /** @type {RTCDataChannel | null} */
  dataChannel = null;
  /** @type {PeerChannel | null} */
  channel = null;
  /** @type {"new" | "connecting" | "open" | "closed"} */
  state = "new";
  /** The room whose members' word brings its signals. */
  room;
  #ports;
  #polite;
  #timings;
  /** Signals are handled one after the other. @type {Promise<unknown>} */
  #turns = Promise.resolve();
  #waiting = 0;
  /** The negotiation that the current descriptions belong to. */
  #sid = "";
  /** One that lost against ours; its candidates are for nothing. */
  #ignoredSid = "";
  #initiator = false;
  #attempts;
  /** The certificate that the peer showed. @type {string | null} */
  #fingerprint = null;
  /** @type {{ candidate: any, sid: string | undefined }[]} */
  #early = [];
  /** Ours that wait until their description has left; null: it has. @type {any[] | null} */
  #held = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {{ peerId: string, nodeId: string, room: string, timings?: Partial<Timings>, random?: (() => number) | undefined }} who `random` in [0, 1)
   * @param {LinkPorts} ports
   */
  constructor({ peerId, nodeId, room, timings, random }, ports) {
    this.peerId = peerId;
    this.room = room;
    this.#ports = ports;
    this.#polite = nodeId < peerId;
    this.#timings = { ...TIMINGS, ...timings };
    this.#attempts = new Attempts(this.#timings.restMs, random);
  }

  /** Whether data goes both ways. */
  get open() {
    return this.state === "open" && this.channel?.open === true;
  }

  /** Offers a connection; nothing where one is on its way. */
  start() {
    return this.#turn(async () => {
      if (this.state !== "new" || this.connection) return;
      this.#initiator = true;
      await this.#offer({ afresh: true });
    });
  }

  /**
   * The peer has come to the room again, so what was under way may have been lost.
   * @param {{ newcomer: boolean }} how whether this side is the one that came
   */
  revive({ newcomer }) {
    return this.#turn(async () => {
      if (this.open) return;
      const { connection } = this;
      this.#attempts.reset();
      if (connection?.signalingState === "have-local-offer") await this.#sendDescription();
      else if (newcomer) await this.#offer({ afresh: !this.channel });
    });
  }

  /** @param {string} sdp @param {SignalMeta} meta */
  offered(sdp, meta) {
    return this.#turn(async () => {
      const fingerprint = await this.#checked(sdp, meta);
      if (fingerprint === null) return;
      const { connection } = this;
      const repeated = meta.sid !== undefined && meta.sid === this.#sid && connection?.localDescription?.type === "answer";
      if (repeated && fingerprint === this.#fingerprint) return this.#sendDescription();
      const known = fingerprint === (this.#fingerprint ?? fingerprint);
      const collides = connection?.signalingState === "have-local-offer";
      if (collides && !this.#polite && known) {
        // The impolite side's offer stands. It goes again, because the first may have been lost: who
        // has answered it answers alike, and the second answer finds nothing to do.
        this.#ignoredSid = meta.sid ?? "";
        return this.#sendDescription();
      }
      // The polite side's first offer is dropped with its connection, so that one channel is made and
      // not two; a later one is rolled back, because the connection carries data.
      const broken = connection?.signalingState === "have-remote-offer";
      if (!connection || broken || fingerprint !== this.#fingerprint) this.#renew();
      else if (collides) await connection.setLocalDescription({ type: "rollback" });
      await this.#answer(sdp, meta, fingerprint);
    });
  }

  /** @param {string} sdp @param {SignalMeta} meta */
  answered(sdp, meta) {
    return this.#turn(async () => {
      const { connection } = this;
      if (connection?.signalingState !== "have-local-offer") return;
      if (meta.sid !== undefined && meta.sid !== this.#sid) return;
      const fingerprint = await this.#checked(sdp, meta);
      if (fingerprint === null) return;
      if (this.#fingerprint !== null && this.#fingerprint !== fingerprint) {
        // The peer has begun anew, so what was agreed with its former self is void.
        await this.#offer({ afresh: true });
        return;
      }
      this.#fingerprint = fingerprint;
      await connection.setRemoteDescription({ type: "answer", sdp });
      await this.#addEarly();
    });
  }

  /** @param {any} candidate an `RTCIceCandidateInit` @param {SignalMeta} meta */
  candidate(candidate, meta) {
    return this.#turn(async () => {
      if (meta.sid && meta.sid === this.#ignoredSid) return;
      const early = !this.connection?.remoteDescription || (meta.sid !== undefined && meta.sid !== this.#sid);
      if (!early) await this.#add(candidate);
      else if (this.#early.length < EARLY_CANDIDATES_MAX) this.#early.push({ candidate, sid: meta.sid });
    });
  }

  /** Ends it for good. @param {string} why */
  close(why) {
    if (this.state === "closed") return;
    const wasOpen = this.state === "open";
    this.state = "closed";
    clearTimeout(this.#timer);
    this.#part();
    if (wasOpen) this.#ports.lost(why);
    this.#ports.closed(why);
  }

  /** @param {() => Promise<unknown>} step */
  #turn(step) {
    this.#waiting += 1;
    this.#turns = this.#turns.then(async () => {
      this.#waiting -= 1;
      if (this.state === "closed") return;
      try {
        await step();
      } catch (error) {
        // A connection that was closed in the middle of a step is no news.
        if (/** @type {string} */ (this.state) === "closed") return;
        this.#ports.error(asSutantraError(error, "unreachable"));
      }
      // Somebody who was never let in leaves no trace.
      if (!this.connection && this.#waiting === 0) this.close("no connection was made");
    });
    return this.#turns;
  }

  /**
   * @param {string} sdp @param {SignalMeta} meta
   * @returns {Promise<string | null>} the peer's certificate; null: it is not the peer's
   */
  async #checked(sdp, meta) {
    try {
      await this.#ports.check(sdp, meta);
      return fingerprintOf(sdp);
    } catch (error) {
      this.#ports.error(asSutantraError(error, "unverified_peer"));
      return null;
    }
  }

  /** @param {{ afresh: boolean }} how */
  async #offer({ afresh }) {
    if (afresh) {
      this.#renew();
      this.#initiator = true;
      const { connection } = this;
      if (connection) this.#adopt(connection, connection.createDataChannel(LABEL, { ordered: true }));
    }
    const connection = /** @type {RTCPeerConnection} */ (this.connection);
    this.#sid = toHex(randomBytes(8));
    this.#held ??= [];
    this.#arm(this.#timings.retryMs, () => this.#retry());
    const offer = await connection.createOffer(afresh ? {} : { iceRestart: true });
    await connection.setLocalDescription(offer);
    await this.#sendDescription();
  }

  /** @param {string} sdp @param {SignalMeta} meta @param {string} fingerprint */
  async #answer(sdp, meta, fingerprint) {
    const connection = /** @type {RTCPeerConnection} */ (this.connection);
    this.#fingerprint = fingerprint;
    this.#sid = meta.sid ?? "";
    this.#held ??= [];
    if (meta.room) this.room = meta.room;
    await connection.setRemoteDescription({ type: "offer", sdp });
    await this.#addEarly();
    const answer = await connection.createAnswer();
    await connection.setLocalDescription(answer);
    await this.#sendDescription();
    if (!this.open) return this.#arm(this.#timings.answererMs, () => this.close("it never came about"));
    // A restart that the peer asked for is a try of both; this side asks only where nothing comes of it.
    this.#attempts.begin();
    this.#arm(this.#timings.retryMs + this.#timings.courtesyMs, () => this.#retry());
  }

  async #sendDescription() {
    const description = this.connection?.localDescription;
    if (description?.type !== "offer" && description?.type !== "answer") return;
    await this.#ports.signal({ type: description.type, sdp: description.sdp }, this.#sid);
    for (const candidate of this.#held ?? []) await this.#sendCandidate(candidate);
    this.#held = null;
  }

  /** @param {any} candidate */
  async #sendCandidate(candidate) {
    await this.#ports.signal({ type: "ice-candidate", candidate }, this.#sid);
  }

  async #addEarly() {
    const early = this.#early.splice(0);
    for (const { candidate, sid } of early) if (sid === undefined || sid === this.#sid) await this.#add(candidate);
  }

  /** @param {any} candidate */
  async #add(candidate) {
    // One of an earlier round that comes late fits nothing, and ICE does without it.
    await this.connection?.addIceCandidate(candidate).catch(() => {});
  }

  /** Leaves what there was, and begins with an empty connection. */
  #renew() {
    const wasOpen = this.state === "open";
    this.state = "connecting";
    this.#drop();
    // For the application one channel ends here and another will begin.
    if (wasOpen) this.#ports.lost("the peer began anew");
    this.#fingerprint = null;
    this.#initiator = false;
    const connection = this.#ports.createConnection();
    this.connection = connection;
    this.#held = [];
    const current = () => this.connection === connection && this.state !== "closed";
    connection.addEventListener("icecandidate", ({ candidate }) => {
      if (!current() || !candidate?.candidate) return;
      const plain = typeof candidate.toJSON === "function" ? candidate.toJSON() : candidate;
      if (this.#held) this.#held.push(plain);
      else void this.#turn(() => (current() ? this.#sendCandidate(plain) : Promise.resolve()));
    });
    connection.addEventListener("datachannel", ({ channel }) => {
      if (current()) this.#adopt(connection, channel);
    });
    connection.addEventListener("connectionstatechange", () => {
      if (current()) this.#connectionChanged(connection.connectionState);
    });
    this.#ports.changed();
  }

  /** Says good-bye on the channel, for stacks whose connections close without a word. */
  #part() {
    const { connection, channel, dataChannel } = this;
    if (!connection || !channel?.open) return this.#drop();
    this.connection = null;
    this.channel = null;
    this.dataChannel = null;
    const timer = setTimeout(() => connection.close(), GOODBYE_MS);
    dataChannel?.addEventListener("close", () => {
      clearTimeout(timer);
      connection.close();
    });
    channel.close();
  }

  #drop() {
    const { connection } = this;
    this.connection = null;
    this.channel = null;
    this.dataChannel = null;
    connection?.close();
  }

  /** @param {RTCPeerConnection} connection @param {RTCDataChannel} dataChannel */
  #adopt(connection, dataChannel) {
    const current = () => this.connection === connection && this.state !== "closed";
    const channel = new PeerChannel(
      dataChannel,
      {
        message: (received) => this.#ports.message(received),
        error: (error) => this.#ports.error(error),
        closed: () => {
          if (current() && this.channel === channel) this.close("the channel closed");
        },
      },
      { verify: this.#ports.verify, take: this.#ports.take },
    );
    const opened = () => {
      // A second channel of the peer is heard, and the first one stays the one to send on.
      if (!current() || this.open) return;
      this.channel = channel;
      this.dataChannel = dataChannel;
      this.state = "open";
      this.#attempts.reset();
      clearTimeout(this.#timer);
      this.#ports.changed();
      this.#ports.opened();
    };
    if (!this.channel) {
      this.channel = channel;
      this.dataChannel = dataChannel;
    }
    if (dataChannel.readyState === "open") opened();
    else dataChannel.addEventListener("open", opened);
  }

  /** @param {RTCPeerConnectionState} state */
  #connectionChanged(state) {
    // Who has asked waits for the answer, and asks again in its time.
    const asked = this.connection?.signalingState === "have-local-offer";
    const wait = this.#attempts.pauseMs + (this.#initiator ? 0 : this.#timings.courtesyMs);
    if (state === "connected" && this.open && !asked) {
      this.#arm(this.#timings.steadyMs, () => this.#attempts.reset());
    } else if (state === "disconnected" && !asked) {
      this.#arm(this.#timings.disconnectedMs + wait, () => this.#retry());
    } else if (state === "failed" && !asked) {
      this.#arm(wait, () => this.#retry());
    } else if (state === "closed") {
      this.close("the connection closed");
    }
  }

  /** What was agreed did not work, or not any more. */
  #retry() {
    return this.#turn(async () => {
      const { connection } = this;
      if (!connection) return;
      const works = this.open && connection.connectionState === "connected";
      const asked = connection.signalingState === "have-local-offer";
      if (works && !asked) return;
      if (!this.#ports.present()) {
        // Nobody would hear an offer: the network comes back by itself, or the channel is over.
        if (connection.connectionState !== "disconnected") this.close("left");
        return;
      }
      const again = this.#attempts.begin();
      if (!again && works) {
        // The network came back by itself, and nobody answers what we asked meanwhile.
        this.#attempts.reset();
        await connection.setLocalDescription({ type: "rollback" });
      } else if (!again) {
        const message = `${this.peerId} cannot be reached in ${TRIES_MAX} tries: add a TURN server, or wait until it comes back`;
        this.#ports.error(new SutantraError("unreachable", message, { peerId: this.peerId }));
        this.close("unreachable");
      } else if (asked) {
        this.#arm(this.#timings.retryMs, () => this.#retry());
        await this.#sendDescription();
      } else if (connection.signalingState === "stable") {
        await this.#offer({ afresh: false });
      }
    });
  }

  /** @param {number} ms @param {() => unknown} then */
  #arm(ms, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }
}
