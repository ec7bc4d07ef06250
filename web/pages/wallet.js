// Wallet: the account and its words, its pools, what was paid today, and the caps.

import { copyFrom, element, make, say, showRelay } from "./lib/dom.js";
import { shortId } from "./lib/format.js";
import { duration } from "./lib/pay-view.js";
import { parseSut, sut, toSut } from "./lib/wallet/balance.js";
import { Chain } from "./lib/wallet/chain.js";
import { whyNoKeys } from "./lib/wallet/keys.js";
import { POOL_WHY, PaymentWallet } from "./lib/wallet/pool.js";
import { Store, keepForGood } from "./lib/wallet/store.js";
import { isWindowOver } from "./lib/watching.js";

/** @typedef {import("./lib/wallet/pool.js").Pool} Pool */

const REFRESH_MS = 2000;
const STEPS = { signed: "Sending to the chain…", sent: "Sent. Waiting for a block…", "in-block": "Done: it is in a block." };

const trouble = element("trouble", HTMLElement);
const doing = element("doing", HTMLElement);

/** @type {PaymentWallet | null} */
let wallet = null;
/** A person without a wallet here types its words. */
let bringing = false;

/** @param {unknown} error */
function complain(error) {
  trouble.hidden = error === null;
  say(trouble, error === null ? "" : error instanceof Error ? error.message : String(error));
}

/** Does one thing at a time, and says how it went. @param {string} words @param {(progress: (step: keyof typeof STEPS) => void) => Promise<unknown>} work */
async function act(words, work) {
  complain(null);
  say(doing, words);
  for (const button of document.querySelectorAll("main button")) button.toggleAttribute("disabled", true);
  try {
    await work((step) => say(doing, STEPS[step]));
  } catch (error) {
    say(doing, "");
    complain(error);
  } finally {
    for (const button of document.querySelectorAll("main button")) button.toggleAttribute("disabled", false);
  }
  await refresh();
}

async function begin() {
  const chain = await Chain.find().catch((error) => {
    complain(error);
    return null;
  });
  if (!chain) {
    say(element("chain", HTMLElement), "This relay runs without a chain: there is nothing to pay here.");
    return;
  }
  const missing = await whyNoKeys();
  if (missing) return complain(missing);
  wallet = await PaymentWallet.open({ chain, store: await Store.open() });
  say(element("pool-why", HTMLElement), POOL_WHY);
  const { perStream, perDay } = await wallet.caps();
  element("cap-stream", HTMLInputElement).value = toSut(perStream);
  element("cap-day", HTMLInputElement).value = toSut(perDay);
  await refresh();
  if (location.hash) document.querySelector(location.hash)?.scrollIntoView();
  setInterval(() => !document.hidden && void refresh(), REFRESH_MS);
}

/** The wallet, the offer to make one, or the form that brings one. */
function showWhich() {
  const none = wallet?.account === null;
  element("none", HTMLElement).hidden = !none || bringing;
  element("mine", HTMLElement).hidden = none && !bringing;
  element("mine", HTMLElement).classList.toggle("bringing", none && bringing);
}

async function refresh() {
  if (!wallet) return;
  const { chain } = wallet;
  showWhich();
  try {
    const info = await chain.refresh();
    say(element("chain", HTMLElement), `${info.chain_id} · block ${info.height}`);
    if (!wallet.account) return;
    const [balance, pools, today, noted] = await Promise.all([wallet.balance(), wallet.pools(), wallet.spentToday(), wallet.noted()]);
    element("account", HTMLInputElement).value = wallet.account;
    say(element("balance", HTMLElement), sut(balance));
    element("fund", HTMLElement).hidden = !info.faucet || balance > 0n;
    element("words-why", HTMLElement).classList.toggle("urgent", !noted);
    showPools(pools);
    await Promise.all([showToday(today), showStaked(wallet.account)]);
  } catch (error) {
    say(element("chain", HTMLElement), "The chain does not answer. Trying again by itself.");
    if (!(error instanceof Error)) throw error;
  }
}

/** What the account has staked, where its chain has validators to stake with. @param {string} account */
async function showStaked(account) {
  const records = (await wallet?.chain.list(`/delegations/${account}`, ({ validator }) => validator).catch(() => [])) ?? [];
  element("staked", HTMLElement).hidden = records.length === 0;
  say(element("staked-sum", HTMLElement), sut(records.reduce((sum, { amount }) => sum + BigInt(amount), 0n)));
}

const POOL_WORDS = /** @type {const} */ ({ opening: "Opening", open: "Open", closing: "Closing", closed: "Closed" });

/** @param {Pool[]} pools */
function showPools(pools) {
  element("no-pools", HTMLElement).hidden = pools.length > 0;
  replaceRows(element("pools", HTMLElement), pools, (pool) => {
    const actions = make("div", "actions");
    const waits = windowLeft(pool);
    if (pool.state === "open") actions.append(button("Close, and get the rest back", () => act("Closing the pool…", (progress) => wallet?.requestClose(pool.channel, progress) ?? Promise.resolve())));
    if (pool.state === "closing" && waits === null) actions.append(button("Take the rest out", () => act("Taking the rest out…", (progress) => wallet?.finalize(pool.channel, progress) ?? Promise.resolve())));
    const words = [
      pool.state === "closed" ? "" : `${sut(pool.left)} left of ${sut(pool.deposits)}`,
      `${sut(pool.redeemed)} collected by relays`,
      pool.mine ? "" : "opened in another browser: this one can close it, not pay from it",
      waits ?? "",
    ].filter(Boolean);
    return make("li", "row-item", make("div", "row-words", make("strong", "", POOL_WORDS[pool.state]), " ", linkTo(pool.channel), make("p", "help", words.join(" · "))), actions);
  });
}

/** @param {string} channel */
function linkTo(channel) {
  const made = make("a", "mono", shortId(channel));
  made.setAttribute("href", `/network/pools/${channel}`);
  return made;
}

/** What a closing pool waits for. @param {Pool} pool @returns {string | null} null: for nothing */
function windowLeft({ state, closeRequested }) {
  if (state !== "closing" || !closeRequested || !wallet) return null;
  const { info } = wallet.chain;
  if (isWindowOver(closeRequested, info)) return null;
  const ms = Number(info.params["close_window_ms"]) - (info.block_time_ms - closeRequested.time_ms);
  const blocks = Number(info.params["close_window_blocks"]) - (info.height - closeRequested.height);
  return `relays may still collect what they were promised, for ${ms > 0 ? duration(ms) : `${Math.max(blocks, 0)} blocks`}`;
}

/** @type {Map<string, string>} */
const titles = new Map();

/** @param {import("./lib/wallet/store.js").SumRow[]} today */
async function showToday(today) {
  element("no-today", HTMLElement).hidden = today.length > 0;
  for (const { stream } of today) {
    if (!titles.has(stream)) titles.set(stream, (await wallet?.chain.stream(stream).catch(() => null))?.title || shortId(stream));
  }
  replaceRows(element("today", HTMLElement), today, (row) => {
    const link = make("a", "", titles.get(row.stream) ?? shortId(row.stream));
    link.setAttribute("href", `/watch/${row.stream}`);
    return make("li", "row-item", make("div", "row-words", link), make("strong", "amount", sut(row.spent)));
  });
}

/** Replaces rows only where something changed, so that a button is not pulled away under a finger. @template T @param {HTMLElement} list @param {T[]} items @param {(item: T) => HTMLElement} row */
function replaceRows(list, items, row) {
  const rows = items.map(row);
  const shown = rows.map((each) => each.textContent).join("\n");
  if (list.dataset["shown"] === shown) return;
  list.dataset["shown"] = shown;
  list.replaceChildren(...rows);
}

/** @param {string} label @param {() => unknown} press */
function button(label, press) {
  const made = make("button", "button", label);
  made.addEventListener("click", () => void press());
  return made;
}

async function showWords() {
  const list = element("words", HTMLElement);
  const shown = !list.hidden;
  list.hidden = shown;
  for (const id of ["noted", "export"]) element(id, HTMLElement).hidden = shown;
  say(element("show-words", HTMLElement), shown ? "Show the words" : "Hide the words");
  list.replaceChildren(...(shown ? [] : ((await wallet?.words()) ?? []).map((word) => make("li", "", word))));
}

async function save() {
  const text = JSON.stringify({ sutantra_wallet: 1, account: wallet?.account, words: (await wallet?.words())?.join(" ") }, null, 2);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `sutantra-wallet-${wallet?.account?.slice(0, 8)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** The words in what was pasted: themselves, or the file's. @param {string} text */
function wordsIn(text) {
  try {
    return String(JSON.parse(text).words ?? text);
  } catch {
    return text;
  }
}

/** @param {string} id @param {() => unknown} press */
const onClick = (id, press) => element(id, HTMLElement).addEventListener("click", () => void press());

/** @param {string} id @param {() => unknown} submit */
const onSubmit = (id, submit) =>
  element(id, HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    void submit();
  });

/** @param {string} id */
const value = (id) => element(id, HTMLInputElement).value.trim();

onClick("create", () =>
  act("", async () => {
    await wallet?.create();
    void keepForGood();
    if (wallet?.chain.info.faucet) {
      say(doing, "Asking the faucet…");
      await wallet.fund();
      say(doing, "");
    }
  }),
);
onClick("bring", () => {
  bringing = true;
  showWhich();
  element("import-box", HTMLDetailsElement).open = true;
  element("import-words", HTMLTextAreaElement).focus();
});
onClick("account-copy", () => copyFrom(element("account-copy", HTMLButtonElement), element("account", HTMLInputElement)));
onClick("fund", () => act("Asking the faucet…", async () => say(doing, `The faucet gave ${sut((await wallet?.fund()) ?? 0n)}.`)));
onClick("show-send", () => element("send", HTMLElement).toggleAttribute("hidden"));
onSubmit("send", () =>
  act("Sending…", async (progress) => {
    await wallet?.transact({ kind: "transfer", to: value("send-to").toLowerCase(), amount: parseSut(value("send-amount")).toString() }, progress);
    element("send", HTMLFormElement).reset();
  }),
);
onClick("show-words", showWords);
onClick("noted", async () => {
  await wallet?.markNoted();
  await showWords();
});
onClick("export", save);
onSubmit("import", () =>
  act("", async () => {
    await wallet?.importWords(wordsIn(element("import-words", HTMLTextAreaElement).value));
    element("import", HTMLFormElement).reset();
    element("import-box", HTMLDetailsElement).open = false;
  }),
);
onSubmit("caps-form", () =>
  act("", async () => {
    await wallet?.setCaps({ perStream: parseSut(value("cap-stream")), perDay: parseSut(value("cap-day")) });
    say(element("caps-said", HTMLElement), "Kept. It holds from the next payment on.");
  }),
);

void begin();
void showRelay(element("relay", HTMLElement));
