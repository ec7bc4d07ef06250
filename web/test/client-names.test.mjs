// The package and its classes have the names that the specification gives them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { EventEmitter, Identity, WebRTCPeer, WebRTCTransport } from "../client/index.js";
import * as peer from "../client/peer.js";
import * as signaling from "../client/signaling.js";
import * as transport from "../client/transport.js";

// R68
test("peer, signalling and transport are modules of their own, and all of them come from the index", async () => {
  const index = await import("../client/index.js");
  for (const module of [peer, signaling, transport]) {
    const shared = Object.keys(module).filter((name) => name in index);
    assert.ok(shared.length > 0, `the index knows nothing of ${Object.keys(module)}`);
  }
});

// R74, R80
test("a peer has the fields and methods of the specification", async () => {
  const identity = await Identity.generate();
  const one = new WebRTCPeer(identity.nodeId, { identity, RTCPeerConnection: /** @type {any} */ (class {}) });
  assert.ok(one instanceof EventEmitter);
  assert.equal(one.nodeId, identity.nodeId);
  assert.equal(one.coordinatorUrl, null);
  assert.ok(one.connections instanceof Map && one.dataChannels instanceof Map && Array.isArray(one.iceServers));
  const methods = ["connectToCoordinator", "disconnectFromCoordinator", "joinRoom", "leaveRoom", "connectToPeer", "handleOffer"];
  methods.push("handleAnswer", "handleIceCandidate", "send", "broadcast", "disconnectPeer");
  for (const name of methods) assert.equal(typeof (/** @type {any} */ (one)[name]), "function", name);
  for (const name of ["send", "close"]) {
    assert.equal(typeof (/** @type {any} */ (new WebRTCTransport(one, "other"))[name]), "function", name);
  }
  await one.close();
});
