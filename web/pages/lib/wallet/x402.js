// Payment in HTTP's words (x402, version 2): what a 402 asks, what pays it, what the relay answers.

import { fromBase64, toBase64, utf8 } from "./bytes.js";
import { PayRefused } from "./terms.js";

const VERSION = 2;
const SCHEME = "sutantra-stream";

/** How a relay says that a lane stands. @typedef {{ lane: number, due: string, paid: string, served_ms: number }} LaneSaid */

/** @param {string} chainId CAIP-2 form of a chain's name */
const networkOf = (chainId) => `sutantra:${chainId}`;

/**
 * @param {any} body of a 402
 * @param {string} chainId
 * @returns {{ raw: any, said: LaneSaid | null }} the terms' JSON, and how our lane stands where the relay says so
 * @throws {PayRefused}
 */
export function requirementIn(body, chainId) {
  /** @type {any} */
  const accept = [body?.accepts ?? []].flat().find((each) => each?.scheme === SCHEME && each?.network === networkOf(chainId));
  if (!accept) throw new PayRefused("terms", "The relay asks for a kind of payment that this wallet does not know.");
  const lane = accept.extra?.lane;
  const said = lane ? { lane: Number(lane.lane), due: String(lane.due ?? "0"), paid: String(lane.paid ?? "0"), served_ms: Math.trunc(Number(lane.served_ms ?? 0)) || 0 } : null;
  return { raw: accept.extra?.terms, said };
}

/** The value of PAYMENT-SIGNATURE. @param {string} chainId @param {Record<string, string>} payload */
export function envelope(chainId, payload) {
  return toBase64(utf8(JSON.stringify({ x402Version: VERSION, scheme: SCHEME, network: networkOf(chainId), payload })));
}

/** @param {string | null} header the value of PAYMENT-RESPONSE @returns {any} null: there is none, or it is unreadable */
export function readResponse(header) {
  try {
    return header ? JSON.parse(new TextDecoder().decode(fromBase64(header))) : null;
  } catch {
    return null;
  }
}
