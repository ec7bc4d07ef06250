// What Node lacks of a browser: a WebSocket (package `ws`) and an RTCPeerConnection (package `werift`).

import { RTCDtlsTransport, RTCPeerConnection as Werift } from "werift";
import { WebSocket as NodeWebSocket } from "ws";

/** @typedef {import("werift").RTCDataChannel} WeriftChannel */
/** @typedef {import("werift").RTCIceTransport} WeriftIce */

/** After a restart the other side's candidates follow its description; so long they may take. */
const CANDIDATES_MS_MAX = 5_000;
const CANDIDATES_LOOK_MS = 20;

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
      const whole = /** @type {any} */ (this);
      const connect = whole.connect;
      whole.connect = async () => {
        await this.#startAgain();
        return connect.call(this);
      };
    }

    /** With DTLS up, werift calls a connection connected after a restart of ICE, and looks for no way. */
    async #startAgain() {
      const restarted = this.dtlsTransports.filter(({ state, iceTransport }) => state === "connected" && !iceTransport.connection.nominated);
      if (restarted.length > 0) /** @type {any} */ (this).secureManager.setConnectionState("connecting");
      for (const { iceTransport } of restarted) {
        await hasCandidates(iceTransport);
        await iceTransport.start();
      }
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

/** werift gives up at once where it starts with none. @param {WeriftIce} ice */
async function hasCandidates({ connection }) {
  const { generation } = connection;
  for (let waited = 0; waited < CANDIDATES_MS_MAX; waited += CANDIDATES_LOOK_MS) {
    if (connection.remoteCandidates.length > 0 || connection.generation !== generation) return;
    await new Promise((resolve) => setTimeout(resolve, CANDIDATES_LOOK_MS));
  }
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
