// `cometbft light`: Go's light client as a proxy, and an RPC that lies to it.

import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Process, freePort } from "./processes.mjs";
import { must, until } from "./scenario.mjs";

/** A proxy that passes on what it verified. */
export class LightProxy {
  /** @param {Process} process @param {string} home @param {number} port */
  constructor(process, home, port) {
    this.process = process;
    this.home = home;
    this.rpc = `http://127.0.0.1:${port}`;
    this.ws = `ws://127.0.0.1:${port}`;
  }

  /**
   * @param {string} comet the program
   * @param {string} chainId
   * @param {{ primary: string, witness: string, height: number, hash: string }} trust
   */
  static async start(comet, chainId, { primary, witness, height, hash }) {
    const home = await mkdtemp(join(tmpdir(), "sutantra-light-"));
    const port = await freePort();
    const args = ["light", chainId, "-p", primary, "-w", witness, "--height", String(height), "--hash", hash, "--laddr", `tcp://127.0.0.1:${port}`, "--home-dir", home];
    const proxy = new LightProxy(new Process(comet, args), home, port);
    try {
      await until("the light client to answer", async () => {
        proxy.process.mustRun();
        return (await fetch(`${proxy.rpc}/health`).catch(() => null))?.ok;
      });
      return proxy;
    } catch (error) {
      await proxy.end();
      throw error;
    }
  }

  async end() {
    await this.process.end();
    await rm(this.home, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** An RPC that says the truth of another one, but for one header. */
export class Liar {
  /** Answers in which it lied. */
  lies = 0;
  #server;
  /** @type {Set<import("node:net").Socket>} */
  #through = new Set();

  /** @param {import("node:http").Server} server @param {number} port */
  constructor(server, port) {
    this.#server = server;
    this.rpc = `http://127.0.0.1:${port}`;
  }

  /**
   * @param {string} upstream
   * @param {number} height of the header that it changes
   * @param {string} [hash] what it says that the header's hash is; without one the true header's
   */
  static async start(upstream, height, hash) {
    const server = createServer((request, response) => {
      const parts = /** @type {Buffer[]} */ ([]);
      request.on("data", (bytes) => parts.push(bytes));
      request.on("end", async () => {
        const body = parts.length > 0 ? Buffer.concat(parts) : undefined;
        try {
          const init = body ? { body, headers: { "Content-Type": "application/json" } } : {};
          const answer = await fetch(`${upstream}${request.url}`, { method: request.method ?? "GET", ...init });
          const said = JSON.parse(await answer.text());
          for (const each of Array.isArray(said) ? said : [said]) liar.#alter(each.result, height, hash);
          response.writeHead(answer.status, { "Content-Type": "application/json" }).end(JSON.stringify(said));
        } catch (error) {
          response.writeHead(502).end(String(error));
        }
      });
    });
    // The light client opens a WebSocket at its start: passed through, there are no headers to ask for.
    server.on("upgrade", (request, socket) => {
      const { hostname, port } = new URL(upstream);
      const through = connect(Number(port), hostname, () => {
        const lines = Array.from({ length: request.rawHeaders.length / 2 }, (_, at) => `${request.rawHeaders[2 * at]}: ${request.rawHeaders[2 * at + 1]}`);
        through.write([`GET ${request.url} HTTP/1.1`, ...lines, "", ""].join("\r\n"));
        socket.pipe(through).pipe(socket);
      });
      liar.#through.add(through);
      for (const [one, other] of [[socket, through], [through, socket]]) one?.on("error", () => other?.destroy());
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(null)));
    const liar = new Liar(server, /** @type {import("node:net").AddressInfo} */ (server.address()).port);
    return liar;
  }

  /** @param {any} result @param {number} height @param {string | undefined} hash */
  #alter(result, height, hash) {
    const signed = result?.signed_header;
    const header = signed?.header ?? result?.header ?? result?.block?.header;
    if (Number(header?.height) !== height) return;
    this.lies += 1;
    header.app_hash = flipped(header.app_hash);
    if (hash && signed) signed.commit.block_id.hash = hash;
    if (hash && result.block_id) result.block_id.hash = hash;
  }

  async end() {
    for (const socket of this.#through) socket.destroy();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Another hash, by one bit. @param {string} hash in hex */
function flipped(hash) {
  const bytes = Buffer.from(hash, "hex");
  must(bytes.length > 0, "there is a hash to change");
  bytes.writeUInt8(bytes.readUInt8(0) ^ 1);
  return bytes.toString("hex").toUpperCase();
}
