// What Watch says about money: from what is known to words and buttons. Pure, so that a table can test it.

import { sut } from "./wallet/balance.js";
import { shortId } from "./format.js";

/** @typedef {import("./wallet/chain.js").Policy} Policy */
/** @typedef {import("./wallet/pay.js").PaySight} PaySight */
/** @typedef {import("./wallet/frames.js").GateReason} GateReason */

/** @typedef {"watch" | "pause" | "resume" | "top-up" | "close" | "buy" | "agree" | "settle" | "fund" | "caps" | "retry"} PayAction */

/**
 * @typedef {object} PayFacts
 * @property {Policy} policy
 * @property {bigint} rate units per second now
 * @property {bigint} ticketPrice
 * @property {number} ticketMs
 * @property {string | null} account hex
 * @property {bigint | null} balance null: not known yet
 * @property {boolean} faucet
 * @property {string | null} noKeys why this browser cannot pay
 * @property {string | null} busy what is being done at this moment
 * @property {string | null} failed why the last thing that was asked did not work
 * @property {string | null} note what came of the last thing that was asked
 * @property {bigint} deposit what a new pool takes
 * @property {boolean} agreed the person has said yes to paying
 * @property {boolean} allowed the chain lists this account, or it has a ticket
 * @property {PaySight | null} sight
 */

/**
 * @typedef {object} PayView
 * @property {string} what the headline
 * @property {string} advice what to do next
 * @property {{ id: PayAction, label: string, primary: boolean }[]} actions the first also stands over the picture
 * @property {boolean} urgent something has to be done for the picture to go on
 */

/** @param {bigint} rate */
export function perHour(rate) {
  return sut(rate * 3600n);
}

/** A time as a person says it. @param {number} ms */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min` : `${Math.floor(seconds / 86_400)} days`;
}

/** @param {PayAction} id @param {string} label @param {boolean} [primary] */
const action = (id, label, primary = true) => ({ id, label, primary });

/** @param {PayFacts} facts @returns {PayView} */
export function payView(facts) {
  if (facts.noKeys) return { what: "Payment required", advice: facts.noKeys, actions: [], urgent: true };
  if (facts.busy) return { what: facts.busy, advice: "", actions: [], urgent: false };
  switch (facts.policy) {
    case "free":
      return { what: "Free", advice: "", actions: [], urgent: false };
    case "ticketed":
      return ticketView(facts);
    case "allow_list":
      return listView(facts);
    case "paid":
      return paidView(facts);
  }
}

/** @param {PayFacts} facts @returns {PayView} */
function ticketView({ allowed, ticketPrice, ticketMs, failed, balance, faucet }) {
  if (allowed) return { what: "You have a ticket", advice: "", actions: [], urgent: false };
  if (balance !== null && balance < ticketPrice) return poor(ticketPrice, balance, faucet, "a ticket");
  const good = ticketMs > 0 ? `, good for ${duration(ticketMs)}` : "";
  return {
    what: "Payment required",
    advice: failed ?? `This stream is for who has a ticket. One costs ${sut(ticketPrice)}${good}.`,
    actions: [action("buy", `Buy a ticket for ${sut(ticketPrice)}`)],
    urgent: true,
  };
}

/** @param {PayFacts} facts @returns {PayView} */
function listView({ allowed, account, failed }) {
  if (allowed) return { what: "You are on the list", advice: "", actions: [], urgent: false };
  return {
    what: "You are not on the list",
    advice: failed ?? `The creator of this stream chooses who may watch. Send them your account${account ? `, ${shortId(account)}` : ""}; once you are on the list, it begins here by itself.`,
    actions: [],
    urgent: true,
  };
}

/** @param {PayFacts} facts @returns {PayView} */
function paidView(facts) {
  const { sight, rate, agreed, failed, note, balance, deposit, faucet } = facts;
  const price = `${sut(rate)} per second, ${perHour(rate)} an hour.`;
  if (sight?.asked) {
    return {
      what: "The price rises",
      advice: `From ${sut(sight.terms?.rate ?? 0n)} to ${sut(sight.asked.rate)} per second. Without your word the picture stops when the new price begins.`,
      actions: [action("agree", `Go on for ${sut(sight.asked.rate)}/s`), action("close", "Stop, and get the rest back", false)],
      urgent: true,
    };
  }
  if (!agreed || !sight || sight.state === "idle") {
    const poorHere = balance !== null && balance < deposit;
    if (poorHere && !agreed) return poor(deposit, balance, faucet, "a pool for this stream");
    return {
      what: "Payment required",
      advice: failed ?? note ?? `This stream costs ${price} ${sut(deposit)} go into a pool that pays by the second; what you do not watch comes back.`,
      actions: [action("watch", `Watch for ${sut(rate)}/s`)],
      urgent: true,
    };
  }
  const standing = [action("pause", "Pause paying", false), action("top-up", "Top up", false), action("close", "Close, and get the rest back", false)];
  switch (sight.state) {
    case "binding":
      return { what: "Agreeing on the terms…", advice: "", actions: [], urgent: false };
    case "paying":
      return { what: "Paying by the second", advice: failed ?? price, actions: standing, urgent: false };
    case "late":
      return { what: "The relay waits for a payment", advice: "It is on its way. The picture goes on once it arrives.", actions: standing, urgent: false };
    case "held":
      return {
        what: "You paused paying",
        advice: "Nothing more is paid. The picture stops when what you paid is used up, and goes on when you resume.",
        actions: [action("resume", "Resume"), action("close", "Close, and get the rest back", false)],
        urgent: true,
      };
    case "over":
      return {
        what: "The relay ended the session",
        advice: failed ?? "Press Resume to begin a new one. What you paid ahead still counts.",
        actions: [action("resume", "Resume"), action("close", "Close, and get the rest back", false)],
        urgent: true,
      };
    case "stopped":
      return { what: "Payment required", advice: sight.trouble?.message ?? failed ?? "The wallet stopped paying.", actions: remedies(facts), urgent: true };
  }
}

/** @param {PayFacts} facts */
function remedies({ sight, rate, deposit }) {
  const close = action("close", "Close, and get the rest back", false);
  switch (sight?.trouble?.reason) {
    case "pool":
      return sight.channel && sight.left < rate * 5n ? [action("top-up", "Top up"), close] : [action("watch", `Open a pool of ${sut(deposit)}`), close];
    case "closed":
      return [action("watch", `Open a pool of ${sut(deposit)}`)];
    case "cap":
      return [action("caps", "Change your caps"), close];
    case "claim":
      return sight.trouble.amount > 0n ? [action("settle", `Pay ${sut(sight.trouble.amount)} and go on`), close] : [close];
    case "consent":
      return [action("watch", `Watch for ${sut(rate)}/s`), close];
    case "busy":
    case "version":
      return [action("retry", "Try again")];
    default:
      return [action("retry", "Try again", false)];
  }
}

/** @param {bigint} need @param {bigint} has @param {boolean} faucet @param {string} what @returns {PayView} */
function poor(need, has, faucet, what) {
  return {
    what: "Payment required",
    advice: `Your account has ${sut(has)}; ${what} takes ${sut(need)} and a small fee. ${faucet ? "Ask the faucet of this test chain." : "Have somebody send it to your account, shown on the Wallet page."}`,
    actions: faucet ? [action("fund", "Ask the faucet")] : [],
    urgent: true,
  };
}

/** Why the picture stands still, in the relay's reasons. @param {GateReason} reason @returns {{ what: string, advice: string }} */
export function gateWords(reason) {
  switch (reason) {
    case "open":
      return { what: "Playing", advice: "" };
    case "overdue":
      return { what: "Paused: the payment is behind", advice: "It goes on with the next payment." };
    case "disputed":
      return { what: "Paused: too much was lost on the way", advice: "Your connection loses most of what is sent, so the relay stopped before you pay for it. It tries again by itself." };
    case "revoked":
      return { what: "Your access was taken back", advice: "The creator of this stream took it back. Ask them." };
    case "expired":
      return { what: "Your access has expired", advice: "Buy a new ticket, or ask the creator." };
    case "channel":
      return { what: "Paused: the pool cannot pay", advice: "It is closing, or used up. Top it up, or open a new one." };
    case "exposure":
      return { what: "Paused: the relay wants a reserve", advice: "Top up the pool: that keeps its money for this relay." };
    case "stream":
      return { what: "The stream has changed", advice: "It has ended, or who may watch has changed. Reload the page." };
    case "books":
      return { what: "The relay cannot take money now", advice: "Its own books are not safe at the moment. Nothing is charged; it tries again by itself." };
  }
}
