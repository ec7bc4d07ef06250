// The client on a real WebRTC stack, werift, over loopback: what fakes cannot get wrong.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { Identity, WebRTCPeer } from "../client/index.js";
import { nodeOptions } from "../client/node.js";
import { FakeCoordinator, until } from "./client-world.mjs";

/** @type {(() => unknown)[]} */
const cleanups = [];
after(() => Promise.all(cleanups.map((cleanup) => cleanup())));

const LOOPBACK = { iceAdditionalHostAddresses: ["127.0.0.1"], iceUseIpv6: false };

/** @param {FakeCoordinator} coordinator @param {"websocket" | "poll"} transport @param {boolean} [autoConnect] */
async function arrival(coordinator, transport, autoConnect = true) {
  const identity = await Identity.generate();
  const peer = new WebRTCPeer(identity.nodeId, { identity, transport, autoConnect, ...nodeOptions(LOOPBACK) });
  cleanups.push(() => peer.close());
  /** @type {any[]} */
  const heard = [];
  for (const event of ["peer-connected", "peer-disconnected", "message", "error"]) peer.on(event, (...args) => heard.push([event, ...args]));
  await peer.connectToCoordinator(coordinator.url);
  await peer.joinRoom("global");
  /** @param {string} name @returns {any[]} */
  const events = (name) => heard.filter(([event]) => event === name);
  return { peer, events, nodeId: identity.nodeId };
}

// R101, R66
test("three peers of a real stack reach each other, by WebSocket and by polling, and bytes arrive whole", async () => {
  const coordinator = await new FakeCoordinator().start();
  cleanups.push(() => coordinator.kill());
  coordinator.iceServers = [];
  const peers = [await arrival(coordinator, "websocket"), await arrival(coordinator, "poll"), await arrival(coordinator, "poll")];
  await until(() => peers.every(({ peer }) => peer.connected.length === 2), "everybody reaches everybody", 60_000);
  assert.equal(coordinator.count("offer"), 3);
  const [one, two] = peers;
  assert.ok(one && two);
  const large = new Uint8Array(300_000).map((_, i) => Math.imul(i, 2654435761) >>> 24);
  one.peer.send(two.nodeId, "é漢🙂");
  assert.equal(await one.peer.send(two.nodeId, large), true);
  await until(() => two.events("message").length === 2, "both arrive", 60_000);
  const [text, bytes] = two.events("message");
  assert.equal(text?.[2], "é漢🙂");
  assert.deepEqual(Buffer.compare(bytes?.[2], large), 0);
  assert.ok(bytes?.[3].verified);
  two.peer.close();
  await until(() => one.events("peer-disconnected").length === 1, "who closes is gone", 60_000);
  for (const { events } of peers) {
    assert.equal(events("peer-connected").length, 2);
    assert.deepEqual(events("error"), []);
  }
});

// R77
test("offers that cross on a real stack become one channel", async () => {
  const coordinator = await new FakeCoordinator().start();
  cleanups.push(() => coordinator.kill());
  coordinator.iceServers = [];
  const [one, two] = [await arrival(coordinator, "websocket", false), await arrival(coordinator, "websocket", false)];
  await until(() => one.peer.members("global").length === 1, "they know each other");
  await Promise.all([one.peer.connectToPeer(two.nodeId), two.peer.connectToPeer(one.nodeId)]);
  assert.ok(coordinator.count("offer") >= 2, "they crossed");
  await until(() => one.peer.connected.length === 1, "it is open on both sides", 60_000);
  assert.equal(await one.peer.send(two.nodeId, "one channel"), true);
  await until(() => two.events("message").length === 1, "it carries", 60_000);
  for (const { events } of [one, two]) assert.equal(events("peer-connected").length, 1);
});

// R93
test("after a restart of ICE on a real stack the same channel carries on", async () => {
  const coordinator = await new FakeCoordinator().start();
  cleanups.push(() => coordinator.kill());
  coordinator.iceServers = [];
  const [one, two] = [await arrival(coordinator, "websocket"), await arrival(coordinator, "websocket")];
  await until(() => one.peer.connected.length === 1 && two.peer.connected.length === 1, "they are connected", 60_000);
  const ends = /** @type {any[]} */ ([one, two].flatMap(({ peer }) => [...peer.connections.values()]));
  const answers = coordinator.count("answer");
  // As it is when consent has expired, which takes 30 s.
  ends[1].secureManager.setConnectionState("failed");
  await until(() => coordinator.count("answer") > answers, "a restart is answered", 60_000);
  await until(() => ends.every(({ connectionState, iceTransports }) => connectionState === "connected" && iceTransports[0].connection.nominated), "both have found a way", 60_000);
  for (const [from, to] of [[one, two], [two, one]]) {
    assert.equal(await from?.peer.send(to?.nodeId ?? "", "after"), true);
    await until(() => to?.events("message").length === 1, "it arrives", 60_000);
  }
  for (const { events } of [one, two]) {
    assert.equal(events("peer-connected").length, 1);
    assert.deepEqual([...events("peer-disconnected"), ...events("error")], []);
  }
});
