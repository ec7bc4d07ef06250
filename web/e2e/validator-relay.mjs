// R2 R37
// One validator of four also serves media: how many blocks it misses, and what the blocks' pace is beside
// an idle run of the same network. Each validator is a node with its own CometBFT, on this machine.
//
//   node e2e/validator-relay.mjs --node ../target/release/sutantra-node [--bench FILE] [--comet-bin FILE]
//        [--seconds 300] [--viewers 64]
//
// A viewer of the bench's trace gets 316 packets a second: 64 of them are 20,000. Judged is that every
// block has the validator's signature and that the media was served; pace and latency are printed, since
// where four validators and the generator share few cores they are the machine's.

import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

import { RunningChain } from "./lib/engines.mjs";
import { Process, cometBinary, freePort } from "./lib/processes.mjs";
import { must, pause, run, until } from "./lib/scenario.mjs";

const { values } = parseArgs({
  options: {
    node: { type: "string", default: "../target/release/sutantra-node" },
    bench: { type: "string" },
    "comet-bin": { type: "string" },
    seconds: { type: "string", default: "300" },
    viewers: { type: "string", default: "64" },
  },
});
/** Built beside the node, unless it is said where. */
const benchProgram = values.bench ?? join(dirname(values.node), "sutantra-bench");
const [seconds, viewers] = [Number(values.seconds), Number(values.viewers)];

const VALIDATORS = 4;
/** CometBFT's pause after each block. */
const TIMEOUT_COMMIT_MS = 500;
/** `BLOCK_ID_FLAG_COMMIT`: it signed for the block. */
const SIGNED = 2;
/** Percent of the packets that may be lost for good. */
const LOST_MAX = 1;
/** Idle blocks are counted no longer than this. */
const IDLE_SECONDS_MAX = 60;

/** @typedef {{ home: string, id: string, address: string, http: number, chain: RunningChain | null }} Member */

/** @type {(() => Promise<void>)[]} */
const endings = [];

await run(async () => {
  try {
    const comet = cometBinary(values["comet-bin"]);
    const dir = await mkdtemp(join(tmpdir(), "sutantra-validator-relay-"));
    endings.push(() => rm(dir, { recursive: true, force: true, maxRetries: 3 }));
    const members = await network(dir);
    await start(members, comet);
    const [relay, watcher] = [members[0], members[1]];
    must(relay?.chain && watcher?.chain, "all run");
    // All four are in the commits before anything is counted.
    await watcher.chain.reaches(5);
    const idle = await blocks(watcher.chain, relay.address, () => pause(Math.min(seconds, IDLE_SECONDS_MAX) * 1000));
    /** @type {Awaited<ReturnType<typeof bench>> | null} */
    let media = null;
    const loaded = await blocks(watcher.chain, relay.address, async () => {
      media = await bench(`http://127.0.0.1:${relay.http}`, dir, relay.chain?.node.child.pid ?? 0);
    });
    const result = { validators: VALIDATORS, seconds, viewers, idle, loaded, media };
    must(loaded.missed === 0, `the validator missed blocks while it served media: ${JSON.stringify(result)}`);
    must(served(media), `media was lost: ${JSON.stringify(result)}`);
    return result;
  } finally {
    for (const end of endings.reverse()) await end();
  }
});

/** @param {Awaited<ReturnType<typeof bench>> | null} media */
function served(media) {
  return media !== null && media.packets_per_second > 0 && media.lost_percent <= LOST_MAX && media.corrupt === 0;
}

/** Homes of one chain that all of them decide. @param {string} dir @returns {Promise<Member[]>} */
async function network(dir) {
  const genesisOf = (/** @type {string} */ home) => join(home, "config/genesis.json");
  /** @type {Member[]} */
  const members = [];
  const validators = [];
  for (let at = 0; at < VALIDATORS; at += 1) {
    const home = join(dir, `node${at}`);
    const joined = members[0] ? ["--role", "validator", "--genesis", genesisOf(members[0].home)] : [];
    execFileSync(values.node, ["init", `node${at}`, "--home", home, ...joined], { stdio: ["ignore", "ignore", "inherit"] });
    const key = JSON.parse(await readFile(join(home, "config/priv_validator_key.json"), "utf8"));
    validators.push({ address: key.address, pub_key: key.pub_key, power: "10", name: `node${at}` });
    const id = execFileSync(values.node, ["comet", "show-node-id", "--home", home], { encoding: "utf8" }).trim();
    members.push({ home, id, address: key.address, http: await freePort(), chain: null });
  }
  const genesis = JSON.parse(await readFile(genesisOf(members[0]?.home ?? ""), "utf8"));
  for (const { home } of members) await writeFile(genesisOf(home), JSON.stringify({ ...genesis, validators }));
  return members;
}

/** @param {Member[]} members @param {string} comet */
async function start(members, comet) {
  const ports = await Promise.all(members.map(async () => ({ rpc: await freePort(), p2p: await freePort() })));
  const peers = members.map(({ id }, at) => `${id}@127.0.0.1:${ports[at]?.p2p}`);
  for (const [at, member] of members.entries()) {
    const { rpc, p2p } = ports[at] ?? { rpc: 0, p2p: 0 };
    const others = peers.filter((_, other) => other !== at).flatMap((peer) => ["--peers", peer]);
    const role = at === 0 ? ["--role", "validator-relay", "--open"] : ["--role", "validator"];
    const engine = ["--comet", "spawn", "--comet-bin", comet, "--timeout-commit-ms", String(TIMEOUT_COMMIT_MS), "--p2p", `127.0.0.1:${p2p}`, "--rpc", `127.0.0.1:${rpc}`];
    const args = ["start", "--home", member.home, "--http", `127.0.0.1:${member.http}`, "--udp-port", "0", ...role, ...engine, ...others];
    member.chain = new RunningChain(`node${at}`, member.home, rpc, new Process(values.node, args));
    endings.push(() => member.chain?.node.end() ?? Promise.resolve());
  }
  await Promise.all(members.map(({ chain }) => chain?.reaches(2)));
  const relay = members[0];
  await until("the relay to answer", async () => (await fetch(`http://127.0.0.1:${relay?.http}/healthz`).catch(() => null))?.ok);
}

/**
 * The blocks that are made meanwhile: how far apart, and how many of them without the validator.
 * @param {RunningChain} chain @param {string} address @param {() => Promise<unknown>} meanwhile
 */
async function blocks(chain, address, meanwhile) {
  const first = (await chain.height()) + 1;
  await meanwhile();
  const last = await chain.height();
  /** @type {number[]} */
  const times = [];
  const missed = [];
  for (let height = first; height <= last; height += 1) {
    const { signed_header } = await chain.call("commit", { height: String(height) });
    times.push(Date.parse(signed_header.header.time));
    const signed = signed_header.commit.signatures.some((/** @type {any} */ each) => each.validator_address === address && each.block_id_flag === SIGNED);
    // The newest commit is what one node has seen so far; the next block has the whole of it.
    if (!signed && height < last) missed.push(height);
  }
  const intervals = times.slice(1).map((time, at) => time - (times[at] ?? 0)).sort((one, other) => one - other);
  const quantile = (/** @type {number} */ share) => intervals[Math.round((intervals.length - 1) * share)] ?? 0;
  return { blocks: times.length, missed: missed.length, heights_missed: missed.slice(0, 10), interval_p50_ms: quantile(0.5), interval_p99_ms: quantile(0.99) };
}

/** @param {string} base @param {string} dir @param {number} pid */
async function bench(base, dir, pid) {
  const report = join(dir, "bench.json");
  const args = ["load", "--base", base, "--viewers", String(viewers), "--duration", `${seconds}s`, "--pid", String(pid), "--json", report];
  const process = new Process(benchProgram, args);
  endings.push(() => process.end());
  const code = await new Promise((resolve) => process.child.once("exit", resolve));
  // 1: a threshold of its own, of which none is set, or a viewer that never played.
  must(code === 0, `the bench ended with ${code}: ${process.log.slice(-1000)}`);
  const { packets, seconds: counted, latency_ms, server } = JSON.parse(await readFile(report, "utf8"));
  return {
    packets_per_second: Math.round(packets.received / counted),
    lost_percent: (100 * packets.lost) / packets.expected,
    corrupt: packets.corrupt,
    latency_p99_ms: latency_ms.p99,
    relay_cores: server.cores,
  };
}
