// R117
// Five nodes of three kinds come one by one, and there are exactly ten channels: each pair has one, each was
// opened once, and everybody hears everybody once.
//
//   node e2e/rooms-mesh.mjs --node ../target/release/sutantra-node | --base URL

import { parseArgs } from "node:util";

import { bothWays, nodePeer, pagePeer } from "./lib/peers.mjs";
import { RelayNode } from "./lib/node.mjs";
import { must, pause, run, until } from "./lib/scenario.mjs";
import { TurnServer } from "./lib/turn.mjs";

const { values } = parseArgs({ options: { node: { type: "string", default: "../target/release/sutantra-node" }, base: { type: "string" } } });

/** A second channel of a pair would come within this, and be seen. */
const SETTLE_MS = 1500;

/** @type {(() => Promise<void>)[]} */
const endings = [];

await run(async (start) => {
  const stun = await TurnServer.start();
  endings.push(() => stun.end());
  const node = values.base ? { base: values.base, end: async () => {} } : await RelayNode.start(values.node, () => ["--stun", stun.stunUrl]);
  endings.push(() => node.end());
  const [chromium, firefox] = [await start("chromium"), await start("firefox")];
  const wish = (/** @type {string} */ name) => ({ base: node.base, room: "mesh", name });
  const peers = [await pagePeer(chromium, wish("a")), await nodePeer(wish("b")), await pagePeer(firefox, wish("c")), await pagePeer(chromium, wish("d")), await nodePeer({ ...wish("e"), signaling: "poll" })];
  const open = async () => (await Promise.all(peers.map((peer) => peer.open()))).reduce((sum, ids) => sum + ids.length, 0);
  await until("ten channels", async () => (await open()) === 20);
  await pause(SETTLE_MS);
  for (const peer of peers) {
    const ids = await peer.open();
    must(ids.length === 4 && new Set(ids).size === 4, `${peer.kind} has channels to ${ids.length} peers`);
    const { connected, disconnected, errors } = await peer.facts();
    must(connected === 4 && disconnected === 0, `${peer.kind} was connected ${connected} times and disconnected ${disconnected} times: ${errors.join("; ")}`);
  }
  for (const [at, peer] of peers.entries()) for (const other of peers.slice(at + 1)) await bothWays(peer, other, `to ${other.id}`);
  return { scenario: "rooms-mesh", peers: peers.length, channels: (await open()) / 2 };
});

for (const end of endings.reverse()) await end();
process.stdout.write("", () => process.exit());
