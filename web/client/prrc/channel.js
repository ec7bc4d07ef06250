// PRRCChannel: messages between the members of a room, over whatever carries bytes to each of them.

import { EventEmitter } from "../emitter.js";

/** Kinds of a data channel's frame that applications use. */
export const KIND = Object.freeze({ APPLICATION: 0, PRRC: 1, COMMIT: 2 });
/** Longer envelopes are dropped and counted: a message of an application is text and votes, not a file. */
export const ENVELOPE_CHARS_MAX = 256 * 1024;
const TOPIC = /^[a-z][a-z0-9-]{0,31}$/;
const VERSION = 1;
const BEAT_MS_MAX = 10_000;
/** Beats that wait for their echo; one more forgets the oldest. */
const BEATS_MAX = 64;

/**
 * What carries bytes to one peer: `WebRTCTransport`, `WebSocketTransport` and `HttpTransport` are some.
 * @typedef {object} Transport
 * @property {(data: any, options?: any) => unknown} send
 * @property {() => void} close
 */

/**
 * A member of the room that can be reached.
 * @typedef {object} ChannelPeer
 * @property {Transport} transport
 * @property {number} phaseOffset ms that the peer's clock is ahead of ours, as the last beat found it
 * @property {boolean} connected
 * @property {number} lastSeen Unix ms
 */

/** @typedef {(from: string, body: any) => void | Promise<void>} Handler */

/**
 * One room's messages. Each has a topic; who wants a topic names a handler for it.
 *
 * Events: `connected` (peerId), `disconnected` (peerId), `error` (Error) for a send that failed.
 */
export class PRRCChannel extends EventEmitter {
  /** @type {Map<string, ChannelPeer>} */
  peers = new Map();
  /** Messages that were not delivered, by why. */
  dropped = { malformed: 0, oversize: 0, stranger: 0, unhandled: 0 };
  #now;
  /** @type {Map<string, Handler>} */
  #handlers = new Map();
  /** @type {Map<number, { peerId: string, sentAt: number, resolve: (rttMs: number) => void, timer: ReturnType<typeof setTimeout> }>} */
  #beats = new Map();
  #nextBeat = 1;

  /** @param {string} nodeId @param {{ room?: string, now?: () => number }} [options] */
  constructor(nodeId, { room = "global", now = Date.now } = {}) {
    super();
    this.nodeId = nodeId;
    this.room = room;
    this.#now = now;
    this.handle("beat", (from, { beat }) => void this.send(from, "echo", { beat, at: this.#now() }));
    this.handle("echo", (from, body) => this.#echo(from, body));
  }

  /**
   * From now on `peerId` is reached over `transport`, also where it was reached over another one.
   * @param {string} peerId @param {Transport} transport
   */
  connect(peerId, transport) {
    if (peerId === this.nodeId) throw new RangeError("a channel leads to others: connect was called with this node's own id");
    const known = this.peers.has(peerId);
    this.peers.set(peerId, { transport, phaseOffset: 0, connected: true, lastSeen: this.#now() });
    if (!known) this.emit("connected", peerId);
  }

  /** Forgets the peer. Its transport is its owner's to close. @param {string} peerId */
  disconnect(peerId) {
    const peer = this.peers.get(peerId);
    if (!peer) return;
    peer.connected = false;
    this.peers.delete(peerId);
    this.emit("disconnected", peerId);
  }

  /**
   * Who takes the messages of a topic; one handler each.
   * @param {string} topic @param {Handler} handler
   */
  handle(topic, handler) {
    if (!TOPIC.test(topic)) throw new RangeError(`a topic is lower-case letters, digits and hyphens, not ${JSON.stringify(topic)}`);
    if (this.#handlers.has(topic)) throw new RangeError(`the topic ${topic} of ${this.room} has a handler already: make one channel for a room and share it`);
    this.#handlers.set(topic, handler);
  }

  /**
   * @param {string} peerId @param {string} topic @param {unknown} body JSON
   * @param {{ kind?: number }} [options]
   * @returns {boolean} false: there is no such peer, or its transport refused
   */
  send(peerId, topic, body, { kind = KIND.PRRC } = {}) {
    const peer = this.peers.get(peerId);
    if (!peer) return false;
    return this.#give(peer, this.#envelope(topic, body), kind);
  }

  /**
   * To every peer that is connected now.
   * @param {string} topic @param {unknown} body JSON
   * @param {{ kind?: number, except?: string }} [options]
   * @returns {number} how many it was given to
   */
  broadcast(topic, body, { kind = KIND.PRRC, except } = {}) {
    const envelope = this.#envelope(topic, body);
    let given = 0;
    for (const [peerId, peer] of this.peers) {
      if (peerId !== except && this.#give(peer, envelope, kind)) given += 1;
    }
    return given;
  }

  /**
   * What came from a peer.
   * @param {string} peerId who sent it, by the transport's word @param {unknown} data
   * @returns {boolean} whether it was of this room, and handled
   */
  receive(peerId, data) {
    const text = typeof data === "string" ? data : data instanceof Uint8Array ? new TextDecoder().decode(data) : null;
    if (text === null) return this.#drop("malformed");
    if (text.length > ENVELOPE_CHARS_MAX) return this.#drop("oversize");
    const envelope = parse(text);
    if (!envelope) return this.#drop("malformed");
    if (envelope.room !== this.room) return false;
    const peer = this.peers.get(peerId);
    if (!peer) return this.#drop("stranger");
    peer.lastSeen = this.#now();
    const handler = this.#handlers.get(envelope.topic);
    if (!handler) return this.#drop("unhandled");
    // A handler that stumbles over what a peer sent is a malformed message, and nobody's crash.
    try {
      Promise.resolve(handler(peerId, envelope.body)).catch(() => this.#drop("malformed"));
    } catch {
      return this.#drop("malformed");
    }
    return true;
  }

  /**
   * Asks a peer for its clock, and writes down how far it is from ours.
   * @param {string} peerId @returns {Promise<number>} the way there and back in ms; NaN: no answer within 10 s
   */
  beat(peerId) {
    const beat = this.#nextBeat++;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#forget(beat), BEAT_MS_MAX);
      this.#beats.set(beat, { peerId, sentAt: this.#now(), resolve, timer });
      const [oldest] = this.#beats.keys();
      if (this.#beats.size > BEATS_MAX && oldest !== undefined) this.#forget(oldest);
      if (!this.send(peerId, "beat", { beat })) this.#forget(beat);
    });
  }

  /** Forgets everybody, and closes their transports. */
  close() {
    for (const [peerId, { transport }] of [...this.peers]) {
      this.disconnect(peerId);
      transport.close();
    }
    for (const beat of [...this.#beats.keys()]) this.#forget(beat);
  }

  /** @param {string} topic @param {unknown} body */
  #envelope(topic, body) {
    if (!TOPIC.test(topic)) throw new RangeError(`a topic is lower-case letters, digits and hyphens, not ${JSON.stringify(topic)}`);
    const text = JSON.stringify({ prrc: VERSION, room: this.room, topic, body });
    if (text.length > ENVELOPE_CHARS_MAX) throw new RangeError(`a message has at most ${ENVELOPE_CHARS_MAX} characters, this one ${text.length}: send it as a file, or in parts`);
    return text;
  }

  /** @param {ChannelPeer} peer @param {string} envelope @param {number} kind */
  #give({ transport }, envelope, kind) {
    try {
      const given = transport.send(envelope, { kind });
      // Some transports answer at once, others when it left.
      if (given instanceof Promise) given.catch((error) => this.emit("error", error));
      return given !== false;
    } catch (error) {
      this.emit("error", error);
      return false;
    }
  }

  /** @param {string} from @param {any} body */
  #echo(from, { beat, at }) {
    const waiting = this.#beats.get(beat);
    if (!waiting || waiting.peerId !== from || !Number.isFinite(at)) return;
    const now = this.#now();
    const peer = this.peers.get(from);
    // Half of the way is the best guess of when the peer looked at its clock.
    if (peer) peer.phaseOffset = Math.round(at - (waiting.sentAt + now) / 2);
    this.#beats.delete(beat);
    clearTimeout(waiting.timer);
    waiting.resolve(now - waiting.sentAt);
  }

  /** @param {number} beat */
  #forget(beat) {
    const waiting = this.#beats.get(beat);
    this.#beats.delete(beat);
    clearTimeout(waiting?.timer);
    waiting?.resolve(NaN);
  }

  /** @param {keyof PRRCChannel["dropped"]} why */
  #drop(why) {
    this.dropped[why] += 1;
    return false;
  }
}

/** Whether bytes of a peer look like a message of some channel. @param {unknown} data */
export function isEnvelope(data) {
  return typeof data === "string" && data.startsWith('{"prrc":') && parse(data) !== null;
}

/** @param {string} text @returns {{ room: string, topic: string, body: any } | null} */
function parse(text) {
  try {
    const value = JSON.parse(text);
    if (value?.prrc !== VERSION || typeof value.room !== "string" || !TOPIC.test(value.topic)) return null;
    return { room: value.room, topic: value.topic, body: value.body ?? {} };
  } catch {
    return null;
  }
}
