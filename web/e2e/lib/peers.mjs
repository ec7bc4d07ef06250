// Peers of a room as a scenario sees them: a page of a browser, this process with werift, the Rust peer.

import { WebRTCPeer } from "../../client/peer.js";
import { initWebRTCPeer } from "../../client/index.js";
import { Identity } from "../../client/identity.js";
import { nodeOptions } from "../../client/node.js";
import { must, until } from "./scenario.mjs";

/** How signals come: pushed, or fetched. @typedef {"websocket" | "poll"} Signaling */
/**
 * @typedef {object} Wish
 * @property {string} base address of the node with the coordinator: all that a peer is told
 * @property {string} room
 * @property {string} name
 * @property {Signaling} [signaling]
 * @property {boolean} [relayOnly] no way but through a TURN server
 */
/**
 * @typedef {object} RoomPeer
 * @property {string} kind
 * @property {string} id
 * @property {() => Promise<string[]>} open ids of the peers with an open channel
 * @property {() => Promise<[from: string, text: string][]>} heard every message so far
 * @property {(to: string, text: string) => Promise<boolean>} send
 * @property {() => Promise<Facts>} facts
 * @property {() => Promise<void>} close
 */
/**
 * @typedef {object} Facts
 * @property {number} connected transitions so far
 * @property {number} disconnected
 * @property {string[]} errors codes
 * @property {string | null} transport of signals
 * @property {string[]} candidates types of the local ends of the links, where they can be seen
 */
/** @typedef {import("./scenario.mjs").Browser} Browser */

/** A peer may wait for its browser's first page. */
const OPEN_MS = 20_000;

/** Runs in the page too: it may use nothing but its arguments. @param {WebRTCPeer} peer */
function watch(peer) {
  /** @type {[string, string][]} */
  const heard = [];
  const facts = { connected: 0, disconnected: 0, errors: /** @type {string[]} */ ([]) };
  peer.on("message", (from, data) => void heard.push([from, typeof data === "string" ? data : `${data.length} bytes`]));
  peer.on("peer-connected", () => void (facts.connected += 1));
  peer.on("peer-disconnected", () => void (facts.disconnected += 1));
  peer.on("error", (error) => void facts.errors.push(`${error.code}: ${error.message}`));
  const candidates = async () => {
    const types = [];
    for (const connection of peer.connections.values()) {
      const all = [...(await connection.getStats()).values()];
      const pairId = all.find((each) => each.type === "transport" && each.selectedCandidatePairId)?.selectedCandidatePairId;
      const pair = all.find((each) => each.type === "candidate-pair" && (each.id === pairId || (pairId === undefined && each.state === "succeeded" && (each.selected || each.nominated))));
      const local = all.find((each) => each.id === pair?.localCandidateId);
      if (local?.candidateType) types.push(local.candidateType);
    }
    return types;
  };
  return { peer, heard, facts: async () => ({ ...facts, transport: peer.signaling?.transport ?? null, candidates: await candidates() }) };
}

/** @param {Browser} browser @param {Wish} wish @returns {Promise<RoomPeer>} */
export async function pagePeer(browser, { base, room, name, signaling = "websocket", relayOnly = false }) {
  const page = await browser.open();
  await page.goto(`${base}/rooms`);
  const wish = { seed: base, transport: signaling, ...(relayOnly ? { rtcConfiguration: { iceTransportPolicy: "relay" } } : {}) };
  const id = await page.evaluate(`(async () => {
    const { initWebRTCPeer } = await import("/client/index.js");
    const peer = await initWebRTCPeer(${JSON.stringify(wish)});
    window.e2e = (${watch})(peer);
    await peer.joinRoom(${JSON.stringify(room)}, ${JSON.stringify({ name })});
    return peer.nodeId;
  })()`);
  return {
    kind: browser.name,
    id,
    open: () => page.evaluate("e2e.peer.connected"),
    heard: () => page.evaluate("e2e.heard"),
    send: (to, text) => page.evaluate(`e2e.peer.send(${JSON.stringify(to)}, ${JSON.stringify(text)})`),
    facts: () => page.evaluate("e2e.facts()"),
    close: async () => {
      await page.evaluate("e2e.peer.close()").catch(() => {});
      await page.close();
    },
  };
}

/** @param {Wish} wish @returns {Promise<RoomPeer & { peer: WebRTCPeer }>} */
export async function nodePeer({ base, room, name, signaling = "websocket", relayOnly = false }) {
  const identity = await Identity.generate();
  const peer = await initWebRTCPeer({ seed: base, identity, transport: signaling, ...nodeOptions(), ...(relayOnly ? { rtcConfiguration: { iceTransportPolicy: "relay" } } : {}) });
  must(peer, `${base} has no coordinator`);
  const watched = watch(peer);
  await peer.joinRoom(room, { name });
  return {
    kind: "node",
    id: peer.nodeId,
    peer,
    open: async () => peer.connected,
    heard: async () => watched.heard,
    send: (to, text) => peer.send(to, text),
    facts: async () => ({ ...(await watched.facts().catch(() => ({ connected: 0, disconnected: 0, errors: [], transport: null }))), candidates: [] }),
    close: async () => peer.close(),
  };
}

/** Waits until two have a channel to each other. @param {RoomPeer} one @param {RoomPeer} other */
export async function linked(one, other) {
  const both = async () => (await one.open()).includes(other.id) && (await other.open()).includes(one.id);
  await until(`a channel between ${one.kind} and ${other.kind}`, both, { timeoutMs: OPEN_MS }).catch(async (error) => {
    must(false, `${error.message}; ${one.kind}: ${JSON.stringify(await one.facts())}; ${other.kind}: ${JSON.stringify(await other.facts())}`);
  });
}

/** Sends a text each way, and waits until each has arrived exactly once. @param {RoomPeer} one @param {RoomPeer} other @param {string} text */
export async function bothWays(one, other, text) {
  for (const [from, to] of /** @type {[RoomPeer, RoomPeer][]} */ ([[one, other], [other, one]])) {
    must(await from.send(to.id, `${text} from ${from.kind}`), `${from.kind} could not send to ${to.kind}`);
    const arrived = async () => (await to.heard()).filter(([sender, words]) => sender === from.id && words === `${text} from ${from.kind}`).length;
    await until(`${to.kind} to hear ${from.kind}`, arrived, { timeoutMs: OPEN_MS });
    must((await arrived()) === 1, `${to.kind} heard ${from.kind} ${await arrived()} times`);
  }
}
