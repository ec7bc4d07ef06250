// A relay of the scenario's own: free ports, a temporary home, an end.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { must, until } from "./scenario.mjs";

/** After SIGTERM; a process that is still there is killed. */
const END_MS_MAX = 5000;

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

export class RelayNode {
  /**
   * @param {import("node:child_process").ChildProcess} child
   * @param {string} base
   * @param {string} home
   */
  constructor(child, base, home) {
    this.child = child;
    /** Address of pages, WHIP, WHEP and metrics. */
    this.base = base;
    this.home = home;
    this.log = "";
    child.stderr?.on("data", (bytes) => (this.log = (this.log + bytes).slice(-4000)));
  }

  /**
   * Resolves when it answers. Everybody who reaches it may publish and watch.
   * @param {string} program
   * @param {(home: string) => string[]} [options] more of them, for this home
   */
  static async start(program, options = () => []) {
    const home = await mkdtemp(join(tmpdir(), "sutantra-e2e-"));
    const http = `127.0.0.1:${await freePort()}`;
    const args = ["dev", "--home", home, "--http", http, "--udp-port", "0", "--open", "--no-demo", ...options(home)];
    const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
    const node = new RelayNode(child, `http://${http}`, home);
    /** @type {Error | null} */
    let failure = null;
    child.once("error", (error) => (failure = error));
    try {
      await until("the node to answer", async () => {
        must(failure === null, `${program}: ${failure}`);
        must(child.exitCode === null, `the node ended with ${child.exitCode}: ${node.log.slice(-400)}`);
        return (await fetch(`${node.base}/healthz`).catch(() => null))?.ok;
      });
      return node;
    } catch (error) {
      await node.end();
      throw error;
    }
  }

  /**
   * Each metric by its name, summed over labels. A node refreshes them once a second.
   * @returns {Promise<(name: string) => number>} throws for a metric that the node does not have
   */
  async metrics() {
    const text = await (await fetch(`${this.base}/metrics`)).text();
    /** @type {Map<string, number>} */
    const sums = new Map();
    for (const [, name = "", value] of text.matchAll(/^([a-z_]+)(?:\{[^}]*\})? (\S+)$/gm)) {
      sums.set(name, (sums.get(name) ?? 0) + Number(value));
    }
    return (name) => {
      const sum = sums.get(name);
      must(sum !== undefined, `the node has no metric ${name}`);
      return sum;
    };
  }

  /** Ends it and removes its home. */
  async end() {
    if (this.child.pid !== undefined && this.child.exitCode === null && this.child.signalCode === null) {
      const gone = new Promise((resolve) => this.child.once("exit", resolve));
      this.child.kill("SIGTERM");
      const killer = setTimeout(() => this.child.kill("SIGKILL"), END_MS_MAX);
      await gone;
      clearTimeout(killer);
    }
    await rm(this.home, { recursive: true, force: true, maxRetries: 3 });
  }
}
