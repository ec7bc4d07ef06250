// A peer of rooms: it finds others by a coordinator and opens a data channel to each.

import { Backoff } from "./backoff.js";
import { EventEmitter } from "./emitter.js";
import { asSutantraError, SutantraError } from "./errors.js";
import { KIND } from "./framing.js";
import { checkFingerprint, isKeyId } from "./identity.js";
import { Link } from "./link.js";
import { Relay } from "./relay.js";
import { Rooms } from "./rooms.js";
import { SutantraSignaling } from "./signaling.js";

/** @typedef {import("./framing.js").Message} Message */
/** @typedef {import("./link.js").SignalMeta} SignalMeta */
/** @typedef {import("./signaling.js").Member} Member */
/**
 * What is told beside a message.
 * @typedef {object} MessageInfo
 * @property {number} kind of `KIND`
 * @property {string | null} label of the channel; null: the coordinator brought it
 * @property {string | null} room of a message that the coordinator brought
 * @property {boolean} relayed whether somebody carried it
 * @property {boolean} verified whether its sender's key vouched for it or for the channel
 */
/**
 * @typedef {object} PeerOptions
 * @property {import("./identity.js").Identity | null} [identity] the key that `nodeId` follows from; without it the
 *   coordinator must be in mode `open`
 * @property {RTCIceServer[]} [iceServers] in place of the coordinator's
 * @property {RTCConfiguration} [rtcConfiguration] for example `{ iceTransportPolicy: "relay" }`
 * @property {import("./signaling.js").TransportChoice} [transport] of signals; `auto`: a WebSocket, else polling
 * @property {boolean} [autoConnect] offer a channel to everybody in a room; default: where there is an RTCPeerConnection
 * @property {boolean} [allowUnverified] take offers of `sn1` ids that did not sign their certificate
 * @property {typeof globalThis.RTCPeerConnection} [RTCPeerConnection]
 * @property {typeof globalThis.WebSocket} [WebSocket]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {() => number} [random]
 * @property {Partial<import("./link.js").Timings>} [timings]
 */

/** Connections at a time; more offers are refused. */
const LINKS_MAX = 256;
/** Candidates of peers whose offer has not come yet. */
const EARLY_MAX = 64;
/** A peer that was lost to the network, and is still in the room, is tried again so often. */
const RECONNECTS_MAX = 5;

/**
 * Events, each exactly once per transition: `peer-connected` (peerId), `peer-disconnected` (peerId, why),
 * `message` (peerId, message, MessageInfo), `error` (SutantraError; most name a `peerId`). Beside them
 * `peer-joined` and `peer-left` (room, peerId) of rooms, `state` (state, transport) of signalling.
 */
export class WebRTCPeer extends EventEmitter {
  /** @type {string | null} */
  coordinatorUrl = null;
  /** Each peer's connection. @type {Map<string, RTCPeerConnection>} */
  connections = new Map();
  /** Each peer's data channel, open or about to. @type {Map<string, RTCDataChannel>} */
  dataChannels = new Map();
  /** @type {RTCIceServer[]} */
  iceServers = [];
  /** @type {SutantraSignaling | null} */
  signaling = null;
  /** Messages that were refused, by why. */
  dropped = { badFrame: 0, badSignature: 0, unverified: 0 };
  #options;
  #RTCPeerConnection;
  /** @type {Map<string, Link>} */
  #links = new Map();
  #rooms = new Rooms();
  /** @type {Map<string, { candidate: any, meta: SignalMeta }[]>} */
  #early = new Map();
  /** @type {Map<string, { resolve: () => void, reject: (error: SutantraError) => void, promise: Promise<void> }>} */
  #opening = new Map();
  /** @type {Map<string, { tries: number, backoff: Backoff, timer?: ReturnType<typeof setTimeout> }>} */
  #returning = new Map();
  #relay;
  /** A page that goes away says so, because nothing of it lives on to say it later. */
  #pageGone = () => {
    const connections = [...this.connections.values()];
    this.close();
    for (const connection of connections) connection.close();
  };

  /**
   * @param {string} nodeId `identity.nodeId` where there is an identity
   * @param {PeerOptions} [options]
   */
  constructor(nodeId, options = {}) {
    super();
    const { identity = null } = options;
    if (identity && identity.nodeId !== nodeId) {
      throw new SutantraError("bad_key", `the identity is ${identity.nodeId} and not ${nodeId}: pass identity.nodeId`);
    }
    this.nodeId = nodeId;
    this.#options = options;
    this.#RTCPeerConnection = options.RTCPeerConnection ?? globalThis.RTCPeerConnection;
    this.iceServers = options.iceServers ?? [];
    this.#relay = new Relay(nodeId, identity, (peerId, room) => this.#shownKey(peerId, room));
  }

  /** @returns {import("./identity.js").Identity | null} */
  get identity() {
    return this.#options.identity ?? null;
  }

  /** Rooms that this peer is in. @returns {string[]} */
  get rooms() {
    return this.#rooms.names;
  }

  /** Others in a room, as far as this peer knows. @param {string} room @returns {Member[]} */
  members(room) {
    return this.#rooms.members(room);
  }

  /** Peers with an open channel. @returns {string[]} */
  get connected() {
    return [...this.#links.values()].filter(({ open }) => open).map(({ peerId }) => peerId);
  }

  /** Frames and messages of a peer's channel so far. @param {string} peerId */
  counts(peerId) {
    return this.#links.get(peerId)?.channel?.counts ?? null;
  }

  /**
   * @param {string} url the coordinator's address as `/nodes` names it, ending in `/webrtc`
   * @returns {Promise<void>} once it took us in; lost connections are made again from then on
   * @throws {SutantraError} its refusal, or `unreachable`
   */
  async connectToCoordinator(url) {
    if (this.signaling) throw new SutantraError("bad_request", "this peer has a coordinator: call disconnectFromCoordinator first");
    const { identity, transport, WebSocket, fetch, random } = this.#options;
    const chosen = { identity, transport, WebSocket, fetch, random };
    const given = Object.fromEntries(Object.entries(chosen).filter(([, value]) => value !== undefined));
    const signaling = new SutantraSignaling(url, this.nodeId, given);
    this.signaling = signaling;
    this.coordinatorUrl = signaling.url;
    globalThis.addEventListener?.("pagehide", this.#pageGone);
    signaling.on("state", (state, over) => this.emit("state", state, over));
    signaling.on("joined", (joined) => this.#joined(joined));
    signaling.on("left", (room) => this.#leftRoom(room));
    signaling.on("peer-joined", (room, member) => this.#peerJoined(room, member));
    signaling.on("peer-left", (room, peerId) => this.#peerLeft(room, peerId));
    signaling.on("signal", (signal) => void this.#signalled(signal));
    signaling.on("broadcast", (signal) => {
      // A room is signed with the message, and only a room's name is a room.
      if (signaling.rooms.includes(signal.room)) void this.#relayed(signal, signal.room);
    });
    signaling.on("error", (error) => this.#failed(error));
    try {
      await signaling.connect();
    } catch (error) {
      if (this.signaling === signaling) this.disconnectFromCoordinator();
      throw error;
    }
  }

  /** Leaves the coordinator and its rooms. Channels that are open stay open. */
  disconnectFromCoordinator() {
    const { signaling } = this;
    this.signaling = null;
    this.coordinatorUrl = null;
    signaling?.close();
    for (const room of this.rooms) this.#leftRoom(room, { keepOpen: true });
  }

  /** Leaves everything and closes every channel. */
  close() {
    globalThis.removeEventListener?.("pagehide", this.#pageGone);
    this.disconnectFromCoordinator();
    for (const { timer } of this.#returning.values()) clearTimeout(timer);
    this.#returning.clear();
    for (const link of [...this.#links.values()]) link.close("local");
  }

  /**
   * @param {string} room
   * @param {object} [metadata] at most 4 KiB as JSON; `name` is shown to others
   * @param {{ invite?: string }} [options]
   * @returns {Promise<{ room: string, peers: Member[] }>} who is there already; each is offered a channel
   */
  async joinRoom(room, metadata = {}, { invite } = {}) {
    const { peers } = await this.#signalling().join(room, metadata, { invite });
    return { room, peers };
  }

  /** @param {string} room @returns {Promise<void>} peers that share no other room are disconnected */
  async leaveRoom(room) {
    this.#leftRoom(room);
    await this.#signalling().leave(room);
  }

  /**
   * @param {string} peerId somebody in a room of ours
   * @returns {Promise<void>} once the channel is open
   */
  async connectToPeer(peerId) {
    const room = this.#rooms.shared(peerId);
    if (room === null && !this.#links.has(peerId)) {
      throw new SutantraError("unknown_peer", `${peerId} is in no room of ours: join the room where it is first`, { peerId });
    }
    const link = this.#links.get(peerId) ?? this.#link(peerId, room ?? "");
    if (link.open) return;
    const opening = this.#whenOpen(peerId);
    void link.start();
    await opening;
  }

  /**
   * An offer that came, from the coordinator or by hand.
   * @param {string} peerId
   * @param {string | RTCSessionDescriptionInit} offer
   * @param {SignalMeta} [meta]
   */
  async handleOffer(peerId, offer, meta = {}) {
    let link = this.#links.get(peerId);
    if (!link) {
      if (this.#links.size >= LINKS_MAX) {
        throw new SutantraError("room_full", `there are ${LINKS_MAX} connections already: disconnect from somebody first`, { peerId });
      }
      link = this.#link(peerId, meta.room ?? this.#rooms.shared(peerId) ?? "");
    }
    const offered = link.offered(sdpOf(offer), meta);
    const early = this.#early.get(peerId) ?? [];
    this.#early.delete(peerId);
    for (const { candidate, meta: its } of early) void link.candidate(candidate, its);
    await offered;
  }

  /** @param {string} peerId @param {string | RTCSessionDescriptionInit} answer @param {SignalMeta} [meta] */
  async handleAnswer(peerId, answer, meta = {}) {
    await this.#links.get(peerId)?.answered(sdpOf(answer), meta);
  }

  /** @param {string} peerId @param {RTCIceCandidateInit} candidate @param {SignalMeta} [meta] */
  async handleIceCandidate(peerId, candidate, meta = {}) {
    const link = this.#links.get(peerId);
    if (link) return link.candidate(candidate, meta);
    const early = this.#early.get(peerId) ?? [];
    if (early.length >= EARLY_MAX || (early.length === 0 && this.#early.size >= EARLY_MAX)) return;
    this.#early.set(peerId, [...early, { candidate, meta }]);
  }

  /**
   * Sends over the peer's channel. Small messages wait up to 5 ms for others to share a frame with.
   * @param {string} peerId
   * @param {Message} message string or bytes, at most 8 MiB, and 4 MiB as it crosses (compressed)
   * @param {{ kind?: number }} [options]
   * @returns {Promise<boolean>} true when the network's buffer took it: who awaits it never outruns the
   *   network; false: there is no open channel, or 16 MiB wait already. It never rejects.
   * @throws {SutantraError} `bad_request`, at once, for what is neither string nor bytes
   */
  send(peerId, message, { kind = KIND.APPLICATION } = {}) {
    const link = this.#links.get(peerId);
    return link?.open && link.channel ? link.channel.send(message, kind) : Promise.resolve(false);
  }

  /**
   * Sends to everybody in a room: over the open channels, and through the coordinator to who has none.
   * @param {string} room
   * @param {Message} message
   * @param {{ kind?: number, over?: "auto" | "channels" | "coordinator" }} [options] `coordinator`: one signed
   *   frame of at most 3 KiB that it copies to all, also to those whom a large room does not list
   * @returns {Promise<number>} how many peers it left for; with `coordinator`, the members that are known
   */
  async broadcast(room, message, { kind = KIND.APPLICATION, over = "auto" } = {}) {
    const members = this.members(room).map(({ nodeId }) => nodeId);
    if (over === "coordinator") {
      await this.#signalling().broadcast(room, await this.#relay.broadcastFrame(room, message, kind));
      return members.length;
    }
    const sent = await Promise.all(
      members.map((peerId) => {
        if (this.#links.get(peerId)?.open) return this.send(peerId, message, { kind });
        if (over === "channels" || !this.identity) return false;
        return this.relay(peerId, message, { kind, room }).then(
          () => true,
          (error) => {
            this.#failed(error);
            return false;
          },
        );
      }),
    );
    return sent.filter(Boolean).length;
  }

  /**
   * Sends through the coordinator, signed, to a peer without a channel.
   * @param {string} peerId
   * @param {Message} message
   * @param {{ kind?: number, room?: string, over?: "any" | "http" | "websocket" }} [options] `over`: what carries it
   * @returns {Promise<void>} once the coordinator has it (HTTP), or it is on its way there (WebSocket)
   * @throws {SutantraError} `no_identity`, `too_large`, `unknown_peer`, or the coordinator's refusal
   */
  async relay(peerId, message, { kind = KIND.APPLICATION, room, over = "any" } = {}) {
    const signaling = this.#signalling();
    const shared = room ?? this.#rooms.shared(peerId);
    if (shared === null) throw new SutantraError("unknown_peer", `${peerId} is in no room of ours: join the room where it is first`, { peerId });
    if (over === "websocket" && signaling.transport !== "websocket") {
      throw new SutantraError("closed", "there is no WebSocket to the coordinator now: wait for it, or use the HttpTransport", { peerId });
    }
    for (const data of await this.#relay.frames(peerId, message, kind)) {
      const signal = { type: "message", to: peerId, room: shared, data };
      await (over === "http" ? signaling.post(signal) : signaling.send(signal));
    }
  }

  /** Closes the channel to a peer; it stays in its rooms. @param {string} peerId */
  disconnectPeer(peerId) {
    this.#forgetReturn(peerId);
    this.#links.get(peerId)?.close("local");
  }

  #signalling() {
    if (this.signaling) return this.signaling;
    throw new SutantraError("closed", "there is no coordinator: call connectToCoordinator first");
  }

  get #autoConnect() {
    return this.#options.autoConnect ?? this.#RTCPeerConnection !== undefined;
  }

  /** @param {import("./signaling.js").Joined} joined */
  #joined({ room, peers, iceServers, again }) {
    if (!this.#options.iceServers && iceServers.length > 0) this.iceServers = iceServers;
    this.#rooms.enter(room, peers, (peerId) => this.#links.get(peerId)?.open === true);
    for (const member of peers) {
      void this.#relay.learn(member.nodeId, member.metadata?.pk);
      const link = this.#links.get(member.nodeId);
      if (link) {
        if (again) void link.revive({ newcomer: true });
      } else if (this.#autoConnect) {
        void this.#link(member.nodeId, room).start();
      }
    }
  }

  /** @param {string} room @param {Member} member */
  #peerJoined(room, member) {
    if (member.nodeId === this.nodeId || !this.rooms.includes(room)) return;
    const isNew = this.#rooms.add(room, member);
    void this.#relay.learn(member.nodeId, member.metadata?.pk);
    // The newcomer offers; what we may have sent before it came, we send again.
    void this.#links.get(member.nodeId)?.revive({ newcomer: false });
    if (isNew) this.emit("peer-joined", room, member.nodeId);
  }

  /** @param {string} room @param {string} peerId */
  #peerLeft(room, peerId) {
    if (!this.#rooms.remove(room, peerId)) return;
    this.emit("peer-left", room, peerId);
    if (this.#rooms.shared(peerId) !== null) return;
    this.#forgetReturn(peerId);
    this.#early.delete(peerId);
    const link = this.#links.get(peerId);
    // A channel that works knows better than the coordinator whether the peer is there.
    if (link && !(link.open && link.connection?.connectionState === "connected")) link.close("left");
  }

  /** @param {string} room @param {{ keepOpen?: boolean }} [how] */
  #leftRoom(room, { keepOpen = false } = {}) {
    for (const peerId of this.#rooms.leave(room)) {
      const link = this.#links.get(peerId);
      if (this.#rooms.shared(peerId) !== null) continue;
      this.#forgetReturn(peerId);
      if (link && !(keepOpen && link.open)) link.close("local");
    }
  }

  /** @param {any} signal */
  async #signalled(signal) {
    const { from, room, sid, fpSig, pk } = signal;
    const meta = { room, sid, fpSig, pk };
    try {
      if (signal.type === "message") return await this.#relayed(signal, this.nodeId);
      if (!this.#RTCPeerConnection) return;
      if (signal.type === "offer") await this.handleOffer(from, signal.sdp, meta);
      else if (signal.type === "answer") await this.handleAnswer(from, signal.sdp, meta);
      else await this.handleIceCandidate(from, signal.candidate, meta);
    } catch (error) {
      this.#failed(asSutantraError(error, "bad_request"), from);
    }
  }

  /** @param {{ from: string, room: string, data: unknown }} signal @param {string} to */
  async #relayed(signal, to) {
    if (signal.from === this.nodeId) return;
    try {
      const decoded = await this.#relay.open(signal, { to });
      for (const message of decoded?.messages ?? []) {
        const info = { kind: decoded?.kind ?? 0, label: null, room: signal.room, relayed: true, verified: true };
        this.emit("message", signal.from, message, info);
      }
    } catch (error) {
      this.#failed(asSutantraError(error, "bad_frame"), signal.from);
    }
  }

  /** The key that a member shows in its metadata. @param {string} peerId @param {string} room */
  async #shownKey(peerId, room) {
    const shown = this.#rooms.member(room, peerId)?.metadata?.pk;
    if (shown) return shown;
    // A join over HTTP is not told the others' metadata.
    const members = await this.signaling?.peers(room);
    return members?.find(({ nodeId }) => nodeId === peerId)?.metadata?.pk;
  }

  /** @param {string} peerId @param {string} room */
  #link(peerId, room) {
    let verified = false;
    /** @type {Link} */
    const link = new Link(
      { peerId, nodeId: this.nodeId, room, timings: this.#options.timings ?? {}, random: this.#options.random },
      {
        createConnection: () => this.#createConnection(peerId),
        signal: (signal, sid) => this.#sendSignal(link, signal, sid),
        check: async (sdp, meta) => {
          verified = await this.#check(link, sdp, meta);
        },
        verify: (seq, covered, signature) => this.#relay.verify(peerId, this.nodeId, seq, covered, signature),
        take: (seq) => this.#relay.take(peerId, this.nodeId, seq),
        opened: () => {
          this.#returning.delete(peerId);
          this.#opening.get(peerId)?.resolve();
          this.#opening.delete(peerId);
          this.emit("peer-connected", peerId);
        },
        message: ({ data, kind, label, signed }) => {
          this.emit("message", peerId, data, { kind, label, room: null, relayed: false, verified: verified || signed });
        },
        present: () => this.signaling !== null && this.#rooms.shared(peerId) !== null,
        lost: (why) => this.emit("peer-disconnected", peerId, why),
        closed: (why) => this.#closed(link, why),
        error: (error) => this.#failed(error, peerId),
        changed: () => this.#changed(link),
      },
    );
    this.#links.set(peerId, link);
    return link;
  }

  /** @param {string} peerId */
  #createConnection(peerId) {
    if (!this.#RTCPeerConnection) {
      throw new SutantraError("no_webrtc", "there is no WebRTC here: in Node pass nodeOptions() of sutantra-client/node, or use a transport through the coordinator", { peerId });
    }
    return new this.#RTCPeerConnection({ iceServers: this.iceServers, ...this.#options.rtcConfiguration });
  }

  /** @param {Link} link @param {import("./link.js").OutSignal} signal @param {string} sid */
  async #sendSignal({ peerId, room }, signal, sid) {
    const shared = this.#rooms.member(room, peerId) ? room : (this.#rooms.shared(peerId) ?? room);
    const vouched = "sdp" in signal && this.identity ? await this.identity.signFingerprint({ to: peerId, room: shared, sdp: signal.sdp }) : {};
    // An ICE restart of a channel that outlived its coordinator waits until there is one again.
    const { signaling } = this;
    // A refusal is an `error` of signalling already; what got lost by it is sent again in its time.
    await signaling?.send({ ...signal, to: peerId, room: shared, ...(sid ? { sid } : {}), ...vouched }).catch(() => {});
  }

  /** @param {Link} link @param {string} sdp @param {SignalMeta} meta @returns {Promise<boolean>} whether its key vouched */
  async #check({ peerId, room }, sdp, meta) {
    const key = await checkFingerprint({ ...meta, from: peerId, to: this.nodeId, room: meta.room ?? room, sdp });
    if (key) {
      await this.#relay.learn(peerId, meta.pk);
      return true;
    }
    if (isKeyId(peerId) && !this.#options.allowUnverified) {
      throw new SutantraError("unverified_peer", `${peerId} did not sign its certificate, so somebody between could be heard in its place: no channel is opened (allowUnverified takes it nevertheless)`, { peerId });
    }
    return false;
  }

  /** @param {Link} link */
  #changed({ peerId, connection, dataChannel }) {
    if (connection) this.connections.set(peerId, connection);
    else this.connections.delete(peerId);
    if (dataChannel) this.dataChannels.set(peerId, dataChannel);
    else this.dataChannels.delete(peerId);
  }

  /** @param {Link} link @param {string} why */
  #closed(link, why) {
    const { peerId } = link;
    if (this.#links.get(peerId) !== link) return;
    this.#links.delete(peerId);
    this.#changed(link);
    const gone = new SutantraError("unreachable", `no channel to ${peerId} came about (${why}): try again, or add a TURN server`, { peerId });
    this.#opening.get(peerId)?.reject(gone);
    this.#opening.delete(peerId);
    // Who was lost to the network is tried again by one side; who closed the channel meant it.
    const byNetwork = why === "unreachable" || why === "the connection closed";
    if (byNetwork && this.#autoConnect && this.nodeId > peerId) this.#tryAgain(peerId);
  }

  /** @param {string} peerId */
  #tryAgain(peerId) {
    const returning = this.#returning.get(peerId) ?? { tries: 0, backoff: new Backoff(this.#options.random) };
    this.#returning.set(peerId, returning);
    returning.tries += 1;
    if (returning.tries > RECONNECTS_MAX) return void this.#returning.delete(peerId);
    returning.timer = setTimeout(() => {
      const room = this.#rooms.shared(peerId);
      if (room !== null && !this.#links.has(peerId)) void this.#link(peerId, room).start();
    }, 1000 + returning.backoff.next());
  }

  /** @param {string} peerId */
  #forgetReturn(peerId) {
    clearTimeout(this.#returning.get(peerId)?.timer);
    this.#returning.delete(peerId);
  }

  /** @param {string} peerId */
  #whenOpen(peerId) {
    const known = this.#opening.get(peerId);
    if (known) return known.promise;
    /** @type {() => void} */
    let resolve = () => {};
    /** @type {(error: SutantraError) => void} */
    let reject = () => {};
    const promise = new Promise((/** @type {(value: void) => void} */ done, fail) => {
      resolve = done;
      reject = fail;
    });
    this.#opening.set(peerId, { promise, resolve, reject });
    return promise;
  }

  /** @param {SutantraError} error @param {string} [peerId] */
  #failed(error, peerId) {
    error.peerId ??= peerId ?? null;
    if (error.code === "bad_frame") this.dropped.badFrame += 1;
    else if (error.code === "bad_signature") this.dropped.badSignature += 1;
    else if (error.code === "unverified_peer") this.dropped.unverified += 1;
    this.emit("error", error);
  }
}

/** @param {string | RTCSessionDescriptionInit} description */
function sdpOf(description) {
  const sdp = typeof description === "string" ? description : description?.sdp;
  if (typeof sdp === "string") return sdp;
  throw new SutantraError("bad_request", "a description is an SDP or { type, sdp }");
}
