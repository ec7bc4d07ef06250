// Signalling with a coordinator that may go and come back: rooms are kept, over a WebSocket or by polling.

import { Backoff } from "./backoff.js";
import { EventEmitter } from "./emitter.js";
import { asSutantraError, SutantraError } from "./errors.js";
import { call } from "./http.js";
import { mistaken, mustBeAddress, mustBeJson, mustBeNodeId, mustBeOptions, mustBeRoom } from "./inputs.js";
import { Memberships } from "./memberships.js";
import { Outbox } from "./outbox.js";
import { Pace } from "./pace.js";
import { patiently, pause, PollCarrier } from "./poll.js";
import { movedTo, SocketCarrier } from "./socket.js";
import { Renewal } from "./turn.js";

/** @typedef {"auto" | "websocket" | "poll"} TransportChoice */
/** @typedef {"idle" | "connecting" | "open" | "waiting" | "closed"} SignalingState */
/** Somebody in a room. @typedef {{ nodeId: string, name?: string, joinedAt?: number, metadata?: any }} Member */
/** @typedef {{ room: string, peers: Member[], iceServers: RTCIceServer[], again: boolean }} Joined */
/**
 * @typedef {object} SignalingOptions
 * @property {import("./identity.js").Identity | null} [identity] without it the coordinator must be in mode `open`
 * @property {TransportChoice} [transport]
 * @property {typeof globalThis.WebSocket} [WebSocket]
 * @property {typeof globalThis.fetch} [fetch]
 * @property {() => number} [random] uniform in [0, 1), for the backoff's jitter
 */

/** Polling, where a WebSocket is wished for, is left after so long to try the WebSocket again. */
const UPGRADE_AFTER_MS = 60_000;
/** A connection that held for so long was a good one. */
const STEADY_MS = 10_000;
/** Refusals of a hello that no waiting mends. */
const FATAL = new Set(["bad_request", "unauthenticated", "payment_required", "forbidden", "id_taken", "not_found", "no_cryptography"]);

/**
 * Events: `state` (state, transport), `joined` (Joined), `left` (room, error) for a room that was lost,
 * `peer-joined` (room, Member), `peer-left` (room, peerId), `signal` (an offer, answer, candidate or
 * message, flat, with `from` and `room`), `broadcast` (`{from, room, data}`), `sent` (what was sent),
 * `ice-servers` (RTCIceServer[]) beside those of a join, `error` (SutantraError).
 */
export class SutantraSignaling extends EventEmitter {
  /** @type {SignalingState} */
  state = "idle";
  /** What carries it now. @type {"websocket" | "poll" | null} */
  transport = null;
  /** @type {RTCIceServer[]} */
  iceServers = [];
  /** Of the coordinator; known once connected. */
  networkId = "";
  /** `open`, `signed` or `required`; known once connected. */
  mode = "";
  /** A secret that stands for the signature. @type {string | null} */
  session = null;
  #options;
  #rooms;
  /** @type {SocketCarrier | PollCarrier | null} */
  #carrier = null;
  #cursor = 0;
  #outbox = new Outbox();
  #pace = new Pace();
  /** Messages over HTTP beside another carrier keep their order too. @type {Promise<unknown>} */
  #posts = Promise.resolve();
  #stop = new AbortController();
  #backoff;
  #openedAt = 0;
  #renewal = new Renewal(
    () => this.iceServers,
    () => this.#rooms.askAgain(),
    (iceServers) => void this.emit("ice-servers", iceServers),
  );
  /** @type {Promise<void> | null} */
  #running = null;

  /**
   * @param {string} url of the coordinator, as `/nodes` names it: it ends in `/webrtc`
   * @param {string} nodeId
   * @param {SignalingOptions} [options]
   */
  constructor(url, nodeId, options = {}) {
    super();
    mustBeAddress(url, "a coordinator's address (what fetchFromSeed found; null: that node has none)");
    mustBeNodeId(nodeId, "the id of a peer");
    mustBeOptions(options);
    this.url = String(url).replace(/\/+$/, "");
    this.nodeId = nodeId;
    this.#options = options;
    this.#backoff = new Backoff(options.random);
    this.#rooms = new Memberships(nodeId, {
      carrier: () => (this.state === "open" ? this.#carrier : null),
      answered: (answer) => this.#answered(answer),
      tell: (event, ...args) => void this.emit(event, ...args),
      stop: this.#stop.signal,
      random: options.random,
    });
  }

  /** Names of the rooms that this node is in, or comes back to. */
  get rooms() {
    return this.#rooms.names;
  }

  /**
   * @returns {Promise<void>} once the coordinator took us in; from then on a lost connection is made again
   * @throws {SutantraError} why not: the coordinator's code, or `unreachable`
   */
  connect() {
    if (this.state === "closed") return Promise.reject(new SutantraError("closed", "this signalling was closed: make a new one"));
    this.#running ??= new Promise((resolve, reject) => {
      this.once("state:open", resolve);
      void this.#run(reject);
    });
    return this.#running;
  }

  /**
   * @param {string} room
   * @param {object} [metadata] at most 4 KiB as JSON; `name` is shown to others
   * @param {{ invite?: string | undefined }} [options]
   * @returns {Promise<Joined>} who is there already
   */
  async join(room, metadata = {}, { invite } = {}) {
    mustBeRoom(room);
    mustBeJson("metadata", metadata);
    if (invite !== undefined && typeof invite !== "string") mistaken("an invite is a string", invite);
    const own = this.#options.identity ? { ...metadata, pk: this.#options.identity.pk } : metadata;
    return this.#rooms.join(room, own, invite);
  }

  /** @param {string} room @returns {Promise<void>} once the coordinator has heard it, or is not there to hear it */
  async leave(room) {
    await this.#rooms.leave(room);
  }

  /**
   * Sends an offer, answer, candidate or message; waits its turn while there is no connection.
   * @param {{ type: string, to: string, room: string, [key: string]: any }} message flat
   * @returns {Promise<void>}
   */
  async send(message) {
    mustBeJson("a signal", message);
    if (this.state === "closed") throw new SutantraError("closed", "signalling was closed: connect again");
    this.emit("sent", message);
    if (this.state === "open") await this.#pace.turn();
    if (this.state === "open" && this.#carrier) return this.#carrier.signal(message);
    this.#outbox.push(message);
  }

  /** Sends a signal over HTTP, whatever carries the others. @param {{ type: string, to: string, room: string, data: string }} message */
  async post({ data, ...message }) {
    this.emit("sent", { ...message, data });
    const body = { ...message, from: this.nodeId, payload: { data } };
    const posted = this.#posts.then(async () => {
      await this.#pace.turn();
      await patiently(() => this.call("signal", { method: "POST", body }), this.#stop.signal);
    });
    this.#posts = posted.catch(() => {});
    await posted;
  }

  /** To everybody in a room, by the coordinator. @param {string} room @param {string} data a signed frame in base64, at most 4 KiB */
  async broadcast(room, data) {
    if (this.state !== "open" || !this.#carrier) throw new SutantraError("closed", "there is no connection to the coordinator: wait for it and try again");
    await this.#carrier.broadcast(room, data);
  }

  /** Who is in a room. @param {string} room @returns {Promise<Member[]>} */
  async peers(room) {
    const { peers } = await this.call(`peers?room=${encodeURIComponent(room)}`);
    return Array.isArray(peers) ? peers : [];
  }

  /**
   * Makes a private room; needs an identity.
   * @param {{ salt: string, ban?: string[], peersMax?: number }} what
   * @returns {Promise<string>} its name
   * @throws {SutantraError} `no_identity`, or the coordinator's refusal
   */
  async createRoom(what) {
    mustBeJson("what createRoom takes", what);
    if (typeof what.salt !== "string") mistaken("a room's `salt` is a string", what.salt);
    if (!this.#options.identity) throw new SutantraError("no_identity", "a private room is its owner's, by key: sign in with an identity (Identity.generate())");
    const { room } = await this.call("rooms", { method: "POST", body: { nodeId: this.nodeId, ...what } });
    return room;
  }

  /**
   * Asks the coordinator about an invite.
   * @param {string} invite
   * @returns {Promise<{ room: string, to: string, can: string[], expiresAt: number, code: string }>} `code` is short and joins as well
   */
  async checkInvite(invite) {
    if (typeof invite !== "string") mistaken("an invite is a string", invite);
    return this.call("invite", { method: "POST", body: { invite } });
  }

  /** A call of the coordinator in this node's session. @param {string} path below its address @param {import("./http.js").Call} [options] @returns {Promise<any>} */
  call(path, options = {}) {
    return call(`${this.url}/${path}`, { session: this.session, fetch: this.#fetch, signal: this.#stop.signal, ...options });
  }

  /** Leaves all rooms and ends the connection. */
  close() {
    if (this.state === "closed") return;
    const carrier = this.#carrier;
    const told = carrier?.welcomed ? this.rooms.map((room) => carrier.leave(room, this.nodeId).catch(() => {})) : [];
    this.#rooms.clear();
    this.#renewal.stop();
    this.#setState("closed");
    // What tells the coordinator leaves first; nobody waits for its answer longer than a moment.
    void Promise.race([Promise.all(told), new Promise((resolve) => setTimeout(resolve, 1000))]).then(() => {
      this.#stop.abort();
      carrier?.close();
    });
  }

  get #fetch() {
    return this.#options.fetch ?? globalThis.fetch.bind(globalThis);
  }

  /** @param {SignalingState} state */
  #setState(state) {
    if (this.state === state || this.state === "closed") return;
    this.state = state;
    if (state !== "open") this.transport = null;
    this.emit("state", state, this.transport);
    this.emit(`state:${state}`);
  }

  /** @param {(error: SutantraError) => void} reject of `connect`, which hears of the first round only */
  async #run(reject) {
    let everOpen = false;
    this.once("state:open", () => {
      everOpen = true;
    });
    while (this.state !== "closed") {
      this.#setState("connecting");
      const { error, welcomed } = await this.#round();
      if (/** @type {string} */ (this.state) === "closed") break;
      const replaced = error.code === "id_taken";
      if (replaced || (!everOpen && error.code !== "draining")) {
        this.#setState("closed");
        this.emit("error", error);
        return reject(error);
      }
      // A connection that ends as soon as it began is no success.
      if (welcomed && Date.now() - this.#openedAt > STEADY_MS) this.#backoff.reset();
      if (!welcomed) this.emit("error", error);
      this.#setState("waiting");
      this.#move(error);
      await pause(this.#backoff.next(error.retryAfterMs), this.#stop.signal);
    }
    reject(new SutantraError("closed", "signalling was closed before it began"));
  }

  /** A coordinator that closes may name another. @param {SutantraError} error */
  #move(error) {
    const url = movedTo(error);
    if (url === null) return;
    // The session is a secret between this node and who gave it.
    if (new URL(url).origin !== new URL(this.url).origin) this.session = null;
    this.url = url;
  }

  /** Over each way that is allowed, until one held for a while. @returns {Promise<{ error: SutantraError, welcomed: boolean }>} */
  async #round() {
    try {
      const info = await this.call("info?v=1");
      this.networkId = typeof info.networkId === "string" ? info.networkId : "";
      this.mode = typeof info.mode === "string" ? info.mode : "";
    } catch (error) {
      return { error: asSutantraError(error), welcomed: false };
    }
    const { transport = "auto", WebSocket = globalThis.WebSocket } = this.#options;
    if (transport === "websocket" && !WebSocket) {
      const message = "there is no WebSocket here: pass one as an option (in Node by nodeOptions()), or use the transport poll";
      return { error: new SutantraError("unreachable", message), welcomed: false };
    }
    if (transport !== "poll" && WebSocket) {
      const over = await this.#over(this.#socket(WebSocket));
      if (transport === "websocket" || over.welcomed || FATAL.has(over.error.code) || over.error.code === "draining") return over;
    }
    return this.#over(this.#poll(transport === "auto" && WebSocket ? UPGRADE_AFTER_MS : Number.POSITIVE_INFINITY));
  }

  /** @param {SocketCarrier | PollCarrier} carrier */
  async #over(carrier) {
    this.#carrier = carrier;
    const stop = () => carrier.close();
    this.#stop.signal.addEventListener("abort", stop);
    const error = await carrier.ended;
    this.#stop.signal.removeEventListener("abort", stop);
    if (error.code === "unauthenticated") this.session = null;
    return { error, welcomed: carrier.welcomed };
  }

  /** @param {typeof globalThis.WebSocket} WebSocket */
  #socket(WebSocket) {
    const url = new URL(`${this.url}/signal`);
    url.protocol = url.protocol.replace("http", "ws");
    const hello = async () => ({
      type: "hello",
      v: 1,
      caps: ["batch", "resume"],
      nodeId: this.nodeId,
      ...(await this.#proof()),
      ...(this.session ? { resume: { session: this.session, cursor: this.#cursor } } : {}),
    });
    return new SocketCarrier({ url: url.href, WebSocket, hello }, this.#ports());
  }

  /** @param {number} endsAfterMs */
  #poll(endsAfterMs) {
    const authenticate = async () => {
      const proof = await this.#proof();
      if (!proof) return null;
      const { session } = await this.call("auth", { method: "POST", body: { nodeId: this.nodeId, ...proof }, session: null });
      return session;
    };
    const { nodeId, session } = this;
    return new PollCarrier({ base: this.url, nodeId, session, fetch: this.#fetch, endsAfterMs, authenticate }, this.#ports());
  }

  async #proof() {
    const { identity } = this.#options;
    return identity ? identity.signJoin({ networkId: this.networkId }) : null;
  }

  /** @returns {import("./socket.js").CarrierPorts} */
  #ports() {
    return {
      welcome: (welcome) => void this.#welcome(welcome),
      message: (message) => this.#take(message),
      refused: (error, caused) => this.#refused(error, caused),
      cursor: () => this.#cursor,
    };
  }

  /** @param {any} welcome */
  async #welcome(welcome) {
    const carrier = this.#carrier;
    if (this.#answered(welcome).length > 0) this.emit("ice-servers", this.iceServers);
    /** @type {string[]} */
    const resumed = Array.isArray(welcome.resumed) ? welcome.resumed : [];
    if (resumed.length === 0) {
      this.#cursor = Number(welcome.cursor) || 0;
      this.#outbox.keepMessages();
    }
    this.transport = carrier?.kind ?? null;
    this.#openedAt = Date.now();
    this.#setState("open");
    await this.#rooms.rejoin(resumed);
    if (this.#carrier !== carrier) return;
    for (const message of this.#outbox.take()) void carrier?.signal(message).catch(() => {});
  }

  /** @param {any} answer to a hello or join */
  #answered(answer) {
    if (Array.isArray(answer.iceServers)) this.iceServers = answer.iceServers;
    if (typeof answer.session === "string") this.session = answer.session;
    if (this.state !== "closed") this.#renewal.later();
    return this.iceServers;
  }

  /** @param {any} message */
  #take(message) {
    if (Number.isSafeInteger(message?.seq)) {
      // What comes again after a reconnect has been heard.
      if (message.seq <= this.#cursor) return;
      this.#cursor = message.seq;
    }
    switch (message?.type) {
      case "peer-joined":
      case "peer-left":
        this.#rooms.presence(message);
        return;
      case "broadcast":
        this.emit("broadcast", message);
        return;
      case "offer":
      case "answer":
      case "ice-candidate":
      case "message":
        if (typeof message.from === "string") this.emit("signal", message);
        return;
      default:
      // A later version's message is for a later version's client.
    }
  }

  /** @param {SutantraError} error @param {any} caused */
  #refused(error, caused) {
    if (error.code === "rate_limited" && caused && this.transport === "websocket") {
      const carrier = this.#carrier;
      this.#pace.hold(error.retryAfterMs ?? 1000);
      void this.#pace.turn().then(() => {
        // A connection that came since began with its own.
        if (this.#carrier === carrier && this.state === "open") void carrier?.signal(caused).catch(() => {});
      });
      return;
    }
    error.peerId ??= caused?.to ?? null;
    error.room ??= caused?.room ?? null;
    this.emit("error", error);
  }
}
