// The relay's JSON API, and the token that a page shows to WHIP and WHEP.

import { RequestError, request } from "./http.js";

/**
 * @typedef {object} LiveStream
 * @property {string} id
 * @property {string} title
 * @property {string[]} codecs
 * @property {number} viewers
 * @property {string} price_per_second units of 10⁻⁹ SUT in decimal, `"0"` when it is free
 * @property {string | null} stream_id on the chain, hex; null: no chain knows it
 * @property {import("./wallet/chain.js").Policy | null} policy who may watch, as the chain says
 * @property {string | null} creator account, hex
 * @property {string} whep path of the WHEP endpoint
 * @property {boolean} publisherPresent false while the relay waits for a publisher to come back
 */

/** @typedef {{ version: string, link: string, shards: number, udp_port: number, started_ms: number, open: boolean }} Status */

/** @typedef {"publish" | "subscribe"} Role */

/** What a stream may be called in an address. */
export const STREAM_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** @param {AbortSignal} [signal] @returns {Promise<LiveStream[]>} */
export async function liveStreams(signal) {
  const list = await (await request("/api/streams", { signal, cache: "no-store" })).json();
  return Array.isArray(list) ? list.map(asStream) : [];
}

/**
 * @param {string} id
 * @returns {Promise<LiveStream | null>} null when it is not live
 */
export async function liveStream(id) {
  try {
    const url = `/api/streams/${encodeURIComponent(id)}`;
    return asStream(await (await request(url, { cache: "no-store" })).json());
  } catch (error) {
    if (error instanceof RequestError && error.refusal === "not-live") return null;
    throw error;
  }
}

/** @returns {Promise<Status>} */
export async function status() {
  return (await request("/api/status", { cache: "no-store" })).json();
}

/** @param {any} entry @returns {LiveStream} */
function asStream(entry) {
  const id = String(entry?.id ?? "");
  return {
    id,
    title: String(entry?.title || id),
    codecs: Array.isArray(entry?.codecs) ? entry.codecs.map(String) : [],
    viewers: Number(entry?.viewers) || 0,
    price_per_second: String(entry?.price_per_second ?? "0"),
    stream_id: typeof entry?.stream_id === "string" ? entry.stream_id : null,
    policy: ["free", "paid", "ticketed", "allow_list"].includes(entry?.policy) ? entry.policy : null,
    creator: typeof entry?.creator === "string" ? entry.creator : null,
    whep: String(entry?.whep ?? `/whep/${encodeURIComponent(id)}`),
    publisherPresent: entry?.publisher_present !== false,
  };
}

/** Whether anybody may watch at no cost. @param {LiveStream} stream */
export function isFree(stream) {
  return /^0*(\.0*)?$/.test(stream.price_per_second) && (stream.policy === null || stream.policy === "free");
}

/** @param {string} stream @param {Role} role */
const storageKey = (stream, role) => `token:${role}:${stream}`;

/**
 * Takes a token out of `#token=…`, keeps it for this tab, and cleans the address so that a copied
 * link does not hand it on.
 * @param {string} stream
 * @param {Role} role
 */
export function adoptTokenFromAddress(stream, role) {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  keepToken(stream, role, token);
  history.replaceState(history.state, "", location.pathname + location.search);
}

/** @param {string} stream @param {Role} role @param {string | null} token */
export function keepToken(stream, role, token) {
  if (token) sessionStorage.setItem(storageKey(stream, role), token);
  else sessionStorage.removeItem(storageKey(stream, role));
}

/**
 * The token for a stream: one that a person brought, else a grant of the relay.
 * @param {string} stream
 * @param {Role} role
 * @returns {Promise<string | null>} null when there is none: try without, the relay may be open
 */
export async function tokenFor(stream, role) {
  const kept = sessionStorage.getItem(storageKey(stream, role));
  if (kept) return kept;
  try {
    const url = `/api/grant?stream=${encodeURIComponent(stream)}&role=${role}`;
    const { token } = await (await request(url, { cache: "no-store" })).json();
    return typeof token === "string" ? token : null;
  } catch (error) {
    // Grants are for local use; elsewhere the relay has none to give and says so.
    if (error instanceof RequestError && (error.refusal === "token" || error.refusal === "not-live")) return null;
    throw error;
  }
}
