// Pure parts of the page Rooms: addresses, the picture's places, words.

import assert from "node:assert/strict";
import test from "node:test";

import { isRoomName, linkTo, placeOf } from "../pages/lib/rooms/address.js";
import { placesOf, wordsOf } from "../pages/lib/rooms/mesh.js";
import { LINK_WORDS, nameWords, signalWords, troubleWords } from "../pages/lib/rooms/words.js";

test("a link leads back to the place that it was made for", () => {
  for (const place of [
    { room: "global", invite: null },
    { room: "p:abcdefghijklmnopqrstuvwxyz234567", invite: "si1.W3siYnkiOiJhIn1d_-" },
    { room: "s:demo.stream_1", invite: null },
  ]) {
    const link = linkTo("https://relay.example", place);
    assert.ok(link.startsWith("https://relay.example/rooms#room="), link);
    assert.deepEqual(placeOf(new URL(link).hash), place);
  }
  assert.equal(linkTo("http://a", { room: "p:x", invite: null }), "http://a/rooms#room=p:x", "a colon stays readable");
});

test("what names no room leads nowhere, and what is no invite is left out", () => {
  for (const hash of ["", "#", "#room=", "#room=Capital", "#room=-x", "#room=a%20b", `#room=${"a".repeat(65)}`, "#invite=si1.x"]) assert.equal(placeOf(hash), null, hash);
  assert.deepEqual(placeOf("#room=global&invite=%3Cscript%3E"), { room: "global", invite: null });
  assert.deepEqual(placeOf("room=global"), { room: "global", invite: null });
  for (const name of ["a", "0", "a.b_c:d-e", "a".repeat(64)]) assert.ok(isRoomName(name), name);
  for (const name of ["", ".a", "A", "a b", "ä", 7, null]) assert.ok(!isRoomName(name), String(name));
});

test("everybody sees the same picture, and nobody lies on another", () => {
  const ids = Array.from({ length: 24 }, (_, at) => `sn1${at}`);
  const places = placesOf(ids);
  assert.deepEqual(placesOf([...ids].reverse()), places);
  const points = [...places.values()];
  for (const [at, { x, y }] of points.entries()) {
    assert.ok(x >= 9 && x <= 631 && y >= 9 && y <= 311, `${x},${y} is inside`);
    for (const other of points.slice(at + 1)) assert.ok(Math.hypot(x - other.x, y - other.y) > 18, "dots of radius 9 are apart");
  }
  assert.deepEqual(placesOf(["one"]).get("one"), { x: 320, y: 46 });
});

test("the picture is said in words too", () => {
  const peer = (/** @type {import("../pages/lib/rooms/mesh.js").LinkState} */ state) => ({ id: "x", name: "x", state, rttMs: null });
  assert.equal(wordsOf([]), "You are alone in this room.");
  assert.equal(wordsOf([peer("open")]), "You and one peer; all links are open.");
  assert.equal(wordsOf([peer("open"), peer("relayed"), peer("making"), peer("lost")]), "You and 4 peers; 2 of 4 links are open.");
});

test("an error says what to do, and an unknown one at least what it is", () => {
  assert.match(troubleWords({ code: "forbidden", message: "no" }), /Ask its owner for a new link/);
  assert.match(troubleWords({ code: "room_full", message: "423" }), /make a room of your own/);
  assert.equal(troubleWords({ code: "no_cryptography", message: "open it over https" }), "open it over https");
  assert.equal(troubleWords(new Error("the loom is broken")), "the loom is broken");
  assert.equal(troubleWords("words alone"), "words alone");
});

test("signals and links have words", () => {
  assert.equal(signalWords({ direction: "in", type: "offer", name: "Ada" }), "Ada offers a link");
  assert.equal(signalWords({ direction: "out", type: "ice-candidate", name: "Ada" }), "to Ada: an address");
  assert.equal(signalWords({ direction: "in", type: "new-kind", name: "Ada" }), "Ada new-kind");
  assert.equal(nameWords("sn1abcdefghijklmnopqrstuvwxyz234567"), "sn1abcd…4567");
  assert.equal(nameWords("sn1abc", "Ada"), "Ada");
  for (const [word, , help] of Object.values(LINK_WORDS)) assert.ok(word && help.endsWith("."));
});
