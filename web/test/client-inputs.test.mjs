// A mistake of an application is an error that names it, where it is made.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createServer } from "node:http";
import { once } from "node:events";

import * as client from "../client/index.js";
import { RoomApplication } from "../client/prrc/index.js";
import { FakeCoordinator } from "./client-world.mjs";

const { Identity, SutantraSignaling, WebRTCPeer, WebRTCTransport, HttpTransport } = client;
/** What no type checker looked at. @type {any} */
const any = client;

/** @type {(() => unknown)[]} */
const cleanups = [];
after(() => Promise.all(cleanups.map((cleanup) => cleanup())));

const identity = await Identity.generate();
const ID = identity.nodeId;
const URL = "http://127.0.0.1:1/webrtc";

/**
 * @param {() => unknown} doing that is wrong
 * @param {string} code
 * @param {RegExp} names what the message must say
 */
async function check(doing, code, names) {
  await assert.rejects(async () => doing(), (/** @type {any} */ error) => {
    assert.equal(error.name, "SutantraError", `${error}`);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, names);
    return true;
  });
}

test("a peer is made of an id, an identity and options, and of nothing that only looks like them", async () => {
  const made = (/** @type {any[]} */ ...args) => () => new any.WebRTCPeer(...args);
  assert.doesNotThrow(made(ID, { identity }));
  assert.doesNotThrow(made("ada@home"));
  assert.doesNotThrow(made(ID, { identity: null, iceServers: [] }));
  await check(made(), "bad_request", /id of a peer .* not undefined/);
  await check(made("two words"), "bad_request", /not "two words"/);
  await check(made("x".repeat(65)), "bad_request", /1 to 64/);
  await check(made(identity), "bad_request", /not an object \(Identity\)/);
  await check(made("ada", { identity }), "bad_key", /pass identity\.nodeId/);
  await check(made(ID, { identity: Identity.generate() }), "bad_key", /a Promise \(await it\)/);
  await check(made(ID, { identity: { nodeId: ID } }), "bad_key", /Identity\.generate/);
  await check(made(ID, null), "bad_request", /options is an object, not null/);
  await check(made(ID, { transport: "tcp" }), "bad_request", /auto or websocket or poll, not "tcp"/);
  await check(made(ID, { WebSocket: "ws" }), "bad_request", /`WebSocket` is a class/);
  await check(made(ID, { RTCPeerConnection: {} }), "bad_request", /`RTCPeerConnection` is a class/);
  await check(made(ID, { iceServers: "stun:a:1" }), "bad_request", /`iceServers` is an array/);
});

test("an address is one of http or https, and answers as what it was named as", async () => {
  const peer = new WebRTCPeer(ID, { identity });
  for (const url of [undefined, null, "127.0.0.1:8080", "localhost:8080", "ws://127.0.0.1/webrtc"]) {
    await check(() => any.fetchFromSeed(url), "bad_request", /a node's address begins with http/);
    await check(() => new any.SutantraSignaling(url, ID), "bad_request", /a coordinator's address .* begins with http/);
    await check(() => peer.connectToCoordinator(/** @type {any} */ (url)), "bad_request", /what fetchFromSeed found/);
    assert.equal(peer.signaling, null);
  }
  await check(() => any.initWebRTCPeer(), "bad_request", /initWebRTCPeer takes is an object/);
  await check(() => any.initWebRTCPeer("http://127.0.0.1:1"), "bad_request", /is an object, not "http/);
  await check(() => any.initWebRTCPeer({ room: "global" }), "bad_request", /`seed` is the address of a node/);
  await check(() => any.initWebRTCPeer({ seed: "http://127.0.0.1:1", identity: Identity.generate() }), "bad_key", /await it/);

  const answers = ["<h1>It works</h1>", "{}", "[]", "null"];
  const server = createServer((_, response) => response.end(answers.shift()));
  cleanups.push(() => server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  while (answers.length > 0) await check(() => any.fetchFromSeed(`http://127.0.0.1:${port}`), "not_found", /not as a node does: check host and port/);
});

test("a message, its kind and its way are looked at before anybody could hear it", async () => {
  const peer = new WebRTCPeer(ID, { identity });
  for (const message of [undefined, null, 7, {}, ["a"]]) {
    await check(() => peer.send("ada", /** @type {any} */ (message)), "bad_request", /string or bytes/);
    await check(() => peer.broadcast("global", /** @type {any} */ (message)), "bad_request", /string or bytes/);
  }
  assert.throws(() => peer.send("ada", /** @type {any} */ ({})), { code: "bad_request" }, "at once");
  for (const kind of [-1, 4, 1.5, "PRRC"]) {
    await check(() => peer.send("ada", "x", { kind: /** @type {any} */ (kind) }), "bad_request", /one of KIND/);
    await check(() => peer.relay("ada", "x", { kind: /** @type {any} */ (kind) }), "bad_request", /one of KIND/);
  }
  await check(() => peer.broadcast("global", "x", { over: /** @type {any} */ ("udp") }), "bad_request", /auto or channels or coordinator/);
  await check(() => peer.relay("ada", "x", { over: /** @type {any} */ ("udp") }), "bad_request", /any or http or websocket/);
  await check(() => peer.relay("ada", "x"), "closed", /connectToCoordinator first/);
  await check(() => peer.joinRoom("global"), "closed", /connectToCoordinator first/);
  await check(() => peer.connectToPeer("ada"), "unknown_peer", /join the room/);
  await check(() => peer.handleOffer("ada", /** @type {any} */ (undefined)), "bad_request", /an SDP/);
  assert.equal(await peer.send("ada", "x"), false);
});

test("a room has a name, and metadata is what crosses as JSON", async () => {
  const coordinator = await new FakeCoordinator().start();
  cleanups.push(() => coordinator.kill());
  const peer = new WebRTCPeer(ID, { identity, transport: "poll", RTCPeerConnection: undefined });
  cleanups.push(() => peer.close());
  await peer.connectToCoordinator(coordinator.url);
  const circle = {};
  Object.assign(circle, { circle });
  await check(() => any.WebRTCPeer.prototype.joinRoom.call(peer), "bad_request", /a room's name .* not undefined/);
  await check(() => peer.joinRoom("Küche"), "bad_request", /not "Küche"/);
  await check(() => peer.joinRoom("global", circle), "bad_request", /metadata has to be JSON/);
  await check(() => peer.joinRoom("global", { age: 7n }), "bad_request", /metadata has to be JSON/);
  await check(() => peer.joinRoom("global", /** @type {any} */ ("Ada")), "bad_request", /metadata is an object, not "Ada"/);
  await check(() => peer.joinRoom("global", {}, { invite: /** @type {any} */ ({}) }), "bad_request", /an invite is a string/);
  assert.deepEqual((await peer.joinRoom("global", { name: "Ada" })).peers, []);
  const { signaling } = peer;
  assert.ok(signaling);
  await check(() => signaling.createRoom(/** @type {any} */ ({})), "bad_request", /`salt` is a string/);
  await check(() => signaling.checkInvite(/** @type {any} */ (undefined)), "bad_request", /an invite is a string/);
  await check(() => signaling.send(/** @type {any} */ ({ type: "ice-candidate", candidate: circle })), "bad_request", /a signal has to be JSON/);
  const nobody = new SutantraSignaling(coordinator.url, "ada");
  await check(() => nobody.createRoom({ salt: "s" }), "no_identity", /Identity\.generate/);
  nobody.close();
  await check(() => nobody.connect(), "closed", /make a new one/);
  coordinator.push(ID, { type: "peer-joined", room: "global", peer: { nodeId: "ada", metadata: {} } });
  await new Promise((resolve) => peer.once("peer-joined", resolve));
  await check(() => peer.connectToPeer("ada"), "no_webrtc", /nodeOptions/);
});

test("a key is of the right length and of its pair", async () => {
  const other = await Identity.generate();
  const { privateKey, publicKey } = identity;
  assert.equal((await Identity.fromKeys(privateKey, publicKey)).nodeId, ID);
  await check(() => any.Identity.fromSeed("a".repeat(32)), "bad_key", /Uint8Array of 32 bytes, not "aaa/);
  await check(() => any.Identity.fromSeed(), "bad_key", /not undefined/);
  await check(() => any.Identity.fromSeed(new Uint8Array(31)), "bad_key", /32 bytes, not 31/);
  await check(() => any.Identity.fromKeys(privateKey), "bad_key", /a public key is a Uint8Array/);
  await check(() => any.Identity.fromKeys("secret", publicKey), "bad_key", /a private key is a CryptoKey/);
  await check(() => any.Identity.fromKeys(privateKey, other.publicKey), "bad_key", /not that of the private key/);
  await check(() => any.nodeIdOf(identity.pk), "bad_key", /a public key is a Uint8Array/);
});

test("an invite names its network, its room, its end and its rights", async () => {
  const room = await client.privateRoom(identity.publicKey, "garden");
  const whole = { networkId: "net", room, exp: Date.now() + 60_000, can: ["invite", "join"] };
  const made = (/** @type {object} */ change) => () => any.makeInvite(identity, { ...whole, ...change });
  const invite = await made({ to: ID })();
  assert.match(invite, /^si1\./);
  await check(() => any.makeInvite(ID, whole), "bad_key", /an identity/);
  await check(made({ networkId: undefined }), "bad_request", /networkId is what fetchFromSeed found/);
  await check(made({ room: "the garden" }), "bad_request", /room's name/);
  await check(made({ to: identity }), "bad_request", /`to`/);
  await check(made({ exp: "tomorrow" }), "bad_request", /Unix ms/);
  await check(made({ exp: undefined }), "bad_request", /Unix ms/);
  await check(made({ can: "join" }), "bad_request", /`can`/);
  await check(made({ can: ["join", "read"] }), "bad_request", /"read"/);
  await check(() => any.attenuateInvite(identity, invite, {}), "bad_request", /networkId/);
  await check(() => any.attenuateInvite(identity, "si1.", { networkId: "net" }), "bad_invite", /cut short/);
  await check(() => any.checkInvite(invite, { networkId: "net", owner: identity.pk, nodeId: ID }), "bad_key", /the owner's key/);
  await check(() => any.checkInvite(invite, { networkId: "net", owner: identity.publicKey }), "bad_request", /who wants in/);
  await check(() => any.privateRoom(identity.publicKey), "bad_request", /salt/);
});

test("transports and applications say what they lack", async () => {
  const peer = new WebRTCPeer(ID, { identity });
  for (const Transport of [WebRTCTransport, HttpTransport]) {
    const made = (/** @type {any[]} */ ...args) => () => new /** @type {any} */ (Transport)(...args);
    assert.doesNotThrow(made(peer, "ada"));
    await check(made(), "bad_request", /first argument is a WebRTCPeer/);
    await check(made("ada", peer), "bad_request", /first argument is a WebRTCPeer/);
    await check(made(peer), "bad_request", /second argument/);
  }
  const app = (/** @type {any} */ options) => () => new RoomApplication(options);
  await check(app({ room: "global" }), "bad_key", /an identity/);
  await check(app({ signer: identity }), "bad_request", /room's name/);
  await check(app({ signer: identity, room: "global", name: 7 }), "bad_request", /a name is a string/);
  assert.throws(() => app({ signer: identity, room: "global" })().chat(/** @type {any} */ (7)), RangeError);
  const signaling = new SutantraSignaling(URL, ID, { identity });
  assert.deepEqual(signaling.rooms, []);
});
