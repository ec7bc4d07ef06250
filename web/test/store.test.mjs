import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import test from "node:test";

import { nextShown } from "../pages/lib/pay-panel.js";
import { Store } from "../pages/lib/wallet/store.js";

/** @param {string} chain @param {string} day @param {string} stream */
const sum = (chain, day, stream) => ({ chain, day, stream, spent: 1n, title: "" });

test("a write is all or nothing, and its error is the caller's", async () => {
  const store = await Store.open("store-1");
  await assert.rejects(
    store.write(async (access) => {
      await access.put("sums", sum("c", "d", "a"));
      throw new Error("on second thought");
    }),
    /on second thought/,
  );
  assert.deepEqual(await store.read((access) => access.all("sums")), []);
  await store.write((access) => access.put("sums", sum("c", "d", "a")));
  assert.equal((await store.read((access) => access.get("sums", ["c", "d", "a"])))?.spent, 1n);
  assert.equal(await store.read((access) => access.get("sums", ["c", "d", "b"])), null);
});

test("rows are found by the beginning of their key, and by no other's", async () => {
  const store = await Store.open("store-2");
  await store.write(async (access) => {
    for (const [chain, day, stream] of [["c", "d1", "a"], ["c", "d1", "b"], ["c", "d10", "a"], ["c", "d2", "a"], ["e", "d1", "a"]]) {
      await access.put("sums", sum(chain ?? "", day ?? "", stream ?? ""));
    }
  });
  const keys = (/** @type {string[]} */ prefix) => store.read(async (access) => (await access.all("sums", prefix)).map((row) => [row.chain, row.day, row.stream].join()));
  assert.deepEqual(await keys(["c", "d1"]), ["c,d1,a", "c,d1,b"]);
  assert.equal((await keys(["c"])).length, 4);
  assert.deepEqual(await keys(["x"]), []);
});

test("two writers of one store wait for each other", async () => {
  const [one, other] = [await Store.open("store-3"), await Store.open("store-3")];
  const add = (/** @type {Store} */ store) =>
    store.write(async (access) => {
      const row = (await access.get("sums", ["c", "d", "a"])) ?? { ...sum("c", "d", "a"), spent: 0n };
      await access.put("sums", { ...row, spent: row.spent + 1n });
    });
  await Promise.all(Array.from({ length: 20 }, (_, at) => add(at % 2 ? one : other)));
  assert.equal((await one.read((access) => access.get("sums", ["c", "d", "a"])))?.spent, 20n);
});

test("the sum on the page runs behind what was promised and never ahead of it", () => {
  let shown = 0n;
  for (const target of [100n, 100n, 200n, 1000n]) {
    shown = nextShown(shown, target, 30n);
    assert.ok(shown <= target);
  }
  assert.equal(nextShown(0n, 20n, 30n), 20n);
  assert.equal(nextShown(0n, 31n, 30n), 30n);
  assert.equal(nextShown(0n, 10_000n, 30n), 10_000n, "news of another session is not counted up");
  assert.equal(nextShown(50n, 10n, 30n), 10n, "another pool");
});
