// What a relay asks for one stream, and the wallet's check of it against what the chain says.

import { units } from "./balance.js";
import { fromHex, sha256, utf8 } from "./bytes.js";
import { laneNumber, minPrepay, rateOfTier } from "./lane.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {import("./chain.js").StreamRecord} StreamRecord */

/** The keys in the order of the bytes that a Bind covers; what carried them may have another. */
const KEYS = ["stream", "payee", "relay_key", "relay_fp", "terms_version", "rate", "tier", "cadence_ms", "grace_ms", "pause_max_s", "min_prepay"];

const CADENCE_MIN_MS = 250;
const CADENCE_MAX_MS = 10_000;

/**
 * @typedef {object} Terms
 * @property {Bytes} stream
 * @property {Bytes} payee account that is paid
 * @property {Bytes} relayKey signs the relay's answers
 * @property {Bytes} relayFingerprint SHA-256 of the relay's DTLS certificate
 * @property {number} termsVersion
 * @property {bigint} rate units per second
 * @property {number} tier
 * @property {number} cadenceMs
 * @property {number} graceMs
 * @property {number} pauseMaxS
 * @property {bigint} minPrepay units
 * @property {Bytes} hash SHA-256 of the JSON, compact and in its order
 * @property {number} lane number of the lane that pays for them
 */

/**
 * Why a wallet does not pay:
 * `terms` they are unreadable or unusual · `rate` dearer than on chain · `version` the chain knows no
 * such price · `relay` another key than on chain · `prepay` too much in advance · `stream` for another
 * stream · `tampered` somebody sits between page and relay · `claim` the relay wants more than it sent ·
 * `cap` the person's own cap · `consent` the person has not agreed to this price · `pool` the pool cannot
 * pay · `closed` it is closing · `busy` another tab pays from it · `keys` this browser has no keys.
 * @typedef {"terms" | "rate" | "version" | "relay" | "prepay" | "stream" | "tampered" | "claim" | "cap" | "consent" | "pool" | "closed" | "busy" | "keys"} PayRefusal
 */

/** The wallet will not sign. The message says why and what to do. */
export class PayRefused extends Error {
  /** @param {PayRefusal} reason @param {string} message @param {bigint} [amount] that the person may decide to pay all the same */
  constructor(reason, message, amount = 0n) {
    super(message);
    this.name = "PayRefused";
    this.reason = reason;
    this.amount = amount;
  }
}

/**
 * @param {any} raw the terms' JSON, parsed
 * @returns {Promise<Terms>}
 * @throws {PayRefused}
 */
export async function readTerms(raw) {
  try {
    const terms = {
      stream: fromHex(String(raw.stream), 32),
      payee: fromHex(String(raw.payee), 32),
      relayKey: fromHex(String(raw.relay_key), 32),
      relayFingerprint: fromHex(String(raw.relay_fp), 32),
      termsVersion: whole(raw.terms_version, 0xffff_ffff),
      rate: units(raw.rate),
      tier: whole(raw.tier, 255),
      cadenceMs: whole(raw.cadence_ms, 0xffff_ffff),
      graceMs: whole(raw.grace_ms, 0xffff_ffff),
      pauseMaxS: whole(raw.pause_max_s, 0xffff_ffff),
      minPrepay: units(raw.min_prepay),
      hash: await sha256(utf8(JSON.stringify(Object.fromEntries(KEYS.map((key) => [key, raw[key]]))))),
    };
    return { ...terms, lane: await laneNumber(terms.relayKey, terms.stream, terms.termsVersion, terms.tier) };
  } catch {
    throw new PayRefused("terms", "The relay's terms cannot be read. Tell its operator.");
  }
}

/** @param {unknown} value @param {number} most */
function whole(value, most) {
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > most) throw new RangeError("not a whole number in range");
  return value;
}

/**
 * @param {Terms} terms
 * @param {StreamRecord} stream as the chain has it
 * @param {Uint8Array | null} relayKey that the chain has for the payee; null: it knows no such relay
 * @param {bigint} feePerVoucher
 * @throws {PayRefused}
 */
export function checkTerms(terms, stream, relayKey, feePerVoucher) {
  if (relayKey === null || !terms.relayKey.every((byte, at) => byte === relayKey[at])) {
    throw new PayRefused("relay", "This relay's key is not the one that the chain has for its account. Do not pay it; watch through another relay.");
  }
  const version = stream.terms.find(({ version }) => version === terms.termsVersion);
  const bps = version?.tier_bps[terms.tier];
  if (!version || bps === undefined) {
    throw new PayRefused("version", "The relay asks for a price that the chain does not know. Try again in a moment; it may be behind.");
  }
  const price = rateOfTier(units(version.rate_per_second), bps);
  if (terms.rate > price) {
    throw new PayRefused("rate", "The relay asks more than the stream's price on chain. Do not pay it; watch through another relay.");
  }
  if (terms.cadenceMs < CADENCE_MIN_MS || terms.cadenceMs > CADENCE_MAX_MS) {
    throw new PayRefused("terms", `The relay wants a payment each ${terms.cadenceMs} ms; 250 to 10 000 ms are usual.`);
  }
  if (terms.minPrepay > minPrepay(terms.rate, terms.cadenceMs, 2n * feePerVoucher)) {
    throw new PayRefused("prepay", "The relay asks more in advance than is usual. Do not pay it; watch through another relay.");
  }
}
