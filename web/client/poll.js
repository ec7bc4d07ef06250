// The coordinator over plain HTTP: signals are posted one after the other and fetched by long polls.

import { Backoff } from "./backoff.js";
import { asSutantraError, SutantraError } from "./errors.js";
import { call } from "./http.js";

/** @typedef {import("./socket.js").CarrierPorts} CarrierPorts */

/** The coordinator holds a poll open for so long. */
const POLL_MS = 25_000;
/** Beyond the poll itself, for the way there and back. */
const POLL_MARGIN_MS = 5_000;
/** A post that is refused for its rate is tried again so often. */
const POST_TRIES_MAX = 6;

export class PollCarrier {
  kind = /** @type {const} */ ("poll");
  #base;
  #nodeId;
  #fetch;
  #on;
  #authenticate;
  /** @type {string | null} */
  #session;
  #cursor = 0;
  #welcomed = false;
  #stop = new AbortController();
  /** @type {SutantraError | null} */
  #endedBy = null;
  /** @type {() => void} */
  #joined = () => {};
  /** @type {Promise<void>} */
  #inRoom = new Promise((resolve) => {
    this.#joined = resolve;
  });
  /** Posts keep their order. @type {Promise<unknown>} */
  #posts = Promise.resolve();
  /** Settles when it is over. @type {Promise<SutantraError>} */
  ended;

  /**
   * @param {{ base: string, nodeId: string, session: string | null, fetch: typeof globalThis.fetch, endsAfterMs: number,
   *   authenticate: () => Promise<string | null> }} where `authenticate` gives a session, null where none is needed
   * @param {CarrierPorts} on
   */
  constructor({ base, nodeId, session, fetch, endsAfterMs, authenticate }, on) {
    this.#base = base;
    this.#nodeId = nodeId;
    this.#fetch = fetch;
    this.#session = session;
    this.#authenticate = authenticate;
    this.#on = on;
    const timer = Number.isFinite(endsAfterMs) ? setTimeout(() => this.close(), endsAfterMs) : undefined;
    this.ended = this.#run().finally(() => clearTimeout(timer));
  }

  get welcomed() {
    return this.#welcomed;
  }

  /** @param {{ room: string, nodeId: string, metadata: object, invite?: string }} join @returns {Promise<any>} */
  join({ room, nodeId, metadata, invite }) {
    const answer = this.#post("join", { nodeId, room, metadata, ...(invite === undefined ? {} : { invite }) });
    answer.then(this.#joined, () => {});
    return answer;
  }

  /** @param {string} room @param {string} nodeId @returns {Promise<any>} */
  leave(room, nodeId) {
    return this.#post("leave", { nodeId, room });
  }

  /** @param {any} message a signal, flat @returns {Promise<void>} once the coordinator has it */
  async signal(message) {
    try {
      await this.#post("signal", toPayload(this.#nodeId, message));
    } catch (error) {
      // What this side ended is nobody's refusal.
      if (!this.#stop.signal.aborted) this.#on.refused(asSutantraError(error), message);
      throw error;
    }
  }

  /** @param {string} _room @param {string} _data @returns {Promise<void>} */
  async broadcast(_room, _data) {
    throw new SutantraError("bad_request", "a broadcast by the coordinator needs a WebSocket: send to each member instead");
  }

  close() {
    this.#stop.abort();
    this.#joined();
  }

  /** @returns {Promise<SutantraError>} why it ended */
  async #run() {
    try {
      this.#session ??= await this.#authenticate();
      await call(`${this.#base}/health`, { fetch: this.#fetch, signal: this.#stop.signal });
      this.#welcomed = true;
      this.#on.welcome({ session: this.#session, cursor: this.#cursor, resumed: [] });
      // Who is in no room has nothing to fetch, and is nobody to the coordinator.
      await this.#inRoom;
      for (;;) await this.#poll();
    } catch (error) {
      this.#stop.abort();
      return this.#endedBy ?? asSutantraError(error);
    }
  }

  async #poll() {
    const url = new URL(`${this.#base}/signal`);
    url.searchParams.set("nodeId", this.#nodeId);
    url.searchParams.set("cursor", String(this.#cursor));
    url.searchParams.set("timeout", String(POLL_MS));
    const answer = await patiently(
      () => call(url, { session: this.#session, fetch: this.#fetch, timeoutMs: POLL_MS + POLL_MARGIN_MS, signal: this.#stop.signal }),
      this.#stop.signal,
    );
    if (Number.isSafeInteger(answer.cursor)) {
      if (answer.cursor < this.#cursor) throw new SutantraError("unknown_peer", "the coordinator began anew");
      this.#cursor = answer.cursor;
    }
    for (const signal of answer.signals ?? []) this.#on.message(toFlat(signal));
  }

  /** @param {string} path @param {object} body @returns {Promise<any>} */
  #post(path, body) {
    const { signal } = this.#stop;
    const post = () =>
      call(`${this.#base}/${path}`, { method: "POST", body, session: this.#session, fetch: this.#fetch, signal, keepalive: path === "leave" });
    const posted = this.#posts.then(() => patiently(post, signal));
    this.#posts = posted.catch((error) => {
      // Who is a stranger to the coordinator has to introduce itself again.
      if (error.code !== "unauthenticated" && error.code !== "unreachable") return;
      this.#endedBy ??= error;
      this.close();
    });
    return posted;
  }
}

/**
 * Waits as long as the coordinator asks, and tries again.
 * @template T @param {() => Promise<T>} attempt @param {AbortSignal} signal that ends the waiting early
 * @returns {Promise<T>}
 */
export async function patiently(attempt, signal) {
  const backoff = new Backoff();
  for (let tries = 1; ; tries += 1) {
    try {
      return await attempt();
    } catch (error) {
      const { code, retryAfterMs } = asSutantraError(error);
      if (code !== "rate_limited" || tries === POST_TRIES_MAX) throw error;
      await pause(backoff.next(retryAfterMs), signal);
    }
  }
}

/** @param {number} ms @param {AbortSignal} signal that ends it early @returns {Promise<void>} */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}

/** A signal as HTTP wants it. @param {string} from @param {any} message */
function toPayload(from, { sdp, candidate, data, ...rest }) {
  const payload = sdp !== undefined ? { sdp } : candidate !== undefined ? { candidate } : { data };
  return { ...rest, from, payload };
}

/** A signal as a WebSocket brings it. @param {any} signal */
function toFlat({ payload, ...rest }) {
  return { ...rest, ...payload };
}
