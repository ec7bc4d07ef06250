import assert from "node:assert/strict";
import test from "node:test";

import { Backoff, MAX_MS } from "../pages/lib/backoff.js";

const middle = () => 0.5;

test("waits double up to the ceiling", () => {
  const backoff = new Backoff(middle);
  const waits = Array.from({ length: 7 }, () => backoff.next());
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, MAX_MS, MAX_MS]);
});

test("jitter spreads a wait over a quarter on each side", () => {
  assert.equal(new Backoff(() => 0).next(), 375);
  assert.equal(new Backoff(() => 0.999_999).next(), 625);
});

test("success begins anew", () => {
  const backoff = new Backoff(middle);
  backoff.next();
  backoff.next();
  backoff.reset();
  assert.equal(backoff.next(), 500);
});

test("the server's wish is a lower bound and not an upper one", () => {
  const backoff = new Backoff(middle);
  assert.equal(backoff.next(3000), 3000);
  assert.equal(backoff.next(10), 1000);
});

test("a thousand failures do not overflow", () => {
  const backoff = new Backoff(middle);
  for (let tries = 0; tries < 2000; tries += 1) backoff.next();
  assert.equal(backoff.next(), MAX_MS);
});
