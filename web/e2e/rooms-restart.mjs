// The coordinator is killed with SIGKILL in the middle of a negotiation and started again: those who were
// connecting finish, and channels that are open never notice.
//
//   node e2e/rooms-restart.mjs --node ../target/release/sutantra-node [--times 1]

import { parseArgs } from "node:util";

import { bothWays, linked, nodePeer, pagePeer } from "./lib/peers.mjs";
import { RelayNode } from "./lib/node.mjs";
import { must, run, until } from "./lib/scenario.mjs";
import { TurnServer } from "./lib/turn.mjs";

const { values } = parseArgs({ options: { node: { type: "string", default: "../target/release/sutantra-node" }, times: { type: "string", default: "1" } } });

/** From the restart to a channel. */
const FINISH_MS_MAX = 60_000;
/** How often those with an open channel speak meanwhile. */
const TALK_MS = 50;

/** @type {(() => Promise<void>)[]} */
const endings = [];

await run(async (start) => {
  const stun = await TurnServer.start();
  endings.push(() => stun.end());
  const node = await RelayNode.start(values.node, () => ["--stun", stun.stunUrl]);
  endings.push(() => node.end());
  const chromium = await start("chromium");
  const wish = (/** @type {string} */ name, /** @type {string} */ room) => ({ base: node.base, room, name });
  const [old, friend] = [await pagePeer(chromium, wish("old", "steady")), await nodePeer(wish("friend", "steady"))];
  await linked(old, friend);

  const rounds = [];
  for (let round = 0; round < Number(values.times); round += 1) {
    const room = `restart-${round}`;
    const waits = await pagePeer(chromium, wish("waits", room));
    // In the middle: its offer has reached the coordinator, and no answer has come.
    const comes = await nodePeer({ ...wish("comes", room) });
    await until("the newcomer's offer to be on its way", async () => comes.peer.connections.size > 0, { everyMs: 1 });
    const early = (await comes.open()).length > 0;
    await node.kill();
    let sent = 0;
    const talk = setInterval(() => void friend.send(old.id, `${round}: ${sent++}`), TALK_MS);
    const killedAt = performance.now();
    await node.restart();
    await until("the node to answer again", async () => (await fetch(`${node.base}/healthz`).catch(() => null))?.ok);
    const answersMs = Math.round(performance.now() - killedAt);
    const both = async () => (await waits.open()).includes(comes.id) && (await comes.open()).includes(waits.id);
    await until("those who were connecting", both, { timeoutMs: FINISH_MS_MAX }).catch(async (error) => {
      must(false, `${error.message}; ${JSON.stringify(await waits.facts())}; ${JSON.stringify(await comes.facts())}`);
    });
    const finishedMs = Math.round(performance.now() - killedAt);
    await bothWays(waits, comes, `after the restart ${round}`);
    clearInterval(talk);
    const heard = async () => (await old.heard()).filter(([from, text]) => from === friend.id && text.startsWith(`${round}: `)).map(([, text]) => text);
    await until("all that was said meanwhile", async () => (await heard()).length === sent);
    must((await heard()).every((text, at) => text === `${round}: ${at}`), "what was said meanwhile came in another order");
    for (const peer of [old, friend]) {
      const { connected, disconnected } = await peer.facts();
      must(connected === 1 && disconnected === 0, `an open channel noticed: ${peer.kind} was connected ${connected} times and disconnected ${disconnected} times`);
    }
    rounds.push({ early, answersMs, finishedMs, saidMeanwhile: sent });
    await Promise.all([waits.close(), comes.close()]);
  }
  // And the room that outlived its coordinator takes newcomers.
  const late = await nodePeer(wish("late", "steady"));
  await linked(late, old);
  await linked(late, friend);
  return { scenario: "rooms-restart", rounds };
});

for (const end of endings.reverse()) await end();
process.stdout.write("", () => process.exit());
