import assert from "node:assert/strict";
import test from "node:test";

import { Creator, FormError, registration } from "../pages/lib/creator.js";
import { readToken } from "../pages/lib/wallet/token.js";
import { encodeBody } from "../pages/lib/wallet/transaction.js";
import { STREAM, browser } from "./wallet-world.mjs";

/** @type {import("../pages/lib/creator.js").StreamForm} */
const form = { title: "Harbour", policy: "paid", price: "0.001", ticketPrice: "0.5", ticketMinutes: "90", creatorPercent: "80", originPercent: "0" };

/** @param {Partial<typeof form>} change @param {string} field */
function refused(change, field) {
  assert.throws(() => registration({ ...form, ...change }), (error) => error instanceof FormError && error.field === field && error.message.length > 10, JSON.stringify(change));
}

test("a form becomes a registration that the chain can read", () => {
  const paid = registration(form);
  assert.deepEqual([paid["price"].rate_per_second, paid["split"]], ["1000000", { creator_bps: 8000, origin_bps: 0 }]);
  const ticketed = registration({ ...form, policy: "ticketed" });
  assert.deepEqual([ticketed["price"].rate_per_second, ticketed["price"].ticket_price, ticketed["price"].ticket_ms], ["0", "500000000", 5_400_000]);
  for (const payload of [paid, ticketed, registration({ ...form, policy: "allow_list", price: "" }), registration({ ...form, policy: "free" })]) {
    assert.ok(encodeBody({ signer: "0a".repeat(32), fee_payer: null, nonce: 0, valid_until_height: 0, fee: "1", payload }).length > 65);
  }
});

test("each wrong field is named with what to do", () => {
  refused({ price: "" }, "price");
  refused({ price: "0" }, "price");
  refused({ price: "1,5" }, "price");
  refused({ price: "99999999999999999999" }, "price");
  refused({ policy: "ticketed", ticketPrice: "x" }, "ticketPrice");
  refused({ policy: "ticketed", ticketMinutes: "0" }, "ticketMinutes");
  refused({ policy: "ticketed", ticketMinutes: "soon" }, "ticketMinutes");
  refused({ creatorPercent: "" }, "creatorPercent");
  refused({ creatorPercent: "101" }, "creatorPercent");
  refused({ creatorPercent: "90", originPercent: "11" }, "creatorPercent");
  refused({ title: "ü".repeat(65) }, "title");
});

test("a creator's token is a bearer token for its stream", async () => {
  const { chain, wallet } = await browser();
  const creator = new Creator(/** @type {any} */ (chain), wallet);
  const token = await creator.token(STREAM, 1_700_000_000_000);
  assert.equal(token.length, 312);
  assert.ok(readToken(token));
});
