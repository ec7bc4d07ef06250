// The person's own caps: how much a stream, and a day, may cost before the wallet stops by itself.

import { UNITS_PER_SUT, sut } from "./balance.js";
import { PayRefused } from "./terms.js";

/** @typedef {import("./store.js").SumRow} SumRow */
/** @typedef {import("./store.js").CapsRow} CapsRow */

/** What holds until the person says otherwise. */
export const DEFAULT_CAPS = { perStream: 20n * UNITS_PER_SUT, perDay: 50n * UNITS_PER_SUT };

/** The day that a cap counts, in UTC, so that moving a clock's zone opens no new day. @param {number} nowMs */
export function dayOf(nowMs) {
  return new Date(nowMs).toISOString().slice(0, 10);
}

/**
 * @param {readonly SumRow[]} today what was spent on this day
 * @param {string} stream
 * @param {bigint} more about to be signed
 * @param {{ perStream: bigint, perDay: bigint }} caps
 * @throws {PayRefused} it would go beyond a cap
 */
export function checkCaps(today, stream, more, caps) {
  const onStream = today.find((row) => row.stream === stream)?.spent ?? 0n;
  if (onStream + more > caps.perStream) {
    throw new PayRefused("cap", `Your cap of ${sut(caps.perStream)} for this stream today is reached. Raise it on the Wallet page to go on.`);
  }
  const onDay = today.reduce((sum, row) => sum + row.spent, 0n);
  if (onDay + more > caps.perDay) {
    throw new PayRefused("cap", `Your cap of ${sut(caps.perDay)} for today is reached. Raise it on the Wallet page to go on.`);
  }
}
