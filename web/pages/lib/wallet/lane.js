// The payer's arithmetic of paying by the second: what it signs each cadence, never more, never less
// than before. The relay and the command line compute the same (chain-types, lane.rs).

import { AMOUNT_MAX } from "./balance.js";
import { Writer, sha256 } from "./bytes.js";

const TIMES_MAX = (1n << 64n) - 1n;

/**
 * A lane's number: the first 4 bytes of SHA-256(relay_key ‖ stream ‖ terms_version u32 ‖ tier u8).
 * @param {Uint8Array} relayKey
 * @param {Uint8Array} stream
 * @param {number} termsVersion
 * @param {number} tier
 */
export async function laneNumber(relayKey, stream, termsVersion, tier) {
  const named = new Writer().bytes(relayKey, 32).bytes(stream, 32).u32(termsVersion).u8(tier).take();
  const hash = await sha256(named);
  return new DataView(hash.buffer).getUint32(0);
}

/** @param {bigint} amount */
const capped = (amount) => (amount > AMOUNT_MAX ? AMOUNT_MAX : amount);

/**
 * The price of one tier: ⌊price · tier_bps / 10⁴⌋.
 * @param {bigint} pricePerSecond
 * @param {number} tierBps
 */
export function rateOfTier(pricePerSecond, tierBps) {
  const rate = (pricePerSecond * BigInt(tierBps)) / 10_000n;
  return rate > TIMES_MAX ? TIMES_MAX : rate;
}

/** What a time costs: ⌊rate · ms / 1000⌋. @param {bigint} rate per second @param {bigint} ms */
export function cost(rate, ms) {
  return capped((rate * ms) / 1000n);
}

/** How long an amount lasts, ms; null where nothing is charged. @param {bigint} rate @param {bigint} amount */
export function lastsMs(rate, amount) {
  return rate === 0n ? null : (amount * 1000n) / rate;
}

/**
 * What must be paid beyond what is owed before media flows: two cadences, and at least two entries' fees.
 * @param {bigint} rate
 * @param {number} cadenceMs
 * @param {bigint} feePerVoucher
 */
export function minPrepay(rate, cadenceMs, feePerVoucher) {
  if (rate === 0n) return 0n;
  const ahead = cost(rate, 2n * BigInt(cadenceMs));
  const dust = capped(2n * feePerVoucher);
  return ahead > dust ? ahead : dust;
}

/**
 * The time that a payer accepts as served: the relay's word, bounded by what it received itself.
 * @param {bigint} servedMs by the relay
 * @param {bigint} mediaMs own
 */
export function payableMs(servedMs, mediaMs) {
  const own = (mediaMs * 102n) / 100n + 1000n;
  return own < servedMs ? own : servedMs;
}

/**
 * What the payer signs: what is payable, and two cadences ahead for each session of the lane.
 * @param {bigint} rate
 * @param {bigint} payable ms
 * @param {number} cadenceMs
 * @param {number} [sessions]
 */
export function signedTotal(rate, payable, cadenceMs, sessions = 1) {
  const until = payable + 2n * BigInt(cadenceMs) * BigInt(sessions);
  return cost(rate, until > TIMES_MAX ? TIMES_MAX : until);
}

/**
 * The first total of a session: the prepayment may be more than two cadences.
 * @param {bigint} rate
 * @param {bigint} payable ms
 * @param {number} cadenceMs
 * @param {bigint} prepay
 */
export function admissionTotal(rate, payable, cadenceMs, prepay) {
  const prepaid = capped(cost(rate, payable) + prepay);
  const cadences = signedTotal(rate, payable, cadenceMs);
  return prepaid > cadences ? prepaid : cadences;
}
