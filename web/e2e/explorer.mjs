// R107
// The explorer in Chromium on a chain with one staked validator: a person stakes from the wallet of the
// browser, sees it, takes the rewards, and finds the transaction again; to the unit of the chain's books.
//
//   node e2e/explorer.mjs --node ../target/release/sutantra-node
//   node e2e/explorer.mjs --base http://127.0.0.1:8099      a node that runs, or test/fake-server.mjs before it

import { parseArgs } from "node:util";

import { toSut } from "../pages/lib/wallet/balance.js";
import { ChainReader } from "./lib/chain.mjs";
import { RelayNode, engine } from "./lib/node.mjs";
import { must, run, until } from "./lib/scenario.mjs";

/** @typedef {import("./lib/scenario.mjs").Page} Page */

const STAKE = 5_000_000_000n;
/** Layout shift (web-vitals' good bound) of any view while it loads. */
const SHIFT_MAX = 0.1;
const LOOK = { width: 1100, height: 900, dark: false, phone: false };
const PHONE = { width: 390, height: 844, dark: true, phone: true };

const { values } = parseArgs({
  options: {
    node: { type: "string", default: "../target/release/sutantra-node" },
    base: { type: "string" },
    // Who makes the blocks: "embedded", or "spawn" for a real CometBFT.
    comet: { type: "string", default: "embedded" },
  },
});

/** @type {(() => void | Promise<void>)[]} */
const endings = [];

await run(async (start) => {
  const own = values.base ? null : await RelayNode.start(values.node, await engine(values.comet));
  if (own) endings.push(() => own.end());
  const node = { base: values.base ?? own?.base ?? "" };
  const chain = new ChainReader(node.base);
  const chromium = await start("chromium");
  const page = await chromium.open();
  await page.emulate(LOOK);

  // A wallet with money.
  await page.goto(`${node.base}/wallet`);
  await until("the offer to make a wallet", () => page.evaluate("!document.getElementById('none').hidden"));
  await page.evaluate("document.getElementById('create').click()");
  await until("the faucet's money", () => page.evaluate("/[1-9]/.test(document.getElementById('balance').textContent)"), { timeoutMs: 30_000 });
  const account = await page.evaluate("document.getElementById('account').value");

  // The overview, and the validator on it.
  await page.goto(`${node.base}/network`);
  await watchShifts(page);
  await until("the newest block", () => page.evaluate("Number(document.querySelector('[data-fact=height]')?.textContent) > 0"));
  await until("the one validator", async () => (await fact(page, "voting")) === "1", { timeoutMs: 15_000 }).catch(async (error) => must(false, `${error.message}; the page shows ${await fact(page, "voting")} and says ${await trouble(page)}`));
  const before = Number(await fact(page, "height"));
  await until("a block to come by itself", async () => Number(await fact(page, "height")) > before);
  await page.evaluate("document.querySelector('#tabs a[href=\"/network/validators\"]').click()");
  const row = await until("the validator's row", () => page.evaluate("document.querySelector('tbody a[href^=\"/network/validators/\"]')?.getAttribute('href')"));
  const operator = row.split("/").pop();
  const [validator] = await chain.query("/validators");
  must(validator.account === operator, `the page lists ${operator}, the chain ${validator.account}`);

  // Its own page: what is not allowed is refused before it is signed.
  await page.evaluate(`document.querySelector('a[href="${row}"]').click()`);
  await until("the form to stake", () => page.evaluate("document.getElementById('stake-amount')?.closest('form').hidden === false"));
  await type(page, "stake-amount", "999999999");
  await until("the page to refuse too much", () => page.evaluate("document.getElementById('stake-send').disabled && /at most/.test(document.getElementById('stake-hint').textContent)"));
  await type(page, "stake-amount", "0.1");
  await until("the page to refuse too little", () => page.evaluate("document.getElementById('stake-send').disabled && /at least/.test(document.getElementById('stake-hint').textContent)"));

  // 5 SUT.
  const tokens = BigInt(validator.tokens);
  await type(page, "stake-amount", toSut(STAKE));
  await until("the page to allow 5 SUT", () => page.evaluate("!document.getElementById('stake-send').disabled"));
  await page.evaluate("document.getElementById('stake-send').click()");
  await done(page);
  const delegation = await delegationOf(chain, account, operator);
  must(BigInt(delegation.amount) === STAKE, `the chain has ${delegation.amount} units of this stake`);
  const after = BigInt((await chain.query(`/validator/${operator}`)).tokens);
  must(after === tokens + STAKE, `the validator has ${after} units, had ${tokens}`);
  await until("the stake on the page", () => page.evaluate(`[...document.querySelectorAll('#stake-panel .amount')][0]?.title === '${toSut(STAKE)} SUT'`));
  await until("the validator's new stake on the page", () => page.evaluate(`[...document.querySelectorAll('.facts .amount')].some((each) => each.title === '${toSut(after)} SUT')`));
  await until("the delegator on the page", () => page.evaluate(`document.querySelector('a[href="/network/accounts/${account}"]') !== null`));

  // The browser has checked both records itself, under a header that the validators signed.
  const proof = await until("the proof of the stake", async () => {
    const words = await page.evaluate("document.getElementById('stake-proof').textContent");
    must(!/Not proved/.test(words), words);
    return words.includes("5 SUT of yours") && words;
  });
  must(proof.includes("100 % of the power signed"), `the proof says: ${proof}`);

  // The fees of the stake itself have earned it something: it comes to the unit.
  await until("a reward", async () => BigInt((await delegationOf(chain, account, operator)).rewards) > 0n, { timeoutMs: 5000 }).catch(async () => {
    // Its share began after its own fee: somebody else's transaction pays.
    await page.evaluate(`fetch('/api/faucet', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ account: '${"ab".repeat(32)}' }) }).then(() => null)`);
    await until("a reward of another's fee", async () => BigInt((await delegationOf(chain, account, operator)).rewards) > 0n);
  });
  await until("the button to take it", () => page.evaluate("!document.getElementById('stake-withdraw').hidden && !document.getElementById('stake-withdraw').disabled"));
  const had = BigInt((await chain.query(`/account/${account}`)).balance);
  await page.evaluate("document.getElementById('stake-withdraw').click()");
  await done(page);
  const paid = (await chain.events(`rewards_paid.account='${account}'`, "rewards_paid")).at(-1);
  must(paid && BigInt(paid["amount"] ?? "0") > 0n, `no reward was paid: ${JSON.stringify(paid)}`);
  const fee = (await chain.events(`fee.payer='${account}'`, "fee")).at(-1);
  const has = BigInt((await chain.query(`/account/${account}`)).balance);
  must(has - had === BigInt(paid["amount"] ?? "0") - BigInt(fee?.["amount"] ?? "0"), `the account went from ${had} to ${has}, was paid ${paid["amount"]} for a fee of ${fee?.["amount"]}`);

  // Found again by hash, height, account and name; and what is not there is said so.
  const { txs } = await chain.call("tx_search", { query: `stake_bonded.delegator='${account}'` });
  const [{ hash, height }] = txs;
  await find(page, hash, `/network/transactions/${hash.toLowerCase()}`, "staked 5 SUT with");
  await find(page, height, `/network/blocks/${height}`, "staked 5 SUT with");
  await find(page, account, `/network/accounts/${account}`, "Its public key");
  await find(page, operator, `/network/validators/${operator}`, "Your stake here");
  await find(page, "cd".repeat(32), `/network?q=${"cd".repeat(32)}`, "Looked for: a transaction, a stream, a pool, a validator, a relay, an account");
  await find(page, "ab".repeat(30), `/network?q=${"ab".repeat(30)}`, "copy all of it");

  // Every view, as a phone has it: nothing jumps, nothing is wider than the screen, nothing complains.
  await page.emulate(PHONE);
  /** @type {Record<string, number>} */
  const shifts = {};
  const views = ["", "/validators", `/validators/${operator}`, "/stake", "/streams", "/relays", "/pools", "/decisions", `/blocks/${height}`, `/accounts/${account}`];
  for (const view of views) {
    await page.goto(`${node.base}/network${view}`);
    await watchShifts(page);
    await until(`something on ${view || "the overview"}`, () => page.evaluate("[...document.querySelectorAll('#view .ghost')].every((each) => each.offsetParent === null) && document.querySelector('#view').textContent.length > 20"));
    must((await trouble(page)) === "", `${view}: ${await trouble(page)}`);
    must(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), `${view || "the overview"} is wider than a phone`);
    shifts[view || "/"] = await page.evaluate("window.shifted");
  }
  const jumpy = Object.entries(shifts).filter(([, shift]) => shift > SHIFT_MAX);
  must(jumpy.length === 0, `views jump while they load: ${JSON.stringify(jumpy)}`);
  await page.goto(`${node.base}/network/stake`);
  await until("the stake among all of this wallet's", async () => ((await fact(page, "staked")) ?? "").startsWith("5 SUT"));
  // The fake server passes no WebSocket on; the pages then poll, and browsers complain by themselves.
  const complaints = chromium.complaints.filter((each) => own || !each.includes("WebSocket"));
  must(complaints.length === 0, `the pages complained: ${complaints[0]}`);

  return { scenario: "explorer", comet: values.comet, staked: STAKE.toString(), rewards: paid["amount"], shiftMax: Math.max(...Object.values(shifts)) };
});

for (const end of endings.reverse()) await end();

/** @param {Page} page @param {string} name @returns {Promise<string | null>} */
function fact(page, name) {
  return page.evaluate(`document.querySelector('[data-fact="${name}"]')?.textContent ?? null`);
}

/** What the page says is the matter. @param {Page} page @returns {Promise<string>} */
function trouble(page) {
  return page.evaluate("[...document.querySelectorAll('[role=alert]:not([hidden])')].map((each) => each.textContent).join(' ')");
}

/** Types as a person does, so that the page hears of it. @param {Page} page @param {string} id @param {string} text */
async function type(page, id, text) {
  await page.evaluate(`(() => {
    const field = document.getElementById(${JSON.stringify(id)});
    field.value = ${JSON.stringify(text)};
    field.dispatchEvent(new Event('input', { bubbles: true }));
  })()`);
}

/** Until the transaction is in a block; whatever the page says against it is the failure. @param {Page} page */
async function done(page) {
  await until("the transaction's block", async () => {
    must((await trouble(page)) === "", await trouble(page));
    return page.evaluate("/^Done/.test(document.getElementById('stake-doing').textContent)");
  }, { timeoutMs: 30_000 });
}

/** @param {ChainReader} chain @param {string} account @param {string} operator @returns {Promise<any>} */
async function delegationOf(chain, account, operator) {
  const all = await chain.query(`/delegations/${account}`);
  const found = all.find((/** @type {any} */ each) => each.validator === operator);
  must(found, `the chain knows no stake of ${account} with ${operator}`);
  return found;
}

/** @param {Page} page @param {string} text @param {string} path where it leads @param {string} words on that page */
async function find(page, text, path, words) {
  await page.evaluate(`(() => {
    document.getElementById('query').value = ${JSON.stringify(text)};
    document.getElementById('search').requestSubmit();
  })()`);
  await until(`${path} for ${text}`, () => page.evaluate(`location.pathname + location.search === ${JSON.stringify(path)} && document.getElementById('view').textContent.includes(${JSON.stringify(words)})`)).catch(async (error) =>
    must(false, `${error.message}; it is at ${await page.evaluate("location.pathname + location.search")} and shows: ${(await page.evaluate("document.getElementById('view').textContent")).slice(0, 300)} ${await trouble(page)}`),
  );
}

/** Sums up what moved without anybody's doing. @param {Page} page */
async function watchShifts(page) {
  await page.evaluate("(() => { window.shifted = 0; new PerformanceObserver((list) => { for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value; }).observe({ type: 'layout-shift', buffered: true }); })()");
}
