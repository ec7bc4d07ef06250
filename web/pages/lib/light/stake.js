// Keys and records of stake as the state has them: what a proof is about, read.

import { BorshReader } from "../wallet/borsh.js";
import { concat, fromHex, utf8 } from "../wallet/bytes.js";

/** @param {string} operator hex */
export const validatorKey = (operator) => concat(utf8("val/"), fromHex(operator, 32));

/** @param {string} delegator hex @param {string} operator hex */
export const delegationKey = (delegator, operator) => concat(utf8("deleg/"), fromHex(delegator, 32), utf8("/"), fromHex(operator, 32));

/** The head of a validator's record: the rest is not needed here. @param {Uint8Array} bytes @returns {{ moniker: string, commissionBps: number, tokens: bigint, shares: bigint }} */
export function readValidator(bytes) {
  const from = new BorshReader(bytes);
  from.fixed(32);
  const moniker = from.string();
  from.string();
  const commissionBps = from.u16();
  from.u16();
  from.u16();
  from.u64();
  return { moniker, commissionBps, tokens: from.u128(), shares: from.u128() };
}

/** @param {Uint8Array} bytes @returns {{ shares: bigint }} */
export function readDelegation(bytes) {
  return { shares: new BorshReader(bytes).u128() };
}

/** What shares are worth, rounded down as the chain does. @param {bigint} shares @param {{ tokens: bigint, shares: bigint }} validator */
export function worth(shares, validator) {
  return validator.shares > 0n ? (shares * validator.tokens) / validator.shares : 0n;
}
