// From the address of any node to a peer in a room: what `/nodes` says is all that one needs to know.

import { SutantraError } from "./errors.js";
import { call } from "./http.js";
import { Identity } from "./identity.js";
import { mistaken, mustBeAddress, mustBeObject, mustBeOptions } from "./inputs.js";
import { WebRTCPeer } from "./peer.js";

/** What a node says of itself. @typedef {{ nodeId: string, networkId: string, webrtc: any, coordinatorUrl: string | null, iceServers: RTCIceServer[] }} Seed */

/**
 * Asks a node where its coordinator is.
 * @param {string} url of the node
 * @param {{ path?: string, fetch?: typeof globalThis.fetch }} [options]
 * @returns {Promise<Seed>} `coordinatorUrl` is null where the node has none; `iceServers` are its STUN and TURN servers
 */
export async function fetchFromSeed(url, { path = "/nodes", fetch } = {}) {
  mustBeAddress(url, "a node's address");
  const address = new URL(path, url);
  const { nodeId, networkId, webrtc } = await call(address, fetch ? { fetch } : {}).catch((error) => {
    // Something answered that is no node.
    if (error.status === null || error.details?.code !== undefined) throw error;
    throw new SutantraError("not_found", `${address.host} answers ${address.pathname} with ${error.status} and not as a node does: check host and port`, { status: error.status, cause: error });
  });
  if (typeof nodeId !== "string") throw new SutantraError("not_found", `${address.host} answers ${address.pathname}, but not as a node does: check host and port`);
  const enabled = webrtc?.enabled === true && typeof webrtc.coordinatorUrl === "string";
  const stun = Array.isArray(webrtc?.stunServers) ? webrtc.stunServers : [];
  const turn = Array.isArray(webrtc?.turnServers) ? webrtc.turnServers : [];
  const iceServers = [...stun.map((/** @type {string} */ urls) => ({ urls })), ...turn];
  return { nodeId, networkId, webrtc, coordinatorUrl: enabled ? webrtc.coordinatorUrl : null, iceServers };
}

/**
 * A peer that is connected to the coordinator of a node, and in a room where one is named.
 * @param {{ seed: string, nodeId?: string, room?: string, metadata?: object, invite?: string, autoWebRTC?: boolean }
 *   & import("./peer.js").PeerOptions} whole without `identity` and `nodeId` a new identity is made; other options are `WebRTCPeer`'s
 * @returns {Promise<WebRTCPeer | null>} null: the node has no coordinator, or `autoWebRTC` is false
 */
export async function initWebRTCPeer(whole) {
  mustBeObject("what initWebRTCPeer takes", whole);
  const { seed, nodeId, room, metadata, invite, autoWebRTC, ...options } = whole;
  if (autoWebRTC === false) return null;
  if (seed === undefined) mistaken("`seed` is the address of a node", seed);
  mustBeOptions(options);
  const { coordinatorUrl, iceServers } = await fetchFromSeed(seed, options.fetch ? { fetch: options.fetch } : {});
  if (coordinatorUrl === null) return null;
  const identity = options.identity ?? (nodeId === undefined ? await Identity.generate() : null);
  const peer = new WebRTCPeer(nodeId ?? identity?.nodeId ?? "", { ...options, identity });
  if (!options.iceServers) peer.iceServers = iceServers;
  await peer.connectToCoordinator(coordinatorUrl);
  try {
    if (room !== undefined) await peer.joinRoom(room, metadata, invite === undefined ? {} : { invite });
  } catch (error) {
    peer.close();
    throw error;
  }
  return peer;
}
