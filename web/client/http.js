// Calls of the coordinator over HTTP: JSON in, JSON out, and a refusal as an error with its code.

import { SutantraError } from "./errors.js";

/** @typedef {import("./errors.js").ErrorCode} ErrorCode */
/**
 * @typedef {object} Call
 * @property {"GET" | "POST"} [method]
 * @property {unknown} [body] of a POST
 * @property {string | null} [session]
 * @property {number} [timeoutMs]
 * @property {AbortSignal} [signal] ends it early
 * @property {boolean} [keepalive] it outlives its page
 * @property {typeof globalThis.fetch} [fetch]
 */

const TIMEOUT_MS = 10_000;

/** @type {Record<number, ErrorCode>} */
const CODES = {
  400: "bad_request",
  401: "unauthenticated",
  402: "payment_required",
  403: "forbidden",
  404: "not_found",
  409: "id_taken",
  413: "too_large",
  423: "room_full",
  429: "rate_limited",
  503: "draining",
};

/**
 * @param {string | URL} url
 * @param {Call} [call]
 * @returns {Promise<any>}
 * @throws {SutantraError} the coordinator's code; `unreachable`, `timeout`, or `closed` where `signal` ended it
 */
export async function call(url, { method = "GET", body, session, timeoutMs = TIMEOUT_MS, signal, keepalive = false, fetch = globalThis.fetch } = {}) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), timeoutMs);
  const end = () => limit.abort();
  signal?.addEventListener("abort", end);
  if (signal?.aborted) end();
  /** @type {Record<string, string>} */
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (session) headers["authorization"] = `Bearer ${session}`;
  try {
    const init = { method, headers, keepalive, signal: limit.signal, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
    const response = await fetch(url, init);
    const answer = await response.json().catch(() => null);
    if (response.ok && answer !== null) return answer;
    throw refusal(response.status, answer, Number(response.headers.get("retry-after")) * 1000);
  } catch (error) {
    if (error instanceof SutantraError) throw error;
    if (signal?.aborted) throw new SutantraError("closed", "the call was ended");
    const { host, pathname } = new URL(url);
    if (limit.signal.aborted) throw new SutantraError("timeout", `${host} did not answer ${pathname} within ${timeoutMs} ms: try again, or another coordinator`);
    throw new SutantraError("unreachable", `${host} cannot be reached: check the address and that the coordinator runs`, { cause: error });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", end);
  }
}

/**
 * @param {number} status
 * @param {any} answer
 * @param {number} [retryAfterMs] of the header, where the body has none
 */
export function refusal(status, answer, retryAfterMs) {
  const code = typeof answer?.code === "string" ? answer.code : (CODES[status] ?? "internal");
  const message = typeof answer?.message === "string" ? answer.message : `the coordinator answered ${status}: check that its address ends in /webrtc`;
  const wait = typeof answer?.retryAfterMs === "number" ? answer.retryAfterMs : retryAfterMs || null;
  return new SutantraError(code, message, { status: status || undefined, retryAfterMs: wait, ref: answer?.ref, details: answer });
}
