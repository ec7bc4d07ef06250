import assert from "node:assert/strict";
import test from "node:test";

import * as format from "../pages/lib/format.js";
import { STREAM_NAME } from "../pages/lib/api.js";

test("an unknown value is a dash and never a zero", () => {
  for (const say of [format.bitrate, format.milliseconds, format.percent, format.whole]) {
    assert.equal(say(null), "–");
    assert.notEqual(say(0), "–");
  }
  assert.equal(format.size(null, 720), "–");
});

test("numbers are short", () => {
  assert.equal(format.bitrate(2_500_000), "2.50 Mb/s");
  assert.equal(format.bitrate(12_340_000), "12.3 Mb/s");
  assert.equal(format.bitrate(999_499), "999 kb/s");
  assert.equal(format.bitrate(999_500), "1.00 Mb/s");
  assert.equal(format.milliseconds(3.14159), "3.1 ms");
  assert.equal(format.milliseconds(48.6), "49 ms");
  assert.equal(format.percent(0.01), "< 0.1 %");
  assert.equal(format.clock(3_725), "1:02:05");
  assert.equal(format.clock(65), "01:05");
  assert.equal(format.span(59_000), "less than a minute");
  assert.equal(format.span(60_000), "1 minute");
  assert.equal(format.counted(2, "person", "people"), "2 people");
});

test("zero in any spelling is free", () => {
  /** @param {string} price_per_second @param {import("../pages/lib/wallet/chain.js").Policy | null} policy @param {string} text */
  const check = (price_per_second, policy, text) => assert.equal(format.price({ price_per_second, policy }), text);
  for (const zero of ["0", "00", "", "0.0"]) check(zero, null, "free");
  check("0", "free", "free");
  check("1000000", "paid", "0.001 SUT/s");
  check("0", "ticketed", "by ticket");
  check("0", "allow_list", "by invitation");
  assert.equal(format.shortId("03".repeat(32)), "03030303…030303");
  assert.equal(format.shortId("demo"), "demo");
});

test("an invented name is a valid stream name", () => {
  for (const random of [0, 0.5, 0.999_999]) assert.match(format.inventedName(() => random), STREAM_NAME);
});

test("stream names that an address cannot carry are refused", () => {
  for (const name of ["demo", "a", "quiet-river.42_x", "0".repeat(64)]) assert.match(name, STREAM_NAME);
  for (const name of ["", "Demo", "-x", "a b", "a/b", "ä", "0".repeat(65), "a\n"]) assert.doesNotMatch(name, STREAM_NAME);
});
