// What the chain allows with a stake, checked in the page: a person learns it before the fee is spent.

import { parseSut, sut, toSut } from "../wallet/balance.js";

/** Departures, and moves towards one validator, that one delegation may have at a time. */
export const MOVES_MAX = 8;

/** @typedef {import("./records.js").Delegation} Delegation */
/** Units to put into the transaction, or why there is none. @typedef {{ amount: bigint, why: null } | { amount: null, why: string }} Checked */

/** @param {string} why @returns {Checked} */
const no = (why) => ({ amount: null, why });

/** @param {string} text @returns {Checked} */
function parsed(text) {
  try {
    const amount = parseSut(text);
    return amount > 0n ? { amount, why: null } : no("Choose an amount above zero.");
  } catch (error) {
    return no(error instanceof Error ? error.message : String(error));
  }
}

/**
 * @param {string} text SUT
 * @param {{ balance: bigint, fee: bigint, staked: bigint, least: bigint }} facts what the account has, and has with this validator; what the chain takes at least
 * @returns {Checked}
 */
export function checkStake(text, { balance, fee, staked, least }) {
  const asked = parsed(text);
  if (asked.amount === null) return asked;
  const most = balance > fee ? balance - fee : 0n;
  if (asked.amount > most) return no(most > 0n ? `You can stake ${toSut(most)} SUT at most: the rest pays the fee.` : "This account cannot pay for a stake. Fund it on the Wallet page first.");
  if (staked + asked.amount < least) return no(`A stake is ${sut(least)} at least: add ${sut(least - staked - asked.amount)}.`);
  return asked;
}

/**
 * @param {string} text SUT
 * @param {{ balance: bigint, fee: bigint, least: bigint, delegation: Delegation | null }} facts
 * @returns {Checked}
 */
export function checkTakeBack(text, { balance, fee, least, delegation }) {
  const asked = parsed(text);
  if (asked.amount === null) return asked;
  const staked = delegation?.amount ?? 0n;
  if (staked === 0n || !delegation) return no("You have no stake with this validator.");
  if (balance + delegation.rewards < fee) return no(`The fee is ${sut(fee)}, and the account cannot pay it. Fund it on the Wallet page first.`);
  if (asked.amount > staked) return no(`You have ${toSut(staked)} SUT here, no more.`);
  const left = staked - asked.amount;
  if (left > 0n && left < least) return no(`${sut(least)} at least must stay: take ${toSut(staked > least ? staked - least : 0n)} SUT at most, or all.`);
  if (delegation.leaving.length >= MOVES_MAX) return no(`${MOVES_MAX} parts of this stake are leaving already. Wait until one of them is free.`);
  return asked;
}

/**
 * @param {string} text SUT
 * @param {{ balance: bigint, fee: bigint, least: bigint, delegation: Delegation | null, there: Delegation | null, from: string, to: string }} facts `there`: what the account has with the other validator
 * @returns {Checked}
 */
export function checkMove(text, facts) {
  if (!facts.to) return no("Choose the validator that it goes to.");
  if (facts.to === facts.from) return no("It is with this validator already: choose another one.");
  const asked = checkTakeBack(text, facts);
  if (asked.amount === null) return asked;
  if ((facts.there?.incoming ?? 0) >= MOVES_MAX) return no(`${MOVES_MAX} moves to that validator are on their way already. Wait until one of them is over.`);
  const there = facts.there?.amount ?? 0n;
  if (there + asked.amount < facts.least) return no(`A stake is ${sut(facts.least)} at least, also there: move ${sut(facts.least - there)} or more.`);
  return asked;
}
