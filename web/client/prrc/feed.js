// RoomFeed: what a member says to a whole room reaches every member once, also whom it has no link to.

import { EventEmitter } from "../emitter.js";
import { idOf, randomHex, signText, textHash, verifyText } from "./signed.js";

/** @typedef {import("./channel.js").PRRCChannel} PRRCChannel */
/** @typedef {import("./signed.js").Signer} Signer */

export const TEXT_CHARS_MAX = 8 * 1024;
/** Ids that are remembered, so that a copy that comes late is known as one. */
const SEEN_MAX = 8192;
/** What a newcomer is told of: the last ones. */
const RECENT_MAX = 64;
const NONCE = /^[0-9a-f]{32}$/;

/**
 * @typedef {object} Item
 * @property {string} id SHA-256 of what is signed
 * @property {string} by node id of who said it, by its signature and not by whom it came from
 * @property {string} pk
 * @property {number} ts Unix ms by that node's clock
 * @property {string} nonce
 * @property {string} text
 * @property {string} sig
 */

/** @param {string} topic @param {string} room @param {Pick<Item, "by" | "ts" | "nonce" | "text">} of */
const itemText = (topic, room, { by, ts, nonce, text }) => `sutantra/feed/v1\n${topic}\n${room}\n${by}\n${ts}\n${nonce}\n${text}`;

/**
 * Each member hands a new item on to the others that it reaches; it is signed, because members relay it.
 *
 * Events: `item` (Item), once for each, also for this node's own.
 */
export class RoomFeed extends EventEmitter {
  /** Items that were not taken. A copy is what a mesh is expected to bring. */
  dropped = { forged: 0, copies: 0 };
  #channel;
  #signer;
  #topic;
  #now;
  /** @type {Set<string>} */
  #seen = new Set();
  /** @type {Item[]} */
  #recent = [];

  /** @param {{ channel: PRRCChannel, signer: Signer, topic: string, now?: () => number }} parts */
  constructor({ channel, signer, topic, now = Date.now }) {
    super();
    if (signer.nodeId !== channel.nodeId) throw new RangeError(`items are signed by the node's key: ${channel.nodeId} is not the id of the key of ${signer.nodeId}`);
    this.#channel = channel;
    this.#signer = signer;
    this.#topic = topic;
    this.#now = now;
    channel.handle(topic, (from, body) => this.#heard(from, body));
    channel.on("connected", (peerId) => {
      for (const item of this.#recent) channel.send(peerId, topic, { item });
    });
  }

  /** The last ones, oldest first. @returns {readonly Item[]} */
  get recent() {
    return this.#recent;
  }

  /** @param {string} text @returns {Promise<Item>} */
  async share(text) {
    if (typeof text !== "string" || text === "" || text.length > TEXT_CHARS_MAX) throw new RangeError(`an item has 1 to ${TEXT_CHARS_MAX} characters: say it shorter, or send a file and share its name`);
    const what = { by: this.#signer.nodeId, ts: this.#now(), nonce: randomHex(16), text };
    const signed = itemText(this.#topic, this.#channel.room, what);
    const item = { ...what, id: await textHash(signed), pk: this.#signer.pk, sig: await signText(this.#signer, signed) };
    this.#keep(item);
    this.#channel.broadcast(this.#topic, { item });
    return item;
  }

  /** @param {string} from @param {any} body */
  async #heard(from, { item: value }) {
    const item = await this.#checked(value);
    if (!item) return void (this.dropped.forged += 1);
    if (this.#seen.has(item.id)) return void (this.dropped.copies += 1);
    this.#keep(item);
    this.#channel.broadcast(this.#topic, { item }, { except: from });
  }

  /** @param {any} value @returns {Promise<Item | null>} */
  async #checked(value) {
    const { by, pk, ts, nonce, text, sig } = value ?? {};
    const formed = typeof text === "string" && text !== "" && text.length <= TEXT_CHARS_MAX && Number.isSafeInteger(ts) && NONCE.test(nonce);
    if (!formed || (await idOf(pk)) !== by) return null;
    const signed = itemText(this.#topic, this.#channel.room, { by, ts, nonce, text });
    const id = await textHash(signed);
    // Most are copies: their id is enough, a signature costs more.
    if (!this.#seen.has(id) && !(await verifyText(pk, sig, signed))) return null;
    return { id, by, pk, ts, nonce, text, sig };
  }

  /** @param {Item} item */
  #keep(item) {
    this.#seen.add(item.id);
    const [oldest] = this.#seen;
    if (this.#seen.size > SEEN_MAX && oldest !== undefined) this.#seen.delete(oldest);
    this.#recent.push(item);
    if (this.#recent.length > RECENT_MAX) this.#recent.shift();
    this.emit("item", item);
  }
}

/** What members of `learning` have found out. */
export class LearningRoom extends RoomFeed {
  /** @param {{ channel: PRRCChannel, signer: Signer, now?: () => number }} parts */
  constructor(parts) {
    super({ ...parts, topic: "insight" });
  }
}

/** What concerns everybody: the room is `global`. */
export class Announcements extends RoomFeed {
  /** @param {{ channel: PRRCChannel, signer: Signer, now?: () => number }} parts */
  constructor(parts) {
    super({ ...parts, topic: "announcement" });
  }
}
