// Network: the explorer. Each address below /network is a view; going from one to another keeps the
// page, its blocks and its wallet.

import { element, say, showRelay } from "./lib/dom.js";
import { RequestError } from "./lib/http.js";
import { LightReader } from "./lib/light/reader.js";
import { account } from "./lib/network/account.js";
import { block, transaction } from "./lib/network/block.js";
import { Book } from "./lib/network/book.js";
import { decision, decisions } from "./lib/network/decisions.js";
import { BlockFeed } from "./lib/network/feed.js";
import { pool, pools, relay, relays, stream, streams } from "./lib/network/market.js";
import { overview } from "./lib/network/overview.js";
import { link, nothing } from "./lib/network/parts.js";
import { Purse } from "./lib/network/purse.js";
import { TABS, pathTo, routeOf, tabOf } from "./lib/network/routes.js";
import { search } from "./lib/network/search.js";
import { Signatures } from "./lib/network/signatures.js";
import { stake } from "./lib/network/stake.js";
import { validator } from "./lib/network/validator.js";
import { validators } from "./lib/network/validators.js";
import { Chain, ChainError } from "./lib/wallet/chain.js";

/** @typedef {import("./lib/network/parts.js").Context} Context */
/** @typedef {import("./lib/network/parts.js").View} View */

/** @type {Record<import("./lib/network/routes.js").ViewName, (context: Context, id: string) => View>} */
const VIEWS = { overview, search, block, transaction, validators, validator, stake, streams, stream, relays, relay, pools, pool, decisions, decision, account };
/** A view reads the chain so often at most, however fast blocks come. */
const LOAD_MS_MIN = 1000;
const UNPROVED = "All of this is what one relay says about its chain. On a validator's page this browser checks the validator's stake, and yours, against what the validators signed.";

const place = element("view", HTMLElement);
const trouble = element("trouble", HTMLElement);
const query = element("query", HTMLInputElement);

/** @type {Context | null} */
let context = null;
/** @type {View | null} */
let view = null;
/** What the feed says is the matter. @type {string | null} */
let silent = null;
let loading = false;
let loadedMs = -Infinity;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let later;

async function begin() {
  showTabs();
  const chain = await Chain.find().catch(() => null);
  if (!chain) {
    say(element("chain", HTMLElement), "This relay runs without a chain, so there is nothing to see here. Start it with a chain to register and pay streams.");
    element("tabs", HTMLElement).hidden = true;
    return;
  }
  say(element("chain", HTMLElement), chain.id);
  const feed = new BlockFeed(chain);
  context = { chain, feed, book: new Book(chain, () => feed.height), signatures: new Signatures(), purse: new Purse(chain), light: new LightReader(chain), go: (path) => go(path, { replace: true }) };
  // Where the relay proves nothing yet, a page says so once, below everything.
  say(element("proof", HTMLElement), chain.info.unproved === false ? "" : UNPROVED);
  feed.on("trouble", (words) => {
    silent = words;
    // What a view could not read stays said until it could.
    if (words !== null) showTrouble(words);
  });
  feed.on("change", soon);
  context.purse.on("change", soon);
  show();
  await feed.start();
}

// ---- Going from view to view

/** Shows what the address says. */
function show() {
  if (!context) return;
  const route = routeOf(location.pathname, location.search);
  showTabs();
  query.value = route?.view === "search" ? route.id : "";
  view = route ? VIEWS[route.view](context, route.id) : { title: "Network", root: nothing("There is no such page"), load: async () => {} };
  document.title = `${view.title} · Sutantra`;
  place.replaceChildren(view.root);
  loadedMs = -Infinity;
  void load();
}

/** @param {string} path @param {{ replace?: boolean }} [how] */
function go(path, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  show();
  // Who reads with the ears, or goes by keyboard, begins at the new view.
  if (!replace) place.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function showTabs() {
  const here = tabOf(location.pathname);
  const tabs = element("tabs", HTMLElement);
  if (tabs.childElementCount === 0) tabs.append(...TABS.map(([path, label]) => link(path, label)));
  for (const tab of tabs.querySelectorAll("a")) {
    const is = tab.getAttribute("href") === here;
    tab.toggleAttribute("aria-current", is);
    if (!is) continue;
    tab.setAttribute("aria-current", "page");
    // On a phone the tabs are wider than the screen.
    tabs.scrollLeft = tab.offsetLeft - (tabs.clientWidth - tab.clientWidth) / 2;
  }
}

// ---- Reading the chain

/** After a block; not more often than a person can read. */
function soon() {
  clearTimeout(later);
  later = setTimeout(() => void load(), Math.max(0, loadedMs + LOAD_MS_MIN - performance.now()));
}

async function load() {
  const shown = view;
  if (!shown || !context || document.hidden) return;
  if (loading) return soon();
  loading = true;
  loadedMs = performance.now();
  try {
    await Promise.all([context.chain.refresh().catch(() => {}), shown.load()]);
    if (context.feed.blocks[0]) say(element("chain", HTMLElement), `${context.chain.id} · block ${context.feed.height}`);
    if (silent === null) showTrouble(null);
  } catch (error) {
    if (view === shown) showTrouble(silent ?? `Not everything could be read${error instanceof ChainError || error instanceof RequestError ? `: ${error.message}` : "."} The page tries again with the next block.`);
  } finally {
    loading = false;
  }
  if (view !== shown) void load();
}

/** @param {string | null} words */
function showTrouble(words) {
  trouble.hidden = words === null;
  say(trouble, words ?? "");
}

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const anchor = event.target instanceof Element ? event.target.closest("a") : null;
  if (!anchor || anchor.origin !== location.origin || anchor.target || !routeOf(anchor.pathname, anchor.search) || anchor.hash) return;
  event.preventDefault();
  go(anchor.pathname + anchor.search);
});
element("search", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  const text = query.value.trim();
  if (text) go(pathTo.search(text));
});
addEventListener("popstate", show);
void begin();
void showRelay(element("relay", HTMLElement));
