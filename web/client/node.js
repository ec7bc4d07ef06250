// What Node lacks of a browser: a WebSocket (package `ws`) and an RTCPeerConnection (package `werift`).

import { RTCDtlsTransport, RTCPeerConnection as Werift } from "werift";
import { WebSocket as NodeWebSocket } from "ws";

/** @typedef {import("werift").RTCDataChannel} WeriftChannel */

/**
 * Options of a `WebRTCPeer` in Node: `new WebRTCPeer(id, { ...nodeOptions() })`.
 * @param {object} [werift] settings of werift's own, for example `{ iceAdditionalHostAddresses: ["127.0.0.1"] }`
 */
export function nodeOptions(werift = {}) {
  return {
    // Node 18 and 20 have none of their own; this one is the same everywhere.
    WebSocket: /** @type {typeof WebSocket} */ (/** @type {unknown} */ (NodeWebSocket)),
    RTCPeerConnection: peerConnectionClass(werift),
  };
}

/**
 * werift's connection with what it does otherwise than browsers mended.
 * @param {object} werift
 * @returns {typeof RTCPeerConnection}
 */
export function peerConnectionClass(werift = {}) {
  class NodePeerConnection extends Werift {
    #hasOwnCertificate = false;

    /** @param {RTCConfiguration} [configuration] */
    constructor(configuration = {}) {
      // Without a list werift asks a server of its own choice; of the list it takes one address an entry.
      const iceServers = (configuration.iceServers ?? []).flatMap(({ urls, username, credential }) =>
        [urls].flat().map((url) => ({ urls: url, username, credential })),
      );
      const iceTransportPolicy = configuration.iceTransportPolicy ?? "all";
      super(/** @type {any} */ ({ ...werift, iceServers, iceTransportPolicy }));
      this.onDataChannel.subscribe(mend);
    }

    /** @override @param {any} [options] */
    async createOffer(options) {
      this.#ownCertificate();
      return super.createOffer(options);
    }

    /** @override */
    async createAnswer() {
      this.#ownCertificate();
      return super.createAnswer();
    }

    /** @override @param {string} label @param {any} options @returns {any} */
    createDataChannel(label, options) {
      return mend(super.createDataChannel(label, options));
    }

    /**
     * Settles once the description stands. werift waits until all candidates are gathered, which takes
     * seconds where a STUN server is silent; the candidates follow one by one anyway.
     * @override
     * @param {any} description
     * @returns {Promise<any>}
     */
    async setLocalDescription(description) {
      const stands = new Promise((/** @type {(value: void) => void} */ resolve) => this.signalingStateChange.once(() => resolve()));
      const whole = super.setLocalDescription(description);
      await Promise.race([whole, stands]);
      whole.catch(() => {});
      // The state changes in the middle of a step that then sets the description.
      await Promise.resolve();
    }

    /** @override @returns {any} */
    get localDescription() {
      const description = super.localDescription;
      return description && { type: description.type, sdp: description.sdp };
    }

    /** One certificate a connection, as browsers have it; werift shares one among all of a process. */
    #ownCertificate() {
      if (this.#hasOwnCertificate) return;
      this.#hasOwnCertificate = true;
      const shared = /** @type {any} */ (RTCDtlsTransport);
      shared.localCertificate = undefined;
      shared.localCertificatePromise = undefined;
    }
  }
  return /** @type {typeof RTCPeerConnection} */ (/** @type {unknown} */ (NodePeerConnection));
}

/** werift sends Buffers and no other bytes. @param {WeriftChannel} channel */
function mend(channel) {
  const send = channel.send.bind(channel);
  channel.send = (/** @type {any} */ data) => {
    if (typeof data === "string") send(data);
    else if (data instanceof ArrayBuffer) send(Buffer.from(data));
    else send(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  };
  return channel;
}
