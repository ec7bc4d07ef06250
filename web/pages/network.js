// Network: the chain as it grows, in sentences and pictures, and a search.

import { Backoff } from "./lib/backoff.js";
import { element, make, say, showRelay } from "./lib/dom.js";
import { cadence, moneyIn, searchFor, sentenceOf, usualMs } from "./lib/explorer.js";
import { counted, price, shortId } from "./lib/format.js";
import { sut, units } from "./lib/wallet/balance.js";
import { fromBase64, fromHex, toBase64 } from "./lib/wallet/bytes.js";
import { Chain, sentenceFor, termsAt } from "./lib/wallet/chain.js";
import { decodeTransaction, transactionHash } from "./lib/wallet/transaction.js";

/** @typedef {{ height: number, timeMs: number, transactions: number, hash: string }} Block */
/** @typedef {{ hash: string, parts: import("./lib/explorer.js").Part[], code: number }} Told a transaction as a sentence */

/** Without a WebSocket the page asks this often. */
const POLL_MS = 1000;
const BLOCKS_SHOWN = 12;
const BARS = 48;
/** Streams, pools and supply are asked for this often. */
const STATE_MS = 3000;

const trouble = element("trouble", HTMLElement);

/** @type {Chain} */
let chain;
/** Newest first. @type {Block[]} */
let blocks = [];
/** By height. @type {Map<number, Told[]>} */
const told = new Map();
let loading = false;
let connected = false;

async function begin() {
  const found = await Chain.find().catch(() => null);
  if (!found) {
    say(element("chain", HTMLElement), "This relay runs without a chain, so there is nothing to see here. Start it with a chain to register and pay streams.");
    return;
  }
  chain = found;
  element("all", HTMLElement).hidden = false;
  await Promise.all([load(), loadState()]);
  follow(new Backoff());
  setInterval(() => !connected && !document.hidden && void load(), POLL_MS);
  setInterval(() => !document.hidden && void loadState(), STATE_MS);
  const asked = new URLSearchParams(location.search).get("q");
  if (asked) void lookUp(asked);
}

/** New blocks as they come; the page polls while there is no WebSocket. @param {Backoff} backoff */
function follow(backoff) {
  const address = new URL(`${chain.info.rpc}/websocket`, location.href);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address);
  socket.onopen = () => socket.send(JSON.stringify({ jsonrpc: "2.0", id: 1, method: "subscribe", params: { query: "tm.event='NewBlock'" } }));
  socket.onmessage = () => {
    connected = true;
    backoff.reset();
    if (!document.hidden) void load();
  };
  socket.onclose = () => {
    connected = false;
    setTimeout(() => follow(backoff), backoff.next());
  };
}

async function load() {
  if (loading) return;
  loading = true;
  try {
    const newest = blocks[0]?.height ?? 0;
    const { last_height, block_metas } = await chain.call("blockchain", newest ? { minHeight: String(newest + 1), maxHeight: "0" } : {});
    const metas = Number(last_height) > newest ? (block_metas ?? []).map(asBlock) : [];
    const known = new Set(blocks.map(({ height }) => height));
    blocks = [...metas.filter((/** @type {Block} */ block) => !known.has(block.height)), ...blocks].sort((one, other) => other.height - one.height).slice(0, BARS + 1);
    await older();
    await Promise.all(blocks.slice(0, BLOCKS_SHOWN).filter((block) => block.transactions > 0 && !told.has(block.height)).map(tell));
    trouble.hidden = true;
    showBlocks();
  } catch {
    say(trouble, "The chain does not answer. This page tries again by itself; is sutantra-node still running?");
    trouble.hidden = false;
  } finally {
    loading = false;
  }
}

/** Fills the strip on the first visit: the RPC gives 20 blocks at once. */
async function older() {
  for (let tries = 0; tries < 3; tries += 1) {
    const oldest = blocks.at(-1)?.height ?? 1;
    if (blocks.length > BARS || oldest <= 1) return;
    const { block_metas } = await chain.call("blockchain", { minHeight: String(Math.max(1, oldest - 20)), maxHeight: String(oldest - 1) });
    const more = (block_metas ?? []).map(asBlock).filter((/** @type {Block} */ block) => block.height < oldest);
    if (more.length === 0) return;
    blocks = [...blocks, ...more].sort((one, other) => other.height - one.height).slice(0, BARS + 1);
  }
}

/** @param {any} meta @returns {Block} */
function asBlock(meta) {
  return { height: Number(meta.header.height), timeMs: Date.parse(meta.header.time), transactions: Number(meta.num_txs), hash: String(meta.block_id?.hash ?? "") };
}

/** Decodes a block's transactions. @param {{ height: number }} block */
async function tell({ height }) {
  const [{ block }, { txs_results }] = await Promise.all([chain.call("block", { height: String(height) }), chain.call("block_results", { height: String(height) })]);
  const list = await Promise.all((block.data.txs ?? []).map((/** @type {string} */ tx, /** @type {number} */ at) => asTold(fromBase64(tx), Number(txs_results?.[at]?.code ?? 0))));
  told.set(height, list);
}

/** @param {Uint8Array} bytes @param {number} code @returns {Promise<Told>} */
async function asTold(bytes, code) {
  const hash = await transactionHash(bytes);
  try {
    return { hash, parts: sentenceOf(decodeTransaction(bytes)), code };
  } catch {
    return { hash, parts: ["bytes that are no transaction of this chain"], code };
  }
}

// ---- Pictures and lists

function showBlocks() {
  const [newest] = blocks;
  if (!newest) return;
  say(element("chain", HTMLElement), chain.id);
  say(element("height", HTMLElement), String(newest.height));
  const bars = cadence(blocks, BARS);
  const usual = usualMs(bars);
  say(element("cadence-note", HTMLElement), `${usual === null ? "" : `One each ${(usual / 1000).toFixed(1)} s. `}A bar is a block: its height the time it took, filled when it carried transactions. Nothing is undone after it.`);
  element("strip", HTMLElement).replaceChildren(
    ...bars.map(({ height, ms, share, transactions }) => {
      const bar = make("span", transactions > 0 ? "bar-full" : "");
      bar.style.height = `${Math.max(8, share * 100)}%`;
      bar.title = `Block ${height}: ${(ms / 1000).toFixed(2)} s, ${counted(transactions, "transaction")}`;
      return bar;
    }),
  );
  rows("blocks", blocks.slice(0, BLOCKS_SHOWN), (block) => {
    const head = make("div", "row-item", make("strong", "", jump(String(block.height), String(block.height))), make("span", "muted", `${timeOf(block.timeMs)} · ${counted(block.transactions, "transaction")}`));
    return make("li", "", head, ...(told.get(block.height) ?? []).map(sentence));
  });
}

/** @param {Told} transaction */
function sentence({ hash, parts, code }) {
  const line = make("p", code === 0 ? "told" : "told failed", ...parts.map((part) => (typeof part === "string" ? part : jump(part.id, shortId(part.id)))), " ");
  line.append(jump(hash, "details"));
  if (code !== 0) line.append(make("span", "help", ` No effect: ${sentenceFor(code)}`));
  return line;
}

async function loadState() {
  try {
    const [info, supply, streams, relays] = await Promise.all([chain.refresh(), chain.query("/supply"), chain.streams(), chain.query("/relays")]);
    const pools = (await Promise.all((relays ?? []).map((/** @type {any} */ relay) => chain.query(`/channels/by-payee/${relay.account}`)))).flat().filter(Boolean);
    showSupply(supply);
    showStreams(streams, info.height);
    showPools([...new Map(pools.map((pool) => [pool.id, pool])).values()]);
    rows("relays", relays ?? [], (relay) =>
      make("li", "row-item", make("div", "row-words", jump(relay.account, shortId(relay.account)), make("p", "help", `Signs under ${shortId(relay.relay_key)}${relay.endpoint ? `, at ${relay.endpoint}` : ""}; bond ${sut(units(relay.bond))}; since block ${relay.since_height}`))),
    );
  } catch {
    // `load` tells the person when the chain is silent.
  }
}

/** @param {any} supply */
function showSupply(supply) {
  const [genesis, burned, pool] = [units(supply.genesis), units(supply.burned), units(supply.fee_pool ?? "0")];
  say(element("supply", HTMLElement), sut(genesis - burned));
  say(element("burned", HTMLElement), sut(burned));
  say(element("fee-pool", HTMLElement), sut(pool));
  const left = genesis > 0n ? Number(((genesis - burned) * 100_000n) / genesis) / 1000 : 100;
  element("supply-left", HTMLElement).style.width = `${left}%`;
  element("supply-bar", HTMLElement).setAttribute("aria-label", `${left} percent of the first supply are left`);
}

/** @param {import("./lib/wallet/chain.js").StreamRecord[]} streams @param {number} height */
function showStreams(streams, height) {
  element("no-streams", HTMLElement).hidden = streams.length > 0;
  rows("streams", [...streams].sort((one, other) => other.created - one.created), (stream) => {
    const terms = termsAt(stream, height);
    const cost = stream.policy === "ticketed" ? `${sut(units(terms?.ticket_price ?? "0"))} a ticket` : price({ price_per_second: terms?.rate_per_second ?? "0", policy: stream.policy });
    const watch = make("a", "", stream.title || "No title");
    watch.setAttribute("href", `/watch/${stream.id}`);
    return make("li", "row-item", make("div", "row-words", watch, make("p", "help", jump(stream.id, shortId(stream.id)), " by ", jump(stream.creator, shortId(stream.creator)))), make("span", "chip price", stream.ended ? "ended" : cost));
  });
}

/** @param {any[]} pools */
function showPools(pools) {
  const open = pools.filter((pool) => !pool.closed);
  element("no-channels", HTMLElement).hidden = open.length > 0;
  say(element("in-pools", HTMLElement), sut(open.reduce((sum, pool) => sum + units(pool.deposits) - units(pool.redeemed), 0n)));
  rows("channels", open.slice(0, 20), (pool) =>
    make("li", "row-item", make("div", "row-words", jump(pool.id, shortId(pool.id)), make("p", "help", "of ", jump(pool.payer, shortId(pool.payer)), `${pool.close_requested ? " · closing" : ""}`)), make("span", "amount", `${sut(units(pool.redeemed))} collected of ${sut(units(pool.deposits))}`)),
  );
}

// ---- Search

/** @param {string} text */
async function lookUp(text) {
  const box = element("found", HTMLElement);
  element("query", HTMLInputElement).value = text;
  history.replaceState(null, "", text ? `/network?q=${encodeURIComponent(text)}` : "/network");
  const wanted = searchFor(text);
  box.hidden = false;
  if (wanted.kind === "nothing") return box.replaceChildren(make("p", "muted", wanted.why));
  box.replaceChildren(make("p", "muted", "Looking…"));
  const cards = await (wanted.kind === "height" ? blockCards(wanted.height) : idCards(wanted.id)).catch(() => []);
  const close = make("button", "button", "Close");
  close.addEventListener("click", () => {
    box.hidden = true;
    history.replaceState(null, "", "/network");
  });
  box.replaceChildren(...(cards.length > 0 ? cards : [make("p", "muted", `The chain knows nothing of ${text.trim()}. It may be older than what this relay keeps, or on another chain.`)]), make("div", "actions", close));
  box.scrollIntoView({ block: "nearest" });
}

/** @param {number} height @returns {Promise<HTMLElement[]>} */
async function blockCards(height) {
  const { block, block_id } = await chain.call("block", { height: String(height) });
  await tell({ height });
  const { txs_results } = await chain.call("block_results", { height: String(height) });
  const { paid, burned } = moneyIn((txs_results ?? []).flatMap((/** @type {any} */ result) => result.events ?? []));
  return [
    facts(`Block ${height}`, [
      ["Closed", new Date(block.header.time).toLocaleString(), "The time the validators agreed on."],
      ["Hash", block_id.hash, "Names this block and all before it."],
      ["State", block.header.app_hash, "The root of all accounts, streams and pools before this block."],
      ["Collected", sut(paid), "What vouchers paid in this block."],
      ["Burned", sut(burned), "Of fees, gone for good."],
    ]),
    ...(told.get(height) ?? []).map(sentence),
  ];
}

/** An id may be of anything: all are asked. @param {string} id @returns {Promise<HTMLElement[]>} */
async function idCards(id) {
  const none = () => null;
  const [tx, account, stream, channel, relay] = await Promise.all([
    chain.call("tx", { hash: toBase64(fromHex(id)), prove: false }).catch(none),
    chain.query(`/account/${id}`).catch(none),
    chain.stream(id).catch(none),
    chain.channel(id).catch(none),
    chain.relay(id).catch(none),
  ]);
  const cards = [];
  if (tx) cards.push(...(await transactionCards(tx)));
  if (account) {
    const pools = await chain.channelsOf(id).catch(() => []);
    cards.push(
      facts("Account", [
        ["Id", id, "Its public key."],
        ["Balance", sut(units(account.balance)), "What it can spend now."],
        ["In pools", sut(pools.filter((pool) => !pool.closed).reduce((sum, pool) => sum + pool.deposits - pool.redeemed, 0n)), "Its deposits that are not yet collected."],
        ["Transactions", String(account.nonce), "How many it was charged for so far."],
      ]),
    );
  }
  if (stream) cards.push(streamCard(stream));
  if (channel) {
    cards.push(
      facts("Pool", [
        ["Id", id, ""],
        ["Of", jump(channel.payer, channel.payer), "Who deposited, and gets the rest."],
        ["Deposits", sut(channel.deposits), "All that was put in."],
        ["Collected", sut(channel.redeemed), "All that relays took out by vouchers."],
        ...channel.reserves.map((reserve) => /** @type {[string, string, string]} */ (["Reserved", sut(reserve.amount), `For ${shortId(reserve.payee)}, until block ${reserve.until_height}.`])),
        ["State", channel.closed ? "closed" : channel.close_requested ? `closing since block ${channel.close_requested.height}` : "open", `Anybody may close it from block ${channel.expires_height} on.`],
      ]),
    );
  }
  if (relay) {
    cards.push(
      facts("Relay", [
        ["Signs under", relay.relay_key, "A wallet pays a relay only under this key."],
        ["Bond", sut(units(relay.bond)), "What it has put in."],
        ["Takes", `${relay.min_share_bps / 100} % at least`, "It serves no stream that leaves it less."],
      ]),
    );
  }
  return cards;
}

/** @param {any} tx */
async function transactionCards(tx) {
  const bytes = fromBase64(tx.tx);
  const code = Number(tx.tx_result?.code ?? 0);
  const transaction = await asTold(bytes, code);
  const { paid, burned } = moneyIn(tx.tx_result?.events ?? []);
  let body = null;
  try {
    body = decodeTransaction(bytes).body;
  } catch {
    // Shown by its hash alone.
  }
  const payload = make("pre", "", body ? JSON.stringify(body.payload, null, 2) : "");
  return [
    facts("Transaction", [
      ["Hash", transaction.hash, "Names it on this chain."],
      ["Block", jump(String(tx.height), String(tx.height)), "Where it took effect."],
      ["Result", code === 0 ? "done" : `code ${code}`, code === 0 ? "It has taken effect." : sentenceFor(code)],
      ["Fee", body ? sut(units(body.fee)) : "–", `Of it ${sut(burned)} burned.`],
      ...(paid > 0n ? [/** @type {[string, string, string]} */ (["Paid out", sut(paid), "By its vouchers, before the split."])] : []),
    ]),
    sentence(transaction),
    payload,
  ];
}

/** @param {import("./lib/wallet/chain.js").StreamRecord} stream */
function streamCard(stream) {
  const terms = termsAt(stream, chain.info.height);
  const split = stream.split.at(-1);
  return facts(stream.title || "Stream", [
    ["Id", stream.id, ""],
    ["Creator", jump(stream.creator, stream.creator), "Registered it, and is paid."],
    ["Price", terms ? `${sut(units(terms.rate_per_second))}/s` : "–", `Version ${terms?.version ?? "–"}; a new one is announced blocks ahead.`],
    ["Ticket", terms ? sut(units(terms.ticket_price)) : "–", "Where it is watched by ticket."],
    ["Creator's share", split ? `${split.creator_bps / 100} %` : "–", "Of each payment after 1 % fee; relays get the rest."],
    ["Who may watch", price({ price_per_second: terms?.rate_per_second ?? "0", policy: stream.policy }), stream.ended ? "It has ended." : ""],
  ]);
}

/** @param {string} title @param {[string, string | HTMLElement, string][]} lines value and what it means */
function facts(title, lines) {
  const list = make("dl", "facts");
  for (const [label, value, help] of lines) {
    const cell = make("dd", "", value);
    list.append(make("div", "", make("dt", "", label), cell, make("dd", "help", help)));
  }
  return make("div", "", make("h2", "", title), list);
}

/** A link that looks something up on this page. @param {string} text @param {string} label */
function jump(text, label) {
  const link = /** @type {HTMLAnchorElement} */ (make("a", text.length > 16 ? "mono" : "", label));
  link.href = `/network?q=${encodeURIComponent(text)}`;
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    void lookUp(text);
  });
  return link;
}

/** Replaces rows only where something changed, so that a link is not pulled away under a finger. @template T @param {string} id @param {T[]} items @param {(item: T) => HTMLElement} row */
function rows(id, items, row) {
  const list = element(id, HTMLElement);
  const made = items.map(row);
  const shown = made.map((each) => each.textContent).join("\n");
  if (list.dataset["shown"] === shown) return;
  list.dataset["shown"] = shown;
  list.replaceChildren(...made);
}

/** @param {number} ms */
function timeOf(ms) {
  return new Date(ms).toLocaleTimeString();
}

element("search", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  void lookUp(element("query", HTMLInputElement).value);
});
void begin();
void showRelay(element("relay", HTMLElement));
