// R83 R86 R105 R115 R116
// The program of the terminal, told nothing but a seed: three of it chat, share an insight that each hears once,
// and agree on what to remember; the same over WebRTC, WebSocket and HTTP. Then the page Rooms joins them, and
// two pages meet in a private room by its link.
//
//   node e2e/rooms-app.mjs --node ../target/release/sutantra-node | --base URL [--transports webrtc,websocket,http]

import { resolve } from "node:path";
import { parseArgs } from "node:util";

import { RelayNode } from "./lib/node.mjs";
import { Program } from "./lib/program.mjs";
import { must, pause, run, until } from "./lib/scenario.mjs";
import { TurnServer } from "./lib/turn.mjs";

const { values } = parseArgs({
  options: {
    node: { type: "string", default: "../target/release/sutantra-node" },
    base: { type: "string" },
    transports: { type: "string", default: "webrtc,websocket,http" },
    screenshots: { type: "string" },
  },
});
const EXAMPLE = resolve(import.meta.dirname, "../examples/memory.mjs");
/** A second copy of an insight would come within this. */
const COPY_MS = 500;

/** @type {(() => Promise<unknown>)[]} */
const endings = [];

await run(async (start) => {
  const stun = await TurnServer.start();
  endings.push(() => stun.end());
  const node = values.base ? { base: values.base, end: async () => {} } : await RelayNode.start(values.node, () => ["--stun", stun.stunUrl]);
  endings.push(() => node.end());
  const outcomes = [];
  for (const transport of values.transports.split(",")) {
    const began = performance.now();
    const room = `memory-${transport}`;
    const programs = [];
    for (const name of ["Ada", "Grace", "Joan"]) {
      const program = new Program(process.execPath, [EXAMPLE, "--seed", node.base, "--room", room, "--transport", transport, "--name", name, "--json"]);
      endings.push(() => program.end());
      programs.push(program);
      await program.first("joined");
    }
    const [ada, grace, joan] = /** @type {[Program, Program, Program]} */ (programs);
    for (const program of programs) await until(`everybody to reach everybody over ${transport}`, async () => { program.mustRun(); return new Set(program.all("member").map(({ id }) => id)).size === 2; });
    ada.say("good morning");
    for (const program of [grace, joan]) must((await program.first("chat")).text === "good morning", "the chat says something else");
    grace.say("/learn warp before weft");
    joan.say("/remember the loom has 1,024 threads");
    const traces = await Promise.all(programs.map((program) => program.first("trace")));
    must(new Set(traces.map(({ digest, id }) => `${digest} ${id}`)).size === 1, `the memories differ over ${transport}: ${JSON.stringify(traces)}`);
    const [trace] = traces;
    must(trace?.text === "the loom has 1,024 threads", `what is remembered is ${trace?.text}`);
    const { members } = await ada.first("proposal");
    must(members.length === 3 && ada.all("vote").filter(({ id, yes }) => id === trace.id && yes).length >= 2, "it was remembered without a majority of three");
    ada.say("/announce the mill closes at noon");
    for (const program of programs) for (const event of ["insight", "announcement"]) await program.first(event);
    await pause(COPY_MS);
    for (const program of programs) for (const event of ["insight", "announcement", "trace"]) must(program.all(event).length === 1, `one program heard ${program.all(event).length} times of one ${event} over ${transport}`);
    outcomes.push({ transport, ms: Math.round(performance.now() - began) });
    for (const program of programs) await program.end();
  }
  const page = await throughThePage(node.base, await start("chromium"));
  return { scenario: "rooms-app", outcomes, page };
});

for (const end of endings.reverse()) await end();
process.stdout.write("", () => process.exit());

/** The same program and the page Rooms in one room; a private room by its link. @param {string} base @param {import("./lib/scenario.mjs").Browser} browser */
async function throughThePage(base, browser) {
  const ada = new Program(process.execPath, [EXAMPLE, "--seed", base, "--room", "learning", "--name", "Ada", "--json"]);
  endings.push(() => ada.end());
  await ada.first("joined");
  const page = await browser.open();
  await enter(page, `${base}/rooms#room=learning`, "Grace");
  await until("the page to be linked", () => page.evaluate("document.querySelector('#peers [data-state=open]') !== null"));
  await say(page, "memory", "shuttles are of boxwood");
  must((await ada.first("trace")).text === "shuttles are of boxwood", "the page's trace is another");
  ada.say("hello, page");
  await say(page, "chat", "hello, terminal");
  await until("the chat on the page", () => page.evaluate("document.getElementById('said').textContent.includes('hello, page')"));
  await ada.first("chat");
  if (values.screenshots) await page.screenshot(`${values.screenshots}/rooms.png`);

  const owner = await browser.open();
  await enter(owner, `${base}/rooms`, "Owner", "make-private");
  const link = await owner.evaluate("document.getElementById('link').value");
  must(/#room=p:[a-z2-7]{32}&invite=si1\./.test(link), `the link is ${link}`);
  const guest = await browser.open();
  await enter(guest, link, "Guest");
  await until("the guest to be linked", () => guest.evaluate("document.querySelector('#peers [data-state=open]') !== null"));
  const stranger = await browser.open();
  await stranger.goto(link.replace(/&invite=.*/, ""));
  await press(stranger, "Stranger", "enter");
  const refused = await until("the stranger to be refused", () => stranger.evaluate("document.getElementById('trouble').textContent"));
  must(/no invite/.test(refused), `a stranger is told: ${refused}`);
  const own = browser.complaints.filter((complaint) => !/40[13]/.test(complaint));
  must(own.length === 0, `the pages complain: ${own[0]}`);
  return { peers: 2, private: true };
}

/** @param {import("./lib/scenario.mjs").Page} page @param {string} url @param {string} name @param {string} [button] */
async function enter(page, url, name, button = "enter") {
  await page.goto(url);
  await press(page, name, button);
  await until(`${name} to be in the room`, () => page.evaluate("!document.getElementById('inside').hidden")).catch(async (error) => {
    must(false, `${error.message}; the page says: ${await page.evaluate("document.getElementById('trouble').textContent")}`);
  });
}

/** @param {import("./lib/scenario.mjs").Page} page @param {string} name @param {string} button */
async function press(page, name, button) {
  await until("the page to be ready", () => page.evaluate("!document.getElementById('enter').disabled"));
  await page.evaluate(`document.getElementById('name').value = ${JSON.stringify(name)}; document.getElementById('${button}').click()`);
}

/** @param {import("./lib/scenario.mjs").Page} page @param {string} box @param {string} text */
async function say(page, box, text) {
  await page.evaluate(`document.getElementById('show-${box}').click(); document.getElementById('text').value = ${JSON.stringify(text)}; document.getElementById('say').requestSubmit()`);
}
