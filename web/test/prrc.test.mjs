// The application layer on an imagined network: who hears what, how often, and what is refused.

import assert from "node:assert/strict";
import test from "node:test";

import { Announcements, CoherentCommitProtocol, CommitError, GlobalMemoryField, KIND, LearningRoom, PRRCChannel } from "../client/prrc/index.js";
import { EventEmitter } from "../client/emitter.js";
import { attach } from "../client/prrc/attach.js";
import { makeProposal, makeVote } from "../client/prrc/ballot.js";
import { World, newSigner } from "./prrc-world.mjs";

/** @typedef {import("./prrc-world.mjs").Member} Member */

// R81
test("a connected peer is kept with its transport, no phase, and when it was seen", () => {
  const channel = new PRRCChannel("a", { now: () => 1234 });
  const transport = { send: () => true, close: () => {} };
  channel.connect("b", transport);
  assert.deepEqual(channel.peers.get("b"), { transport, phaseOffset: 0, connected: true, lastSeen: 1234 });
  assert.throws(() => channel.connect("a", transport), /own id/);
});

// R81
test("a message reaches the handler of its topic in its room, and nothing else does", () => {
  const channel = new PRRCChannel("a", { room: "here" });
  /** @type {unknown[]} */
  const heard = [];
  channel.handle("chat", (from, body) => void heard.push([from, body]));
  channel.connect("b", { send: () => true, close: () => {} });
  const envelope = (/** @type {object} */ over) => JSON.stringify({ prrc: 1, room: "here", topic: "chat", body: { text: "hi" }, ...over });
  assert.equal(channel.receive("b", envelope({})), true);
  assert.equal(channel.receive("b", new TextEncoder().encode(envelope({}))), true);
  assert.deepEqual(heard, [["b", { text: "hi" }], ["b", { text: "hi" }]]);
  assert.equal(channel.receive("b", envelope({ room: "there" })), false, "another room's message is not ours, and no fault");
  assert.deepEqual(channel.dropped, { malformed: 0, oversize: 0, stranger: 0, unhandled: 0 });
  for (const junk of ["", "{", "null", "[]", '"text"', 7, null, envelope({ prrc: 2 }), envelope({ topic: "Not A Topic" }), envelope({ room: 7 })]) assert.equal(channel.receive("b", junk), false);
  channel.receive("stranger", envelope({}));
  channel.receive("b", envelope({ topic: "unknown" }));
  channel.receive("b", " ".repeat(256 * 1024 + 1));
  assert.deepEqual(channel.dropped, { malformed: 10, oversize: 1, stranger: 1, unhandled: 1 });
  assert.equal(heard.length, 2);
});

test("a handler that stumbles over what a peer sent is a dropped message", async () => {
  const channel = new PRRCChannel("a");
  channel.handle("sync", (_, body) => body.not.there);
  channel.handle("later", async (_, body) => body.not.there);
  channel.connect("b", { send: () => true, close: () => {} });
  channel.receive("b", JSON.stringify({ prrc: 1, room: "global", topic: "sync", body: {} }));
  channel.receive("b", JSON.stringify({ prrc: 1, room: "global", topic: "later" }));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(channel.dropped.malformed, 2);
});

test("a transport that throws or refuses is said so, and others still get the message", () => {
  const channel = new PRRCChannel("a");
  /** @type {unknown[]} */
  const errors = [];
  channel.on("error", (/** @type {unknown} */ error) => void errors.push(error));
  /** @type {unknown[]} */
  const sent = [];
  channel.connect("b", { send: () => { throw new Error("gone"); }, close: () => {} });
  channel.connect("c", { send: () => false, close: () => {} });
  channel.connect("d", { send: (/** @type {string} */ data, /** @type {unknown} */ options) => sent.push([data, options]) > 0, close: () => {} });
  assert.equal(channel.broadcast("chat", { text: "hi" }, { kind: KIND.COMMIT }), 1);
  assert.equal(errors.length, 1);
  assert.deepEqual(sent, [['{"prrc":1,"room":"global","topic":"chat","body":{"text":"hi"}}', { kind: 2 }]]);
  assert.equal(channel.send("nobody", "chat", {}), false);
});

test("a beat tells the way there and back, and how far the other clock is ahead", async () => {
  let now = 1000;
  const one = new PRRCChannel("a", { now: () => now });
  const two = new PRRCChannel("b", { now: () => now + 500 });
  // 20 ms each way.
  one.connect("b", { send: (/** @type {string} */ data) => { now += 20; two.receive("a", data); }, close: () => {} });
  two.connect("a", { send: (/** @type {string} */ data) => { now += 20; one.receive("b", data); }, close: () => {} });
  assert.equal(await one.beat("b"), 40);
  assert.equal(one.peers.get("b")?.phaseOffset, 500);
  assert.equal(two.peers.get("a")?.phaseOffset, 0, "who did not ask knows nothing");
  assert.ok(Number.isNaN(await one.beat("nobody")));
});

// R86
test("what three nodes agree on is in the memory of all, with the same digest", async () => {
  const world = await World.mesh(3);
  const [a, b, c] = world.members;
  const trace = await a.memory.store({ text: "the loom has 1,024 threads" });
  await world.settled();
  for (const { memory } of [a, b, c]) assert.deepEqual(memory.traces.map(({ id, content, by }) => ({ id, content, by })), [{ id: trace.id, content: { text: "the loom has 1,024 threads" }, by: a.id }]);
  assert.equal(await a.memory.digest(), await b.memory.digest());
  assert.equal(await b.memory.digest(), await c.memory.digest());
  assert.equal(world.members.reduce((sum, { events }) => sum + events.committed, 0), 3, "committed once on each");
});

// R86
test("a majority commits without the rest, and without a majority nothing is", async () => {
  const world = await World.mesh(5);
  const [a, b, c, d, e] = world.members;
  world.cut(d), world.cut(e);
  // Their places in the electorate stay: the room was five.
  const members = () => world.members.map(({ id }) => id);
  for (const { protocol } of world.members) protocol.members = members;
  await a.memory.store("by three of five");
  await world.settled();
  world.cut(c);
  a.protocol.timeoutMs = 40;
  await assert.rejects(a.memory.store("by two of five"), (/** @type {CommitError} */ error) => error.code === "timeout" && /[12] of 5 members voted within 0.04 s, 3 must say yes/.test(error.message));
  assert.equal(a.memory.traces.length, 1);
  assert.equal(b.memory.traces.length, 1);
  assert.equal(e.memory.traces.length, 0);
});

// R91
test("the application's word counts: who refuses says why, and the maker hears it", async () => {
  const world = await World.mesh(3, { verify: (/** @type {any} */ body) => body.true === true || "it is not so" });
  const [a] = world.members;
  await a.memory.store({ true: true });
  await assert.rejects(a.memory.store({ true: false }), (/** @type {CommitError} */ error) => error.code === "refused" && /members said no: it is not so/.test(error.message));
  await world.settled();
  for (const { memory } of world.members) assert.equal(memory.traces.length, 1);
});

// R91
test("a verification that throws is a no, and not the node's end", async () => {
  const world = await World.mesh(3, { verify: () => { throw new Error("no database"); } });
  await assert.rejects(/** @type {Member} */ (world.members[0]).memory.store("anything"), /cannot judge it: no database/);
});

// R91
test("a forged vote is dropped and counted, a second copy changes nothing, a second opinion is noted", async () => {
  const world = await World.mesh(3);
  const [a, b, c] = world.members;
  world.hold(true);
  const outcome = a.memory.store("held");
  await world.quiet();
  const [proposal] = [...a.protocol.pending.values()].map((pending) => pending.proposal);
  assert.ok(proposal);
  const yes = await makeVote(b.signer, proposal.id, true);
  const no = await makeVote(b.signer, proposal.id, false, "changed my mind");
  const stranger = await makeVote(await newSigner(), proposal.id, true);
  const flipped = await makeVote(c.signer, proposal.id, false);
  const forged = [
    { ...flipped, yes: true },
    { ...yes, by: c.id },
    { ...yes, by: c.id, pk: c.signer.pk },
    { ...yes, sig: yes.sig.replace(/^../, (byte) => (byte === "00" ? "01" : "00")) },
    { ...yes, sig: "not hex" },
    { ...yes, pk: 7 },
    {},
    null,
  ];
  for (const vote of forged) a.hear(b.id, "vote", { vote });
  a.hear(b.id, "vote", { vote: stranger });
  await world.quiet();
  assert.equal(a.protocol.dropped.forged, forged.length);
  assert.equal(a.protocol.dropped.outsider, 1);
  assert.equal(a.protocol.pending.get(proposal.id)?.votes.size, 1, "its own alone");
  // Of five, so that one more yes is not the quorum yet.
  a.protocol.quorum = () => 3;
  for (const vote of [yes, yes, no]) a.hear(c.id, "vote", { vote });
  await world.quiet();
  assert.deepEqual([a.protocol.dropped.duplicate, a.protocol.dropped.equivocation], [1, 1]);
  assert.equal(a.protocol.pending.get(proposal.id)?.votes.get(b.id)?.yes, true, "the first opinion stands");
  a.protocol.quorum = () => 2;
  a.hear(c.id, "vote", { vote: await makeVote(c.signer, proposal.id, true) });
  await outcome;
  a.hear(c.id, "vote", { vote: await makeVote(c.signer, proposal.id, true) });
  await world.quiet();
  assert.equal(a.protocol.dropped.late, 1);
});

// R91
test("a certificate is believed for its signatures alone", async () => {
  const world = await World.mesh(3);
  const [a, b, c] = world.members;
  world.hold(true);
  const members = world.members.map(({ id }) => id);
  const make = (/** @type {object} */ over = {}) => makeProposal(a.signer, { room: "memory-sync", height: 1, ts: 1, members, body: "x", ...over });
  const proposal = await make();
  const votes = [await makeVote(a.signer, proposal.id, true), await makeVote(b.signer, proposal.id, true)];
  const other = await make({ body: "y" });
  const strangers = await Promise.all([newSigner(), newSigner(), newSigner()]);
  const [first = strangers[0]] = strangers;
  const elsewhere = await makeProposal(/** @type {any} */ (first), { room: "memory-sync", height: 1, ts: 1, members: strangers.map(({ nodeId }) => nodeId), body: "z" });
  const refused = [
    { proposal, votes: votes.slice(0, 1) },
    { proposal, votes: [votes[0], votes[0]] },
    { proposal, votes: [votes[0], await makeVote(b.signer, proposal.id, false)] },
    { proposal, votes: [votes[0], await makeVote(b.signer, other.id, true)] },
    { proposal: { ...proposal, body: '"z"' }, votes },
    { proposal: { ...proposal, members: [a.id] }, votes: votes.slice(0, 1) },
    { proposal: { ...proposal, height: 2 }, votes },
    { proposal: await make({ room: "elsewhere" }), votes },
    { proposal },
    null,
  ];
  for (const certificate of refused) assert.equal(await c.protocol.accept(certificate, b.id), false);
  assert.equal(c.protocol.dropped.forged, refused.length);
  assert.equal(await c.protocol.accept({ proposal: elsewhere, votes: await Promise.all(strangers.map((signer) => makeVote(signer, elsewhere.id, true))) }, b.id), false, "an electorate of strangers");
  assert.equal(c.protocol.dropped.outsider, 1);
  assert.equal(c.memory.traces.length, 0);
  assert.equal(await c.protocol.accept({ proposal, votes }, b.id), true);
  assert.equal(await c.protocol.accept({ proposal, votes }, b.id), false, "known");
  assert.equal(c.memory.traces.length, 1);
});

test("a fixed electorate alone decides", async () => {
  const world = await World.mesh(3);
  const [a, b, c] = world.members;
  const electorate = [a.id, b.id].sort();
  for (const { protocol } of world.members) protocol.electorate = electorate;
  await a.memory.store("by the two");
  await world.settled();
  assert.equal(c.memory.traces.length, 1, "who does not vote still learns it");
  c.protocol.electorate = null;
  c.protocol.timeoutMs = 40;
  await assert.rejects(c.memory.store("by one who is no elector"), /timeout|voted within/);
  await world.settled();
  assert.ok(a.protocol.dropped.outsider > 0);
});

test("nobody fills the memory of others with proposals, or lifts the order out of reach", async () => {
  const world = await World.mesh(2);
  const [a, b] = world.members;
  world.hold(true);
  for (let at = 0; at < 12; at += 1) b.hear(a.id, "propose", { proposal: await makeProposal(a.signer, { room: "memory-sync", height: 1, ts: at, members: [a.id, b.id], body: at }) });
  await world.quiet();
  assert.equal(b.protocol.pending.size, 8);
  assert.equal(b.protocol.dropped.full, 4);
  b.protocol.close();
  const high = await makeProposal(a.signer, { room: "memory-sync", height: 2 ** 40, ts: 1, members: [a.id, b.id], body: "high" });
  b.hear(a.id, "propose", { proposal: high });
  await world.quiet();
  assert.deepEqual([...world.heldOf(b.id, "vote")].map(({ vote }) => vote.why).at(-1), "it stands too far above what is committed here");
  // Not even a certificate of one's own electorate goes where no height comes after.
  const top = await makeProposal(a.signer, { room: "memory-sync", height: 2 ** 40 + 1, ts: 2, members: [a.id, b.id], body: "top" });
  b.hear(a.id, "propose", { proposal: top });
  await world.quiet();
  assert.equal(b.protocol.dropped.forged, 1);
  b.protocol.close();
});

test("concurrent proposals stand in one order everywhere, and applying them again changes nothing", async () => {
  const world = await World.mesh(4);
  await Promise.all(world.members.flatMap(({ memory }, at) => [0, 1, 2].map((round) => memory.store(`${at}.${round}`))));
  await world.settled();
  const [first, ...rest] = await Promise.all(world.members.map(({ memory }) => memory.digest()));
  for (const digest of rest) assert.equal(digest, first);
  const [a, b] = world.members;
  assert.equal(a.memory.traces.length, 12);
  assert.deepEqual(a.memory.traces, b.memory.traces);
  for (const { id } of [...a.memory.traces].reverse()) b.memory.apply(/** @type {any} */ (a.memory.certificate(id)));
  assert.equal(await b.memory.digest(), first);
});

// R86
test("who comes late gets the memory of the room, with its proofs", async () => {
  const world = await World.mesh(3);
  const [a] = world.members;
  for (let at = 0; at < 5; at += 1) await a.memory.store(`trace ${at}`);
  await world.settled();
  const late = await world.add();
  await world.settled();
  assert.equal(late.memory.traces.length, 5);
  assert.equal(await late.memory.digest(), await a.memory.digest());
  assert.ok(late.events.synced >= 1);
  await late.memory.store("from the newcomer");
  await world.settled();
  assert.equal(a.memory.traces.at(-1)?.content, "from the newcomer", "its height follows what it has learnt");
});

// R116
test("an insight reaches every member once, also along a chain of members", async () => {
  const world = await World.chain(6, "learning");
  const [a] = world.members;
  const item = await a.learning.share("warp before weft");
  await world.settled();
  for (const { heard } of world.members) assert.deepEqual(heard, [[a.id, "warp before weft"]]);
  const ring = await World.mesh(6, {}, "learning");
  const [first] = ring.members;
  await first.learning.share("once is enough");
  await ring.settled();
  for (const { heard } of ring.members) assert.equal(heard.length, 1);
  assert.ok(ring.members.some(({ learning }) => learning.dropped.copies > 0), "copies came, and were known as such");
  assert.match(item.id, /^[0-9a-f]{64}$/);
});

// R116
test("an insight that was changed on its way is dropped, and a newcomer hears the last ones", async () => {
  const world = await World.mesh(2, {}, "learning");
  const [a, b] = world.members;
  world.hold(true);
  const item = await a.learning.share("true");
  const stranger = await newSigner();
  for (const forged of [{ ...item, text: "false" }, { ...item, by: b.id }, { ...item, by: stranger.nodeId, pk: stranger.pk }, { ...item, ts: item.ts + 1 }, null, {}]) b.hear(a.id, "insight", { item: forged });
  await world.quiet();
  assert.equal(b.learning.dropped.forged, 6);
  assert.equal(b.heard.length, 0);
  world.hold(false);
  await world.settled();
  const late = await world.add();
  await world.settled();
  assert.deepEqual(late.heard, [[a.id, "true"]]);
});

// R116
test("announcements go the same way under a topic of their own", async () => {
  const world = await World.mesh(3, {}, "global");
  const feeds = world.members.map(({ channel, signer }) => new Announcements({ channel, signer }));
  /** @type {string[]} */
  const heard = [];
  for (const feed of feeds) feed.on("item", (/** @type {import("../client/prrc/feed.js").Item} */ { text }) => void heard.push(text));
  await feeds[0]?.share("maintenance at noon");
  await world.settled();
  assert.deepEqual(heard, ["maintenance at noon", "maintenance at noon", "maintenance at noon"]);
  await assert.rejects(() => feeds[0]?.share("") ?? Promise.resolve(), /1 to 8192 characters/);
  for (const { heard: insights } of world.members) assert.deepEqual(insights, []);
});

/** What a channel needs of a peer, moved by hand. */
class HandPeer extends EventEmitter {
  nodeId = "me";
  signaling = new EventEmitter();
  /** @type {string[]} */
  connected = [];
  /** @type {Record<string, string[]>} */
  inRooms = {};
  /** @type {[string, unknown, unknown][]} */
  sent = [];
  /** @type {[string, unknown, unknown][]} */
  relayed = [];
  members(/** @type {string} */ room) {
    return (this.inRooms[room] ?? []).map((nodeId) => ({ nodeId }));
  }
  async send(/** @type {string} */ to, /** @type {unknown} */ data, /** @type {unknown} */ options) {
    return this.sent.push([to, data, options]) > 0;
  }
  async relay(/** @type {string} */ to, /** @type {unknown} */ data, /** @type {unknown} */ options) {
    this.relayed.push([to, data, options]);
  }
}

// R81 R105
test("a room's channel reaches its members over open links, and nobody of another room", () => {
  const peer = new HandPeer();
  const channel = new PRRCChannel("me", { room: "private" });
  peer.inRooms = { private: ["me", "ada"], global: ["me", "ada", "eve"] };
  peer.connected = ["eve"];
  const end = attach(/** @type {any} */ (peer), channel, "webrtc");
  assert.deepEqual([...channel.peers.keys()], [], "ada's link is not open, eve is elsewhere");
  peer.connected = ["eve", "ada"];
  peer.emit("peer-connected", "ada");
  assert.deepEqual([...channel.peers.keys()], ["ada"]);
  channel.broadcast("chat", { text: "hi" }, { kind: KIND.COMMIT });
  assert.deepEqual(peer.sent, [["ada", '{"prrc":1,"room":"private","topic":"chat","body":{"text":"hi"}}', { kind: 2 }]]);
  /** @type {unknown[]} */
  const heard = [];
  channel.handle("chat", (from, body) => void heard.push([from, body]));
  const envelope = '{"prrc":1,"room":"private","topic":"chat","body":{}}';
  for (const [from, kind] of /** @type {[string, number][]} */ ([["ada", 1], ["ada", 2], ["ada", 0], ["eve", 1]])) peer.emit("message", from, envelope, { kind });
  assert.deepEqual(heard, [["ada", {}], ["ada", {}]], "kind 0 is another application's, and eve is no member");
  peer.inRooms = { private: ["me"], global: ["me", "ada", "eve"] };
  peer.emit("peer-left", "private", "ada");
  assert.deepEqual([...channel.peers.keys()], [], "who has left the room hears no more of it, though its link is open");
  end();
  peer.inRooms = { private: ["ada"] };
  peer.emit("peer-connected", "ada");
  assert.equal(channel.peers.size, 0);
});

// R81 R105
test("over the coordinator every member is reached, and whoever comes", () => {
  for (const kind of /** @type {const} */ (["websocket", "http"])) {
    const peer = new HandPeer();
    const channel = new PRRCChannel("me", { room: "here" });
    peer.inRooms = { here: ["ada"] };
    attach(/** @type {any} */ (peer), channel, kind);
    peer.inRooms = { here: ["ada", "grace"] };
    peer.signaling.emit("joined", {});
    channel.broadcast("chat", {});
    assert.deepEqual(peer.relayed.map(([to, , options]) => [to, options]), ["ada", "grace"].map((to) => [to, { kind: 1, over: kind }]));
  }
  assert.throws(() => attach(/** @type {any} */ ({ signaling: null }), new PRRCChannel("me"), "http"), /call connectToCoordinator first/);
});

test("a signer that is not the channel's is refused at once", async () => {
  const signer = await newSigner();
  const channel = new PRRCChannel("somebody");
  assert.throws(() => new CoherentCommitProtocol({ channel, signer }), /not the id of the key/);
  assert.throws(() => new LearningRoom({ channel, signer }), /not the id of the key/);
  assert.ok(GlobalMemoryField);
});
