// A network of real validators with a relay, started by the node's own command.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { freePort } from "./node.mjs";
import { must, until } from "./scenario.mjs";

/** Until the relay serves; CometBFT, the application and the proofs of the records. */
const READY_MS_MAX = 60_000;
/** After SIGTERM. */
const END_MS_MAX = 20_000;

export class LocalNet {
  /** @param {import("node:child_process").ChildProcess} child @param {string} base @param {string} dir */
  constructor(child, base, dir) {
    this.child = child;
    /** Address of the relay's pages, WHIP, WHEP and metrics. */
    this.base = base;
    this.dir = dir;
    this.log = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (bytes) => (this.log = (this.log + bytes).slice(-8000)));
  }

  /**
   * Resolves when the relay is ready.
   * @param {string} program @param {number} validators
   */
  static async start(program, validators) {
    const dir = await mkdtemp(join(tmpdir(), "sutantra-net-"));
    const http = `127.0.0.1:${await freePort()}`;
    const args = ["localnet", "--validators", String(validators), "--dir", dir, "--http", http];
    // No token is needed on the relay's own streams; those of the chain need what the chain says.
    const env = { ...process.env, SUTANTRA_OPEN: "true" };
    const net = new LocalNet(spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env }), `http://${http}`, dir);
    try {
      await until("the network to be ready", async () => {
        must(net.child.exitCode === null, `localnet ended with ${net.child.exitCode}: ${net.log.slice(-600)}`);
        return (await fetch(`${net.base}/readyz`).catch(() => null))?.ok;
      }, { timeoutMs: READY_MS_MAX });
    } catch (error) {
      await net.end();
      throw error;
    }
    return net;
  }

  /** `kill -9` of a validator: node and CometBFT. The network starts it again. @param {number} index */
  async killValidator(index) {
    const pid = await this.#pid(index);
    process.kill(pid, "SIGKILL");
    return pid;
  }

  /** Until it runs again as another process, with the newest blocks. @param {number} index @param {number} before its pid */
  async validatorBack(index, before) {
    const { nodes } = JSON.parse(await readFile(join(this.dir, "localnet.json"), "utf8"));
    const height = async (/** @type {{ rpc: number }} */ node) => {
      const answer = await fetch(`http://127.0.0.1:${node.rpc}/status`).then((response) => response.json()).catch(() => null);
      return Number(answer?.result?.sync_info?.latest_block_height ?? 0);
    };
    await until(`validator ${index} to be back`, async () => {
      if ((await this.#pid(index).catch(() => before)) === before) return false;
      const heights = await Promise.all(nodes.map(height));
      return (heights[index] ?? 0) > 0 && (heights[index] ?? 0) >= Math.max(...heights) - 2;
    }, { timeoutMs: 40_000, everyMs: 200 });
  }

  /** @param {number} index */
  async #pid(index) {
    return Number((await readFile(join(this.dir, `node${index}`, "lock"), "utf8")).split("\n")[0]);
  }

  /** What the relay logs. */
  async relayLog() {
    return readFile(join(this.dir, "relay", "log", "node.log"), "utf8").catch(() => "");
  }

  async end() {
    const { child } = this;
    if (child.exitCode === null && child.signalCode === null) {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), END_MS_MAX);
      await gone;
      clearTimeout(timer);
    }
    await rm(this.dir, { recursive: true, force: true });
  }
}
