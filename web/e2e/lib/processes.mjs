// Child processes of a scenario: an address of their own, the end of their log, an end in any case.

import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { createServer } from "node:net";
import { homedir } from "node:os";
import { delimiter, join, resolve } from "node:path";

import { ScenarioError, must } from "./scenario.mjs";

/** After SIGTERM; a process that is still there is killed. */
const END_MS_MAX = 5000;
const LOG_CHARS_MAX = 8000;

/** @returns {Promise<number>} a port of the loopback that nobody has now */
export function freePort() {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}

/** Those that run; none of them outlives the scenario, however that ends. @type {Set<import("node:child_process").ChildProcess>} */
const running = new Set();
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));

export class Process {
  /** The end of what it said. */
  log = "";

  /** @param {string} program @param {string[]} args @param {Record<string, string>} [env] @param {"ignore" | "pipe"} [stdin] */
  constructor(program, args, env = {}, stdin = "ignore") {
    this.name = `${program.split("/").at(-1)} ${args[0] ?? ""}`;
    this.child = spawn(program, args, { stdio: [stdin, "pipe", "pipe"], env: { ...process.env, ...env } });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on("data", (bytes) => (this.log = (this.log + bytes).slice(-LOG_CHARS_MAX)));
    }
    running.add(this.child);
    this.child.once("exit", () => running.delete(this.child));
    this.child.once("error", (error) => (this.log += String(error)));
  }

  /** Throws where it is over. */
  mustRun() {
    const { pid, exitCode, signalCode } = this.child;
    must(pid !== undefined && exitCode === null && signalCode === null, `${this.name} ended with ${exitCode ?? signalCode}: ${this.log.slice(-1000)}`);
  }

  async end() {
    const { child } = this;
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    const killer = setTimeout(() => child.kill("SIGKILL"), END_MS_MAX);
    await gone;
    clearTimeout(killer);
  }
}

/**
 * CometBFT's program, where the node looks for it too.
 * @param {string | undefined} given
 * @returns {string}
 */
export function cometBinary(given) {
  const wanted = given ?? process.env["SUTANTRA_COMET_BIN"];
  const dirs = [resolve(import.meta.dirname, "../../../.tools"), ...(process.env["PATH"] ?? "").split(delimiter), join(homedir(), "go/bin")];
  for (const path of wanted ? [wanted] : dirs.map((dir) => join(dir, "cometbft"))) {
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The next place.
    }
  }
  throw new ScenarioError(`there is no CometBFT ${wanted ? `at ${wanted}` : "on this machine"}: cargo xtask tools installs it, --comet-bin names one`);
}
