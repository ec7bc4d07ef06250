import assert from "node:assert/strict";
import test from "node:test";

import { duration, gateWords, payView, perHour } from "../pages/lib/pay-view.js";
import { GATE_REASONS } from "../pages/lib/wallet/frames.js";
import { PayRefused } from "../pages/lib/wallet/terms.js";

/** @type {import("../pages/lib/pay-view.js").PayFacts} */
const facts = {
  policy: "paid",
  rate: 1_000_000n,
  ticketPrice: 100_000_000n,
  ticketMs: 3_600_000,
  account: "0a".repeat(32),
  balance: 100_000_000_000n,
  faucet: true,
  noKeys: null,
  busy: null,
  failed: null,
  note: null,
  deposit: 900_000_000n,
  agreed: false,
  allowed: false,
  sight: null,
};
/** @type {import("../pages/lib/wallet/pay.js").PaySight} */
const sight = { state: "paying", terms: null, paid: 0n, left: 1n, deposits: 1n, channel: "0b", lane: null, servedMs: 0n, trouble: null, asked: null };

/** @param {Partial<import("../pages/lib/pay-view.js").PayFacts>} change @param {string} what @param {string[]} actions @param {RegExp} [advice] */
function check(change, what, actions, advice) {
  const view = payView({ ...facts, ...change });
  assert.equal(view.what, what);
  assert.deepEqual(view.actions.map(({ id }) => id), actions, what);
  if (advice) assert.match(view.advice, advice);
}

test("who has not paid reads the price and one button", () => {
  check({}, "Payment required", ["watch"], /0\.001 SUT per second, 3\.6 SUT an hour\. 0\.9 SUT go into a pool/);
  check({ balance: 0n }, "Payment required", ["fund"], /has 0 SUT.*faucet/);
  check({ balance: 0n, faucet: false }, "Payment required", [], /send it to your account/);
  check({ noKeys: "This browser cannot sign." }, "Payment required", [], /cannot sign/);
  check({ busy: "Opening the pool…" }, "Opening the pool…", []);
  check({ note: "The pool is closing." }, "Payment required", ["watch"], /^The pool is closing\.$/);
  check({ failed: "The chain refused." }, "Payment required", ["watch"], /^The chain refused\.$/);
});

test("who pays can pause, top up and close, and hears of what is wrong", () => {
  const paying = { agreed: true, sight };
  check(paying, "Paying by the second", ["pause", "top-up", "close"]);
  check({ ...paying, sight: { ...sight, state: "late" } }, "The relay waits for a payment", ["pause", "top-up", "close"]);
  check({ ...paying, sight: { ...sight, state: "held" } }, "You paused paying", ["resume", "close"]);
  check({ ...paying, sight: { ...sight, state: "over" } }, "The relay ended the session", ["resume", "close"]);
  check({ ...paying, sight: { ...sight, state: "binding" } }, "Agreeing on the terms…", []);
  const terms = /** @type {any} */ ({ rate: 1_000_000n });
  const asked = /** @type {any} */ ({ rate: 2_000_000n });
  check({ ...paying, sight: { ...sight, terms, asked } }, "The price rises", ["agree", "close"], /From 0\.001 SUT to 0\.002 SUT/);
});

test("each reason to stop has its own way on", () => {
  /** @param {import("../pages/lib/wallet/terms.js").PayRefusal} reason @param {string[]} actions @param {bigint} [amount] @param {bigint} [left] */
  const stopped = (reason, actions, amount = 0n, left = 0n) =>
    check({ agreed: true, sight: { ...sight, left, state: "stopped", trouble: new PayRefused(reason, "because", amount) } }, "Payment required", actions, /^because$/);
  stopped("pool", ["top-up", "close"]);
  stopped("pool", ["watch", "close"], 0n, 900_000_000n);
  stopped("closed", ["watch"]);
  stopped("cap", ["caps", "close"]);
  stopped("claim", ["settle", "close"], 5n);
  stopped("claim", ["close"]);
  stopped("consent", ["watch", "close"]);
  stopped("busy", ["retry"]);
  stopped("rate", ["retry"]);
  stopped("tampered", ["retry"]);
});

test("a ticket is bought, and a list names the account to send", () => {
  check({ policy: "ticketed" }, "Payment required", ["buy"], /One costs 0\.1 SUT, good for 1 h 0 min/);
  check({ policy: "ticketed", balance: 1n }, "Payment required", ["fund"], /a ticket takes 0\.1 SUT/);
  check({ policy: "ticketed", allowed: true }, "You have a ticket", []);
  check({ policy: "allow_list" }, "You are not on the list", [], /0a0a0a0a…0a0a0a/);
  check({ policy: "allow_list", allowed: true }, "You are on the list", []);
  check({ policy: "free" }, "Free", []);
});

test("every reason of a gate has words, and says what to do", () => {
  for (const reason of GATE_REASONS) {
    const { what, advice } = gateWords(reason);
    assert.ok(what.length > 3 && (reason === "open" || advice.length > 10), reason);
  }
});

test("times and prices read at a glance", () => {
  assert.equal(duration(59_999), "59 s");
  assert.equal(duration(61_000), "1 min 1 s");
  assert.equal(duration(3_600_000), "1 h 0 min");
  assert.equal(duration(8 * 86_400_000), "8 days");
  assert.equal(duration(-1), "0 s");
  assert.equal(perHour(1_000_000n), "3.6 SUT");
});
