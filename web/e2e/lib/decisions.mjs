// A source of access decisions: opens and closes gates over the relay's Unix socket.
//
// Frames both ways: length u16 of what follows, type u8, body (`sfu::ports::foreign`).

import { once } from "node:events";
import { connect } from "node:net";

import { must } from "./scenario.mjs";

const HELLO = 1;
const JOINED = 2;
const LEFT = 3;
const GATE = 16;
const VERSION = 1;
/** shard u16, index u32, generation u32 */
const SLOT_BYTES = 10;
/** shard u16, gate command 32 B */
const GATE_BODY_BYTES = 34;

/** @typedef {{ slot: Buffer, label: string }} Subscriber */

export class DecisionSource {
  /** Who is there, by slot. @type {Map<string, Subscriber>} */
  present = new Map();
  /** Why the relay is not heard any more. @type {string | null} */
  ended = null;
  #unread = Buffer.alloc(0);

  /** @param {import("node:net").Socket} relay */
  constructor(relay) {
    this.relay = relay;
    relay.on("data", (bytes) => this.#take(bytes));
    relay.on("error", (error) => (this.ended ??= String(error)));
    relay.on("close", () => (this.ended ??= "the relay closed the socket"));
  }

  /** @param {string} path */
  static async connect(path) {
    const relay = connect(path);
    const source = new DecisionSource(relay);
    await once(relay, "connect");
    return source;
  }

  /** A subscriber whose label holds this word. @param {string} word @returns {Subscriber | null} */
  find(word) {
    must(this.ended === null, `the source of decisions ended: ${this.ended}`);
    return [...this.present.values()].find(({ label }) => label.includes(word)) ?? null;
  }

  /** @param {Subscriber} subscriber @param {boolean} open */
  decide({ slot }, open) {
    must(this.present.has(slot.toString("hex")), "the subscriber to decide about has left");
    const frame = Buffer.alloc(3 + GATE_BODY_BYTES);
    frame.writeUInt16BE(1 + GATE_BODY_BYTES, 0);
    frame[2] = GATE;
    slot.copy(frame, 3, 0, 2);
    const command = frame.subarray(5);
    command[0] = open ? 1 : 0;
    slot.copy(command, 4, 2);
    command[12] = 255; // every layer
    this.relay.write(frame);
  }

  close() {
    this.relay.destroy();
  }

  /** @param {Buffer} bytes */
  #take(bytes) {
    this.#unread = Buffer.concat([this.#unread, bytes]);
    while (this.#unread.length >= 2) {
      const end = 2 + this.#unread.readUInt16BE(0);
      if (this.#unread.length < end) return;
      this.#read(this.#unread.subarray(2, end));
      this.#unread = this.#unread.subarray(end);
    }
  }

  /** @param {Buffer} frame */
  #read(frame) {
    const body = Buffer.from(frame.subarray(1));
    const slot = body.subarray(0, SLOT_BYTES);
    const key = slot.toString("hex");
    switch (frame[0]) {
      case HELLO:
        if (body[0] !== VERSION) this.#refuse(`the relay speaks version ${body[0]}`);
        break;
      case JOINED:
        this.present.set(key, { slot, label: body.subarray(SLOT_BYTES).toString() });
        break;
      case LEFT:
        this.present.delete(key);
        break;
      default:
        this.#refuse(`unknown frame ${frame[0]}`);
    }
  }

  /** @param {string} why */
  #refuse(why) {
    this.ended = why;
    this.relay.destroy();
  }
}
