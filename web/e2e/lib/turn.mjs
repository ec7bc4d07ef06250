// Debian's coturn for one scenario: credentials of its own, counts of what it relayed.

import { accessSync, constants } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";

import { Process, freePort } from "./processes.mjs";
import { ScenarioError, must, until } from "./scenario.mjs";

const PROGRAMS = ["/usr/bin/turnserver", "/usr/sbin/turnserver"];
const USER = "weaver";
const PASSWORD = "warp-and-weft";

export class TurnServer {
  /** @param {Process} process @param {string} folder @param {string} host @param {number} port */
  constructor(process, folder, host, port) {
    this.process = process;
    this.folder = folder;
    this.host = host;
    this.port = port;
    /** Allocations that were made since its start. */
    this.allocations = 0;
    let line = "";
    process.child.stdout?.on("data", (bytes) => {
      const lines = (line + bytes).split("\n");
      line = lines.pop() ?? "";
      this.allocations += lines.filter((each) => each.includes("ALLOCATE processed, success")).length;
    });
  }

  /** As `--turn` takes it. */
  get flag() {
    return `turn:${USER}:${PASSWORD}@${this.host}:${this.port}`;
  }

  /** As `--stun` takes it: the same server says addresses. */
  get stunUrl() {
    return `stun:${this.host}:${this.port}`;
  }

  /** @returns {Promise<TurnServer>} when it answers */
  static async start() {
    const program = PROGRAMS.find(isProgram);
    if (!program) throw new ScenarioError("there is no turnserver on this machine: cargo xtask tools installs it, or apt-get install coturn");
    const host = ownAddress();
    const port = await freePort();
    const folder = await mkdtemp(join(tmpdir(), "sutantra-turn-"));
    const settings = ["-n", "--listening-ip", host, "--relay-ip", host, "--listening-port", String(port), "--lt-cred-mech", "--user", `${USER}:${PASSWORD}`, "--realm", "sutantra"];
    const quiet = ["--no-tls", "--no-dtls", "--no-cli", "--log-file", "stdout", "--simple-log", "--verbose", "--pidfile", join(folder, "pid"), "--userdb", join(folder, "db")];
    const process = new Process(program, [...settings, ...quiet]);
    const server = new TurnServer(process, folder, host, port);
    try {
      await until("coturn to listen", async () => {
        process.mustRun();
        return process.log.includes(`${host}:${port}`) || process.log.includes("listener opened");
      });
      return server;
    } catch (error) {
      await server.end();
      throw error;
    }
  }

  async end() {
    await this.process.end();
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** The first address of this machine that is not its loopback: browsers go to no TURN server there. */
export function ownAddress() {
  const found = Object.values(networkInterfaces()).flat().find((address) => address?.family === "IPv4" && !address.internal);
  must(found, "this machine has no network interface but its loopback: run the scenarios as root, which gives them a network of their own");
  return found.address;
}

/** @param {string} path */
function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
