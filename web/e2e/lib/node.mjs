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
export function freePort() {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}

/**
 * Options of a node whose blocks are made by `comet`, on ports of its own.
 * @param {string} comet "embedded" or "spawn" @returns {Promise<() => string[]>}
 */
export async function engine(comet) {
  if (comet === "embedded") return () => [];
  const [rpc, p2p] = [await freePort(), await freePort()];
  const options = ["--comet", comet, "--rpc", `127.0.0.1:${rpc}`, "--p2p", `127.0.0.1:${p2p}`, "--timeout-commit-ms", "200"];
  return () => options;
}

export class RelayNode {
  /**
   * @param {string} program
   * @param {string[]} args
   * @param {string} base
   * @param {string} home
   */
  constructor(program, args, base, home) {
    this.program = program;
    this.args = args;
    /** Address of pages, WHIP, WHEP and metrics. */
    this.base = base;
    this.home = home;
    this.log = "";
    this.child = this.#spawn();
  }

  #spawn() {
    const child = spawn(this.program, this.args, { stdio: ["ignore", "ignore", "pipe"] });
    child.stderr?.on("data", (bytes) => (this.log = (this.log + bytes).slice(-4000)));
    return child;
  }

  /** `kill -9`, and waits until it is gone. */
  async kill() {
    const gone = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill("SIGKILL");
    await gone;
  }

  /** Starts it again on the same home, port and chain. Resolves at once. */
  async restart() {
    this.child = this.#spawn();
  }

  /**
   * Resolves when it answers. Everybody who reaches it may publish and watch.
   * @param {string} program
   * @param {(home: string) => string[]} [options] more of them, for this home
   * @param {{ demo?: boolean }} [what]
   */
  static async start(program, options = () => [], { demo = false } = {}) {
    const home = await mkdtemp(join(tmpdir(), "sutantra-e2e-"));
    const http = `127.0.0.1:${await freePort()}`;
    const args = ["dev", "--home", home, "--http", http, "--udp-port", "0", "--open", ...(demo ? [] : ["--no-demo"]), ...options(home)];
    const node = new RelayNode(program, args, `http://${http}`, home);
    const { child } = node;
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
