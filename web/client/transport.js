// Three ways to one peer with the same two methods, so that an application need not know which it has.

import { mistaken, mustBeNodeId } from "./inputs.js";

/** @typedef {import("./peer.js").WebRTCPeer} WebRTCPeer */
/** @typedef {import("./framing.js").Message} Message */

/**
 * @typedef {object} Transport
 * @property {(data: Message, options?: { kind?: number }) => Promise<boolean>} send true: it left; false: it did not, and
 *   `error` of the peer says why where there is more to say than that no channel is open
 * @property {() => void} close
 */

/** Over the data channel. @implements {Transport} */
export class WebRTCTransport {
  /** @param {WebRTCPeer} peer @param {string} targetPeerId */
  constructor(peer, targetPeerId) {
    mustBeWay(peer, targetPeerId);
    this.peer = peer;
    this.targetPeerId = targetPeerId;
  }

  /** @param {Message} data @param {{ kind?: number }} [options] */
  send(data, options) {
    return this.peer.send(this.targetPeerId, data, options);
  }

  close() {
    this.peer.disconnectPeer(this.targetPeerId);
  }
}

class RelayTransport {
  #closed = false;
  #over;

  /** @param {WebRTCPeer} peer @param {string} targetPeerId @param {"http" | "websocket"} over */
  constructor(peer, targetPeerId, over) {
    mustBeWay(peer, targetPeerId);
    this.peer = peer;
    this.targetPeerId = targetPeerId;
    this.#over = over;
  }

  /** @param {Message} data @param {{ kind?: number }} [options] @returns {Promise<boolean>} */
  async send(data, options = {}) {
    if (this.#closed) return false;
    try {
      await this.peer.relay(this.targetPeerId, data, { ...options, over: this.#over });
      return true;
    } catch (error) {
      this.peer.emit("error", error);
      return false;
    }
  }

  close() {
    this.#closed = true;
  }
}

/** Through the coordinator by HTTP: signed frames, at most 384 KiB a message. @implements {Transport} */
export class HttpTransport extends RelayTransport {
  /** @param {WebRTCPeer} peer @param {string} targetPeerId */
  constructor(peer, targetPeerId) {
    super(peer, targetPeerId, "http");
  }
}

/** Through the coordinator by the WebSocket that is there: signed frames, at most 384 KiB a message. @implements {Transport} */
export class WebSocketTransport extends RelayTransport {
  /** @param {WebRTCPeer} peer @param {string} targetPeerId */
  constructor(peer, targetPeerId) {
    super(peer, targetPeerId, "websocket");
  }
}

/** @param {unknown} peer @param {unknown} targetPeerId */
function mustBeWay(peer, targetPeerId) {
  if (typeof (/** @type {any} */ (peer)?.relay) !== "function") mistaken("a transport's first argument is a WebRTCPeer", peer);
  mustBeNodeId(targetPeerId, "a transport's second argument, a peer's id,");
}
