// The coordinator over a WebSocket: one connection from hello to its end.

import { refusal } from "./http.js";
import { SutantraError } from "./errors.js";

export const SUBPROTOCOL = "sutantra.signal.v1";
/** From the first step to `welcome`. */
const OPEN_MS = 10_000;
const BATCH_MESSAGES_MAX = 64;
/** A batch of signals stays below what the coordinator takes as one. */
const BATCH_CHARS_MAX = 60_000;
/** So many messages are acknowledged together. */
const ACK_MESSAGES = 32;
/** An answer to a join or leave. */
const ANSWER_MS = 10_000;
/** Sent messages that are remembered, in case that the coordinator asks for them later. */
const RECENT_MAX = 256;

/** Numbers of a close (`docs/coordinator.md`, "Errors"). */
const CLOSE_STATUS = { 4400: 400, 4401: 401, 4402: 402, 4403: 403, 4409: 409, 4413: 413, 4429: 429, 4503: 503 };

/**
 * @typedef {object} CarrierPorts
 * @property {(welcome: any) => void} welcome
 * @property {(message: any) => void} message a signal or a change of presence
 * @property {(error: SutantraError, caused: any) => void} refused `caused` is what was sent
 * @property {() => number} cursor of what has arrived
 */

export class SocketCarrier {
  kind = /** @type {const} */ ("websocket");
  #socket;
  #on;
  #hello;
  #welcomed = false;
  #ended = false;
  #caps = /** @type {string[]} */ ([]);
  /** @type {(error: SutantraError) => void} */
  #end = () => {};
  /** Settles when the connection is over. @type {Promise<SutantraError>} */
  ended = new Promise((resolve) => {
    this.#end = resolve;
  });
  /** @type {any[]} */
  #queue = [];
  #nextId = 1;
  /** @type {Map<number, { message: any, settle?: { resolve: (answer: any) => void, reject: (error: SutantraError) => void } }>} */
  #recent = new Map();
  #unacknowledged = 0;
  #heardAt = Date.now();
  /** @type {Set<ReturnType<typeof setTimeout>>} */
  #timers = new Set();
  /** @type {SutantraError | null} */
  #lastError = null;

  /**
   * @param {{ url: string, WebSocket: typeof globalThis.WebSocket, hello: () => Promise<object> }} where
   * @param {CarrierPorts} on
   */
  constructor({ url, WebSocket, hello }, on) {
    this.#on = on;
    this.#hello = hello;
    this.#socket = new WebSocket(url, [SUBPROTOCOL]);
    this.#socket.addEventListener("open", () => void this.#greet());
    this.#socket.addEventListener("message", ({ data }) => this.#receive(data));
    this.#socket.addEventListener("close", ({ code, reason }) => this.#finish(code, reason));
    this.#socket.addEventListener("error", () => this.#finish(1006, ""));
    this.#after(OPEN_MS, () => {
      if (!this.#welcomed) this.#fail(new SutantraError("timeout", "the coordinator's WebSocket did not open in time: check what stands between, or use the transport poll"));
    });
  }

  get welcomed() {
    return this.#welcomed;
  }

  /** @param {{ room: string, nodeId: string, metadata: object, invite?: string }} join @returns {Promise<any>} */
  join({ room, nodeId, metadata, invite }) {
    return this.#ask({ type: "join", room, nodeId, metadata, ...(invite === undefined ? {} : { invite }) });
  }

  /** @param {string} room @param {string} nodeId @returns {Promise<any>} */
  leave(room, nodeId) {
    return this.#ask({ type: "leave", room, nodeId });
  }

  /** @param {any} message a signal, flat @returns {Promise<void>} once it is on its way */
  async signal(message) {
    this.#give(message);
  }

  /** @param {string} room @param {string} data */
  async broadcast(room, data) {
    this.#give({ type: "broadcast", room, data });
  }

  close() {
    this.#fail(new SutantraError("closed", "this side closed the connection"));
  }

  async #greet() {
    try {
      const hello = await this.#hello();
      if (!this.#ended) this.#socket.send(JSON.stringify(hello));
    } catch (error) {
      this.#fail(/** @type {SutantraError} */ (error));
    }
  }

  /** @param {any} message @returns {Promise<any>} */
  #ask(message) {
    return new Promise((resolve, reject) => {
      const id = this.#give(message, { resolve, reject });
      this.#after(ANSWER_MS, () => {
        if (!this.#recent.delete(id)) return;
        reject(new SutantraError("timeout", `the coordinator did not answer ${message.type} of ${message.room}: try again`, { room: message.room }));
      });
    });
  }

  /**
   * @param {any} message
   * @param {{ resolve: (answer: any) => void, reject: (error: SutantraError) => void }} [settle]
   */
  #give(message, settle) {
    const id = this.#nextId++;
    this.#recent.set(id, { message, ...(settle && { settle }) });
    if (this.#recent.size > RECENT_MAX) this.#forgetOldest();
    // What one task of the caller sends leaves together.
    if (this.#queue.push({ ...message, id }) === 1) queueMicrotask(() => this.#flush());
    return id;
  }

  #forgetOldest() {
    for (const [id, { settle }] of this.#recent) {
      if (settle) continue;
      this.#recent.delete(id);
      return;
    }
  }

  #flush() {
    if (this.#ended) return;
    const texts = this.#queue.splice(0).map((message) => JSON.stringify(message));
    /** @type {string[]} */
    let batch = [];
    let chars = 0;
    const leave = () => {
      if (batch.length === 1 && batch[0]) this.#socket.send(batch[0]);
      else if (batch.length > 1) this.#socket.send(`{"type":"batch","messages":[${batch.join(",")}]}`);
      batch = [];
      chars = 0;
    };
    for (const text of texts) {
      const full = batch.length === BATCH_MESSAGES_MAX || chars + text.length > BATCH_CHARS_MAX;
      if (full || !this.#caps.includes("batch")) leave();
      batch.push(text);
      chars += text.length;
    }
    leave();
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#heardAt = Date.now();
    let message;
    try {
      message = JSON.parse(String(data));
    } catch {
      return this.#fail(new SutantraError("bad_request", "the coordinator sent what is no JSON: check its address"));
    }
    if (message?.type === "batch" && Array.isArray(message.messages)) for (const one of message.messages) this.#take(one);
    else this.#take(message);
  }

  /** @param {any} message */
  #take(message) {
    switch (message?.type) {
      case "welcome":
        this.#welcomed = true;
        this.#caps = Array.isArray(message.caps) ? message.caps : [];
        this.#beat(Number(message.heartbeatMs) || 15_000, Number(message.staleMs) || 30_000);
        return this.#on.welcome(message);
      case "pong":
        return;
      case "joined":
      case "left":
        return this.#answered(message);
      case "error":
        return this.#refused(message);
      default:
        this.#on.message(message);
        if (message?.seq === undefined) return;
        this.#unacknowledged += 1;
        if (this.#unacknowledged >= ACK_MESSAGES) this.#acknowledge("ack");
    }
  }

  /** @param {any} answer */
  #answered(answer) {
    const asked = answer.type === "joined" ? "join" : "leave";
    for (const [id, { message, settle }] of this.#recent) {
      if (message.type !== asked || message.room !== answer.room) continue;
      this.#recent.delete(id);
      return settle?.resolve(answer);
    }
  }

  /** @param {any} answer */
  #refused(answer) {
    const error = refusal(0, answer);
    this.#lastError = error;
    const sent = this.#recent.get(answer.ref);
    this.#recent.delete(answer.ref);
    if (sent?.settle) sent.settle.reject(error);
    else if (!this.#welcomed) this.#fail(error);
    else this.#on.refused(error, sent?.message ?? null);
  }

  /** @param {number} heartbeatMs @param {number} staleMs */
  #beat(heartbeatMs, staleMs) {
    const timer = setInterval(() => {
      if (Date.now() - this.#heardAt > staleMs) return this.#fail(new SutantraError("timeout", "the coordinator fell silent"));
      this.#acknowledge("ping");
    }, heartbeatMs);
    this.#timers.add(timer);
  }

  /** @param {"ack" | "ping"} type */
  #acknowledge(type) {
    this.#unacknowledged = 0;
    const cursor = this.#on.cursor();
    if (!this.#ended && this.#socket.readyState === 1) this.#socket.send(JSON.stringify({ type, cursor }));
  }

  /** @param {number} code @param {string} reason */
  #finish(code, reason) {
    const status = CLOSE_STATUS[/** @type {keyof typeof CLOSE_STATUS} */ (code)];
    /** @type {SutantraError} */
    let error;
    if (status) {
      let details;
      try {
        details = JSON.parse(reason);
      } catch {
        details = null;
      }
      error = refusal(status, { message: this.#lastError?.message ?? closeMessage(code), reconnect: details?.reconnect, retryAfterMs: this.#lastError?.retryAfterMs });
    } else {
      error = new SutantraError("unreachable", "the connection to the coordinator was lost");
    }
    this.#fail(error);
  }

  /** @param {SutantraError} error */
  #fail(error) {
    if (this.#ended) return;
    this.#ended = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    for (const { settle } of this.#recent.values()) settle?.reject(error);
    this.#recent.clear();
    try {
      // The end does not wait for the other side's word, which may never come.
      this.#socket.close();
    } catch {
      // It never opened.
    }
    this.#end(error);
  }

  /** @param {number} ms @param {() => void} then */
  #after(ms, then) {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      then();
    }, ms);
    this.#timers.add(timer);
  }
}

/** @param {number} code */
function closeMessage(code) {
  if (code === 4409) return "another connection of this node took its place: use another identity here, or close the other";
  if (code === 4503) return "the coordinator is shutting down";
  return `the coordinator closed the connection with ${code}`;
}

/** Where the coordinator that is shutting down sends its clients. @param {SutantraError} error @returns {string | null} an address as `/nodes` names it */
export function movedTo(error) {
  const to = /** @type {any} */ (error.details)?.reconnect;
  if (error.code !== "draining" || typeof to !== "string" || !URL.canParse?.(to)) return null;
  const url = new URL(to);
  url.protocol = url.protocol.replace("ws", "http");
  if (url.protocol !== "http:" && url.protocol !== "https:") return null;
  url.search = "";
  return url.href.replace(/\/+$/, "").replace(/\/signal$/, "");
}
