// Who connects to whom, and that it comes about exactly once, whatever the coordinator and the network do.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { WebSocket } from "ws";

import { Attempts, TRIES_MAX } from "../client/attempts.js";
import { HttpTransport, Identity, KIND, WebRTCPeer, WebRTCTransport, WebSocketTransport } from "../client/index.js";
import { FakeCoordinator, FakeNet, until } from "./client-world.mjs";

/** @type {(() => unknown)[]} */
const cleanups = [];
after(() => Promise.all(cleanups.map((cleanup) => cleanup())));

/** Restarts come soon; nothing is tried again only because the machine is busy. */
const TIMINGS = { retryMs: 8000, disconnectedMs: 50, courtesyMs: 100, answererMs: 30_000 };
/** Where a try again is what the test is about. */
const IMPATIENT = { ...TIMINGS, retryMs: 200 };

/** A coordinator, a network, and peers in them that write down what they hear. */
async function world() {
  const coordinator = await new FakeCoordinator().start();
  const net = new FakeNet();
  cleanups.push(() => coordinator.kill());
  /** @param {Partial<import("../client/peer.js").PeerOptions> & { identity?: Identity }} [options] */
  const peer = async (options = {}) => {
    const identity = options.identity ?? (await Identity.generate());
    const one = new WebRTCPeer(identity.nodeId, {
      identity,
      RTCPeerConnection: net.RTCPeerConnection,
      WebSocket: /** @type {any} */ (WebSocket),
      timings: TIMINGS,
      random: () => 0.2,
      ...options,
    });
    /** @type {any[]} */
    const heard = [];
    for (const event of ["peer-connected", "peer-disconnected", "message", "error", "peer-joined", "peer-left"]) {
      one.on(event, (...args) => heard.push([event, ...args]));
    }
    cleanups.push(() => one.close());
    /** @param {string} name @returns {any[]} */
    const events = (name) => heard.filter(([event]) => event === name);
    return { peer: one, heard, events, nodeId: identity.nodeId, identity };
  };
  /** @param {any} [options] */
  const arrival = async (options) => {
    const one = await peer(options);
    await one.peer.connectToCoordinator(coordinator.url);
    await one.peer.joinRoom("global", { name: "test" });
    return one;
  };
  return { coordinator, net, peer, arrival };
}

/** @param {{ peer: WebRTCPeer }[]} peers */
const meshed = (peers) => until(() => peers.every(({ peer }) => peer.connected.length === peers.length - 1), "everybody reaches everybody");

// R117, R79
test("five peers that come one by one make ten channels, and each hears of each once", async () => {
  const { coordinator, net, arrival } = await world();
  const peers = [];
  for (let i = 0; i < 5; i += 1) peers.push(await arrival());
  await meshed(peers);
  assert.equal(net.openChannels, 10);
  assert.equal(net.connections.length, 20, "two ends each and none in vain");
  assert.equal(coordinator.count("offer"), 10);
  assert.equal(coordinator.count("answer"), 10);
  for (const { peer, events } of peers) {
    /** @type {string[]} */
    const others = peers.map(({ nodeId }) => nodeId).filter((nodeId) => nodeId !== peer.nodeId);
    assert.deepEqual(new Set(events("peer-connected").map(([, id]) => id)), new Set(others));
    assert.equal(events("peer-connected").length, 4);
    assert.deepEqual(events("error"), []);
    assert.deepEqual(new Set(peer.connections.keys()), new Set(others));
    assert.deepEqual(new Set(peer.dataChannels.keys()), new Set(others));
  }
});

test("five peers that come at the same time make ten channels as well", async () => {
  const { net, arrival } = await world();
  const peers = await Promise.all(Array.from({ length: 5 }, () => arrival()));
  await meshed(peers);
  assert.equal(net.openChannels, 10);
  for (const { events } of peers) assert.equal(events("peer-connected").length, 4);
});

// R77
test("two offers that cross become one channel", async () => {
  const { coordinator, net, arrival } = await world();
  const one = await arrival({ autoConnect: false });
  const two = await arrival({ autoConnect: false });
  await Promise.all([one.peer.connectToPeer(two.nodeId), two.peer.connectToPeer(one.nodeId)]);
  await meshed([one, two]);
  assert.ok(coordinator.count("offer") >= 2, "they crossed");
  assert.equal(net.openChannels, 1);
  for (const { events } of [one, two]) assert.equal(events("peer-connected").length, 1);
  assert.equal(await one.peer.send(two.nodeId, "hello"), true);
  await until(() => two.events("message").length === 1, "it arrives");
});

// R78
test("messages arrive in order, text as text and bytes as bytes, with their kind", async () => {
  const { arrival } = await world();
  const one = await arrival();
  const two = await arrival();
  await meshed([one, two]);
  const large = new Uint8Array(100_000).map((_, i) => i * i);
  one.peer.send(two.nodeId, "first");
  one.peer.send(two.nodeId, Uint8Array.of(1, 2), { kind: KIND.PRRC });
  one.peer.send(two.nodeId, large);
  one.peer.send(two.nodeId, "é漢🙂", { kind: KIND.COMMIT });
  assert.equal(await one.peer.send(two.nodeId, ""), true);
  await until(() => two.events("message").length === 5, "all arrive");
  const got = two.events("message").map(([, from, data, { kind }]) => [from === one.nodeId, typeof data === "string" ? data : [...data].length, kind]);
  assert.deepEqual(got, [[true, "first", 0], [true, 2, 1], [true, 100_000, 0], [true, "é漢🙂", 2], [true, "", 0]]);
  assert.ok(two.events("message").every(([, , , info]) => info.verified && !info.relayed));
  assert.equal(await one.peer.send("nobody", "x"), false);
  assert.throws(() => one.peer.send(two.nodeId, /** @type {any} */ ({})), { code: "bad_request" });
});

// R97
test("a hundred messages of twenty bytes cross in three frames or fewer", async () => {
  const { net, arrival } = await world();
  const one = await arrival();
  const two = await arrival();
  await meshed([one, two]);
  const sent = await Promise.all(Array.from({ length: 100 }, (_, i) => one.peer.send(two.nodeId, `message number ${String(i).padStart(5, "0")}`)));
  assert.ok(sent.every(Boolean));
  await until(() => two.events("message").length === 100, "all arrive");
  assert.deepEqual(two.events("message").map(([, , text]) => Number(text.slice(-5))), Array.from({ length: 100 }, (_, i) => i));
  const frames = net.connections.flatMap(({ channels }) => channels).reduce((sum, { sent: some }) => sum + some.length, 0);
  assert.ok(frames <= 3, `${frames} frames`);
});

test("a text frame and a channel of another label are the application's own", async () => {
  const { net, arrival } = await world();
  const one = await arrival();
  const two = await arrival();
  await meshed([one, two]);
  net.connections[0]?.channels[0]?.send("plain");
  await until(() => one.events("message").length + two.events("message").length === 1, "it arrives as it is");
  const [event] = [...one.events("message"), ...two.events("message")];
  assert.deepEqual(event?.slice(2), ["plain", { kind: 0, label: "sutantra/1", room: null, relayed: false, verified: true }]);
});

// R91
test("a frame that is broken is dropped and counted, and the next one is read", async () => {
  const { arrival } = await world();
  const one = await arrival();
  const two = await arrival();
  await meshed([one, two]);
  const channel = /** @type {RTCDataChannel} */ (one.peer.dataChannels.get(two.nodeId));
  channel.send(Uint8Array.of(0x42, 0, 255, 255));
  channel.send(Uint8Array.of(0x50, 0, ...new Uint8Array(80)));
  await one.peer.send(two.nodeId, "whole");
  await until(() => two.events("message").length === 1, "the whole one arrives");
  assert.deepEqual(two.peer.dropped, { badFrame: 1, badSignature: 1, unverified: 0 });
  assert.deepEqual(two.events("error").map(([, { code, peerId }]) => [code, peerId === one.nodeId]), [["bad_frame", true], ["bad_signature", true]]);
});

// R87
test("an offer whose certificate a coordinator swapped opens no channel", async () => {
  const { coordinator, net, arrival } = await world();
  coordinator.meddle = (message) => {
    if (message.type !== "offer") return undefined;
    const { to, id, ...rest } = message;
    coordinator.push(to, { ...rest, sdp: rest.sdp.replace(/sha-256 ../, "sha-256 EE") });
    return undefined;
  };
  const one = await arrival();
  const two = await arrival();
  // The swapped offer comes first, the true one after it.
  await until(() => one.peer.dropped.unverified === 1, "it is noticed");
  await meshed([one, two]);
  assert.equal(net.openChannels, 1);
  assert.equal(one.events("error")[0]?.[1].code, "unverified_peer");
});

// R87
test("an offer of a key's id without a signature is refused, and taken where that is wished for", async () => {
  const { coordinator, arrival } = await world();
  coordinator.meddle = (message) => {
    if (message.type !== "offer" && message.type !== "answer") return undefined;
    const { to, id, fpSig, pk, ...rest } = message;
    coordinator.push(to, rest);
    return { code: "internal", message: "swallowed" };
  };
  const strict = await arrival();
  const two = await arrival({ allowUnverified: true });
  await until(() => strict.peer.dropped.unverified > 0, "it is refused");
  strict.peer.close();
  two.peer.close();
  const [three, four] = [await arrival({ allowUnverified: true }), await arrival({ allowUnverified: true })];
  await meshed([three, four]);
  await three.peer.send(four.nodeId, "hello");
  await until(() => four.events("message").length === 1, "it arrives");
  assert.equal(four.events("message")[0]?.[3].verified, false);
});

// R93, R99
test("a coordinator that is killed and started again in the middle loses nobody and doubles nothing", async () => {
  const { coordinator, net, arrival } = await world();
  const early = [await arrival(), await arrival()];
  await meshed(early);
  // Two more come, and their offers are lost with the coordinator.
  coordinator.meddle = (message) => (message.type === "offer" ? { code: "internal", message: "swallowed" } : undefined);
  const late = [await arrival(), await arrival()];
  await coordinator.kill();
  coordinator.meddle = () => undefined;
  await coordinator.start();
  const all = [...early, ...late];
  await meshed(all);
  assert.equal(net.openChannels, 6);
  for (const { events, nodeId } of all) {
    assert.equal(events("peer-connected").length, 3);
    assert.deepEqual(events("peer-disconnected"), [], "open channels never noticed");
    assert.equal(coordinator.rooms.get("global")?.has(nodeId), true);
  }
  assert.equal(await all[0]?.peer.broadcast("global", "still here"), 3);
  await until(() => all.slice(1).every(({ events }) => events("message").length === 1), "everybody hears it once");
});

test("a connection that is cut comes back to the same rooms, and others never saw it leave", async () => {
  const { coordinator, arrival } = await world();
  const one = await arrival();
  const two = await arrival();
  await meshed([one, two]);
  const tried = coordinator.connections.websocket;
  coordinator.cut(one.nodeId);
  await until(() => coordinator.connections.websocket === tried + 1 && one.peer.signaling?.state === "open", "it is back");
  assert.equal(coordinator.heard.filter(({ type, from }) => type === "join" && from === one.nodeId).length, 1, "it resumed");
  assert.deepEqual(two.events("peer-left"), []);
  const three = await arrival();
  await meshed([one, two, three]);
});

test("an answer or a candidate that is lost is asked for again", async () => {
  const { coordinator, net, arrival } = await world();
  const one = await arrival({ timings: IMPATIENT });
  let lost = 0;
  coordinator.meddle = (message) => (["answer", "ice-candidate"].includes(message.type) && ++lost <= 3 ? { code: "internal", message: "swallowed" } : undefined);
  const two = await arrival({ timings: IMPATIENT });
  await meshed([one, two]);
  assert.equal(net.openChannels, 1);
  assert.ok(lost >= 3);
});

test("a network that fails is survived by an ICE restart, and nobody hears of it", async () => {
  const { coordinator, net, arrival } = await world();
  const one = await arrival();
  const two = await arrival();
  await meshed([one, two]);
  net.fail();
  await until(() => coordinator.count("offer") > 1, "a restart is offered");
  net.down = false;
  await until(() => [...one.peer.connections.values(), ...two.peer.connections.values()].every(({ connectionState }) => connectionState === "connected"), "both are connected");
  await one.peer.send(two.nodeId, "after");
  await until(() => two.events("message").length === 1, "the same channel carries on");
  for (const { events } of [one, two]) {
    assert.equal(events("peer-connected").length, 1);
    assert.equal(events("peer-disconnected").length, 0);
  }
});

// R93
test("a rest between two tries doubles, and a fifth try in a row is one too many", () => {
  const attempts = new Attempts(1000, () => 1);
  assert.equal(attempts.pauseMs, 0, "the first comes at once");
  const pauses = Array.from({ length: TRIES_MAX }, () => [attempts.begin(), attempts.pauseMs]);
  assert.deepEqual(pauses, [[true, 1250], [true, 1500], [true, 2000], [true, 3000]]);
  assert.equal(attempts.begin(), false);
  attempts.reset();
  assert.deepEqual([attempts.pauseMs, attempts.begin(), attempts.pauseMs], [0, true, 1250]);
});

// R93
test("restarts that fail at once rest in between and end, also where a stack calls each of them connected", async () => {
  const { coordinator, net, arrival } = await world();
  // However busy the machine, the other side does not lose patience.
  const timings = { ...TIMINGS, restMs: 60, courtesyMs: 30_000 };
  const one = await arrival({ timings });
  const two = await arrival({ timings });
  await meshed([one, two]);
  /** @type {{ from: string, at: number }[]} */
  const offers = [];
  coordinator.meddle = ({ type, from }) => {
    if (type === "offer") offers.push({ from, at: performance.now() });
    return undefined;
  };
  /** @type {typeof offers} */
  let before = [];
  two.peer.once("peer-disconnected", () => (before = [...offers]));
  net.fickle = true;
  net.fail();
  await until(() => [one, two].every(({ events }) => events("peer-disconnected").length === 1), "both give up");
  assert.deepEqual(before.map(({ from }) => from), Array(TRIES_MAX).fill(two.nodeId), "who began asks, and nobody else");
  const rests = before.slice(1).map(({ at }, i) => at - (before[i]?.at ?? 0));
  // Timers may be a millisecond early.
  for (const [i, pause] of [110, 160, 260].entries()) assert.ok((rests[i] ?? 0) > pause - 2, `${rests} ms`);
  assert.deepEqual(two.events("error").map(([, { code }]) => code), ["unreachable"]);
});

test("a peer that stays away is given up once, with a sentence that says what to do", async () => {
  const { net, arrival } = await world();
  const one = await arrival();
  const two = await arrival();
  await meshed([one, two]);
  two.peer.disconnectFromCoordinator();
  net.fail();
  await until(() => one.events("peer-disconnected").length === 1, "it is given up");
  assert.equal(one.events("peer-disconnected")[0]?.[1], two.nodeId);
  await until(() => one.peer.connections.size === 0, "nothing is left of it");
  assert.equal(one.peer.dataChannels.size, 0);
});

test("a peer that begins anew under the same name replaces its former self", async () => {
  const { net, arrival } = await world();
  const one = await arrival();
  const two = await arrival();
  await meshed([one, two]);
  // Its process dies: the coordinator and the others hear nothing.
  for (const connection of net.connections) connection.channels.forEach((channel) => (channel.other = null));
  const again = await arrival({ identity: two.identity });
  await until(() => one.events("peer-connected").length === 2 && again.peer.connected.length === 1, "they are connected anew");
  assert.deepEqual(one.events("peer-disconnected").map(([, id]) => id), [two.nodeId]);
  await one.peer.send(two.nodeId, "to the new one");
  await until(() => again.events("message").length === 1, "it arrives there");
});

// R78
test("who leaves a room, or is disconnected, is gone once on both sides", async () => {
  const { arrival } = await world();
  const one = await arrival();
  const two = await arrival();
  const three = await arrival();
  await meshed([one, two, three]);
  await one.peer.joinRoom("learning");
  await two.peer.joinRoom("learning");
  await one.peer.leaveRoom("global");
  await until(() => three.events("peer-disconnected").length === 1, "who shares no room any more is gone");
  assert.deepEqual(one.peer.connected, [two.nodeId], "who shares another room stays");
  assert.equal(two.events("peer-connected").length, 2, "a second room opens no second channel");
  two.peer.disconnectPeer(one.nodeId);
  await until(() => one.events("peer-disconnected").length === 2, "the other side hears it");
  for (const { events, nodeId } of [one, two]) {
    const pair = events("peer-disconnected").filter(([, id]) => id === (nodeId === one.nodeId ? two : one).nodeId);
    assert.equal(pair.length, 1);
  }
  await one.peer.connectToPeer(two.nodeId);
  assert.equal(two.events("peer-connected").length, 3);
  await assert.rejects(one.peer.connectToPeer(three.nodeId), { code: "unknown_peer" });
});

// R80, R91, R105
test("the three transports carry the same messages, and what the coordinator carries is signed", async () => {
  const { coordinator, arrival } = await world();
  const one = await arrival();
  const two = await arrival();
  await meshed([one, two]);
  for (const Transport of [WebRTCTransport, WebSocketTransport, HttpTransport]) {
    const before = two.events("message").length;
    const transport = new Transport(one.peer, two.nodeId);
    assert.equal(await transport.send("words", { kind: KIND.PRRC }), true);
    assert.equal(await transport.send(new Uint8Array(30_000).map(() => Math.random() * 256)), true);
    await until(() => two.events("message").length === before + 2, `${Transport.name} carries both`);
    const [words, some] = two.events("message").slice(before);
    assert.deepEqual([words?.[1], words?.[2], words?.[3].kind, words?.[3].verified], [one.nodeId, "words", KIND.PRRC, true]);
    assert.equal(some?.[2].length, 30_000);
    transport.close();
    assert.equal(await transport.send("after the end"), false);
  }

  // The coordinator changes a byte, tells it twice, and says that somebody else wrote it.
  const relayed = coordinator.heard.filter(({ type }) => type === "message").map(({ data }) => data);
  const message = { type: "message", room: "global", from: one.nodeId, data: relayed[0] };
  const changed = Buffer.from(relayed[0], "base64");
  changed[3] = (changed[3] ?? 0) ^ 1;
  const three = await arrival();
  await until(() => two.peer.connected.length === 1 && three.peer.connected.length === 2, "a third is here");
  const before = two.events("message").length;
  coordinator.push(two.nodeId, { ...message, data: changed.toString("base64") });
  coordinator.push(two.nodeId, message);
  coordinator.push(two.nodeId, { ...message, from: three.nodeId });
  coordinator.push(two.nodeId, { ...message, data: Buffer.from([0x40, 0, 65]).toString("base64") });
  coordinator.push(two.nodeId, { ...message, data: "?" });
  await until(() => two.peer.dropped.badSignature === 4 && two.peer.dropped.badFrame === 1, "all are dropped and counted");
  assert.equal(two.events("message").length, before);
});

test("a broadcast reaches every member once, with a channel or without, or all by one frame", async () => {
  const { coordinator, arrival } = await world();
  const one = await arrival();
  const two = await arrival();
  const plain = await arrival({ autoConnect: false, transport: "poll", RTCPeerConnection: undefined });
  await meshed([one, two].map(({ peer }) => ({ peer })));
  await until(() => one.peer.members("global").length === 2, "all are known");
  assert.equal(await one.peer.broadcast("global", "to all"), 2);
  await until(() => [two, plain].every(({ events }) => events("message").length === 1), "each hears it once");
  assert.equal(plain.events("message")[0]?.[3].relayed, true);
  assert.equal(await one.peer.broadcast("global", "to all by one frame", { over: "coordinator" }), 2);
  await until(() => [two, plain].every(({ events }) => events("message").length === 2), "each hears it once");
  await assert.rejects(one.peer.broadcast("global", new Uint8Array(9000).map(() => Math.random() * 256), { over: "coordinator" }), { code: "too_large" });

  // Who has no key cannot sign, and says so instead of sending what nobody would read.
  const keyless = new WebRTCPeer("keyless", { WebSocket: /** @type {any} */ (WebSocket), autoConnect: false });
  cleanups.push(() => keyless.close());
  await keyless.connectToCoordinator(coordinator.url);
  await keyless.joinRoom("global");
  await assert.rejects(keyless.relay(one.nodeId, "x"), { code: "no_identity" });
  assert.equal(await keyless.broadcast("nowhere", "x"), 0);
});
