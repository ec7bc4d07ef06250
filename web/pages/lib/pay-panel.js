// The panel about money under the picture of Watch, and the one button over the picture.

import { copyFrom, element, make, say } from "./dom.js";
import { shortId } from "./format.js";
import { duration, payView, perHour } from "./pay-view.js";
import { sut, ticking } from "./wallet/balance.js";
import { timeLeftMs } from "./wallet/pay.js";
import { POOL_WHY } from "./wallet/pool.js";

/** @typedef {import("./watching.js").Watching} Watching */

/** How often the sum runs on. */
const TICK_MS = 120;
/** What runs between two vouchers: the sum is a little behind what was signed, and never ahead. */
const STEPS_PER_SECOND = 8n;

/** @param {Watching} watching @param {import("./pay-view.js").PayAction} action */
function act(watching, action) {
  switch (action) {
    case "watch":
      return void watching.watch();
    case "buy":
      return void watching.buyTicket();
    case "pause":
      return watching.pause();
    case "resume":
      return watching.resume();
    case "top-up":
      return void watching.topUp();
    case "close":
      return void watching.close();
    case "agree":
      return watching.agree();
    case "settle":
      return watching.settle();
    case "fund":
      return void watching.fund();
    case "retry":
      return void watching.retry();
    case "caps":
      return location.assign("/wallet#caps");
  }
}

/** The first thing to do, where people look. @param {Watching} watching */
export function showPayButton(watching) {
  const [first] = payView(watching.facts).actions;
  const button = element("pay-now", HTMLButtonElement);
  const asks = ["payment", "token", "silent"].includes(watching.viewer.state);
  button.hidden = !watching.restricted || !first || !asks || first.id === "pause";
  if (!first) return;
  say(button, first.label);
  button.onclick = () => act(watching, first.id);
}

/** @param {Watching} watching */
export function showPayPanel(watching) {
  const { facts } = watching;
  element("pay", HTMLElement).hidden = !watching.restricted;
  if (!watching.restricted) return;
  const view = payView(facts);
  say(element("pay-what", HTMLElement), view.what);
  say(element("pay-advice", HTMLElement), view.advice);
  for (const id of ["pay-sum", "pay-pool-tile", "pay-left-tile"]) element(id, HTMLElement).hidden = facts.policy !== "paid";
  element("pay-account", HTMLElement).hidden = facts.policy !== "allow_list" || facts.allowed || !facts.account;
  element("pay-account-id", HTMLInputElement).value = facts.account ?? "";
  element("pay-account-copy", HTMLButtonElement).onclick = ({ currentTarget }) =>
    copyFrom(/** @type {HTMLButtonElement} */ (currentTarget), element("pay-account-id", HTMLInputElement));
  showActions(watching, view.actions);
  showPrice(watching);
  showPool(facts.sight);
  note("balance", facts.balance === null ? "–" : sut(facts.balance), facts.account ? `${shortId(facts.account)}. What is outside of pools; see Wallet.` : "");
  say(element("pay-why", HTMLElement), facts.policy === "paid" ? POOL_WHY : "");
}

/** @param {string} which @param {string} value @param {string} text */
function note(which, value, text) {
  say(element(`pay-${which}`, HTMLElement), value);
  say(element(`pay-${which}-note`, HTMLElement), text);
}

/** @param {Watching} watching @param {import("./pay-view.js").PayView["actions"]} wanted */
function showActions(watching, wanted) {
  const actions = element("pay-actions", HTMLElement);
  const shown = wanted.map(({ id, label }) => id + label).join();
  // Buttons that stay are left alone: one that is being pressed must not be replaced.
  if (actions.dataset["shown"] === shown) return;
  actions.dataset["shown"] = shown;
  actions.replaceChildren(
    ...wanted.map(({ id, label, primary }) => {
      const button = make("button", primary ? "button primary" : "button", label);
      button.id = `pay-${id}`;
      button.addEventListener("click", () => act(watching, id));
      return button;
    }),
  );
}

/** @param {Watching} watching */
function showPrice({ facts, record, chain }) {
  if (facts.policy === "ticketed") return note("price", sut(facts.ticketPrice), "For a ticket, set by the creator on chain.");
  if (facts.policy === "allow_list") return note("price", "–", "Nothing to pay: the creator chooses who may watch.");
  const newest = record?.terms.at(-1);
  const later = newest && chain && newest.from_height > chain.info.height ? ` From block ${newest.from_height}: ${sut(BigInt(newest.rate_per_second))}/s.` : "";
  note("price", `${sut(facts.rate)}/s`, `${perHour(facts.rate)} an hour, set by the creator on chain.${later}`);
}

/** @param {import("./wallet/pay.js").PaySight | null} sight */
function showPool(sight) {
  const gauge = element("pay-gauge", HTMLElement);
  gauge.hidden = !sight?.channel || sight.deposits === 0n;
  if (!sight?.channel) {
    note("pool", "–", "It opens when you begin to pay.");
    return note("left", "–", "");
  }
  const leftMs = timeLeftMs(sight.terms, sight.left);
  note("pool", sut(sight.left), `of ${sut(sight.deposits)}. Only vouchers signed by this page can take it.`);
  note("left", leftMs === null ? "–" : duration(leftMs), leftMs !== null && leftMs < 60_000 ? "Top up soon: the picture stops at zero." : "Then the picture stops, unless you top up.");
  if (sight.deposits === 0n) return;
  const share = Number((sight.left * 1000n) / sight.deposits) / 10;
  element("pay-gauge-left", HTMLElement).style.width = `${share}%`;
  gauge.setAttribute("aria-label", `${share.toFixed(0)} percent of the pool is left`);
}

/** Lets “paid so far” run. @param {Watching} watching */
export function runPaidSum(watching) {
  let shown = 0n;
  setInterval(() => {
    const { sight, rate } = watching.facts;
    const target = sight?.paid ?? 0n;
    const step = rate / STEPS_PER_SECOND + 1n;
    shown = nextShown(shown, target, step);
    say(element("paid", HTMLElement), ticking(shown, 6));
  }, TICK_MS);
}

/** One step nearer; a gap of many steps is news, not time that passes, and is jumped over. @param {bigint} shown @param {bigint} target @param {bigint} step */
export function nextShown(shown, target, step) {
  const gap = target - shown;
  if (gap <= step || gap > step * 40n) return target;
  return shown + step;
}
