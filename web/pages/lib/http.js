// What WHIP and WHEP say in HTTP's words: headers, addresses and refusals, as values.

/** @typedef {{ uri: string, rel: string, params: Record<string, string> }} WebLink */

/**
 * Parses a `Link` header (RFC 8288 §3). Malformed parts are skipped, as the RFC asks.
 * @param {string | null} value
 * @returns {WebLink[]}
 */
export function parseLinks(value) {
  /** @type {WebLink[]} */
  const links = [];
  // A link is <uri> and then parameters, whose quoted values may hold commas and semicolons.
  const link = /<([^>]*)>((?:\s*;\s*[^\s=;,]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^",;\s]*))?)*)/g;
  const parameter = /;\s*([^\s=;,]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",;\s]*)))?/g;
  for (const [, uri = "", tail = ""] of (value ?? "").matchAll(link)) {
    /** @type {Record<string, string>} */
    const params = {};
    for (const [, name = "", quoted, bare] of tail.matchAll(parameter)) {
      const key = name.toLowerCase();
      // The first occurrence counts (RFC 8288 §3.3).
      if (!(key in params)) params[key] = quoted?.replace(/\\(.)/g, "$1") ?? bare ?? "";
    }
    links.push({ uri, rel: (params["rel"] ?? "").toLowerCase(), params });
  }
  return links;
}

/**
 * The STUN and TURN servers a relay names (RFC 9725 §4.6).
 * @param {WebLink[]} links
 * @returns {RTCIceServer[]}
 */
export function iceServers(links) {
  return links
    .filter((link) => link.rel.split(/\s+/).includes("ice-server") && /^(stun|turn)s?:/.test(link.uri))
    .map(({ uri, params }) =>
      params["username"] === undefined
        ? { urls: uri }
        : { urls: uri, username: params["username"], credential: params["credential"] ?? "" },
    );
}

/**
 * The session's address: `Location` is relative to the address that was asked (RFC 9110 §10.2.2).
 * @param {string | null} location
 * @param {string} requestUrl absolute
 * @returns {string | null} null when there is none, or it is no HTTP address
 */
export function resolveLocation(location, requestUrl) {
  if (!location) return null;
  try {
    const url = new URL(location, requestUrl);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

/**
 * `Retry-After`: seconds or a date (RFC 9110 §10.2.3).
 * @param {string | null} value
 * @param {number} nowMs Unix time
 * @returns {number | null} milliseconds from now, at most a minute: a page does not sleep longer
 */
export function parseRetryAfter(value, nowMs) {
  if (!value) return null;
  const ms = /^\s*\d+\s*$/.test(value) ? Number(value) * 1000 : Date.parse(value) - nowMs;
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), 60_000) : null;
}

/**
 * What a caller can do differently:
 * `token` get another token · `payment` pay · `not-live` wait for the publisher · `conflict` choose
 * another name · `busy` come back later · `refused` change the request · `network` try again.
 * @typedef {"token" | "payment" | "not-live" | "conflict" | "busy" | "refused" | "network"} Refusal
 */

/** A request that did not lead to a session. */
export class RequestError extends Error {
  /**
   * @param {Refusal} refusal
   * @param {string} message
   * @param {{ status?: number, retryAfterMs?: number | null, cause?: unknown, body?: any }} [more]
   */
  constructor(refusal, message, { status = 0, retryAfterMs = null, cause, body = null } = {}) {
    super(message, { cause });
    this.name = "RequestError";
    this.refusal = refusal;
    /** HTTP status, 0 when there was no answer. */
    this.status = status;
    this.retryAfterMs = retryAfterMs;
    /** What the answer says to programs: its JSON, null where it is none. */
    this.body = body;
  }
}

/**
 * @param {number} status HTTP status outside 2xx
 * @returns {Refusal}
 */
export function refusalOf(status) {
  switch (status) {
    case 401:
    case 403:
      return "token";
    case 402:
      return "payment";
    case 404:
    case 410:
      return "not-live";
    case 409:
      return "conflict";
    case 408:
    case 425:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      return "busy";
    default:
      return "refused";
  }
}

/** @param {string} body @returns {any} null: no JSON object */
function jsonIn(body) {
  try {
    const value = JSON.parse(body);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

/**
 * The first sentence of an error's body: plain text, or JSON with a `message` for people; `error`
 * is a code for programs and serves only where there is nothing better.
 * @param {string} body
 * @param {string} fallback
 */
export function reasonIn(body, fallback) {
  let text = body.trim();
  if (text.startsWith("<")) return fallback;
  if (text.startsWith("{")) {
    try {
      const { message, detail, error } = JSON.parse(text);
      text = [message, detail, error].find((part) => typeof part === "string") ?? "";
    } catch {
      return fallback;
    }
  }
  return text.split("\n")[0]?.slice(0, 200).trim() || fallback;
}

/**
 * Fetches, and turns whatever is not a success into a `RequestError`.
 * @param {string} url
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function request(url, init) {
  /** @type {Response} */
  let response;
  try {
    response = await fetch(url, init);
  } catch (cause) {
    if (init?.signal?.aborted) throw cause;
    throw new RequestError("network", "The relay does not answer.", { cause });
  }
  if (response.ok) return response;
  const body = await response.text().catch(() => "");
  throw new RequestError(
    refusalOf(response.status),
    reasonIn(body, `The relay answered ${response.status} ${response.statusText}`.trim() + "."),
    {
      status: response.status,
      retryAfterMs: parseRetryAfter(response.headers.get("retry-after"), Date.now()),
      body: jsonIn(body),
    },
  );
}
