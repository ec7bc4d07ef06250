// R66 R101 R103
// Peers of every kind find each other through the coordinator and have a data channel, both ways: pages of
// Chromium and Firefox, Node, the Rust peer; with signals pushed, fetched, and one of each. With --relay-only
// no host candidate is left, and all goes through coturn. A node in mode `required` lets in who signs, and nobody else.
//
//   node e2e/rooms.mjs --node ../target/release/sutantra-node | --base URL [--relay-only] [--pairs chromium:firefox,…]

import { parseArgs } from "node:util";

import { initWebRTCPeer } from "../client/index.js";
import { nodeOptions } from "../client/node.js";
import { bothWays, linked, nodePeer, pagePeer } from "./lib/peers.mjs";
import { RelayNode } from "./lib/node.mjs";
import { rustPeer } from "./lib/rust-peer.mjs";
import { must, run } from "./lib/scenario.mjs";
import { TurnServer } from "./lib/turn.mjs";

/** @typedef {import("./lib/peers.mjs").RoomPeer} RoomPeer */
/** @typedef {import("./lib/peers.mjs").Signaling} Signaling */

const { values } = parseArgs({
  options: {
    node: { type: "string", default: "../target/release/sutantra-node" },
    base: { type: "string" },
    pairs: { type: "string", default: "chromium:chromium,chromium:firefox,chromium:node,chromium:rust" },
    "relay-only": { type: "boolean", default: false },
  },
});
const relayOnly = values["relay-only"];

/** Whose signals come how. The newcomer, which offers, is the second. @type {[Signaling, Signaling][]} */
const WAYS = relayOnly ? [["websocket", "websocket"]] : [["websocket", "websocket"], ["websocket", "poll"], ["poll", "poll"]];

/** @type {(() => Promise<void>)[]} */
const endings = [];

/** Peers with keys meet where every join, offer and answer has to be signed. @param {import("./lib/scenario.mjs").Browser} browser @param {string} stunUrl */
async function required(browser, stunUrl) {
  const node = await RelayNode.start(values.node, () => ["--coordinator-mode", "required", "--stun", stunUrl]);
  endings.push(() => node.end());
  const wish = (/** @type {string} */ name) => ({ base: node.base, room: "required", name });
  const here = await pagePeer(browser, wish("here"));
  const comes = await nodePeer({ ...wish("comes"), signaling: "poll" });
  await linked(here, comes);
  await bothWays(here, comes, "by key");
  for (const peer of [here, comes]) {
    const { errors } = await peer.facts();
    must(errors.length === 0, `in mode required ${peer.kind} met with ${errors.join("; ")}`);
  }
  const code = await initWebRTCPeer({ seed: node.base, nodeId: "keyless", room: "required", ...nodeOptions() }).then(() => "no refusal", (error) => error.code);
  must(code === "unauthenticated", `who has no key met with ${code}`);
  await Promise.all([here.close(), comes.close()]);
}

await run(async (start) => {
  // Its STUN answers too: nobody waits for one of the internet.
  const turn = await TurnServer.start();
  endings.push(() => turn.end());
  const node = values.base ? { base: values.base, end: async () => {} } : await RelayNode.start(values.node, () => (relayOnly ? ["--turn", turn.flag] : ["--stun", turn.stunUrl]));
  endings.push(() => node.end());

  /** @param {string} kind @param {{ room: string, name: string, signaling: Signaling }} wish @returns {Promise<RoomPeer>} */
  const peerOf = async (kind, wish) => {
    const whole = { base: node.base, relayOnly, ...wish };
    if (kind === "node") return nodePeer(whole);
    if (kind === "rust") return rustPeer(values.node, whole);
    return pagePeer(await start(kind), whole);
  };
  const outcomes = [];
  for (const pair of values.pairs.split(",")) {
    const [one = "", other = ""] = pair.split(":");
    for (const [first, second] of WAYS) {
      const room = `e2e-${one}-${other}-${first}-${second}`;
      const began = performance.now();
      const here = await peerOf(one, { room, name: "here", signaling: first });
      const comes = await peerOf(other, { room, name: "comes", signaling: second });
      await linked(here, comes);
      await bothWays(here, comes, "warp and weft");
      const facts = [await here.facts(), await comes.facts()];
      for (const [at, { connected, disconnected, transport, candidates }] of facts.entries()) {
        const words = `${pair} over ${first} and ${second}, ${at === 0 ? "who was there" : "the newcomer"}`;
        must(connected === 1 && disconnected === 0, `${words}: ${connected} times connected and ${disconnected} times disconnected`);
        must(transport === [first, second][at], `${words}: its signals came over ${transport}`);
        must(!relayOnly || candidates.every((type) => type === "relay"), `${words}: a link goes from a ${candidates} candidate`);
      }
      outcomes.push({ pair, ways: `${first}/${second}`, ms: Math.round(performance.now() - began), candidates: facts.flatMap(({ candidates }) => candidates) });
      await Promise.all([here.close(), comes.close()]);
    }
  }
  if (!relayOnly && !values.base) await required(await start("chromium"), turn.stunUrl);
  must(!relayOnly || turn.allocations >= 2 * outcomes.length, `coturn made ${turn.allocations} allocations for ${outcomes.length} links`);
  return { scenario: relayOnly ? "rooms-turn" : "rooms", links: outcomes.length, allocations: turn.allocations, outcomes };
});

for (const end of endings.reverse()) await end();
// werift's sockets keep a process awake for a while after they are closed.
process.stdout.write("", () => process.exit());
