// RoomApplication: chat, insights and a common memory of one room, over any of three transports.

import { EventEmitter } from "../emitter.js";
import { mistaken, mustBeIdentity, mustBeRoom } from "../inputs.js";
import { PRRCChannel } from "./channel.js";
import { CoherentCommitProtocol } from "./commit.js";
import { Announcements, LearningRoom } from "./feed.js";
import { GlobalMemoryField } from "./memory.js";
import { attach } from "./attach.js";

/** @typedef {import("./attach.js").TransportKind} TransportKind */
/** @typedef {import("./signed.js").Signer} Signer */
/** @typedef {import("../peer.js").WebRTCPeer} WebRTCPeer */
/** One line of the chat. @typedef {{ from: string, name: string, text: string, ts: number }} Line */

const TEXT_CHARS_MAX = 4096;
const NAME_CHARS_MAX = 40;

/**
 * Events: `chat` (Line), also this node's own; `member` (peerId, name) when one is reached or says its name;
 * `gone` (peerId); all others are those of its parts.
 */
export class RoomApplication extends EventEmitter {
  /** What members call themselves, by node id. @type {Map<string, string>} */
  names = new Map();
  #detach = () => {};
  /** What the coordinator says that a member is called. @type {(peerId: string) => string} */
  #shown = () => "";

  /**
   * @param {object} options
   * @param {Signer} options.signer
   * @param {string} options.room
   * @param {string} [options.name]
   * @param {Omit<ConstructorParameters<typeof CoherentCommitProtocol>[0], "channel" | "signer">} [options.commit] how the room agrees
   */
  constructor({ signer, room, name = "", commit = {} }) {
    super();
    mustBeIdentity(signer);
    mustBeRoom(room);
    if (typeof name !== "string") mistaken("a name is a string", name);
    this.name = name.slice(0, NAME_CHARS_MAX);
    this.nodeId = signer.nodeId;
    this.channel = new PRRCChannel(signer.nodeId, { room });
    this.protocol = new CoherentCommitProtocol({ channel: this.channel, signer, ...commit });
    this.memory = new GlobalMemoryField({ channel: this.channel, protocol: this.protocol });
    this.learning = new LearningRoom({ channel: this.channel, signer });
    this.announcements = new Announcements({ channel: this.channel, signer });
    this.channel.handle("name", (from, { name: said }) => this.#named(from, said));
    this.channel.handle("chat", (from, { text, ts }) => {
      if (typeof text !== "string" || text.length > TEXT_CHARS_MAX || !Number.isFinite(ts)) throw new RangeError("not a line of chat");
      this.emit("chat", { from, name: this.nameOf(from), text, ts });
    });
    this.channel.on("connected", (peerId) => {
      this.channel.send(peerId, "name", { name: this.name });
      this.emit("member", peerId, this.nameOf(peerId));
    });
    this.channel.on("disconnected", (peerId) => this.emit("gone", peerId));
  }

  /**
   * Reaches the members through a peer that has a coordinator, and joins the room or is about to.
   * @param {WebRTCPeer} peer @param {TransportKind} [transport]
   */
  attach(peer, transport = "webrtc") {
    this.#detach();
    this.#shown = (peerId) => {
      const member = peer.members(this.channel.room).find(({ nodeId }) => nodeId === peerId);
      // What a stranger says of itself has any type.
      const name = member?.name ?? /** @type {any} */ (member?.metadata)?.name;
      return typeof name === "string" ? name : "";
    };
    this.#detach = attach(peer, this.channel, transport);
  }

  /** @param {string} peerId */
  nameOf(peerId) {
    return this.names.get(peerId) ?? this.#shown(peerId).slice(0, NAME_CHARS_MAX);
  }

  /** Says a line to everybody. @param {string} text @returns {number} how many it was given to */
  chat(text) {
    if (typeof text !== "string" || text === "" || text.length > TEXT_CHARS_MAX) throw new RangeError(`a line has 1 to ${TEXT_CHARS_MAX} characters: say it in parts`);
    const line = { text, ts: Date.now() };
    const given = this.channel.broadcast("chat", line);
    this.emit("chat", { from: this.nodeId, name: this.name, ...line });
    return given;
  }

  /** Ends it; the peer stays as it is. */
  close() {
    this.#detach();
    this.protocol.close();
    for (const peerId of [...this.channel.peers.keys()]) this.channel.disconnect(peerId);
  }

  /** @param {string} from @param {unknown} said */
  #named(from, said) {
    if (typeof said !== "string") throw new RangeError("a name is a text");
    this.names.set(from, said.slice(0, NAME_CHARS_MAX));
    this.emit("member", from, this.nameOf(from));
  }
}
