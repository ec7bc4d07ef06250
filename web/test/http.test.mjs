import assert from "node:assert/strict";
import test from "node:test";

import {
  RequestError,
  iceServers,
  parseLinks,
  parseRetryAfter,
  reasonIn,
  refusalOf,
  request,
  resolveLocation,
} from "../pages/lib/http.js";
import { startFakeServer } from "./fake-server.mjs";

test("links are read with their parameters", () => {
  const table = /** @type {const} */ ([
    [null, []],
    ["", []],
    ["</a>", [{ uri: "/a", rel: "", params: {} }]],
    ['</a>; rel="x"', [{ uri: "/a", rel: "x", params: { rel: "x" } }]],
    ["</a>;rel=x,</b>; REL=Y", [
      { uri: "/a", rel: "x", params: { rel: "x" } },
      { uri: "/b", rel: "y", params: { rel: "Y" } },
    ]],
    ['<a,b;c>; rel="x y"; title="one, \\"two\\"; three"', [
      { uri: "a,b;c", rel: "x y", params: { rel: "x y", title: 'one, "two"; three' } },
    ]],
    // The first of two equal parameters counts, a parameter may lack a value.
    ["</a>; rel=x; rel=y; crossorigin", [{ uri: "/a", rel: "x", params: { rel: "x", crossorigin: "" } }]],
    ["nonsense; rel=x", []],
    ["<unclosed; rel=x", []],
  ]);
  for (const [header, links] of table) assert.deepEqual(parseLinks(header), links, String(header));
});

test("ice servers are taken from their links alone", () => {
  const header = [
    '<stun:stun.example.net>; rel="ice-server"',
    '<turn:turn.example.net?transport=udp>; rel="ice-server"; username="user"; credential="my, password"; credential-type="password"',
    '<https://example.net/events>; rel="urn:ietf:params:whep:ext:core:server-sent-events"',
    '<https://example.net/>; rel="ice-server"',
  ].join(", ");
  assert.deepEqual(iceServers(parseLinks(header)), [
    { urls: "stun:stun.example.net" },
    { urls: "turn:turn.example.net?transport=udp", username: "user", credential: "my, password" },
  ]);
});

test("a session's address is relative to the request", () => {
  const asked = "https://relay.example:8443/whip/demo?title=x";
  const table = [
    ["/session/7", "https://relay.example:8443/session/7"],
    ["7", "https://relay.example:8443/whip/7"],
    ["https://other.example/s", "https://other.example/s"],
    ["", null],
    [null, null],
    ["javascript:alert(1)", null],
    ["http://[", null],
  ];
  for (const [location = null, url] of table) assert.equal(resolveLocation(location, asked), url, String(location));
});

test("Retry-After is seconds or a date, and never more than a minute", () => {
  const now = Date.parse("2030-01-01T00:00:00Z");
  const table = /** @type {const} */ ([
    [null, null],
    ["2", 2000],
    [" 2 ", 2000],
    ["Tue, 01 Jan 2030 00:00:05 GMT", 5000],
    ["Tue, 01 Jan 2030 00:00:00 GMT", 0],
    ["Mon, 31 Dec 2029 00:00:00 GMT", 0],
    ["86400", 60_000],
    ["soon", null],
    ["-1e", null],
  ]);
  for (const [header, ms] of table) assert.equal(parseRetryAfter(header, now), ms, String(header));
});

test("each status says what the caller can do", () => {
  const table = /** @type {const} */ ([
    [401, "token"], [403, "token"], [402, "payment"], [404, "not-live"], [410, "not-live"],
    [409, "conflict"], [429, "busy"], [503, "busy"], [400, "refused"], [415, "refused"],
  ]);
  for (const [status, refusal] of table) assert.equal(refusalOf(status), refusal, String(status));
});

test("a reason is one sentence of the body", () => {
  assert.equal(reasonIn("no such stream\nmore", "?"), "no such stream");
  assert.equal(reasonIn('{"error":"not_live","message":"Nobody is live."}', "?"), "Nobody is live.");
  assert.equal(reasonIn('{"error":"no such stream"}', "?"), "no such stream");
  assert.equal(reasonIn('{"code":7}', "?"), "?");
  assert.equal(reasonIn("{broken", "?"), "?");
  assert.equal(reasonIn("<html>busy</html>", "?"), "?");
  assert.equal(reasonIn("", "?"), "?");
  assert.equal(reasonIn("x".repeat(999), "?").length, 200);
});

test("a refusal arrives with its status, its reason and its wait", async () => {
  const server = await startFakeServer();
  try {
    const refused = await request(`${server.base}/whep/demo`, { method: "POST" }).catch((error) => error);
    assert.ok(refused instanceof RequestError);
    assert.deepEqual(
      [refused.refusal, refused.status, refused.retryAfterMs, refused.message],
      ["busy", 503, 1000, "This fake relay carries no media."],
    );
    assert.equal((await request(`${server.base}/api/streams`)).status, 200);
  } finally {
    server.close();
  }
  const silent = await request(`${server.base}/api/streams`).catch((error) => error);
  assert.equal(silent.refusal, "network");
});
