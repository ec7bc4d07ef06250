// A bad network between one browser and the relay: loss, delay and jitter for SRTP and SRTCP, seeded.
//
// The browser is sent to `base`, an HTTP server before the relay's. It hands everything through but
// the SDP answers, whose candidates it replaces by a UDP port of its own; so it works in every
// browser and touches no page. STUN and DTLS pass unharmed: this tests the repair of media, not the
// patience of a handshake. The relay sees another source address for each of the browser's.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, request } from "node:http";

/** Sockets towards the relay of one session, one for each address of the browser. Beyond: dropped. */
const CLIENTS_MAX = 64;
/** A keyframe comes in one burst; the kernel shall hold it while this process is not scheduled. */
const SOCKET_BUFFER_BYTES = 1 << 20;

/**
 * @typedef {object} Damage
 * @property {number} [lossPercent] of SRTP and SRTCP datagrams, each way
 * @property {number} [delayMs] of SRTP and SRTCP, each way
 * @property {number} [jitterMs] more delay, from 0 to this at random: datagrams overtake each other
 * @property {number} [seed]
 */

/** @typedef {import("node:dgram").Socket} Socket */

/** What came by in one direction, and what became of it. */
class Direction {
  /** SRTP datagrams handed on. */
  rtp = 0;
  /** SRTCP datagrams handed on. */
  rtcp = 0;
  /** STUN, DTLS. */
  other = 0;
  droppedRtp = 0;
  droppedRtcp = 0;
  /** When the first SRTP datagram was handed on, by `performance.now()`. @type {number | null} */
  firstRtpAt = null;

  /** @param {Required<Damage>} damage @param {number} seed */
  constructor(damage, seed) {
    this.#damage = damage;
    this.#random = mulberry32(seed);
  }

  /** @type {Required<Damage>} */
  #damage;
  #random;

  get dropped() {
    return this.droppedRtp + this.droppedRtcp;
  }

  /** Hands a datagram on, later or never. @param {Buffer} datagram @param {() => void} send */
  pass(datagram, send) {
    const [first = 0, second = 0] = datagram;
    // RFC 7983 §7: 128 to 191 is SRTP or SRTCP. RFC 5761 §4: which of the two.
    if (first < 128 || first > 191) {
      this.other += 1;
      return send();
    }
    const isRtcp = second >= 192 && second <= 223;
    if (this.#random() * 100 < this.#damage.lossPercent) {
      this[isRtcp ? "droppedRtcp" : "droppedRtp"] += 1;
      return;
    }
    this[isRtcp ? "rtcp" : "rtp"] += 1;
    if (!isRtcp) this.firstRtpAt ??= performance.now();
    const lateMs = this.#damage.delayMs + this.#random() * this.#damage.jitterMs;
    if (lateMs > 0) setTimeout(send, lateMs);
    else send();
  }
}

/** Numbers in [0, 1), the same ones for the same seed. @param {number} seed */
function mulberry32(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The first UDP candidate of an answer with an IPv4 address. @param {string} sdp */
export function firstCandidate(sdp) {
  const found = /^a=candidate:\S+ 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) /im.exec(sdp);
  return found && { address: String(found[1]), port: Number(found[2]) };
}

/**
 * Leaves of the candidates only those of `kept`, with another port.
 * @param {string} sdp
 * @param {{ address: string, port: number }} kept
 * @param {number} port
 */
export function replaceCandidates(sdp, kept, port) {
  return sdp.replace(/^a=candidate:.*\r?\n/gim, (line) => {
    const was = firstCandidate(line);
    if (was?.address !== kept.address || was.port !== kept.port) return "";
    return line.replace(` ${kept.address} ${kept.port} `, ` ${kept.address} ${port} `);
  });
}

export class Impairment {
  /** @type {Socket[]} */
  #sockets = [];
  #closed = false;
  /** From the browser to the relay. */
  up;
  /** From the relay to the browser. */
  down;
  /** Where to send the browser. */
  base = "";

  /** @param {string} relay its HTTP address @param {Damage} damage */
  constructor(relay, { lossPercent = 0, delayMs = 0, jitterMs = 0, seed = 1 }) {
    const damage = { lossPercent, delayMs, jitterMs, seed };
    this.relay = new URL(relay);
    this.up = new Direction(damage, seed);
    this.down = new Direction(damage, seed ^ 0x9e3779b9);
    this.server = createServer((ask, reply) => {
      this.#exchange(ask, reply).catch(() => reply.destroy());
    });
  }

  /** @param {string} relay its HTTP address @param {Damage} [damage] */
  static async start(relay, damage = {}) {
    const impairment = new Impairment(relay, damage);
    impairment.server.listen(0, "127.0.0.1");
    await once(impairment.server, "listening");
    const { port } = /** @type {import("node:net").AddressInfo} */ (impairment.server.address());
    impairment.base = `http://127.0.0.1:${port}`;
    return impairment;
  }

  close() {
    this.#closed = true;
    this.server.closeAllConnections();
    this.server.close();
    for (const socket of this.#sockets.splice(0)) socket.close();
  }

  /** @param {import("node:http").IncomingMessage} ask @param {import("node:http").ServerResponse} reply */
  async #exchange(ask, reply) {
    const { hostname, port, host } = this.relay;
    const headers = { ...ask.headers, host };
    const onward = request({ hostname, port, method: ask.method, path: ask.url, headers });
    ask.pipe(onward);
    const [answer] = /** @type {[import("node:http").IncomingMessage]} */ (await once(onward, "response"));
    if (!answer.headers["content-type"]?.startsWith("application/sdp")) {
      reply.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(reply);
      return;
    }
    const sdp = Buffer.from(await this.#intercept(Buffer.concat(await answer.toArray()).toString()));
    const { "transfer-encoding": _, ...kept } = answer.headers;
    reply.writeHead(answer.statusCode ?? 502, { ...kept, "content-length": sdp.length });
    reply.end(sdp);
  }

  /** The same answer, leading through us. @param {string} sdp */
  async #intercept(sdp) {
    const relay = firstCandidate(sdp);
    if (!relay) throw new Error("the answer has no IPv4 candidate");
    // At the relay's own address, since that is one which the browser can reach.
    const near = this.#socket();
    near.bind(0, relay.address);
    await once(near, "listening");
    /** @type {Map<string, Socket>} */
    const far = new Map();
    near.on("message", (datagram, client) => {
      const key = `${client.address}:${client.port}`;
      const known = far.get(key);
      if (!known && far.size >= CLIENTS_MAX) return;
      const socket = known ?? this.#socket();
      if (!known) {
        far.set(key, socket);
        socket.on("message", (back) => this.down.pass(back, () => this.#send(near, back, client)));
      }
      this.up.pass(datagram, () => this.#send(socket, datagram, relay));
    });
    return replaceCandidates(sdp, relay, near.address().port);
  }

  #socket() {
    const socket = createSocket({ type: "udp4", recvBufferSize: SOCKET_BUFFER_BYTES });
    // A refused port is what a network does; the datagram is lost.
    socket.on("error", () => {});
    this.#sockets.push(socket);
    return socket;
  }

  /** @param {Socket} socket @param {Buffer} datagram @param {{ address: string, port: number }} to */
  #send(socket, datagram, { address, port }) {
    if (!this.#closed) socket.send(datagram, port, address);
  }
}
