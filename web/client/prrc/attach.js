// A channel on a WebRTCPeer: which members of its room are reached, over which of three transports.

import { HttpTransport, WebRTCTransport, WebSocketTransport } from "../transport.js";
import { KIND } from "./channel.js";

/** @typedef {import("./channel.js").PRRCChannel} PRRCChannel */
/** @typedef {import("../peer.js").WebRTCPeer} WebRTCPeer */
/** @typedef {"webrtc" | "websocket" | "http"} TransportKind */

/** @type {Record<TransportKind, new (peer: WebRTCPeer, peerId: string) => import("./channel.js").Transport>} */
const TRANSPORTS = { webrtc: WebRTCTransport, websocket: WebSocketTransport, http: HttpTransport };

/**
 * Keeps the channel's peers the same as the room's members that can be reached.
 * @param {WebRTCPeer} peer that has a coordinator
 * @param {PRRCChannel} channel
 * @param {TransportKind} kind `websocket` and `http` go through the coordinator, signed
 * @returns {() => void} ends it
 */
export function attach(peer, channel, kind) {
  const { signaling } = peer;
  if (!signaling) throw new RangeError("the peer has no coordinator yet: call connectToCoordinator first");
  const Transport = TRANSPORTS[kind];
  if (!Transport) throw new RangeError(`a transport is ${Object.keys(TRANSPORTS).join(", ")}, not ${JSON.stringify(kind)}`);
  const reconcile = () => {
    const members = peer.members(channel.room).map(({ nodeId }) => nodeId);
    // A link to somebody who is in another room of ours only is not this room's.
    const open = kind === "webrtc" ? new Set(peer.connected) : null;
    const reached = new Set(members.filter((id) => id !== peer.nodeId && (!open || open.has(id))));
    for (const id of [...channel.peers.keys()]) if (!reached.has(id)) channel.disconnect(id);
    for (const id of reached) if (!channel.peers.has(id)) channel.connect(id, new Transport(peer, id));
  };
  const receive = (/** @type {string} */ from, /** @type {unknown} */ data, /** @type {{ kind: number }} */ info) => {
    if (info.kind === KIND.PRRC || info.kind === KIND.COMMIT) channel.receive(from, data);
  };
  const events = ["peer-connected", "peer-disconnected", "peer-joined", "peer-left"];
  for (const event of events) peer.on(event, reconcile);
  peer.on("message", receive);
  signaling.on("joined", reconcile);
  reconcile();
  return () => {
    for (const event of events) peer.off(event, reconcile);
    peer.off("message", receive);
    signaling.off("joined", reconcile);
  };
}
