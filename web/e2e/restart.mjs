// The relay is killed with SIGKILL and started again: publisher and viewers come back by themselves.
//
//   node e2e/restart.mjs --node ../target/release/sutantra-node [--browsers chromium,firefox] [--times 1]
//
// Starts a node of its own, because it has to kill it.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { must, pause, run, said, stats, until } from "./lib/scenario.mjs";

/** From the new process's first answer to moving pictures. */
const BACK_MS_MAX = 60_000;

const { values } = parseArgs({
  options: {
    node: { type: "string", default: "../target/release/sutantra-node" },
    browsers: { type: "string", default: "chromium,firefox" },
    times: { type: "string", default: "1" },
  },
});

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}

const home = await mkdtemp(join(tmpdir(), "sutantra-restart-"));
const http = `127.0.0.1:${await freePort()}`;
const udpPort = String(await freePort());
const base = `http://${http}`;

/** @returns {Promise<import("node:child_process").ChildProcess>} */
async function startNode() {
  const args = ["dev", "--home", home, "--http", http, "--udp-port", udpPort];
  const child = spawn(values.node, args, { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr?.on("data", (bytes) => (said += bytes));
  await until("the node to answer", async () => {
    must(child.exitCode === null, `the node ended with ${child.exitCode}: ${said.slice(-400)}`);
    return (await fetch(`${base}/healthz`).catch(() => null))?.ok;
  });
  return child;
}

/** @param {import("node:child_process").ChildProcess} child @param {NodeJS.Signals} signal */
async function end(child, signal) {
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  await gone;
}

/** @type {import("node:child_process").ChildProcess | null} */
let node = null;

await run(async (start) => {
  node = await startNode();
  const publisher = await (await start("chromium")).open();
  await publisher.goto(`${base}/publish?stream=restarted`);
  await publisher.evaluate("document.getElementById('source-pattern').click()");
  await until("the test pattern", () => publisher.evaluate("!document.getElementById('start').disabled"));
  await publisher.evaluate("document.getElementById('start').click()");
  await until("the publisher to be live", () => publisher.evaluate("window.sutantra.state === 'live'"));

  const viewers = [];
  for (const name of values.browsers.split(",").filter(Boolean)) {
    const page = await (await start(name)).open();
    await page.goto(`${base}/watch/restarted`);
    viewers.push({ name, page });
  }
  /** @param {import("./lib/scenario.mjs").Page} page */
  const plays = async (page) => (await page.evaluate("window.sutantra.state")) === "playing";
  for (const { name, page } of viewers) await until(`pictures in ${name}`, () => plays(page));

  const rounds = [];
  for (let round = 0; round < Number(values.times); round += 1) {
    const before = await Promise.all(viewers.map(({ page }) => page.evaluate("window.sutantra.sessions")));
    await end(node, "SIGKILL");
    await pause(300);
    const startedAt = performance.now();
    node = await startNode();
    const answersMs = Math.round(performance.now() - startedAt);
    const backMs = await Promise.all(
      viewers.map(async ({ name, page }, index) => {
        const again = async () => {
          const sessions = await page.evaluate("window.sutantra.sessions");
          return sessions > (before[index] ?? 0) && (await plays(page)) && ((await stats(page))?.framesDecoded ?? 0) > 10;
        };
        await until(`pictures again in ${name}`, again, { timeoutMs: BACK_MS_MAX }).catch(async (error) =>
          must(false, `${error.message}; the page says: ${await said(page)}; its numbers: ${JSON.stringify(await stats(page))}; the publisher: ${await said(publisher)}`),
        );
        return [name, Math.round(performance.now() - startedAt)];
      }),
    );
    rounds.push({ answersMs, backMs: Object.fromEntries(backMs) });
  }
  return { scenario: "restart", rounds };
});

if (node) await end(node, "SIGTERM");
await rm(home, { recursive: true, force: true });
