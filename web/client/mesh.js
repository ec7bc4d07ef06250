// A link to each peer: who has one, who is about to, who is tried again after the network lost it.

import { Backoff } from "./backoff.js";
import { SutantraError } from "./errors.js";
import { checkFingerprint, isKeyId } from "./identity.js";
import { Link } from "./link.js";

/** @typedef {import("./link.js").SignalMeta} SignalMeta */
/** @typedef {import("./peer.js").PeerOptions} PeerOptions */
/**
 * What a mesh asks of its owner.
 * @typedef {object} MeshPorts
 * @property {import("./rooms.js").Rooms} rooms
 * @property {import("./relay.js").Relay} relay
 * @property {() => RTCIceServer[]} iceServers
 * @property {() => boolean} coordinated whether there is a coordinator that takes signals
 * @property {(message: { type: string, to: string, room: string, [key: string]: any }) => Promise<void>} signal
 * @property {(event: string, ...args: any[]) => void} tell
 * @property {(error: SutantraError, peerId: string) => void} failed
 */

/** Connections at a time; more offers are refused. */
const LINKS_MAX = 256;
/** Candidates of peers whose offer has not come yet. */
const EARLY_MAX = 64;
/** A peer that was lost to the network, and is still in the room, is tried again so often. */
const RECONNECTS_MAX = 5;

export class Mesh {
  /** Each peer's connection. @type {Map<string, RTCPeerConnection>} */
  connections = new Map();
  /** Each peer's data channel, open or about to. @type {Map<string, RTCDataChannel>} */
  dataChannels = new Map();
  #nodeId;
  #options;
  #ports;
  #RTCPeerConnection;
  /** @type {Map<string, Link>} */
  #links = new Map();
  /** @type {Map<string, { candidate: any, meta: SignalMeta }[]>} */
  #early = new Map();
  /** @type {Map<string, { resolve: () => void, reject: (error: SutantraError) => void, promise: Promise<void> }>} */
  #opening = new Map();
  /** @type {Map<string, { tries: number, backoff: Backoff, timer?: ReturnType<typeof setTimeout> }>} */
  #returning = new Map();

  /** @param {string} nodeId @param {PeerOptions} options @param {MeshPorts} ports */
  constructor(nodeId, options, ports) {
    this.#nodeId = nodeId;
    this.#options = options;
    this.#ports = ports;
    this.#RTCPeerConnection = options.RTCPeerConnection ?? globalThis.RTCPeerConnection;
  }

  /** Whether connections can be made at all. */
  get possible() {
    return this.#RTCPeerConnection !== undefined;
  }

  /** Peers with an open channel. @returns {string[]} */
  get connected() {
    return [...this.#links.values()].filter(({ open }) => open).map(({ peerId }) => peerId);
  }

  /** @param {string} peerId */
  link(peerId) {
    return this.#links.get(peerId);
  }

  /** @param {string} peerId */
  reaches(peerId) {
    return this.#links.get(peerId)?.open === true;
  }

  /** @param {string} peerId somebody in a room of ours @returns {Promise<void>} once the channel is open */
  async connect(peerId) {
    const room = this.#ports.rooms.shared(peerId);
    if (room === null && !this.#links.has(peerId)) {
      throw new SutantraError("unknown_peer", `${peerId} is in no room of ours: join the room where it is first`, { peerId });
    }
    if (!this.possible) throw noWebRtc(peerId);
    const link = this.#links.get(peerId) ?? this.#link(peerId, room ?? "");
    if (link.open) return;
    const opening = this.#whenOpen(peerId);
    void link.start();
    await opening;
  }

  /** @param {string} peerId @param {string} sdp @param {SignalMeta} meta */
  async offered(peerId, sdp, meta) {
    let link = this.#links.get(peerId);
    if (!link) {
      if (this.#links.size >= LINKS_MAX) {
        throw new SutantraError("room_full", `there are ${LINKS_MAX} connections already: disconnect from somebody first`, { peerId });
      }
      link = this.#link(peerId, meta.room ?? this.#ports.rooms.shared(peerId) ?? "");
    }
    const offered = link.offered(sdp, meta);
    const early = this.#early.get(peerId) ?? [];
    this.#early.delete(peerId);
    for (const { candidate, meta: its } of early) void link.candidate(candidate, its);
    await offered;
  }

  /** @param {string} peerId @param {string} sdp @param {SignalMeta} meta */
  async answered(peerId, sdp, meta) {
    await this.#links.get(peerId)?.answered(sdp, meta);
  }

  /** @param {string} peerId @param {RTCIceCandidateInit} candidate @param {SignalMeta} meta */
  async candidate(peerId, candidate, meta) {
    const link = this.#links.get(peerId);
    if (link) return link.candidate(candidate, meta);
    const early = this.#early.get(peerId) ?? [];
    if (early.length >= EARLY_MAX || (early.length === 0 && this.#early.size >= EARLY_MAX)) return;
    this.#early.set(peerId, [...early, { candidate, meta }]);
  }

  /** This node came to a room where the peer is. @param {string} peerId @param {string} room @param {{ again: boolean }} how */
  greet(peerId, room, { again }) {
    const link = this.#links.get(peerId);
    if (link) {
      if (again) void link.revive({ newcomer: true });
    } else if (this.#autoConnect) {
      void this.#link(peerId, room).start();
    }
  }

  /** The newcomer offers; what we may have sent before it came, we send again. @param {string} peerId */
  came(peerId) {
    void this.#links.get(peerId)?.revive({ newcomer: false });
  }

  /** The coordinator says that the peer shares no room with us any more. @param {string} peerId */
  left(peerId) {
    this.#forgetReturn(peerId);
    this.#early.delete(peerId);
    const link = this.#links.get(peerId);
    // A channel that works knows better than the coordinator whether the peer is there.
    if (link && !(link.open && link.connection?.connectionState === "connected")) link.close("left");
  }

  /** @param {string} peerId @param {{ keepOpen?: boolean }} [how] */
  disconnect(peerId, { keepOpen = false } = {}) {
    this.#forgetReturn(peerId);
    const link = this.#links.get(peerId);
    if (link && !(keepOpen && link.open)) link.close("local");
  }

  close() {
    for (const { timer } of this.#returning.values()) clearTimeout(timer);
    this.#returning.clear();
    for (const link of [...this.#links.values()]) link.close("local");
  }

  get #autoConnect() {
    return this.#options.autoConnect ?? this.possible;
  }

  /** @param {string} peerId @param {string} room */
  #link(peerId, room) {
    const { relay, rooms, tell, failed } = this.#ports;
    const { timings = {}, random } = this.#options;
    let verified = false;
    /** @type {Link} */
    const link = new Link(
      { peerId, nodeId: this.#nodeId, room, timings, random },
      {
        createConnection: () => this.#createConnection(peerId),
        signal: (signal, sid) => this.#sendSignal(link, signal, sid),
        check: async (sdp, meta) => {
          verified = await this.#check(link, sdp, meta);
        },
        verify: (seq, covered, signature) => relay.verify(peerId, this.#nodeId, seq, covered, signature),
        take: (seq) => relay.take(peerId, this.#nodeId, seq),
        opened: () => {
          this.#returning.delete(peerId);
          this.#opening.get(peerId)?.resolve();
          this.#opening.delete(peerId);
          tell("peer-connected", peerId);
        },
        message: ({ data, kind, label, signed }) => {
          tell("message", peerId, data, { kind, label, room: null, relayed: false, verified: verified || signed });
        },
        present: () => this.#ports.coordinated() && rooms.shared(peerId) !== null,
        lost: (why) => tell("peer-disconnected", peerId, why),
        closed: (why) => this.#closed(link, why),
        error: (error) => failed(error, peerId),
        changed: () => this.#changed(link),
      },
    );
    this.#links.set(peerId, link);
    return link;
  }

  /** @param {string} peerId */
  #createConnection(peerId) {
    if (!this.#RTCPeerConnection) throw noWebRtc(peerId);
    return new this.#RTCPeerConnection({ iceServers: this.#ports.iceServers(), ...this.#options.rtcConfiguration });
  }

  /** @param {Link} link @param {import("./link.js").OutSignal} signal @param {string} sid */
  async #sendSignal({ peerId, room }, signal, sid) {
    const { rooms } = this.#ports;
    const { identity } = this.#options;
    const shared = rooms.member(room, peerId) ? room : (rooms.shared(peerId) ?? room);
    const vouched = "sdp" in signal && identity ? await identity.signFingerprint({ to: peerId, room: shared, sdp: signal.sdp }) : {};
    // A refusal is an `error` of signalling already; what got lost by it is sent again in its time.
    await this.#ports.signal({ ...signal, to: peerId, room: shared, ...(sid ? { sid } : {}), ...vouched }).catch(() => {});
  }

  /** @param {Link} link @param {string} sdp @param {SignalMeta} meta @returns {Promise<boolean>} whether its key vouched */
  async #check({ peerId, room }, sdp, meta) {
    const key = await checkFingerprint({ ...meta, from: peerId, to: this.#nodeId, room: meta.room ?? room, sdp });
    if (key) {
      await this.#ports.relay.learn(peerId, meta.pk);
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
    if (byNetwork && this.#autoConnect && this.#nodeId > peerId) this.#tryAgain(peerId);
  }

  /** @param {string} peerId */
  #tryAgain(peerId) {
    const returning = this.#returning.get(peerId) ?? { tries: 0, backoff: new Backoff(this.#options.random) };
    this.#returning.set(peerId, returning);
    returning.tries += 1;
    if (returning.tries > RECONNECTS_MAX) return void this.#returning.delete(peerId);
    returning.timer = setTimeout(() => {
      const room = this.#ports.rooms.shared(peerId);
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
}

/** @param {string} peerId */
function noWebRtc(peerId) {
  return new SutantraError("no_webrtc", "there is no WebRTC here: in Node pass nodeOptions() of sutantra-client/node, or use a transport through the coordinator", { peerId });
}
