// Peers of a Sutantra coordinator: what an application imports.

export { SutantraError } from "./errors.js";
export { EventEmitter } from "./emitter.js";
export { KIND } from "./framing.js";
export { fetchFromSeed, initWebRTCPeer } from "./glue.js";
export { Identity, nodeIdOf } from "./identity.js";
export { attenuateInvite, checkInvite, makeInvite, parseInvite, privateRoom } from "./invite.js";
export { WebRTCPeer } from "./peer.js";
export { SutantraSignaling } from "./signaling.js";
export { HttpTransport, WebRTCTransport, WebSocketTransport } from "./transport.js";
