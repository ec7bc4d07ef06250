// Keys, ids, signatures and invites: what the client and the coordinator's crates must agree on.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { fromHex, utf8 } from "../client/bytes.js";
import { checkFingerprint, fingerprintOf, Identity, joinText, keyOf, verify } from "../client/identity.js";
import { attenuateInvite, checkInvite, makeInvite, parseInvite, privateRoom } from "../client/invite.js";

const VECTORS = JSON.parse(await readFile(new URL("../client/test-vectors.json", import.meta.url), "utf8"));

/** @param {string} hex */
const seeded = (hex) => Identity.fromSeed(/** @type {Uint8Array} */ (fromHex(hex)));
/** @param {number} byte */
const someone = (byte) => Identity.fromSeed(new Uint8Array(32).fill(byte));

// R87
test("a key gives its id, and no other key gives it", async () => {
  for (const { seed, pk, nodeId } of VECTORS.keys) {
    const identity = await seeded(seed);
    assert.equal(identity.pk, pk);
    assert.equal(identity.nodeId, nodeId);
    assert.match(nodeId, /^sn1[a-z2-7]{32}$/);
    assert.ok(await keyOf(pk, nodeId));
  }
  const [one, two] = VECTORS.keys;
  assert.equal(await keyOf(one.pk, two.nodeId), null);
  for (const broken of [null, 7, "", one.pk.slice(2), `${one.pk}00`, `zz${one.pk.slice(2)}`]) assert.equal(await keyOf(broken, one.nodeId), null);
  await assert.rejects(Identity.fromSeed(new Uint8Array(31)), { code: "bad_key" });
});

test("a new identity signs, and is the same when it was kept", async () => {
  const fresh = await Identity.generate();
  const kept = await Identity.fromKeys(fresh.privateKey, fresh.publicKey);
  assert.equal(kept.nodeId, fresh.nodeId);
  const text = utf8("words");
  assert.ok(await verify(fresh.publicKey, text, await kept.sign(text)));
  assert.equal(await verify(fresh.publicKey, utf8("other words"), await kept.sign(text)), false);
  assert.equal(await verify(new Uint8Array(31), text, await kept.sign(text)), false);
  assert.notEqual((await Identity.generate()).nodeId, fresh.nodeId);
});

// R87
test("a join is signed as the vector says, each time with a nonce of its own", async () => {
  const { seed, networkId, room, ts, nonce, text, sig } = VECTORS.join;
  const identity = await seeded(seed);
  assert.equal(joinText({ networkId, nodeId: identity.nodeId, room, ts, nonce }), text);
  assert.deepEqual(await identity.signJoin({ networkId, room, now: ts, nonce }), { pk: identity.pk, ts, nonce, sig });
  const [one, two] = [await identity.signJoin({ networkId }), await identity.signJoin({ networkId })];
  assert.match(one.nonce, /^[0-9a-f]{32}$/);
  assert.notEqual(one.nonce, two.nonce);
  assert.ok(Math.abs(one.ts - Date.now()) < 5000);
});

// R87
test("a certificate that a coordinator swapped is found out", async () => {
  const { seed, to, room, sdp, fpSig } = VECTORS.fingerprint;
  const identity = await seeded(seed);
  const { nodeId: from, pk } = identity;
  assert.deepEqual(await identity.signFingerprint({ to, room, sdp }), { fpSig, pk });
  const whole = { from, to, room, sdp, fpSig, pk };
  assert.ok(await checkFingerprint(whole));
  assert.ok(await checkFingerprint({ ...whole, sdp: sdp.replace("ab:cd", "AB:CD").replaceAll("\r\n", "\n") }), "case and line ends say nothing");
  assert.equal(await checkFingerprint({ ...whole, fpSig: undefined }), null);

  const other = await someone(9);
  const changes = {
    certificate: { sdp: sdp.replaceAll(/ab:cd:0f/gi, "AB:CD:10") },
    receiver: { to: from },
    room: { room: "learning" },
    sender: { from: other.nodeId },
    key: { pk: other.pk },
    "key and sender": { from: other.nodeId, pk: other.pk },
    "form of the signature": { fpSig: fpSig.slice(2) },
    "kind of the signature": { fpSig: 7 },
    "two certificates": { sdp: sdp.replace("ab:cd:0f", "00:00:00") },
    "no certificate": { sdp: "v=0\r\n" },
  };
  for (const [what, change] of Object.entries(changes)) {
    await assert.rejects(checkFingerprint({ ...whole, ...change }), { code: "unverified_peer" }, what);
  }
  assert.equal(fingerprintOf(sdp), "sha-256 AB:CD:0F");
});

// R89
test("the vectors' invites lead into the private room, and are made alike", async () => {
  const { networkId, owner, now, first, handedOn } = VECTORS.invites;
  const [ada, bob] = await Promise.all(VECTORS.keys.map((/** @type {{ seed: string }} */ { seed }) => seeded(seed)));
  const { room, salt } = VECTORS.room;
  const ownerKey = /** @type {Uint8Array} */ (fromHex(owner));
  assert.equal(await privateRoom(ownerKey, salt), room);
  const [link] = parseInvite(first);
  const made = await makeInvite(ada, { networkId, room, to: bob.nodeId, exp: link?.exp ?? 0, can: ["join", "invite"] });
  assert.equal(made, first);
  assert.equal((await checkInvite(first, { networkId, owner: ownerKey, nodeId: bob.nodeId, now })).room, room);
  assert.equal((await checkInvite(handedOn, { networkId, owner: ownerKey, nodeId: "anybody", now })).to, "*");
});

// R89
test("an invite that is forged, expired, widened, or another's opens nothing", async () => {
  const [ada, bob, eve] = await Promise.all([1, 2, 3].map(someone));
  assert.ok(ada && bob && eve);
  const networkId = "net";
  const now = 1_000_000;
  const exp = now + 60_000;
  const room = await privateRoom(ada.publicKey, "garden");
  const check = (/** @type {string} */ invite, nodeId = bob.nodeId, at = now) => checkInvite(invite, { networkId, owner: ada.publicKey, nodeId, now: at });
  const refused = (/** @type {Promise<unknown>} */ doing) => assert.rejects(doing, { name: "SutantraError", code: "bad_invite" });

  const plain = await makeInvite(ada, { networkId, room, to: bob.nodeId, exp });
  const generous = await makeInvite(ada, { networkId, room, to: bob.nodeId, exp, can: ["join", "invite"] });
  const toEve = await attenuateInvite(bob, generous, { networkId, to: eve.nodeId, exp: exp + 99 });
  assert.equal((await check(plain)).room, room);
  assert.equal((await check(toEve, eve.nodeId)).exp, exp, "handing on never makes it last longer");

  await refused(check(plain, eve.nodeId));
  await refused(check(plain, bob.nodeId, exp));
  await refused(check(await makeInvite(eve, { networkId, room, to: bob.nodeId, exp })));
  await refused(check(await makeInvite(ada, { networkId: "other", room, to: bob.nodeId, exp })));
  await refused(check(await makeInvite(ada, { networkId, room, to: bob.nodeId, exp, can: ["invite"] })));
  await refused(attenuateInvite(bob, plain, { networkId, to: eve.nodeId }));
  await refused(attenuateInvite(eve, generous, { networkId, to: eve.nodeId }));
  await refused(attenuateInvite(bob, await makeInvite(ada, { networkId, room, to: bob.nodeId, exp, can: ["invite"] }), { networkId, can: ["join"] }));

  // What the makers refuse, a forger writes.
  const forge = (/** @type {string} */ invite, /** @type {(links: any[]) => void} */ change) => {
    const links = parseInvite(invite);
    change(links);
    return `si1.${Buffer.from(JSON.stringify(links)).toString("base64url")}`;
  };
  await refused(check(forge(plain, ([link]) => (link.exp += 1))));
  await refused(check(forge(plain, ([link]) => (link.to = "*")), eve.nodeId));
  await refused(check(forge(toEve, (links) => links.shift()), eve.nodeId));
  await refused(check(forge(toEve, ([, link]) => (link.can = ["join", "invite"])), eve.nodeId));
  for (const broken of ["", "si1.", "si1.!!", plain.slice(1), plain.slice(0, -9), `si1.${Buffer.from("[]").toString("base64url")}`, `si1.${Buffer.from("[{}]").toString("base64url")}`, `si1.${"A".repeat(9000)}`]) {
    assert.throws(() => parseInvite(broken), { code: "bad_invite" });
  }
});
