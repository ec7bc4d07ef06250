// The explorer's pure parts: addresses, records, the rules of stake, plots, who signed.

import assert from "node:assert/strict";
import test from "node:test";

import { asSupply, sampledHeights } from "../pages/lib/network/book.js";
import { standing } from "../pages/lib/network/decisions.js";
import { asBlock } from "../pages/lib/network/feed.js";
import { eventsOf, historyOf } from "../pages/lib/network/history.js";
import { shortSut } from "../pages/lib/network/parts.js";
import { pathOf, pointsOf, spansOf } from "../pages/lib/network/plot.js";
import { adviceOf } from "../pages/lib/network/purse.js";
import { asDelegation, asProposal, asValidator, bondedOf, changesOf, countedBlocks, nameOf, parameterWords, percentOf, percentWords, ranked, uptime } from "../pages/lib/network/records.js";
import { TABS, pathTo, routeOf, tabOf } from "../pages/lib/network/routes.js";
import { find } from "../pages/lib/network/search.js";
import { Signatures, signersOf } from "../pages/lib/network/signatures.js";
import { checkMove, checkStake, checkTakeBack } from "../pages/lib/network/stake-rules.js";
import { thirdOf } from "../pages/lib/network/validators.js";
import { ChainError } from "../pages/lib/wallet/chain.js";
import { PARAMS, VALIDATORS, validatorRecord } from "./fake-stake.mjs";

const SUT = 1_000_000_000n;
const ID = "ab".repeat(32);

test("every view has an address, and every address a view or none", () => {
  /** @param {string} path @param {string | null} view @param {string} [id] @param {string} [question] */
  const check = (path, view, id = "", question = "") => assert.deepEqual(routeOf(path, question), view && { view, id }, path);
  check("/network", "overview");
  check("/network/", "overview");
  check("/network", "search", "42", "?q=42");
  check("/network/validators", "validators");
  check(pathTo.validator(ID), "validator", ID);
  check(pathTo.validator(ID.toUpperCase()), "validator", ID);
  check(pathTo.block(7), "block", "7");
  check(pathTo.transaction(ID.toUpperCase()), "transaction", ID);
  check(pathTo.stream(ID), "stream", ID);
  check(pathTo.pool(ID), "pool", ID);
  check(pathTo.relay(ID), "relay", ID);
  check(pathTo.account(ID), "account", ID);
  check(pathTo.decision(3), "decision", "3");
  for (const [path] of TABS) {
    assert.notEqual(routeOf(path), null, path);
    assert.equal(tabOf(`${path}`), path);
  }
  assert.equal(tabOf(pathTo.validator(ID)), "/network/validators");
  // Refused: of other pages, without what they are about, named by something else, made up.
  for (const path of ["/", "/networks", "/wallet", "/network/blocks", "/network/blocks/x", "/network/validators/ab", `/network/stake/${ID}`, `/network/pools/${ID}/more`, "/network/toString", "/network/__proto__"]) check(path, null);
});

test("records are read to the unit, whatever their size", () => {
  const validator = asValidator({ ...VALIDATORS[0], tokens: ((1n << 96n) - 1n).toString(), power: "18446744073709551615" });
  assert.equal(validator.tokens, (1n << 96n) - 1n);
  assert.equal(validator.power, 18_446_744_073_709_551_615n);
  assert.equal(validator.operator, "a0".repeat(32));
  assert.equal(validator.status, "voting");
  assert.equal(asValidator({ ...VALIDATORS[0], status: "something new" }).status, "waiting");
  const delegation = asDelegation({ validator: ID, shares: "5", amount: "7", rewards: "3", incoming: [{}, {}], leaving: [{ height: 9, to: null, amount: "2", complete_ms: 1000 }] });
  assert.deepEqual(delegation, { validator: ID, amount: 7n, rewards: 3n, incoming: 2, leaving: [{ height: 9, to: null, amount: 2n, completeMs: 1000 }] });
  assert.deepEqual(asSupply({ genesis: "100", burned: "1", current: "99", fee_pool: "0", bonded: "40", rewards_held: "2" }), { genesis: 100n, burned: 1n, current: 99n, feePool: 0n, bonded: 40n, rewardsHeld: 2n });
  assert.throws(() => asValidator({ ...VALIDATORS[0], tokens: 5 }), /decimal digits/);
});

test("validators are ranked by who votes, then by stake, whatever order they came in", () => {
  const all = VALIDATORS.map(asValidator);
  const names = ranked([...all].reverse()).map(nameOf);
  assert.deepEqual(names, ["Lighthouse", "Baobab", "North by Northwest Validation Services", "Validator a3a3a3a3", "Kite", "Sleeper", "Two Hands"]);
  assert.equal(bondedOf(all), 102_761n * SUT);
  assert.equal(percentOf(1n, 3n), 33.33);
  assert.equal(percentOf(1n, 0n), null);
  assert.equal(percentWords(1n, 100_000n), "< 0.01 %");
  assert.equal(percentWords(0n, 100n), "0 %");
  assert.equal(percentWords(1n, 3n), "33.33 %");
  assert.equal(percentWords(1n, 0n), "–");
});

test("uptime counts only blocks that a validator could sign", () => {
  const of = (/** @type {number} */ missed, /** @type {number} */ since, status = "voting") => asValidator({ ...validatorRecord(["A", 1n, 0, status, missed, ""], 0), since_height: since });
  assert.equal(uptime(of(0, 0), 100, 1000), 100);
  assert.equal(uptime(of(31, 0), 100, 1000), 69);
  assert.equal(uptime(of(1, 990), 100, 1000), 90);
  assert.equal(uptime(of(200, 0), 100, 1000), 0);
  assert.equal(uptime(of(0, 1000), 100, 1000), null);
  assert.equal(uptime(of(0, 0, "jailed"), 100, 1000), null);
  assert.equal(countedBlocks(of(0, 0), 100, 40), 40);
});

test("so many of the largest can stop the chain as hold a third", () => {
  assert.equal(thirdOf([10n, 10n, 10n, 10n]), 2);
  assert.equal(thirdOf([10n, 10n, 10n]), 1);
  assert.equal(thirdOf([1n, 100n, 1n]), 1);
  assert.equal(thirdOf([]), 0);
});

test("a stake that the chain would refuse is refused in the page, with what to do", () => {
  const fee = 20_000n;
  /** @param {string} text @param {bigint | RegExp} expected @param {object} [facts] */
  const check = (text, expected, facts = {}) => {
    const { amount, why } = checkStake(text, { balance: 10n * SUT, fee, staked: 0n, least: SUT, ...facts });
    if (expected instanceof RegExp) assert.match(String(why), expected, text);
    else assert.deepEqual({ amount, why }, { amount: expected, why: null }, text);
  };
  check("5", 5n * SUT);
  check("9.99998", 9_999_980_000n);
  check("0.5", 500_000_000n, { staked: SUT });
  check("9.99999", /You can stake 9\.99998 SUT at most/);
  check("0", /above zero/);
  check("0.5", /1 SUT at least: add 0\.5 SUT/);
  check("", /such as 0\.001/);
  check("-1", /such as 0\.001/);
  check("1.0000000001", /nine decimals/);
  check("1", /Fund it/, { balance: 100n });
});

test("of a stake either all is taken back, or enough stays", () => {
  const delegation = { validator: ID, amount: 5n * SUT, rewards: 0n, incoming: 0, leaving: [] };
  const leaving = Array.from({ length: 8 }, () => ({ height: 1, to: null, amount: 1n, completeMs: 0 }));
  /** @param {string} text @param {bigint | RegExp} expected @param {object} [facts] */
  const check = (text, expected, facts = {}) => {
    const { amount, why } = checkTakeBack(text, { balance: SUT, fee: 20_000n, least: SUT, delegation, ...facts });
    if (expected instanceof RegExp) assert.match(String(why), expected, text);
    else assert.equal(amount, expected, String(why));
  };
  check("5", 5n * SUT);
  check("4", 4n * SUT);
  check("4.5", /take 4 SUT at most, or all/);
  check("6", /no more/);
  check("1", /no stake/, { delegation: null });
  check("1", /cannot pay/, { balance: 5n });
  check("1", SUT, { balance: 5n, delegation: { ...delegation, rewards: 20_000n } });
  check("1", /8 parts/, { delegation: { ...delegation, leaving } });
  check("x", /such as/);
});

test("a move goes to another validator, and makes a stake that may be there", () => {
  const delegation = { validator: ID, amount: 5n * SUT, rewards: 0n, incoming: 0, leaving: [] };
  const facts = { balance: SUT, fee: 20_000n, least: SUT, delegation, there: null, from: ID, to: "cd".repeat(32) };
  assert.equal(checkMove("2", facts).amount, 2n * SUT);
  assert.match(String(checkMove("2", { ...facts, to: "" }).why), /Choose the validator/);
  assert.match(String(checkMove("2", { ...facts, to: ID }).why), /another one/);
  assert.match(String(checkMove("0.5", facts).why), /also there/);
  assert.equal(checkMove("0.5", { ...facts, there: { ...delegation, amount: SUT } }).amount, SUT / 2n);
  assert.match(String(checkMove("2", { ...facts, there: { ...delegation, incoming: 8 } }).why), /8 moves/);
});

test("an error of the chain is advice, with the chain's own words", () => {
  assert.equal(adviceOf(new ChainError(4, "There is not enough money.", { log: "the account holds 3 units" })), "There is not enough money. The chain says: the account holds 3 units.");
  assert.equal(adviceOf(new ChainError(99, "The chain refused with code 99: no.", { log: "no." })), "The chain refused with code 99: no.");
  assert.equal(adviceOf(new Error("The relay does not answer.")), "The relay does not answer.");
});

test("a proposal is read, and its changes are those that differ", () => {
  const proposal = asProposal({ number: 2, proposer: ID, title: "T", text: "", change: { kind: "params", params: { ...PARAMS, validators_max: 16 } }, height: 9, ends_ms: 500, state: "voting", yes_power: "67", no_power: "0", total_power: "100" });
  assert.equal(proposal.yes, 67n);
  assert.ok(proposal.change.kind === "params");
  assert.deepEqual(changesOf(PARAMS, proposal.change.params), [{ name: "validators_max", from: 4, to: 16 }]);
  assert.deepEqual(standing(proposal, 499), ["Voting", "warn"]);
  assert.deepEqual(standing(proposal, 500), ["Not decided in time", ""]);
  assert.deepEqual(standing({ ...proposal, state: "passed" }, 900), ["Passed", "good"]);
});

test("parameters are said in their units", () => {
  assert.equal(parameterWords("unbonding_ms", 21 * 24 * 3_600_000), "21 days");
  assert.equal(parameterWords("signed_min_bps", 5000), "50 %");
  assert.equal(parameterWords("power_unit", "1000000000"), "1 SUT");
  assert.equal(parameterWords("validators_max", 100), "100");
  assert.equal(parameterWords("anything", null), "–");
});

test("plots fill their box, also with one value and with equal ones", () => {
  assert.deepEqual(pointsOf([0, 1, 2], { width: 100, height: 10 }), [[0, 10], [50, 5], [100, 0]]);
  assert.deepEqual(pointsOf([3], { width: 100, height: 10 }), [[0, 5], [100, 5]]);
  assert.deepEqual(pointsOf([3, 3], { width: 100, height: 10 }), [[0, 5], [100, 5]]);
  assert.equal(pathOf([[0, 1], [2, 3]]), "M0 1L2 3");
  assert.deepEqual(spansOf(["a", "a", "b", "a"]), [{ from: 0, length: 2, mark: "a" }, { from: 2, length: 1, mark: "b" }, { from: 3, length: 1, mark: "a" }]);
  assert.deepEqual(spansOf([]), []);
});

test("the supply is asked for at heights that stay the same from visit to visit", () => {
  assert.deepEqual(sampledHeights(1), [1]);
  assert.deepEqual(sampledHeights(5), [1, 2, 3, 4, 5]);
  const [one, other] = [sampledHeights(5000), sampledHeights(5001)];
  assert.ok(one.length <= 34 && (one[0] ?? 0) >= 5000 - 960, String(one));
  assert.deepEqual(one.slice(1, -1).filter((height) => !other.includes(height)), []);
});

test("large amounts are short where there is little room", () => {
  assert.equal(shortSut(974_999_999n * SUT), "974.99 M SUT");
  assert.equal(shortSut(25_000_000n * SUT), "25 M SUT");
  assert.equal(shortSut(999_999n * SUT), "999 999 SUT");
});

/** @param {number} height @param {Record<string, number>} flags by address */
const commit = (height, flags) => ({ signed_header: { header: { height: String(height) }, commit: { signatures: Object.entries(flags).map(([address, flag]) => ({ block_id_flag: flag, validator_address: flag === 1 ? "" : address })) } } });

test("who signed is told from who missed and from who was not asked", async () => {
  assert.deepEqual([...signersOf(commit(1, { AA: 2, BB: 1, CC: 3 }))], ["AA"]);
  const block = (/** @type {number} */ height, /** @type {string} */ validatorsHash) => ({ height, timeMs: 0, transactions: 0, hash: "", proposer: "", validatorsHash });
  /** @type {string[]} */
  const asked = [];
  const chain = /** @type {any} */ ({
    call: async (/** @type {string} */ method, /** @type {any} */ params) => {
      asked.push(`${method} ${params.height}`);
      const list = Number(params.height) < 3 ? ["AA"] : ["AA", "BB"];
      return { total: String(list.length), validators: list.map((address) => ({ address, voting_power: "1" })) };
    },
    batch: async (/** @type {[string, any][]} */ calls) => {
      asked.push(...calls.map(([method, { height }]) => `${method} ${height}`));
      return calls.map(([, { height }]) => (height === "1" ? null : commit(Number(height), { AA: 2, BB: 1 })));
    },
  });
  const signatures = new Signatures();
  const blocks = [block(4, "two"), block(3, "two"), block(2, "one"), block(1, "one")];
  await signatures.follow(chain, blocks);
  assert.deepEqual(signatures.of("AA", blocks), [{ height: 2, mark: "signed" }, { height: 3, mark: "signed" }]);
  assert.deepEqual(signatures.of("BB", blocks), [{ height: 2, mark: "out" }, { height: 3, mark: "missed" }]);
  assert.deepEqual(signatures.ofBlock(blocks[1] ?? block(0, "")), { signed: 1, asked: 2 });
  assert.deepEqual(asked, ["validators 3", "validators 1", "commit 3", "commit 2", "commit 1"]);
  asked.length = 0;
  await signatures.follow(chain, [block(5, "two"), ...blocks]);
  assert.deepEqual(asked, ["commit 4", "commit 1"], "what is known is not asked for again");
});

test("a block is read out of what the RPC lists", () => {
  const meta = { block_id: { hash: "AB" }, num_txs: "3", header: { height: "7", time: "2026-01-01T00:00:00Z", proposer_address: "aa", validators_hash: "VV" } };
  assert.deepEqual(asBlock(meta), { height: 7, timeMs: Date.UTC(2026, 0, 1), transactions: 3, hash: "AB", proposer: "AA", validatorsHash: "VV" });
});

test("what happened to a validator comes from events that are about it", async () => {
  const event = (/** @type {string} */ type, /** @type {Record<string, string>} */ attributes) => ({ type, attributes: Object.entries(attributes).map(([key, value]) => ({ key, value })) });
  const events = [event("validator_jailed", { validator: ID, missed: "51" }), event("validator_jailed", { validator: "cd".repeat(32), missed: "9" }), event("fee", { payer: ID })];
  assert.deepEqual(eventsOf(events, "validator_jailed", "validator", ID), [{ validator: ID, missed: "51" }]);
  assert.deepEqual(eventsOf(/** @type {any} */ (null), "validator_jailed", "validator", ID), []);
  const chain = /** @type {any} */ ({
    call: async (/** @type {string} */ method, /** @type {any} */ { query }) => {
      if (method === "block_search") return { blocks: query.startsWith("validator_jailed") ? [{ block: { header: { height: "40" } } }] : [] };
      if (query.startsWith("validator_created")) throw new ChainError(0, "indexing is off");
      if (query === `stake_moved.from='${ID}'`) return { txs: [{ height: "55", tx_result: { events: [event("stake_moved", { delegator: "ee", from: ID, to: "ff", amount: "1000000000" })] } }] };
      return { txs: query.startsWith("stake_bonded") ? [{ height: "50", tx_result: { events: [event("stake_bonded", { validator: ID, delegator: "ee", amount: "5000000000" })] } }] : [] };
    },
    batch: async () => [{ finalize_block_events: events }],
  });
  assert.deepEqual(await historyOf(chain, ID, 60), [
    { height: 55, words: "1 SUT moved away by", bad: false, who: "ee" },
    { height: 50, words: "5 SUT staked by", bad: false, who: "ee" },
    { height: 40, words: "Jailed: it missed 51 blocks of the window", bad: true, who: null },
  ]);
});

test("a search finds whatever an id is of, and a miss says what was tried", async () => {
  /** @type {any} */
  const chain = {
    call: async () => Promise.reject(new ChainError(0, "not found")),
    stream: async () => null,
    channel: async () => null,
    relay: async () => null,
    query: async (/** @type {string} */ path) => (path === `/account/${ID}` || path === `/validator/${VALIDATORS[0]?.account}` ? {} : null),
    list: async () => VALIDATORS,
    streams: async () => [{ id: ID, title: "The lighthouse at night" }],
  };
  const to = async (/** @type {string} */ text) => (await find(chain, text)).hits.map((hit) => hit.to);
  assert.deepEqual(await to("42"), ["/network/blocks/42"]);
  assert.deepEqual(await to(ID), [pathTo.account(ID)]);
  assert.deepEqual(await to(String(VALIDATORS[0]?.account)), [pathTo.validator("a0".repeat(32))]);
  assert.deepEqual(await to(String(VALIDATORS[1]?.address).toLowerCase()), [pathTo.validator("a1".repeat(32))]);
  assert.deepEqual(await to("lightHOUSE"), [pathTo.validator("a0".repeat(32)), pathTo.stream(ID)]);
  const miss = await find(chain, "cd".repeat(32));
  assert.deepEqual(miss.hits, []);
  assert.deepEqual(miss.tried, ["a transaction", "a stream", "a pool", "a validator", "a relay", "an account", "a block's hash"]);
  assert.match((await find(chain, "ab".repeat(20).slice(1))).why, /64 hexadecimal digits, this has 39/);
});
