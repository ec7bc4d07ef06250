// One stay in a room: the peer, its links as they are now, and what the room's application offers.

import { WebRTCPeer, makeInvite } from "/client/index.js";
import { RoomApplication } from "/client/prrc/index.js";

import { counted } from "../format.js";
import { EventEmitter } from "/client/emitter.js";

/** @typedef {import("/client/identity.js").Identity} Identity */
/** @typedef {import("./address.js").Place} Place */
/** @typedef {import("./mesh.js").Node} Node */
/** What the coordinator carried. @typedef {{ direction: "in" | "out", type: string, peerId: string, at: number }} Signal */
/** @typedef {{ base: string, place: Place, name: string, identity: Identity, signal: (signal: Signal) => void }} Entering */

const INVITE_MS = 24 * 60 * 60 * 1000;
/** How the page looks at its links, not how they are made. */
const RELAYED = "relay";

/** The coordinator of a relay. @param {string} base */
const coordinatorOf = (base) => `${base}/webrtc`;

/** Events: `change` (who is here, or a link), `trouble` (error; null: it is over). */
export class Visit extends EventEmitter {
  /** @type {Map<string, { rttMs: number | null, relayed: boolean }>} */
  #measured = new Map();

  /** @param {WebRTCPeer} peer @param {RoomApplication} app @param {string} room */
  constructor(peer, app, room) {
    super();
    this.peer = peer;
    this.app = app;
    this.room = room;
    for (const event of ["peer-joined", "peer-left", "peer-connected", "peer-disconnected"]) peer.on(event, () => this.emit("change"));
    app.on("member", () => this.emit("change"));
    peer.on("state", (state) => {
      this.emit("trouble", state === "waiting" ? { code: "unreachable", message: "The coordinator does not answer. Links that are open stay open; the page tries again by itself." } : null);
      this.emit("change");
    });
    peer.on("error", (error) => {
      // What concerns one link is shown by that link.
      if (!error.peerId && error.code !== "unreachable" && error.code !== "closed") this.emit("trouble", error);
    });
  }

  /** @param {Entering} entering @returns {Promise<Visit>} */
  static async enter({ base, place, name, identity, signal }) {
    const peer = new WebRTCPeer(identity.nodeId, { identity });
    const app = new RoomApplication({ signer: identity, room: place.room, name });
    const visit = new Visit(peer, app, place.room);
    try {
      await peer.connectToCoordinator(coordinatorOf(base));
      const now = () => Date.now();
      peer.signaling?.on("signal", ({ type, from }) => signal({ direction: "in", type, peerId: from, at: now() }));
      peer.signaling?.on("sent", ({ type, to }) => signal({ direction: "out", type, peerId: to, at: now() }));
      peer.on("peer-joined", (_, peerId) => signal({ direction: "in", type: "peer-joined", peerId, at: now() }));
      peer.on("peer-left", (_, peerId) => signal({ direction: "in", type: "peer-left", peerId, at: now() }));
      app.attach(peer);
      await peer.joinRoom(place.room, { name, capabilities: ["chat", "learning", "memory-sync"] }, place.invite === null ? {} : { invite: place.invite });
      return visit;
    } catch (error) {
      app.close();
      peer.close();
      throw error;
    }
  }

  get id() {
    return this.peer.nodeId;
  }

  /** How many links are open, in words. */
  get links() {
    const open = this.peers().filter(({ state }) => state === "open" || state === "relayed").length;
    return open === 0 ? "nobody else is linked yet" : `${counted(open, "link")} open`;
  }

  /** Who is here, in alphabetical order of ids. @returns {Node[]} */
  peers() {
    const open = new Set(this.peer.connected);
    return this.peer
      .members(this.room)
      .map(({ nodeId: id }) => {
        const measured = this.#measured.get(id);
        const up = measured?.relayed ? /** @type {const} */ ("relayed") : /** @type {const} */ ("open");
        const connection = this.peer.connections.get(id);
        const broken = connection?.connectionState === "failed" || connection?.connectionState === "disconnected";
        const state = open.has(id) && !broken ? up : broken ? /** @type {const} */ ("lost") : /** @type {const} */ ("making");
        return { id, name: this.app.nameOf(id), state, rttMs: measured?.rttMs ?? null };
      })
      .sort((one, other) => (one.id < other.id ? -1 : 1));
  }

  /** About this node, as label and value. @returns {[string, string][]} */
  facts() {
    const { signaling } = this.peer;
    const over = signaling?.transport === "websocket" ? "WebSocket" : signaling?.transport === "poll" ? "long polling" : "nothing at the moment";
    return [
      ["Signals over", over],
      ["Room checks", { open: "signatures of ids that claim a key", signed: "signatures of ids", required: "signatures of ids and of links" }[signaling?.mode ?? ""] ?? "–"],
      ["Remembered", counted(this.app.memory.traces.length, "trace")],
    ];
  }

  /** Reads each link's way and its time there and back. */
  async measure() {
    await Promise.all(
      [...this.peer.connections].map(async ([id, connection]) => {
        const stats = await connection.getStats();
        const all = [...stats.values()];
        const transport = all.find(({ type, selectedCandidatePairId }) => type === "transport" && selectedCandidatePairId);
        const pair = stats.get(transport?.selectedCandidatePairId) ?? all.find(({ type, state, selected, nominated }) => type === "candidate-pair" && state === "succeeded" && (selected || nominated));
        if (!pair) return;
        const relayed = [pair.localCandidateId, pair.remoteCandidateId].some((candidate) => stats.get(candidate)?.candidateType === RELAYED);
        const rttMs = typeof pair.currentRoundTripTime === "number" ? pair.currentRoundTripTime * 1000 : null;
        this.#measured.set(id, { rttMs, relayed });
      }),
    );
  }

  /** Tells the room, and closes every link. */
  async leave() {
    this.app.close();
    await this.peer.leaveRoom(this.room).catch(() => {});
    this.peer.close();
  }
}

/**
 * A private room of this identity, with an invite for a day that lets anybody in who has it.
 * @param {{ base: string, identity: Identity }} owner
 * @returns {Promise<Place>}
 */
export async function makePrivateRoom({ base, identity }) {
  const peer = new WebRTCPeer(identity.nodeId, { identity, autoConnect: false });
  try {
    await peer.connectToCoordinator(coordinatorOf(base));
    const { signaling } = peer;
    if (!signaling) throw new Error("the coordinator went away: try again");
    const room = await signaling.createRoom({ salt: crypto.randomUUID() });
    const invite = await makeInvite(identity, { networkId: signaling.networkId, room, exp: Date.now() + INVITE_MS });
    return { room, invite };
  } finally {
    peer.close();
  }
}
