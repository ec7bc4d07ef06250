// Chat, a learning room and a common memory in one program, for the terminal.
//
//   node examples/memory.mjs --seed http://127.0.0.1:8080 --name Ada [--room memory-sync] [--transport webrtc]
//
// A line is said to everybody. /learn TEXT shares an insight, /remember TEXT proposes it to the memory,
// /announce TEXT tells it, /who, /memory, /quit. With --json each event is a line of JSON, for scripts.

import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

import { Identity } from "../client/identity.js";
import { initWebRTCPeer } from "../client/index.js";
import { nodeOptions } from "../client/node.js";
import { RoomApplication } from "../client/prrc/index.js";

const HELP = "A line is said to all. /learn TEXT, /remember TEXT, /announce TEXT, /who, /memory, /quit";
const TRANSPORTS = /** @type {const} */ (["webrtc", "websocket", "http"]);

/** Ends the program with how it is called. @param {string} [mistake] @returns {never} */
function usage(mistake) {
  if (mistake !== undefined) console.error(mistake);
  console.error("node examples/memory.mjs --seed URL [--name NAME] [--room ROOM] [--transport webrtc|websocket|http] [--json]");
  process.exit(mistake === undefined ? 0 : 2);
}

function flags() {
  try {
    const { values } = parseArgs({
      options: {
        seed: { type: "string", multiple: true },
        room: { type: "string", default: "memory-sync" },
        name: { type: "string", default: "somebody" },
        transport: { type: "string", default: "webrtc" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    return values;
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error));
  }
}

const values = flags();
if (values.help) usage();
const [seed] = values.seed ?? [];
const transport = TRANSPORTS.find((each) => each === values.transport);
if (!seed) usage("name a coordinator: --seed http://HOST:PORT");
if (!transport) usage(`--transport is one of ${TRANSPORTS.join(", ")}`);

/** One event, for a person or a script. @param {string} event @param {Record<string, unknown>} facts @param {string} words */
function tell(event, facts, words) {
  console.log(values.json ? JSON.stringify({ event, ...facts }) : words);
}

const identity = await Identity.generate();
/** @type {RoomApplication} */
let app;
const who = (/** @type {string} */ id) => app.nameOf(id) || (id === identity.nodeId ? values.name : `${id.slice(0, 9)}…`);
const textOf = (/** @type {any} */ content) => String(content?.text ?? JSON.stringify(content));

/** @type {import("../client/peer.js").WebRTCPeer} */
let peer;
try {
  app = new RoomApplication({ signer: identity, room: values.room, name: values.name });
  const found = await initWebRTCPeer({ seed, identity, ...nodeOptions(), ...(transport === "http" ? { transport: "poll" } : transport === "websocket" ? { transport: "websocket" } : {}) });
  if (!found) throw new Error("this node has no coordinator: start it with --server, and without --no-webrtc");
  peer = found;
  app.attach(peer, transport);
  await peer.joinRoom(values.room, { name: values.name, capabilities: ["chat", "learning", "memory-sync"] });
} catch (error) {
  console.error(`${values.room} at ${seed}: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}

app.on("member", (id, name) => tell("member", { id, name }, `* ${who(id)} is here`));
app.on("gone", (id) => tell("gone", { id }, `* ${who(id)} is gone`));
app.on("chat", ({ from, text }) => {
  if (from !== identity.nodeId) tell("chat", { from, text }, `${who(from)}: ${text}`);
});
app.learning.on("item", ({ id, by, text }) => tell("insight", { id, by, text }, `! ${who(by)} has found out: ${text}`));
app.announcements.on("item", ({ id, by, text }) => tell("announcement", { id, by, text }, `# ${who(by)} announces: ${text}`));
app.protocol.on("proposal", ({ id, by, members, body }) => tell("proposal", { id, by, members }, `? ${who(by)} proposes to ${members.length}: ${textOf(JSON.parse(body))}`));
app.protocol.on("vote", ({ id, by, yes, why }) => tell("vote", { id, by, yes, why }, `  ${who(by)} says ${yes ? "yes" : `no: ${why}`}`));
app.memory.on("trace", async ({ id, by, content, height }) => tell("trace", { id, by, height, text: textOf(content), digest: await app.memory.digest() }, `= remembered at ${height}: ${textOf(content)} (${app.memory.certificate(id)?.votes.length} votes)`));
peer.on("error", (error) => tell("error", { code: error.code, message: error.message }, `! ${error.message}`));

tell("joined", { id: identity.nodeId, room: values.room, transport }, `You are ${values.name} in ${values.room}, over ${transport}. ${HELP}`);

/** @type {Record<string, (text: string) => unknown>} */
const COMMANDS = {
  learn: (text) => app.learning.share(text),
  remember: (text) => app.memory.store({ text }),
  announce: (text) => app.announcements.share(text),
  who: () => tell("who", { members: [...app.channel.peers.keys()] }, [...app.channel.peers.keys()].map(who).join(", ") || "nobody else"),
  memory: async () => tell("memory", { traces: app.memory.traces.map(({ id }) => id), digest: await app.memory.digest() }, app.memory.traces.map(({ by, content }) => `= ${textOf(content)} (${who(by)})`).join("\n") || "nothing yet"),
  quit: () => lines.close(),
};

const lines = createInterface({ input: process.stdin });
// Others hear at once of who leaves politely, and else when it has been silent long enough.
for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM"])) process.once(signal, () => lines.close());
for await (const line of lines) {
  const [, command, rest = ""] = /^\/(\w+)\s*(.*)$/.exec(line.trim()) ?? [];
  try {
    if (command !== undefined) await (COMMANDS[command] ?? (() => console.error(HELP)))(rest);
    else if (line.trim()) app.chat(line.trim());
  } catch (error) {
    tell("refused", { message: String(error) }, `! ${error instanceof Error ? error.message : error}`);
  }
}
app.close();
await peer.leaveRoom(values.room).catch(() => {});
peer.close();
process.stdout.write("", () => process.exit());
