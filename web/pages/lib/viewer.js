// Keeps one stream playing: connects, watches over the session, says what is the matter, comes back.

import { liveStream, status, tokenFor } from "./api.js";
import { Backoff } from "./backoff.js";
import { TypedEvents } from "./events.js";
import { RequestError } from "./http.js";
import { ratesBetween, readStats } from "./stats.js";
import { PayRefused } from "./wallet/terms.js";
import { WhepClient } from "./whip.js";

/** How often the session is looked at. */
const TICK_MS = 1000;
/** Connected, and nothing came for this long: the gate is closed or the publisher is gone. */
export const SILENCE_MS = 2500;
/** A session that has no path by then never will. */
export const CONNECT_MS = 10_000;
/** A path that is gone for this long is given up; ICE alone would take up to half a minute. */
export const DISCONNECTED_MS = 4000;
/** How often to ask whether a stream that is not live has begun. */
const POLL_MS = 1000;
/** @type {Sight["publisher"]} */
const PRESENT = "present";

/**
 * `connecting`, `playing`, `silent` (live, but nothing arrives), `away` (the publisher has a moment
 * to come back), `waiting` (never seen live), `ended` (was live), `reconnecting`, and five that need a person or another network:
 * `payment`, `token`, `no-path` (HTTP works, UDP does not), `unreachable`, `refused`.
 * @typedef {"connecting" | "playing" | "silent" | "away" | "waiting" | "ended" | "reconnecting" | "payment" | "token" | "no-path" | "unreachable" | "refused"} ViewerState
 */

/**
 * @typedef {object} Sight what is known of a session at one moment
 * @property {RTCPeerConnectionState} connection
 * @property {number} stateMs how long the connection has been in that state
 * @property {number} silentMs how long no packet came
 * @property {number} frames decoded so far
 * @property {"present" | "away" | "gone"} publisher `gone`: the relay does not list the stream
 * @property {boolean} restarted the relay is another process than the one we connected to
 */

const SILENT_BECAUSE = /** @type {const} */ ({ present: "silent", away: "away", gone: "ended" });

/**
 * What follows from what is known. Pure, so that a table can test it.
 * @param {Sight} sight
 * @returns {"connecting" | "playing" | "silent" | "away" | "ended" | "lost" | "no-path"}
 */
export function judge({ connection, stateMs, silentMs, frames, publisher, restarted }) {
  if (restarted) return "lost";
  switch (connection) {
    case "failed":
      return frames > 0 ? "lost" : "no-path";
    case "closed":
      return publisher === "gone" ? "ended" : "lost";
    case "disconnected":
      if (publisher === "gone") return "ended";
      return stateMs >= DISCONNECTED_MS ? "lost" : "playing";
    case "new":
    case "connecting":
      return stateMs >= CONNECT_MS ? "no-path" : "connecting";
    case "connected":
      if (silentMs >= SILENCE_MS) return SILENT_BECAUSE[publisher];
      if (frames > 0) return "playing";
      // Packets without a picture: no keyframe came. A new session asks for one anew.
      return stateMs >= CONNECT_MS ? "lost" : "connecting";
  }
}

/**
 * @typedef {object} ViewerEvents
 * @property {{ state: ViewerState, detail: string }} state
 * @property {MediaStream} stream a new session began, show this
 * @property {{ stats: import("./stats.js").FlatStats, rates: import("./stats.js").Rates | null }} stats each second
 */

/** @extends {TypedEvents<ViewerEvents>} */
export class Viewer extends TypedEvents {
  /** @type {WhepClient | null} */
  client = null;
  /** @type {ViewerState} */
  state = "connecting";
  /** Sessions opened so far. */
  sessions = 0;
  #detail = "";
  #stopped = false;
  #seenLive = false;
  #backoff = new Backoff();
  /** @type {(() => void) | null} */
  #wake = null;

  /** The wallet's part of a session; null: none is offered. @type {import("./whip.js").Payment | null} */
  payment = null;

  /** @param {string} stream */
  constructor(stream) {
    super();
    this.stream = stream;
  }

  /** Runs until `stop`. Never rejects. */
  async run() {
    this.#stopped = false;
    while (!this.#stopped) {
      try {
        await this.#session();
      } catch (error) {
        await this.#refused(error);
      } finally {
        this.client?.close();
        this.client = null;
      }
    }
  }

  stop() {
    this.#stopped = true;
    this.client?.close();
    this.#wake?.();
  }

  /** Tries at once instead of at the end of the wait. */
  retry() {
    this.#backoff.reset();
    this.#wake?.();
  }

  async #session() {
    if (!(await this.#untilLive())) return;
    if (this.state !== "reconnecting" && this.state !== "no-path") this.#show("connecting");
    const [token, relay] = await Promise.all([
      tokenFor(this.stream, "subscribe"),
      status().catch(() => null),
    ]);
    if (this.#stopped) return;
    const client = new WhepClient({ endpoint: `/whep/${encodeURIComponent(this.stream)}`, token, payment: this.payment });
    this.client = client;
    this.sessions += 1;
    this.emit("stream", client.stream);
    await client.watch();
    const end = await this.#watchOver(client, relay?.started_ms ?? null);
    if (this.#stopped) return;
    if (end === "ended") return this.#show("ended");
    this.#show(end === "no-path" ? "no-path" : "reconnecting");
    await this.#sleep(this.#backoff.next());
  }

  /** Waits for the publisher. False: stopped meanwhile. */
  async #untilLive() {
    while (!this.#stopped) {
      if (await liveStream(this.stream)) {
        this.#seenLive = true;
        return true;
      }
      this.#show(this.#seenLive ? "ended" : "waiting");
      await this.#sleep(POLL_MS);
    }
    return false;
  }

  /**
   * @param {WhepClient} client
   * @param {number | null} startedMs of the relay we connected to
   * @returns {Promise<"ended" | "lost" | "no-path">}
   */
  async #watchOver(client, startedMs) {
    let connection = client.pc.connectionState;
    let stateSince = performance.now();
    let packetSince = performance.now();
    /** @type {import("./stats.js").FlatStats | null} */
    let before = null;
    client.on("state", (now) => {
      connection = now;
      stateSince = performance.now();
      // The silence counts from the moment that media could come.
      if (now === "connected") packetSince = stateSince;
      this.#wake?.();
    });
    for (;;) {
      await this.#sleep(before?.frames ? TICK_MS : TICK_MS / 4);
      if (this.#stopped || client.closed) return "lost";
      const stats = await readStats(client.pc);
      const rates = ratesBetween(before, stats);
      if (rates && rates.packets > 0) packetSince = performance.now();
      before = stats;
      this.emit("stats", { stats, rates });

      const silentMs = performance.now() - packetSince;
      const doubtful = connection !== "connected" || silentMs >= SILENCE_MS;
      const [publisher, restarted] = doubtful
        ? await Promise.all([this.#publisher(), this.#hasRestarted(startedMs)])
        : [PRESENT, false];
      const stateMs = performance.now() - stateSince;
      const verdict = judge({ connection, stateMs, silentMs, frames: stats.frames, publisher, restarted });
      if (verdict === "ended" || verdict === "lost" || verdict === "no-path") return verdict;
      if (verdict === "playing") this.#backoff.reset();
      // A session that follows another keeps its word "reconnecting" until there is a picture.
      if (verdict !== "connecting") this.#show(verdict);
    }
  }

  /** @returns {Promise<Sight["publisher"]>} */
  async #publisher() {
    try {
      const stream = await liveStream(this.stream);
      return stream === null ? "gone" : stream.publisherPresent ? "present" : "away";
    } catch {
      return PRESENT; // The relay does not answer: that is no word about the stream.
    }
  }

  /** @param {number | null} startedMs */
  async #hasRestarted(startedMs) {
    if (startedMs === null) return false;
    try {
      return (await status()).started_ms !== startedMs;
    } catch {
      return false;
    }
  }

  /** @param {unknown} error */
  async #refused(error) {
    const refusal = error instanceof RequestError ? error.refusal : error instanceof PayRefused ? "payment" : "refused";
    const detail = error instanceof Error ? error.message : String(error);
    const retryAfterMs = error instanceof RequestError ? error.retryAfterMs : null;
    switch (refusal) {
      case "token":
      case "payment":
      case "refused":
        this.#show(refusal, detail);
        // Only a person can change this, and `retry` tells that one did.
        return this.#sleep(Infinity);
      case "not-live":
        this.#show(this.#seenLive ? "ended" : "waiting");
        return this.#sleep(POLL_MS);
      case "busy":
      case "conflict":
      case "network":
        this.#show(this.sessions > 0 ? "reconnecting" : "unreachable", detail);
        return this.#sleep(this.#backoff.next(retryAfterMs));
    }
  }

  /** @param {ViewerState} state @param {string} [detail] */
  #show(state, detail = "") {
    if (state === this.state && detail === this.#detail) return;
    this.state = state;
    this.#detail = detail;
    this.emit("state", { state, detail });
  }

  /** @param {number} ms */
  #sleep(ms) {
    if (this.#stopped) return Promise.resolve();
    return new Promise((/** @type {(value?: void) => void} */ resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(() => this.#wake?.(), ms) : 0;
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
    });
  }
}
