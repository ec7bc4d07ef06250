// Members of a room on a network that delivers each message once, in the order of its sending on each link.

import { Identity } from "../client/identity.js";
import { CoherentCommitProtocol, GlobalMemoryField, LearningRoom, PRRCChannel } from "../client/prrc/index.js";

/** @typedef {import("../client/prrc/signed.js").Signer} Signer */

/**
 * @typedef {object} Member
 * @property {string} id
 * @property {Signer} signer
 * @property {PRRCChannel} channel
 * @property {CoherentCommitProtocol} protocol
 * @property {GlobalMemoryField} memory
 * @property {LearningRoom} learning
 * @property {{ committed: number, synced: number }} events
 * @property {[string, string][]} heard
 * @property {(from: string, topic: string, body: unknown) => void} hear
 */

/** @returns {Promise<Signer>} */
export const newSigner = () => Identity.generate();

/**
 * Turns without a message after which all is quiet. Each goes through the threads that sign and verify,
 * so that a busy machine makes a turn longer, and not the work one of more turns.
 */
const QUIET_TURNS = 40;

export class World {
  /** @type {Member[] & { 0: Member, 1: Member, 2: Member, 3: Member, 4: Member }} */
  members = /** @type {any} */ ([]);
  #options;
  #room;
  /** @type {{ from: string, to: string, data: string }[]} */
  #held = [];
  #holding = false;
  /** @type {Set<string>} */
  #cut = new Set();
  /** @type {(() => void)[]} */
  #mail = [];
  #delivered = 0;

  /** @param {object} options @param {string} room */
  constructor(options, room) {
    this.#options = options;
    this.#room = room;
  }

  /** Everybody reaches everybody. @param {number} count @param {object} [options] of the protocol @param {string} [room] */
  static async mesh(count, options = {}, room = "memory-sync") {
    const world = new World(options, room);
    for (let at = 0; at < count; at += 1) await world.add();
    await world.settled();
    return world;
  }

  /** Each reaches its neighbours. @param {number} count @param {string} room */
  static async chain(count, room) {
    const world = new World({}, room);
    for (let at = 0; at < count; at += 1) await world.add(at === 0 ? [] : [/** @type {Member} */ (world.members[at - 1])]);
    await world.settled();
    return world;
  }

  /** @param {Member[]} [neighbours] else all @returns {Promise<Member>} */
  async add(neighbours = [...this.members]) {
    const signer = await newSigner();
    const channel = new PRRCChannel(signer.nodeId, { room: this.#room });
    const protocol = new CoherentCommitProtocol({ channel, signer, timeoutMs: 5000, ...this.#options });
    const memory = new GlobalMemoryField({ channel, protocol });
    const learning = new LearningRoom({ channel, signer });
    const events = { committed: 0, synced: 0 };
    /** @type {[string, string][]} */
    const heard = [];
    protocol.on("committed", () => void (events.committed += 1));
    memory.on("synced", () => void (events.synced += 1));
    learning.on("item", (/** @type {import("../client/prrc/feed.js").Item} */ { by, text }) => void heard.push([by, text]));
    /** @type {Member} */
    const member = {
      id: signer.nodeId,
      signer,
      channel,
      protocol,
      memory,
      learning,
      events,
      heard,
      hear: (from, topic, body) => void channel.receive(from, JSON.stringify({ prrc: 1, room: this.#room, topic, body })),
    };
    for (const other of neighbours) {
      channel.connect(other.id, this.#link(member, other));
      other.channel.connect(member.id, this.#link(other, member));
    }
    this.members.push(member);
    return member;
  }

  /** Nothing goes to it or comes from it any more. @param {Member} member */
  cut(member) {
    this.#cut.add(member.id);
  }

  /** Keeps what is sent, or lets all that was kept go. @param {boolean} holding */
  hold(holding) {
    this.#holding = holding;
    if (!holding) for (const letter of this.#held.splice(0)) this.#post(letter);
  }

  /** What a member sent while the network held it. @param {string} from @param {string} topic */
  *heldOf(from, topic) {
    for (const letter of this.#held) {
      const message = JSON.parse(letter.data);
      if (letter.from === from && message.topic === topic) yield message.body;
    }
  }

  /** Delivers until nobody says anything any more. */
  async settled() {
    for (let turns = 0; turns < QUIET_TURNS; turns += 1) {
      const before = this.#delivered;
      while (this.#mail.length > 0) this.#mail.shift()?.();
      await crypto.subtle.digest("SHA-256", new Uint8Array(1));
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#delivered !== before || this.#mail.length > 0) turns = 0;
    }
  }

  /** Lets work in progress end, with what is held still held. */
  quiet() {
    return this.settled();
  }

  /** @param {Member} from @param {Member} to */
  #link(from, to) {
    return {
      send: (/** @type {string} */ data) => {
        const letter = { from: from.id, to: to.id, data };
        if (this.#holding) this.#held.push(letter);
        else this.#post(letter);
      },
      close: () => {},
    };
  }

  /** @param {{ from: string, to: string, data: string }} letter */
  #post({ from, to, data }) {
    if (this.#cut.has(from) || this.#cut.has(to)) return;
    const deliver = () => {
      this.#delivered += 1;
      this.members.find(({ id }) => id === to)?.channel.receive(from, data);
    };
    this.#mail.push(deliver);
    // A promise that is awaited somewhere may depend on it, with nobody in `settled`.
    setImmediate(() => {
      const at = this.#mail.indexOf(deliver);
      if (at >= 0) this.#mail.splice(at, 1)[0]?.();
    });
  }
}
