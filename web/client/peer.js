// A peer of rooms: it finds others by a coordinator and opens a data channel to each.

import { EventEmitter } from "./emitter.js";
import { asSutantraError, SutantraError } from "./errors.js";
import { KIND } from "./framing.js";
import { mustBeKind, mustBeMessage, mustBeNodeId, mustBeOneOf, mustBeOptions } from "./inputs.js";
import { Mesh } from "./mesh.js";
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
 * @property {Partial<import("./attempts.js").Timings>} [timings]
 */

/**
 * Events, each exactly once per transition: `peer-connected` (peerId), `peer-disconnected` (peerId, why),
 * `message` (peerId, message, MessageInfo), `error` (SutantraError; most name a `peerId`). Beside them
 * `peer-joined` and `peer-left` (room, peerId) of rooms, `state` (state, transport) of signalling.
 */
export class WebRTCPeer extends EventEmitter {
  /** @type {string | null} */
  coordinatorUrl = null;
  /** Each peer's connection. @type {Map<string, RTCPeerConnection>} */
  connections;
  /** Each peer's data channel, open or about to. @type {Map<string, RTCDataChannel>} */
  dataChannels;
  /** @type {RTCIceServer[]} */
  iceServers = [];
  /** @type {SutantraSignaling | null} */
  signaling = null;
  /** Messages that were refused, by why. */
  dropped = { badFrame: 0, badSignature: 0, unverified: 0 };
  #options;
  #mesh;
  #rooms = new Rooms();
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
    mustBeOptions(options);
    const { identity = null } = options;
    mustBeNodeId(nodeId, "the id of a peer");
    if (identity && identity.nodeId !== nodeId) {
      throw new SutantraError("bad_key", `the identity is ${identity.nodeId} and not ${nodeId}: pass identity.nodeId`);
    }
    this.nodeId = nodeId;
    this.#options = options;
    this.iceServers = options.iceServers ?? [];
    this.#relay = new Relay(nodeId, identity, (peerId, room) => this.#shownKey(peerId, room));
    this.#mesh = new Mesh(nodeId, options, {
      rooms: this.#rooms,
      relay: this.#relay,
      iceServers: () => this.iceServers,
      coordinated: () => this.signaling !== null,
      // An ICE restart of a channel that outlived its coordinator waits until there is one again.
      signal: async (message) => this.signaling?.send(message),
      tell: (event, ...args) => void this.emit(event, ...args),
      failed: (error, peerId) => this.#failed(error, peerId),
    });
    this.connections = this.#mesh.connections;
    this.dataChannels = this.#mesh.dataChannels;
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
    return this.#mesh.connected;
  }

  /** Frames and messages of a peer's channel so far. @param {string} peerId */
  counts(peerId) {
    return this.#mesh.link(peerId)?.channel?.counts ?? null;
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
    signaling.on("ice-servers", (iceServers) => {
      if (!this.#options.iceServers) this.iceServers = iceServers;
    });
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
    this.#mesh.close();
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
    await this.#mesh.connect(peerId);
  }

  /**
   * An offer that came, from the coordinator or by hand.
   * @param {string} peerId
   * @param {string | RTCSessionDescriptionInit} offer
   * @param {SignalMeta} [meta]
   */
  async handleOffer(peerId, offer, meta = {}) {
    await this.#mesh.offered(peerId, sdpOf(offer), meta);
  }

  /** @param {string} peerId @param {string | RTCSessionDescriptionInit} answer @param {SignalMeta} [meta] */
  async handleAnswer(peerId, answer, meta = {}) {
    await this.#mesh.answered(peerId, sdpOf(answer), meta);
  }

  /** @param {string} peerId @param {RTCIceCandidateInit} candidate @param {SignalMeta} [meta] */
  async handleIceCandidate(peerId, candidate, meta = {}) {
    await this.#mesh.candidate(peerId, candidate, meta);
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
    mustBeKind(kind);
    mustBeMessage(message);
    const link = this.#mesh.link(peerId);
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
    mustBeKind(kind);
    mustBeOneOf("`over`", over, ["auto", "channels", "coordinator"]);
    mustBeMessage(message);
    const members = this.members(room).map(({ nodeId }) => nodeId);
    if (over === "coordinator") {
      await this.#signalling().broadcast(room, await this.#relay.broadcastFrame(room, message, kind));
      return members.length;
    }
    const sent = await Promise.all(
      members.map((peerId) => {
        if (this.#mesh.reaches(peerId)) return this.send(peerId, message, { kind });
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
    mustBeKind(kind);
    mustBeOneOf("`over`", over, ["any", "http", "websocket"]);
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
    this.#mesh.disconnect(peerId);
  }

  #signalling() {
    if (this.signaling) return this.signaling;
    throw new SutantraError("closed", "there is no coordinator: call connectToCoordinator first");
  }

  /** @param {import("./signaling.js").Joined} joined */
  #joined({ room, peers, iceServers, again }) {
    if (!this.#options.iceServers && iceServers.length > 0) this.iceServers = iceServers;
    this.#rooms.enter(room, peers, (peerId) => this.#mesh.reaches(peerId));
    for (const member of peers) {
      void this.#relay.learn(member.nodeId, member.metadata?.pk);
      this.#mesh.greet(member.nodeId, room, { again });
    }
  }

  /** @param {string} room @param {Member} member */
  #peerJoined(room, member) {
    if (member.nodeId === this.nodeId || !this.rooms.includes(room)) return;
    const isNew = this.#rooms.add(room, member);
    void this.#relay.learn(member.nodeId, member.metadata?.pk);
    this.#mesh.came(member.nodeId);
    if (isNew) this.emit("peer-joined", room, member.nodeId);
  }

  /** @param {string} room @param {string} peerId */
  #peerLeft(room, peerId) {
    if (!this.#rooms.remove(room, peerId)) return;
    this.emit("peer-left", room, peerId);
    if (this.#rooms.shared(peerId) === null) this.#mesh.left(peerId);
  }

  /** @param {string} room @param {{ keepOpen?: boolean }} [how] */
  #leftRoom(room, how) {
    for (const peerId of this.#rooms.leave(room)) {
      if (this.#rooms.shared(peerId) === null) this.#mesh.disconnect(peerId, how);
    }
  }

  /** @param {any} signal */
  async #signalled(signal) {
    const { from, room, sid, fpSig, pk } = signal;
    const meta = { room, sid, fpSig, pk };
    try {
      if (signal.type === "message") return await this.#relayed(signal, this.nodeId);
      if (!this.#mesh.possible) return;
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
