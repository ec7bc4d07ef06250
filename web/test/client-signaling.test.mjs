// Signalling with a coordinator: how it is entered, kept through losses, and what its refusals become.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { WebSocket } from "ws";

import { Backoff, FIRST_MS, MAX_MS } from "../client/backoff.js";
import { Identity, SutantraSignaling, fetchFromSeed, initWebRTCPeer } from "../client/index.js";
import { Pace } from "../client/pace.js";
import { renewalMs } from "../client/turn.js";
import { FakeCoordinator, FakeNet, fingerprintHolds, until } from "./client-world.mjs";

/** @type {(() => unknown)[]} */
const cleanups = [];
after(() => Promise.all(cleanups.map((cleanup) => cleanup())));

async function coordinate() {
  const coordinator = await new FakeCoordinator().start();
  cleanups.push(() => coordinator.kill());
  return coordinator;
}

/** @param {FakeCoordinator} coordinator @param {import("../client/signaling.js").SignalingOptions} [options] */
async function client(coordinator, options = {}) {
  const identity = await Identity.generate();
  const signaling = new SutantraSignaling(coordinator.url, identity.nodeId, {
    identity,
    WebSocket: /** @type {any} */ (WebSocket),
    random: () => 0.1,
    ...options,
  });
  cleanups.push(() => signaling.close());
  /** @type {any[]} */
  const heard = [];
  for (const event of ["state", "joined", "left", "peer-joined", "peer-left", "signal", "broadcast", "error"]) {
    signaling.on(event, (...args) => heard.push([event, ...args]));
  }
  /** @param {string} name @returns {any[]} */
  const events = (name) => heard.filter(([event]) => event === name);
  return { signaling, heard, events, nodeId: identity.nodeId };
}

/** @param {string} to */
const candidate = (to, n = 0) => ({ type: "ice-candidate", to, room: "global", candidate: { candidate: `candidate:${n}` } });

// R75, R76
test("a WebSocket is used where there is one, and polling where there is none", async () => {
  const coordinator = await coordinate();
  for (const [transport, allowed, expected] of /** @type {const} */ ([["auto", true, "websocket"], ["auto", false, "poll"], ["poll", true, "poll"], ["websocket", true, "websocket"]])) {
    coordinator.allowWebSocket = allowed;
    const { signaling } = await client(coordinator, { transport });
    await signaling.connect();
    assert.equal(signaling.transport, expected, `${transport}, ${allowed}`);
    const { room, peers } = await signaling.join("global", { name: "ada" });
    assert.deepEqual([room, peers], ["global", []]);
    signaling.close();
    await until(() => coordinator.rooms.get("global")?.size === 0, "it said good-bye");
  }
  coordinator.allowWebSocket = false;
  const { signaling } = await client(coordinator, { transport: "websocket" });
  await assert.rejects(signaling.connect(), { code: "unreachable" });
});

// R66
test("over either way the same is heard, in order, and acknowledged by a cursor", async () => {
  const coordinator = await coordinate();
  const [socket, poll] = [await client(coordinator, { transport: "websocket" }), await client(coordinator, { transport: "poll" })];
  for (const { signaling } of [socket, poll]) {
    await signaling.connect();
    await signaling.join("global", { name: "somebody" });
  }
  for (const [from, to] of [[socket, poll], [poll, socket]]) {
    assert.ok(from && to);
    const sent = Array.from({ length: 80 }, (_, n) => candidate(to.nodeId, n));
    await Promise.all(sent.map((message) => from.signaling.send(message)));
    await until(() => to.events("signal").length === 80, "all arrive");
    assert.deepEqual(to.events("signal").map(([, message]) => message.candidate), sent.map((message) => message.candidate));
    assert.ok(to.events("signal").every(([, message]) => message.from === from.nodeId && message.room === "global"));
  }
  await until(() => coordinator.heard.some(({ type, cursor }) => type === "ack" && cursor > 30), "the socket acknowledges");
  assert.deepEqual(socket.events("peer-joined").map(([, room, { nodeId, metadata }]) => [room, nodeId, metadata.name]), [["global", poll.nodeId, "somebody"]]);
  poll.signaling.close();
  await until(() => socket.events("peer-left").length === 1, "its leaving is heard");
});

test("who comes or goes while the answer to a join is on its way is told after it", async () => {
  const coordinator = await coordinate();
  const { signaling, heard, events, nodeId } = await client(coordinator, { transport: "websocket" });
  await signaling.connect();
  coordinator.meddle = (message) => {
    if (message.type !== "join") return undefined;
    coordinator.push(nodeId, { type: "peer-joined", room: "global", peer: { nodeId: "ada", metadata: {} } });
    coordinator.push(nodeId, { type: "peer-left", room: "global", peerId: "bob" });
    return undefined;
  };
  await signaling.join("global");
  const order = heard.map(([event]) => event).filter((event) => event !== "state");
  assert.deepEqual(order, ["joined", "peer-joined", "peer-left"]);
  coordinator.meddle = () => ({ code: "room_full", message: "full" });
  await assert.rejects(signaling.join("learning"), { code: "room_full" });
  coordinator.push(nodeId, { type: "peer-joined", room: "global", peer: { nodeId: "eve", metadata: {} } });
  await until(() => events("peer-joined").length === 2, "later ones are told at once");
});

// R87
test("a coordinator that does not believe the signature is an error with its code, and nothing is tried again", async () => {
  const coordinator = await coordinate();
  for (const transport of /** @type {const} */ (["websocket", "poll", "auto"])) {
    const { signaling, events } = await client(coordinator, { transport });
    const forged = await Identity.generate();
    const liar = new SutantraSignaling(coordinator.url, signaling.nodeId, { identity: forged, transport, WebSocket: /** @type {any} */ (WebSocket) });
    await assert.rejects(liar.connect(), { name: "SutantraError", code: "unauthenticated" });
    assert.equal(liar.state, "closed");
    assert.deepEqual(events("error"), []);
  }
});

test("a coordinator that is not there is said so at once", async () => {
  const gone = await new FakeCoordinator().start();
  await gone.kill();
  const { signaling } = await client(gone);
  await assert.rejects(signaling.connect(), { code: "unreachable" });
  await assert.rejects(signaling.send(candidate("x")), { code: "closed" });
});

test("a refused join is its promise's error, and the connection goes on", async () => {
  const coordinator = await coordinate();
  coordinator.meddle = (message) => (message.type === "join" && message.room === "paid" ? { code: "payment_required", message: "pay first", terms: { price: "7" } } : undefined);
  const { signaling } = await client(coordinator, { transport: "websocket" });
  await signaling.connect();
  await assert.rejects(signaling.join("paid"), (/** @type {any} */ error) => error.code === "payment_required" && error.message === "pay first" && error.details.terms.price === "7");
  assert.deepEqual((await signaling.join("global")).peers, []);
  assert.deepEqual(signaling.rooms, ["global"]);
});

// R93
test("what the coordinator refuses for its rate is sent again after the time that it asked for", async () => {
  const coordinator = await coordinate();
  for (const transport of /** @type {const} */ (["websocket", "poll"])) {
    const [one, two] = [await client(coordinator, { transport }), await client(coordinator)];
    for (const { signaling } of [one, two]) {
      await signaling.connect();
      await signaling.join("global");
    }
    let refused = 0;
    let firstAt = 0;
    coordinator.meddle = (message) => {
      if (message.type !== "ice-candidate" || refused >= 2) return undefined;
      refused += 1;
      firstAt ||= Date.now();
      return { code: "rate_limited", message: "slower", retryAfterMs: 60 };
    };
    await one.signaling.send(candidate(two.nodeId));
    await until(() => two.events("signal").length === 1, `${transport}: it arrives in the end`);
    assert.equal(refused, 2);
    assert.ok(Date.now() - firstAt >= 115, "not before it may");
    assert.deepEqual(one.events("error"), []);
  }
});

// R99
test("after a cut the same rooms are resumed and what was missed is heard once", async () => {
  const coordinator = await coordinate();
  const [one, two] = [await client(coordinator, { transport: "websocket" }), await client(coordinator, { transport: "websocket" })];
  for (const { signaling } of [one, two]) {
    await signaling.connect();
    await signaling.join("global");
  }
  await two.signaling.send(candidate(one.nodeId, 1));
  await until(() => one.events("signal").length === 1, "the first arrives");
  coordinator.cut(one.nodeId);
  await two.signaling.send(candidate(one.nodeId, 2));
  await until(() => one.events("signal").length === 2, "the missed one arrives");
  await two.signaling.send(candidate(one.nodeId, 3));
  await until(() => one.events("signal").length === 3, "the next one arrives");
  assert.deepEqual(one.events("signal").map(([, { candidate: its }]) => its.candidate), ["candidate:1", "candidate:2", "candidate:3"]);
  assert.equal(one.events("joined").length, 1, "it did not have to join again");
  assert.deepEqual(two.events("peer-left"), []);
});

// R99
test("a coordinator that forgot everything is joined again, signed anew, over either way", async () => {
  const coordinator = await coordinate();
  for (const transport of /** @type {const} */ (["websocket", "poll"])) {
    const { signaling, events, nodeId } = await client(coordinator, { transport });
    await signaling.connect();
    await signaling.join("global", { name: "ada" });
    await signaling.join("learning", { name: "ada" });
    await coordinator.kill();
    await coordinator.start();
    await until(() => events("joined").filter(([, { again }]) => again).length === 2, `${transport}: both rooms are joined again`);
    assert.equal(coordinator.rooms.get("global")?.get(nodeId).name, "ada");
    assert.equal(signaling.state, "open");
    signaling.close();
  }
});

test("a node whose place another connection took stops instead of fighting for it", async () => {
  const coordinator = await coordinate();
  const { signaling, nodeId } = await client(coordinator, { transport: "websocket" });
  await signaling.connect();
  const closed = new Promise((resolve) => signaling.once("error", resolve));
  coordinator.nodes.get(nodeId)?.socket?.close(4409, "replaced");
  assert.equal((await closed).code, "id_taken");
  assert.equal(signaling.state, "closed");
});

test("a coordinator that closes for good sends its clients to another", async () => {
  const [old, next] = [await coordinate(), await coordinate()];
  const { signaling, nodeId } = await client(old, { transport: "websocket" });
  await signaling.connect();
  await signaling.join("global");
  old.nodes.get(nodeId)?.socket?.close(4503, JSON.stringify({ reconnect: next.url }));
  await until(() => next.rooms.get("global")?.has(nodeId) === true, "it joins there");
  assert.equal(signaling.url, next.url);
});

// R93
test("waits double to thirty seconds, with full jitter, and start again after a success", () => {
  const ceilings = new Backoff(() => 1);
  assert.deepEqual(Array.from({ length: 9 }, () => ceilings.next()), [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  ceilings.reset();
  assert.equal(ceilings.next(), FIRST_MS);
  assert.equal(new Backoff(() => 0).next(), 0);
  assert.equal(new Backoff(() => 0).next(700), 700);
  assert.ok(new Backoff(() => 0.999).next(700) > 700);
  assert.equal(new Backoff(() => 0).next(1e9), MAX_MS, "no coordinator silences a client for days");
});

// R93
test("signals of a full room leave at the coordinator's pace, in their order, and none is lost", async () => {
  let now = 0;
  const pace = new Pace(() => now);
  /** @type {number[]} */
  const sent = [];
  let asked = 0;
  const ask = () => {
    const n = asked++;
    void pace.turn().then(() => sent.push(n));
  };
  for (let n = 0; n < 300; n += 1) ask();
  await until(() => sent.length === 150, "as many as it takes at once");
  assert.equal(pace.length, 150);
  now = 1000;
  await until(() => sent.length === 190, "forty more in a second");
  pace.hold(500);
  now = 1400;
  pace.hold(30_000);
  // Whoever asks makes it look at the clock, and what it hands out is taken within this task.
  ask();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([sent.length, pace.length], [190, 111], "none while it asked for patience");
  now = 20_000;
  await until(() => sent.length === 301, "all in the end");
  assert.deepEqual(sent, Array.from({ length: 301 }, (_, n) => n));
});

test("TURN credentials that end are renewed when half of their time is over, others never", () => {
  const now = 1_700_000_000_000;
  const turn = (/** @type {string} */ username) => ({ urls: "turn:127.0.0.1:3478", username, credential: "c" });
  const timed = (/** @type {number} */ ms) => turn(`${(now + ms) / 1000}:sn1ada`);
  const check = (/** @type {any[]} */ iceServers, /** @type {number | null} */ wait) => assert.equal(renewalMs(iceServers, now), wait);
  check([], null);
  check([{ urls: "stun:127.0.0.1:3478" }, turn("ada"), turn("12:ada"), null], null);
  check([timed(3_600_000)], 1_800_000);
  check([timed(3_600_000), timed(600_000), turn("ada")], 300_000);
  check([timed(-5000)], 60_000);
  check([turn("99999999999:ada")], 2 ** 31 - 1);
});

test("renewed TURN credentials reach the peer, and nobody hears of it", async (t) => {
  const coordinator = await coordinate();
  const credentials = (/** @type {string} */ credential) => [{ urls: "turn:127.0.0.1:3478", username: `${Math.floor(Date.now() / 1000) + 3600}:x`, credential }];
  coordinator.iceServers = credentials("first");
  const options = { seed: coordinator.origin, room: "global", RTCPeerConnection: new FakeNet().RTCPeerConnection, WebSocket: /** @type {any} */ (WebSocket) };
  const other = await initWebRTCPeer(options);
  // The timer of the renewal is the only one of half an hour.
  const { setTimeout: real } = globalThis;
  /** @type {(() => unknown)[]} */
  const renewals = [];
  t.mock.method(globalThis, "setTimeout", (/** @type {() => void} */ then, /** @type {number} */ ms, /** @type {any[]} */ ...rest) => {
    if (ms > 1_000_000) renewals.push(then);
    return real(then, ms, ...rest);
  });
  const peer = await initWebRTCPeer(options);
  assert.ok(peer && other);
  cleanups.push(() => peer.close(), () => other.close());
  assert.equal(peer.iceServers[0]?.credential, "first");
  await until(() => peer.connected.length === 1, "they are connected");
  /** @type {string[]} */
  const heard = [];
  for (const one of [peer, other]) for (const event of ["peer-joined", "peer-left", "peer-connected", "error"]) one.on(event, () => heard.push(event));
  coordinator.iceServers = credentials("second");
  await renewals.at(-1)?.();
  assert.equal(peer.iceServers[0]?.credential, "second");
  assert.deepEqual(heard, []);
});

// R83
test("from the address of a node alone a peer is in a room, with the node's STUN and TURN servers", async () => {
  const coordinator = await coordinate();
  const { coordinatorUrl, iceServers, networkId } = await fetchFromSeed(coordinator.origin);
  assert.deepEqual([coordinatorUrl, networkId], [coordinator.url, "test-net"]);
  assert.deepEqual(iceServers, [{ urls: "stun:127.0.0.1:3478" }, { urls: "turn:127.0.0.1:3478", username: "u", credential: "c" }]);

  const net = new FakeNet();
  const options = { seed: coordinator.origin, RTCPeerConnection: net.RTCPeerConnection, WebSocket: /** @type {any} */ (WebSocket) };
  assert.equal(await initWebRTCPeer({ ...options, autoWebRTC: false }), null);
  coordinator.iceServers = [];
  const one = await initWebRTCPeer({ ...options, room: "global", metadata: { name: "ada" } });
  const two = await initWebRTCPeer({ ...options, room: "global" });
  assert.ok(one && two);
  cleanups.push(() => one.close(), () => two.close());
  await until(() => one.connected.length === 1 && two.connected.length === 1, "they are connected");
  assert.deepEqual(net.connections[0]?.configuration.iceServers, iceServers);
  const offer = coordinator.heard.find(({ type }) => type === "offer");
  assert.ok(await fingerprintHolds(offer, one.nodeId), "the newcomer's offer is signed");
  assert.equal(offer.from, two.nodeId);

  await assert.rejects(initWebRTCPeer({ ...options, seed: "no address" }), { code: "bad_request" });
  await assert.rejects(initWebRTCPeer({ ...options, seed: "http://127.0.0.1:1" }), { code: "unreachable" });
});
