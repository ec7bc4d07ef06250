// One application under two engines: the one in the node's process, and a real CometBFT beside it.

import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Process, freePort } from "./processes.mjs";
import { must, until } from "./scenario.mjs";

/** A chain with an account that has money. */
export class RunningChain {
  /** @param {string} engine @param {string} home @param {number} port @param {Process} node */
  constructor(engine, home, port, node) {
    /** Which engine, in words. */
    this.engine = engine;
    this.home = home;
    /** Its CometBFT RPC. */
    this.rpc = `http://127.0.0.1:${port}`;
    this.ws = `ws://127.0.0.1:${port}`;
    this.node = node;
  }

  /** The name of the chain. @returns {Promise<string>} */
  async chainId() {
    return JSON.parse(await readFile(join(this.home, "config/genesis.json"), "utf8")).chain_id;
  }

  /** Seed of the account that the genesis gave the play money. @returns {Promise<Buffer>} */
  async faucetSeed() {
    return Buffer.from((await readFile(join(this.home, "keys/faucet.key"), "utf8")).trim(), "hex");
  }

  /** One call; its result. @param {string} method @param {Record<string, unknown>} [params] @returns {Promise<any>} */
  async call(method, params = {}) {
    const { result, error } = await this.ask(method, params);
    must(!error, `${this.engine}: ${method}: ${JSON.stringify(error)}`);
    return result;
  }

  /** One call; result or error. @param {string} method @param {Record<string, unknown>} params @returns {Promise<any>} */
  async ask(method, params) {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
    const answer = await fetch(this.rpc, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    return answer.json();
  }

  /** @returns {Promise<number>} */
  async height() {
    return Number((await this.call("status")).sync_info.latest_block_height);
  }

  /** @param {number} height */
  async reaches(height) {
    await until(`${this.engine} to reach height ${height}`, async () => {
      this.node.mustRun();
      return (await this.height().catch(() => 0)) >= height;
    });
  }

  async end() {
    await this.node.end();
    await rm(this.home, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** @param {string} program the node @returns {Promise<RunningChain>} */
export async function embedded(program) {
  const home = await mkdtemp(join(tmpdir(), "sutantra-embedded-"));
  return started("the embedded engine", home, (port) => ["dev", "--no-demo", "--open", ...addresses(home, port)], program);
}

/**
 * CometBFT as the node's child, on the genesis and the keys of another chain's home: the same
 * beginning under another engine.
 * @param {string} program the node
 * @param {string} comet CometBFT's program
 * @param {string} from the other home
 * @returns {Promise<RunningChain>}
 */
export async function spawned(program, comet, from) {
  const home = await mkdtemp(join(tmpdir(), "sutantra-comet-"));
  for (const dir of ["config", "keys"]) await cp(join(from, dir), join(home, dir), { recursive: true });
  const p2p = `127.0.0.1:${await freePort()}`;
  const args = (/** @type {number} */ port) => ["start", "--role", "validator", "--comet", "spawn", "--comet-bin", comet, "--p2p", p2p, ...addresses(home, port)];
  // What a test of a minute can wait for; the operator's own are a second.
  return started("CometBFT", home, args, program, { CMT_CONSENSUS_TIMEOUT_COMMIT: "300ms" });
}

/** @param {string} home @param {number} port */
const addresses = (home, port) => ["--home", home, "--rpc", `127.0.0.1:${port}`, "--http", "127.0.0.1:0", "--udp-port", "0"];

/** @param {string} engine @param {string} home @param {(port: number) => string[]} args @param {string} program @param {Record<string, string>} [env] */
async function started(engine, home, args, program, env = {}) {
  const port = await freePort();
  const chain = new RunningChain(engine, home, port, new Process(program, args(port), env));
  try {
    await chain.reaches(1);
    return chain;
  } catch (error) {
    await chain.end();
    throw error;
  }
}
