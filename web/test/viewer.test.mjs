import assert from "node:assert/strict";
import test from "node:test";

import { CONNECT_MS, DISCONNECTED_MS, SILENCE_MS, judge } from "../pages/lib/viewer.js";

/** @type {import("../pages/lib/viewer.js").Sight} */
const playing = { connection: "connected", stateMs: 5000, silentMs: 0, frames: 9, publisher: "present", restarted: false };

/** @param {Partial<import("../pages/lib/viewer.js").Sight>} change @param {string} verdict */
function check(change, verdict) {
  assert.equal(judge({ ...playing, ...change }), verdict, JSON.stringify(change));
}

test("packets and frames are a stream that plays", () => {
  check({}, "playing");
  check({ silentMs: SILENCE_MS - 1 }, "playing");
  check({ frames: 0 }, "connecting");
  check({ frames: 0, stateMs: CONNECT_MS }, "lost");
});

test("silence is a closed gate while the stream is live, and the end when it is not", () => {
  check({ silentMs: SILENCE_MS }, "silent");
  check({ silentMs: SILENCE_MS, frames: 0 }, "silent");
  check({ silentMs: SILENCE_MS, publisher: "gone" }, "ended");
});

test("a publisher that may come back is waited for", () => {
  check({ publisher: "away" }, "playing");
  check({ silentMs: SILENCE_MS, publisher: "away" }, "away");
});

test("a path that breaks is given a moment", () => {
  check({ connection: "disconnected", stateMs: DISCONNECTED_MS - 1 }, "playing");
  check({ connection: "disconnected", stateMs: DISCONNECTED_MS }, "lost");
  check({ connection: "disconnected", publisher: "gone" }, "ended");
  check({ connection: "failed" }, "lost");
  check({ connection: "closed" }, "lost");
  check({ connection: "closed", publisher: "gone" }, "ended");
});

test("a session that never got a path says so", () => {
  check({ connection: "connecting", stateMs: CONNECT_MS - 1, frames: 0 }, "connecting");
  check({ connection: "new", stateMs: CONNECT_MS, frames: 0 }, "no-path");
  check({ connection: "failed", frames: 0 }, "no-path");
});

test("a relay that restarted has forgotten us, whatever the connection believes", () => {
  check({ restarted: true }, "lost");
  check({ connection: "connecting", frames: 0, restarted: true }, "lost");
});
