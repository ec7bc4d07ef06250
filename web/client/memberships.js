// Rooms that a node is in, or comes back to once its coordinator is there again.

import { Backoff } from "./backoff.js";
import { asSutantraError, SutantraError } from "./errors.js";
import { pause } from "./poll.js";

/** @typedef {import("./signaling.js").Joined} Joined */
/** @typedef {import("./signaling.js").Member} Member */
/** @typedef {import("./socket.js").SocketCarrier | import("./poll.js").PollCarrier} Carrier */
/**
 * What memberships ask of their owner.
 * @typedef {object} MembershipPorts
 * @property {() => Carrier | null} carrier that is open
 * @property {(answer: any) => RTCIceServer[]} answered takes what an answer to a join says beside the members
 * @property {(event: string, ...args: any[]) => void} tell
 * @property {AbortSignal} stop ends the waiting
 * @property {(() => number) | undefined} random
 */

/** Refusals of a join that may pass. */
const PASSING = new Set(["rate_limited", "room_full", "internal", "draining", "timeout", "unreachable", "closed"]);

export class Memberships {
  /** @type {Map<string, { metadata: object, invite?: string | undefined, joined: boolean, early?: any[] | null }>} */
  #rooms = new Map();
  #nodeId;
  #ports;

  /** @param {string} nodeId @param {MembershipPorts} ports */
  constructor(nodeId, ports) {
    this.#nodeId = nodeId;
    this.#ports = ports;
  }

  get names() {
    return [...this.#rooms.keys()];
  }

  /** @param {string} room @param {object} metadata @param {string | undefined} invite @returns {Promise<Joined>} */
  async join(room, metadata, invite) {
    this.#rooms.set(room, { metadata, invite, joined: false });
    try {
      return await this.#joinNow(room, { again: false });
    } catch (error) {
      this.#rooms.delete(room);
      throw error;
    }
  }

  /** @param {string} room */
  async leave(room) {
    if (!this.#rooms.delete(room)) return;
    await this.#ports.carrier()?.leave(room, this.#nodeId).catch((error) => {
      // Without a connection the coordinator finds out by itself.
      if (!PASSING.has(asSutantraError(error).code)) throw error;
    });
  }

  /** Forgets them all. */
  clear() {
    this.#rooms.clear();
  }

  /** Comes back to those that the coordinator does not know of. @param {string[]} resumed that it knows of */
  async rejoin(resumed) {
    const fresh = [...this.#rooms].filter(([room, { joined }]) => joined && !resumed.includes(room));
    for (const [room] of fresh) await this.#rejoin(room);
  }

  /** Asks for a room's answer again, which changes nothing there. @returns {Promise<void>} */
  async askAgain() {
    const carrier = this.#ports.carrier();
    for (const [room, { joined, metadata, invite }] of this.#rooms) {
      if (!carrier || !joined) continue;
      // An invite may be over by now, so another room answers.
      const answer = await carrier.join({ room, nodeId: this.#nodeId, metadata, ...(invite === undefined ? {} : { invite }) }).catch(() => null);
      if (answer) return void this.#ports.answered(answer);
    }
  }

  /** Who came or went. @param {any} change */
  presence(change) {
    const early = this.#rooms.get(change.room)?.early;
    if (early) early.push(change);
    else this.#tell(change);
  }

  /** @param {string} room */
  async #rejoin(room) {
    const backoff = new Backoff(this.#ports.random);
    const carrier = this.#ports.carrier();
    while (this.#rooms.has(room) && this.#ports.carrier() === carrier) {
      try {
        await this.#joinNow(room, { again: true });
        return;
      } catch (thrown) {
        const error = asSutantraError(thrown);
        // With the connection gone the next welcome comes here again.
        if (error.code === "closed" || error.code === "unreachable" || error.code === "unauthenticated") return;
        this.#ports.tell("error", error);
        if (!PASSING.has(error.code)) {
          this.#rooms.delete(room);
          this.#ports.tell("left", room, error);
          return;
        }
        await pause(backoff.next(error.retryAfterMs), this.#ports.stop);
      }
    }
  }

  /** @param {string} room @param {{ again: boolean }} how @returns {Promise<Joined>} */
  async #joinNow(room, { again }) {
    const wanted = this.#rooms.get(room);
    const carrier = this.#ports.carrier();
    if (!wanted || !carrier) {
      throw new SutantraError("closed", "there is no connection to the coordinator: connect first, or wait until it is back", { room });
    }
    const { metadata, invite } = wanted;
    // Who comes or goes while the answer is on its way may be told before it.
    wanted.early = [];
    try {
      const answer = await carrier.join({ room, nodeId: this.#nodeId, metadata, ...(invite === undefined ? {} : { invite }) });
      wanted.joined = true;
      const iceServers = this.#ports.answered(answer);
      const peers = (Array.isArray(answer.peers) ? answer.peers : []).filter((/** @type {Member} */ { nodeId }) => nodeId !== this.#nodeId);
      const joined = { room, peers, iceServers, again };
      this.#ports.tell("joined", joined);
      for (const change of wanted.early ?? []) this.#tell(change);
      return joined;
    } finally {
      wanted.early = null;
    }
  }

  /** @param {any} change */
  #tell({ type, room, peer, peerId }) {
    if (type === "peer-left") this.#ports.tell("peer-left", room, peerId);
    else if (typeof peer?.nodeId === "string") this.#ports.tell("peer-joined", room, peer);
  }
}
