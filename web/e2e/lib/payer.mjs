// A viewer without a browser: `wallet watch` processes of one account.

import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { must } from "./scenario.mjs";

export class Payer {
  /** @type {import("node:child_process").ChildProcess | null} */
  #child = null;
  /** Resolves with the end of the child. @type {Promise<void>} */
  #over = Promise.resolve();
  pool = "";
  /** The highest sum that it signed. */
  signed = 0n;

  /** @param {string} program @param {string} base @param {string} home @param {number} number */
  constructor(program, base, home, number) {
    this.program = program;
    this.base = base;
    this.home = home;
    this.number = number;
  }

  /** With an account of its own and a pool. @param {string} program @param {string} base @param {number} number even: pays by POST */
  static async create(program, base, number) {
    const payer = new Payer(program, base, await mkdtemp(join(tmpdir(), "sutantra-payer-")), number);
    payer.wallet("create");
    payer.wallet("faucet");
    const said = payer.wallet("open", "--deposit", "5");
    payer.pool = /pool ([0-9a-f]{64})/.exec(said)?.[1] ?? "";
    must(payer.pool !== "", `no pool in: ${said}`);
    return payer;
  }

  /** @param {string[]} words @returns {string} what it printed */
  wallet(...words) {
    const args = ["wallet", ...words, "--home", this.home, "--url", this.base, "--rpc", `${this.base}/rpc`];
    const { status, stdout, stderr } = spawnSync(this.program, args, { encoding: "utf8", timeout: 60_000 });
    must(status === 0, `wallet ${words.join(" ")}: ${stderr}`);
    return stdout;
  }

  /** Watches until the node is gone. */
  watch() {
    const by = this.number % 2 === 0 ? "post" : "channel";
    const args = ["wallet", "watch", "demo", "--json", "--pay-by", by, "--home", this.home, "--url", this.base, "--rpc", `${this.base}/rpc`];
    const child = spawn(this.program, args, { stdio: ["ignore", "pipe", "ignore"] });
    this.#child = child;
    let text = "";
    child.stdout?.on("data", (bytes) => {
      text += bytes;
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) {
        const { lane_signed } = JSON.parse(line);
        if (lane_signed !== undefined && BigInt(lane_signed) > this.signed) this.signed = BigInt(lane_signed);
      }
    });
    this.#over = new Promise((resolve) => child.once("exit", () => resolve()));
  }

  /** Ends the viewer, in order: it tells what it signed. */
  async over() {
    const child = this.#child;
    if (!child) return;
    child.kill("SIGINT");
    const killer = setTimeout(() => child.kill("SIGKILL"), 3000);
    await this.#over;
    clearTimeout(killer);
    this.#child = null;
  }

  async end() {
    await this.over();
    await rm(this.home, { recursive: true, force: true, maxRetries: 3 });
  }
}
