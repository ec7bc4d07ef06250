// The pages from the disk, and a relay that has an API but no media: for working on the pages.
//
//   node test/fake-server.mjs [--port 8099] [--host 127.0.0.1] [--streams 3] [--tokens]
//   node test/fake-server.mjs --upstream http://127.0.0.1:8080     pages from the disk, all else real
//   node test/fake-server.mjs --chain                      with a chain, a wallet's faucet and one paid stream
//   node test/fake-server.mjs --media http://127.0.0.1:8080        as the first, but WHIP and WHEP real
//
// WHIP and WHEP answer 503 by themselves: a picture comes only from a real relay.

import { createServer, request as forward } from "node:http";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { ChainFace } from "./fake-chain.mjs";
import { STREAM, termsJson } from "./wallet-world.mjs";

const PAGES = new URL("../pages/", import.meta.url);
const CLIENT = new URL("../client/", import.meta.url);
const TYPES = { html: "text/html; charset=utf-8", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };

/** What the fake relay lists. */
export const STREAMS = [
  { id: "demo", title: "Demo loop", codecs: ["VP8", "opus"], viewers: 2, price_per_second: "0" },
  { id: "loom", title: "Weaving on a Jacquard loom, from the first thread", codecs: ["AV1", "opus"], viewers: 41, price_per_second: "400000" },
  { id: "harbour", title: "Harbour at night", codecs: ["H264"], viewers: 0, price_per_second: "0" },
].map((stream) => ({ ...stream, whep: `/whep/${stream.id}` }));

/**
 * @param {{ streams?: typeof STREAMS, tokens?: boolean, chain?: boolean, upstream?: string | null, media?: string | null, host?: string, port?: number }} [options]
 * @returns {Promise<{ base: string, close: () => void, requests: string[], streams: typeof STREAMS }>}
 */
export async function startFakeServer({ streams = STREAMS, tokens = false, chain = false, upstream = null, media = null, host = "127.0.0.1", port = 0 } = {}) {
  const startedMs = Date.now();
  const face = chain ? new ChainFace() : null;
  if (face) {
    const paid = { id: STREAM, stream_id: STREAM, title: "Harbour at night, by the second", policy: "paid", codecs: ["VP8", "opus"], viewers: 3, price_per_second: "1000000", whep: `/whep/${STREAM}` };
    streams = [...streams, paid];
  }
  /** @type {string[]} */
  const requests = [];
  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://relay");
    requests.push(`${request.method} ${url.pathname}`);
    /** @param {number} status @param {unknown} body @param {Record<string, string>} [headers] */
    const json = (status, body, headers = {}) => {
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(JSON.stringify(body));
    };
    if (face && request.method === "POST" && url.pathname === `/whep/${STREAM}`) {
      response.writeHead(402, { "content-type": "application/json" });
      return response.end(face.paymentRequired(termsJson()));
    }
    if (face && /^\/(rpc|api)\b/.test(url.pathname)) {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const answer = await face.answer(url.pathname, Buffer.concat(chunks).toString());
      if (answer !== null) {
        response.writeHead(200, { "content-type": "application/json" });
        return response.end(answer);
      }
    }
    const file = fileFor(url.pathname);
    if (file && request.method === "GET") {
      try {
        const bytes = await readFile(new URL(file.replace("client/", ""), file.startsWith("client/") ? CLIENT : PAGES));
        const ending = /** @type {keyof typeof TYPES} */ (file.split(".").pop());
        response.writeHead(200, { "content-type": TYPES[ending], "cache-control": "no-store" });
        return response.end(bytes);
      } catch {
        if (!upstream && !media) return json(404, { error: "no such file" });
      }
    }
    const real = upstream ?? (/^\/(api|$)/.test(url.pathname) ? null : media);
    if (real) {
      const { method, headers } = request;
      const up = forward(new URL(request.url ?? "/", real), { method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      up.on("error", () => json(502, { error: "the upstream does not answer" }));
      return request.pipe(up);
    }
    switch (url.pathname.split("/")[1]) {
      case "whip":
      case "whep":
        return json(503, { error: "This fake relay carries no media." }, { "retry-after": "1" });
      case "api":
        break;
      default:
        return json(404, { error: "no such path" });
    }
    if (url.pathname === "/api/streams") return json(200, streams);
    if (url.pathname === "/api/status") {
      return json(200, { version: "0.1.0", link: "io_uring", shards: 1, udp_port: 8080, started_ms: startedMs, open: !tokens });
    }
    if (url.pathname === "/api/grant") {
      if (tokens) return json(403, { error: "This relay hands out no grants." });
      return json(200, { token: "fake", expires_ms: Date.now() + 60_000 });
    }
    const stream = streams.find(({ id }) => url.pathname === `/api/streams/${id}`);
    return stream ? json(200, stream) : json(404, { error: "not live" });
  });
  // WebSockets go through as they are.
  server.on("upgrade", (request, socket, head) => {
    if (!upstream) return socket.destroy();
    const { hostname, port: upstreamPort } = new URL(upstream);
    const up = connect(Number(upstreamPort), hostname, () => {
      const headers = request.rawHeaders.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${request.rawHeaders[at + 1]}`] : []));
      up.write(`${request.method} ${request.url} HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n`);
      up.write(head);
      socket.pipe(up).pipe(socket);
    });
    up.on("error", () => socket.destroy());
    socket.on("error", () => up.destroy());
  });
  await new Promise((resolve) => server.listen(port, host, () => resolve(null)));
  const address = /** @type {import("node:net").AddressInfo} */ (server.address());
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { base: `http://${host}:${address.port}`, close, requests, streams };
}

/** @param {string} path */
function fileFor(path) {
  if (path === "/") return "index.html";
  if (/^\/(publish|network|rooms|wallet)$/.test(path)) return `${path.slice(1)}.html`;
  if (path.startsWith("/network/")) return "network.html";
  if (/^\/watch(\/|$)/.test(path)) return "watch.html";
  return /^\/(lib\/((wallet|network|light|rooms)\/)?|client\/(prrc\/)?)?[a-z0-9-]+\.(js|css|svg)$/.test(path) ? path.slice(1) : null;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "8099" },
      host: { type: "string", default: "127.0.0.1" },
      streams: { type: "string", default: String(STREAMS.length) },
      tokens: { type: "boolean", default: false },
      chain: { type: "boolean", default: false },
      upstream: { type: "string" },
      media: { type: "string" },
    },
  });
  const { base } = await startFakeServer({
    host: values.host,
    port: Number(values.port),
    tokens: values.tokens,
    chain: values.chain,
    streams: STREAMS.slice(0, Number(values.streams)),
    upstream: values.upstream ?? null,
    media: values.media ?? null,
  });
  console.log(base);
}
