// A coordinator in this process, as much of docs/coordinator.md as its clients lean on, that a test can
// kill, start again and look into; and connections that need no network.

import { createServer } from "node:http";
import { once } from "node:events";
import { WebSocketServer } from "ws";

import { fingerprintText, fingerprintOf, joinText, keyOf, verify } from "../client/identity.js";
import { fromHex, randomBytes, toHex, utf8 } from "../client/bytes.js";

/** What a node has at the coordinator. */
class Node {
  cursor = 0;
  /** @type {any[]} */
  queue = [];
  /** @type {import("ws").WebSocket | null} */
  socket = null;
  session = toHex(randomBytes(32));
  /** @type {(() => void)[]} */
  polls = [];
}

export class FakeCoordinator {
  networkId = "test-net";
  /** @type {Map<string, Map<string, any>>} */
  rooms = new Map();
  /** @type {Map<string, Node>} */
  nodes = new Map();
  /** Every message that clients sent, flat. @type {any[]} */
  heard = [];
  /** Every connection that was tried, by its kind. */
  connections = { websocket: 0, poll: 0 };
  /** Answers instead of the coordinator's; return undefined to leave it alone. @type {(message: any) => any} */
  meddle = () => undefined;
  /** What each answer to a join names. @type {any[]} */
  iceServers = [{ urls: "stun:127.0.0.1:3478" }];
  allowWebSocket = true;
  signed = true;
  port = 0;
  /** @type {import("node:http").Server | null} */
  #server = null;
  /** @type {WebSocketServer | null} */
  #sockets = null;

  get origin() {
    return `http://127.0.0.1:${this.port}`;
  }

  get url() {
    return `${this.origin}/webrtc`;
  }

  async start() {
    const server = createServer((request, response) => void this.#http(request, response));
    this.#server = server;
    const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0] ?? false });
    this.#sockets = sockets;
    server.on("upgrade", (request, socket, head) => {
      if (!this.allowWebSocket) return void socket.destroy();
      this.connections.websocket += 1;
      sockets.handleUpgrade(request, socket, head, (ws) => this.#socket(ws));
    });
    server.listen(this.port, "127.0.0.1");
    await once(server, "listening");
    this.port = /** @type {import("node:net").AddressInfo} */ (server.address()).port;
    return this;
  }

  /** As SIGKILL does it: nobody is told, and nothing is remembered. */
  async kill() {
    for (const client of this.#sockets?.clients ?? []) client.terminate();
    this.#server?.closeAllConnections();
    const closed = this.#server && once(this.#server, "close");
    this.#server?.close();
    await closed;
    this.rooms.clear();
    this.nodes.clear();
  }

  /** Cuts a node's WebSocket; the coordinator still counts it in. @param {string} nodeId */
  cut(nodeId) {
    this.nodes.get(nodeId)?.socket?.terminate();
  }

  /** @param {string} type */
  count(type) {
    return this.heard.filter((message) => message.type === type).length;
  }

  /** @param {string} nodeId */
  #node(nodeId) {
    const node = this.nodes.get(nodeId) ?? new Node();
    this.nodes.set(nodeId, node);
    return node;
  }

  /** @param {string} to @param {any} message */
  push(to, message) {
    const node = this.nodes.get(to);
    if (!node) return;
    node.cursor += 1;
    const numbered = { ...message, seq: node.cursor, timestamp: Date.now() };
    node.queue.push(numbered);
    node.socket?.send(JSON.stringify(numbered));
    for (const wake of node.polls.splice(0)) wake();
  }

  /** @param {string} nodeId @param {string} room @param {any} metadata */
  #join(nodeId, room, metadata) {
    const members = this.rooms.get(room) ?? new Map();
    this.rooms.set(room, members);
    const isNew = !members.has(nodeId);
    const peers = [...members].filter(([id]) => id !== nodeId).map(([id, known]) => ({ nodeId: id, name: known.name ?? id, joinedAt: 1, metadata: known }));
    members.set(nodeId, metadata ?? {});
    if (isNew) for (const { nodeId: other } of peers) this.push(other, { type: "peer-joined", room, peer: { nodeId, metadata: metadata ?? {} } });
    return { room, peers, iceServers: this.iceServers };
  }

  /** @param {string} nodeId @param {string} room */
  leave(nodeId, room) {
    if (!this.rooms.get(room)?.delete(nodeId)) return;
    for (const other of this.rooms.get(room)?.keys() ?? []) this.push(other, { type: "peer-left", room, peerId: nodeId });
  }

  /** @param {string} from @param {any} message @returns {any} an error, or undefined */
  #signal(from, message) {
    this.heard.push({ ...message, from });
    const meddled = this.meddle({ ...message, from });
    if (meddled !== undefined) return meddled;
    const members = this.rooms.get(message.room);
    if (!members?.has(from) || !members.has(message.to)) return { code: "unknown_peer", message: "nobody of that name is in the room" };
    const { to, id, ...rest } = message;
    this.push(to, { ...rest, from });
    return undefined;
  }

  /** @param {import("ws").WebSocket} ws */
  #socket(ws) {
    let nodeId = "";
    const answer = (/** @type {any} */ message) => ws.send(JSON.stringify(message));
    ws.on("close", () => {
      const node = this.nodes.get(nodeId);
      if (node?.socket === ws) node.socket = null;
    });
    ws.on("message", async (data) => {
      const message = JSON.parse(String(data));
      const messages = message.type === "batch" ? message.messages : [message];
      for (const one of messages) {
        const { type, room, id } = one;
        if (type === "hello") {
          if (!(await this.#proven(one))) return answer({ type: "error", code: "unauthenticated", message: "the signature is wrong" });
          nodeId = one.nodeId;
          const known = this.nodes.get(nodeId);
          const resumes = known !== undefined && one.resume?.session === known.session;
          const node = this.#node(nodeId);
          node.socket = ws;
          const resumed = resumes ? [...this.rooms].filter(([, members]) => members.has(nodeId)).map(([name]) => name) : [];
          if (!resumes) for (const name of this.rooms.keys()) this.leave(nodeId, name);
          answer({ type: "welcome", v: 1, nodeId, session: node.session, cursor: node.cursor, caps: ["batch", "resume"], heartbeatMs: 15000, staleMs: 30000, iceServers: [], resumed });
          if (resumes) for (const missed of node.queue.filter(({ seq }) => seq > one.resume.cursor)) answer(missed);
          continue;
        }
        if (type === "ping") {
          this.heard.push({ ...one, from: nodeId });
          answer({ type: "pong" });
        } else if (type === "ack") this.heard.push({ ...one, from: nodeId });
        else if (type === "join") {
          this.heard.push({ ...one, from: nodeId });
          const refusal = this.meddle({ ...one, from: nodeId });
          if (refusal) answer({ type: "error", ref: id, ...refusal });
          else answer({ type: "joined", ...this.#join(nodeId, room, one.metadata) });
        } else if (type === "leave") {
          this.leave(nodeId, room);
          answer({ type: "left", room });
        } else if (type === "broadcast") {
          this.heard.push({ ...one, from: nodeId });
          for (const other of this.rooms.get(room)?.keys() ?? []) if (other !== nodeId) this.push(other, { type, room, from: nodeId, data: one.data });
        } else {
          const refusal = this.#signal(nodeId, one);
          if (refusal) answer({ type: "error", ref: id, ...refusal });
        }
      }
    });
  }

  /** @param {any} hello */
  async #proven({ nodeId, pk, ts, nonce, sig, room = "" }) {
    if (!nodeId.startsWith("sn1")) return true;
    const key = await keyOf(pk, nodeId);
    const text = utf8(joinText({ networkId: this.networkId, nodeId, room, ts, nonce }));
    return key !== null && verify(key, text, /** @type {Uint8Array} */ (fromHex(sig, 64)));
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response */
  async #http(request, response) {
    const url = new URL(request.url ?? "/", this.origin);
    let text = "";
    for await (const chunk of request) text += chunk;
    const body = text ? JSON.parse(text) : {};
    const say = (/** @type {number} */ status, /** @type {any} */ answer) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(answer));
    };
    const refuse = (/** @type {number} */ status, /** @type {string} */ code) => say(status, { type: "error", code, message: `refused: ${code}` });
    const [, session] = /^Bearer (.*)$/.exec(request.headers.authorization ?? "") ?? [];
    const stranger = (/** @type {string} */ nodeId) => nodeId.startsWith("sn1") && this.nodes.get(nodeId)?.session !== session;
    switch (`${request.method} ${url.pathname}`) {
      case "GET /nodes":
        return say(200, {
          nodeId: "coordinator",
          networkId: this.networkId,
          seeds: [],
          webrtc: { enabled: true, coordinatorUrl: this.url, websocketUrl: "", stunServers: ["stun:127.0.0.1:3478"], turnServers: [{ urls: "turn:127.0.0.1:3478", username: "u", credential: "c" }] },
          outbound: [],
          inbound: [],
          uptime: 1,
        });
      case "GET /webrtc/info":
        return say(200, { enabled: true, nodeId: "coordinator", networkId: this.networkId, mode: this.signed ? "signed" : "open" });
      case "GET /webrtc/health":
        this.connections.poll += 1;
        return say(200, { status: "ok" });
      case "POST /webrtc/auth": {
        if (!(await this.#proven(body))) return refuse(401, "unauthenticated");
        return say(200, { success: true, session: this.#node(body.nodeId).session, expiresAt: Date.now() + 1e6 });
      }
      case "POST /webrtc/join": {
        this.heard.push({ ...body, type: "join", from: body.nodeId });
        if (stranger(body.nodeId)) return refuse(401, "unauthenticated");
        this.#node(body.nodeId);
        const { peers, ...rest } = this.#join(body.nodeId, body.room, body.metadata);
        return say(200, { success: true, ...rest, peers: peers.map(({ metadata: _, ...peer }) => peer) });
      }
      case "POST /webrtc/leave":
        this.leave(body.nodeId, body.room);
        return say(200, { success: true });
      case "GET /webrtc/peers": {
        const room = url.searchParams.get("room") ?? "";
        const peers = [...(this.rooms.get(room) ?? [])].map(([nodeId, metadata]) => ({ nodeId, name: nodeId, online: true, lastSeen: 1, metadata }));
        return say(200, { room, peers });
      }
      case "POST /webrtc/signal": {
        if (stranger(body.from)) return refuse(401, "unauthenticated");
        const { payload, from, ...rest } = body;
        const refusal = this.#signal(from, { ...rest, ...payload });
        if (refusal) return say(refusal.code === "rate_limited" ? 429 : 404, { type: "error", ...refusal });
        return say(200, { success: true, queued: true });
      }
      case "GET /webrtc/signal": {
        const nodeId = url.searchParams.get("nodeId") ?? "";
        if (stranger(nodeId)) return refuse(401, "unauthenticated");
        const node = this.nodes.get(nodeId);
        if (!node) return refuse(404, "unknown_peer");
        const cursor = Number(url.searchParams.get("cursor"));
        node.queue = node.queue.filter(({ seq }) => seq > cursor);
        if (node.queue.length === 0) {
          await new Promise((/** @type {(value: void) => void} */ resolve) => {
            node.polls.push(resolve);
            request.on("close", resolve);
            const timer = setTimeout(resolve, Number(url.searchParams.get("timeout")));
            timer.unref();
          });
        }
        const signals = node.queue.map(({ sdp, candidate, data, ...rest }) => ({ ...rest, payload: { sdp, candidate, data } }));
        return say(200, { signals, cursor: node.queue.at(-1)?.seq ?? cursor });
      }
      default:
        return refuse(404, "not_found");
    }
  }
}

/** Whether what a coordinator relayed is what its sender signed. @param {any} signal @param {string} to */
export async function fingerprintHolds({ from, room, sdp, fpSig, pk }, to) {
  const key = await keyOf(pk, from);
  const text = utf8(fingerprintText({ from, to, room, fingerprint: fingerprintOf(sdp) }));
  return key !== null && verify(key, text, /** @type {Uint8Array} */ (fromHex(fpSig, 64)));
}

/**
 * Waits until something holds, and says what did not.
 * @param {() => boolean} holds @param {string} what @param {number} [limitMs]
 */
export async function until(holds, what, limitMs = 20_000) {
  const end = Date.now() + limitMs;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`it did not come about that ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The network between `FakeConnection`s: who finds whom, and when it is down. */
export class FakeNet {
  /** Every connection that was made. @type {FakeConnection[]} */
  connections = [];
  down = false;
  /** While it is down, connections call themselves connected as soon as they have agreed, and then failed, as werift does. */
  fickle = false;
  #next = 1;

  /** The class to hand to a peer. @returns {any} */
  get RTCPeerConnection() {
    const net = this;
    return class extends FakeConnection {
      /** @param {any} configuration */
      constructor(configuration) {
        super(net, configuration);
      }
    };
  }

  /** Open channels, each of which has two ends. */
  get openChannels() {
    return this.connections.flatMap(({ channels }) => channels).filter(({ readyState }) => readyState === "open").length / 2;
  }

  unique() {
    return (this.#next++).toString(16).padStart(8, "0");
  }

  /** The network fails, as connections see it. */
  fail() {
    this.down = true;
    for (const one of this.connections) if (one.connectionState === "connected") one.become("failed");
  }

  /** Connects whoever has agreed. */
  settle() {
    for (const one of this.connections) {
      const other = this.connections.find((some) => some !== one && some.ufrag === one.remoteUfrag && some.remoteUfrag === one.ufrag);
      if (!other || !one.agreed || !other.agreed || one.connectionState === "connected") continue;
      if (!this.down) one.join(other);
      else if (this.fickle) one.pretend();
    }
  }
}

class FakeChannel extends EventTarget {
  binaryType = "blob";
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  /** @type {RTCDataChannelState} */
  readyState = "connecting";
  /** @type {FakeChannel | null} */
  other = null;
  /** What went through. @type {any[]} */
  sent = [];

  /** @param {string} label */
  constructor(label) {
    super();
    this.label = label;
  }

  /** @param {any} data */
  send(data) {
    if (this.readyState !== "open") throw new DOMException("not open", "InvalidStateError");
    this.sent.push(data);
    const copy = typeof data === "string" ? data : new Uint8Array(data).buffer;
    queueMicrotask(() => this.other?.dispatchEvent(Object.assign(new Event("message"), { data: copy })));
  }

  close() {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    const { other } = this;
    queueMicrotask(() => {
      this.dispatchEvent(new Event("close"));
      other?.close();
    });
  }
}

/** As much of an RTCPeerConnection as negotiation can get wrong: states, generations, certificates. */
export class FakeConnection extends EventTarget {
  signalingState = "stable";
  connectionState = "new";
  /** @type {any} */
  localDescription = null;
  /** @type {any} */
  remoteDescription = null;
  /** @type {FakeChannel[]} */
  channels = [];
  ufrag = "";
  candidates = 0;
  /** @type {FakeConnection | null} */
  #other = null;
  #pretended = "";
  #net;
  #fingerprint;
  /** @type {any} */
  #before = null;

  /** @param {FakeNet} net @param {any} configuration */
  constructor(net, configuration) {
    super();
    this.#net = net;
    this.configuration = configuration;
    this.#fingerprint = net.unique().match(/../g)?.join(":") ?? "";
    net.connections.push(this);
  }

  get remoteUfrag() {
    return /a=ice-ufrag:(\S+)/.exec(this.remoteDescription?.sdp ?? "")?.[1];
  }

  get agreed() {
    return this.signalingState === "stable" && this.localDescription !== null && this.candidates > 0;
  }

  /** @param {string} label */
  createDataChannel(label) {
    const channel = new FakeChannel(label);
    this.channels.push(channel);
    return channel;
  }

  /** @param {{ iceRestart?: boolean }} [options] */
  async createOffer({ iceRestart = false } = {}) {
    if (iceRestart || !this.ufrag) this.ufrag = this.#net.unique();
    return { type: "offer", sdp: this.#sdp() };
  }

  async createAnswer() {
    this.#must("have-remote-offer");
    this.ufrag = this.#net.unique();
    return { type: "answer", sdp: this.#sdp() };
  }

  /** @param {any} description */
  async setLocalDescription(description) {
    if (description.type === "rollback") {
      this.#must("have-local-offer");
      this.signalingState = "stable";
      this.localDescription = this.#before;
      return;
    }
    this.#must(description.type === "offer" ? "stable" : "have-remote-offer");
    this.#before = this.localDescription;
    this.localDescription = description;
    this.signalingState = description.type === "offer" ? "have-local-offer" : "stable";
    const candidate = { candidate: `candidate:1 1 udp 1 127.0.0.1 9 typ host ufrag ${this.ufrag}`, usernameFragment: this.ufrag };
    queueMicrotask(() => {
      // From then on the description names it, as it does in browsers.
      if (this.localDescription === description) this.localDescription = { ...description, sdp: `${description.sdp}a=candidate\r\n` };
      this.dispatchEvent(Object.assign(new Event("icecandidate"), { candidate }));
    });
    this.#net.settle();
  }

  /** @param {any} description */
  async setRemoteDescription(description) {
    this.#must(description.type === "offer" ? "stable" : "have-local-offer");
    this.remoteDescription = description;
    this.signalingState = description.type === "offer" ? "have-remote-offer" : "stable";
    this.candidates = (description.sdp.match(/^a=candidate/gm) ?? []).length;
    this.#net.settle();
  }

  /** @param {any} candidate */
  async addIceCandidate(candidate) {
    if (!this.remoteDescription) throw new DOMException("no remote description", "InvalidStateError");
    if (candidate.usernameFragment !== this.remoteUfrag) throw new DOMException("of another generation", "OperationError");
    this.candidates += 1;
    this.#net.settle();
  }

  /** Once for each round of ICE. */
  pretend() {
    if (this.#pretended === this.ufrag) return;
    this.#pretended = this.ufrag;
    this.become("connected");
    queueMicrotask(() => this.become("failed"));
  }

  /** @param {FakeConnection} other */
  join(other) {
    const known = this.#other === other;
    this.#other = other;
    other.#other = this;
    this.become("connected");
    other.become("connected");
    if (known) return;
    for (const [from, to] of [[this, other], [other, this]]) {
      for (const channel of /** @type {FakeConnection} */ (from).channels.filter((one) => one.readyState === "connecting")) {
        const far = new FakeChannel(channel.label);
        /** @type {FakeConnection} */ (to).channels.push(far);
        [channel.other, far.other] = [far, channel];
        for (const end of [channel, far]) end.readyState = "open";
        /** @type {FakeConnection} */ (to).dispatchEvent(Object.assign(new Event("datachannel"), { channel: far }));
        channel.dispatchEvent(new Event("open"));
      }
    }
  }

  /** @param {string} state */
  become(state) {
    if (this.connectionState === state) return;
    this.connectionState = state;
    this.dispatchEvent(new Event("connectionstatechange"));
  }

  close() {
    if (this.signalingState === "closed") return;
    this.signalingState = "closed";
    this.connectionState = "closed";
    this.ufrag = "closed";
    for (const channel of this.channels) channel.close();
  }

  /** @param {string} state */
  #must(state) {
    if (this.signalingState !== state) throw new DOMException(`in ${this.signalingState}, not ${state}`, "InvalidStateError");
  }

  #sdp() {
    return `v=0\r\na=fingerprint:sha-256 ${this.#fingerprint}\r\na=ice-ufrag:${this.ufrag}\r\n`;
  }
}
