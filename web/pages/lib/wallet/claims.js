// What a wallet signs when a session begins, and when it does not believe what the relay says is owed.

import { sut, units } from "./balance.js";
import { admissionTotal, cost, payableMs, signedTotal } from "./lane.js";
import { PayRefused } from "./terms.js";

/** @typedef {import("./terms.js").Terms} Terms */
/** @typedef {import("./x402.js").LaneSaid} LaneSaid */

/**
 * One lane as a page knows it.
 * @typedef {object} Lane
 * @property {Terms} terms
 * @property {bigint} mediaMs received here
 * @property {bigint} bytes received here
 * @property {bigint} servedMs as the relay said
 * @property {bigint} cumulative signed
 * @property {boolean} acked the relay has acknowledged a Bind to these terms over the channel
 * @property {number} signedAt monotonic ms
 */

/** @param {import("./store.js").LaneRow} row @returns {Omit<Lane, "terms">} */
export function fromRow({ mediaMs, bytes, servedMs, cumulative }) {
  return { mediaMs, bytes, servedMs, cumulative, acked: false, signedAt: -Infinity };
}

/**
 * Takes in what the relay says it served.
 * @param {Lane} lane
 * @param {LaneSaid} said
 * @param {boolean} believed the person has decided to believe it about what was lost on the way
 */
export function hearServed(lane, said, believed) {
  const served = BigInt(said.served_ms);
  if (served > lane.servedMs) lane.servedMs = served;
  if (believed && lane.servedMs > lane.mediaMs) lane.mediaMs = lane.servedMs;
}

/**
 * The first total of a session: what is owed, and the prepayment.
 * @param {Lane} lane
 * @param {LaneSaid | null} said
 * @throws {PayRefused}
 */
export function enteringTotal({ terms, servedMs, mediaMs }, said) {
  const total = admissionTotal(terms.rate, payableMs(servedMs, mediaMs), terms.cadenceMs, terms.minPrepay);
  if (!said) return total;
  const due = units(said.due);
  // What ran on while the last connection ended: two cadences, the most that a relay may cost. What was
  // received does not rise by it, so it is given once for the lane and not at each new session.
  if (due > total && due <= total + cost(terms.rate, 2n * BigInt(terms.cadenceMs))) return due;
  // Less than we sign now was paid: our own voucher is on its way to mend that.
  if (units(said.paid) >= total) checkClaim(terms, due, total);
  return total;
}

/**
 * What is owed on a lane of an earlier price: who owes is let in nowhere.
 * @param {Lane} lane
 * @param {LaneSaid | null} said
 * @throws {PayRefused}
 */
export function settlingTotal({ terms, servedMs, mediaMs }, said) {
  const due = units(said?.due ?? "0");
  checkClaim(terms, due, signedTotal(terms.rate, payableMs(servedMs, mediaMs), terms.cadenceMs));
  return due;
}

/**
 * A relay may want more than what came here and the prepayment: what it sent while the connection
 * broke. That much a person can judge, more is a lie.
 * @param {Terms} terms
 * @param {bigint} due
 * @param {bigint} total that the wallet signs by itself
 */
function checkClaim(terms, due, total) {
  if (due <= total) return;
  const lost = due - total;
  if (lost > cost(terms.rate, BigInt(terms.graceMs) + 4n * BigInt(terms.cadenceMs))) {
    throw new PayRefused("claim", "The relay wants to be paid for more than it sent. Do not pay it; watch through another relay.");
  }
  throw new PayRefused("claim", `The relay says that it sent more than arrived here, perhaps while the connection broke. It asks ${sut(lost)} for that.`, lost);
}
