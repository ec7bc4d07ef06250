// Streams, relays and pools: what is registered to be watched, who carries it, and what pays for it.

import { price, shortId } from "../format.js";
import { sut, units } from "../wallet/balance.js";
import { termsAt } from "../wallet/chain.js";
import { box, chip, facts, heading, idLink, instead, link, list, make, money, nothing, put, row, time, tiles } from "./parts.js";
import { share } from "./plot.js";
import { percentOf } from "./records.js";
import { pathTo } from "./routes.js";

/** @typedef {import("./parts.js").Context} Context */
/** @typedef {import("./parts.js").View} View */
/** @typedef {import("./parts.js").Fact} Fact */
/** @typedef {import("../wallet/chain.js").StreamRecord} StreamRecord */

/** Rows of a list; more are counted. */
const ROWS_MAX = 100;

/** @param {readonly Element[]} rows */
function cut(rows) {
  return rows.length > ROWS_MAX ? [...rows.slice(0, ROWS_MAX), make("li", "row-item muted", `and ${rows.length - ROWS_MAX} more: look one up by its id`)] : rows;
}

/** @param {StreamRecord} stream @param {number} height */
function costOf(stream, height) {
  const terms = termsAt(stream, height);
  if (stream.ended) return "ended";
  return stream.policy === "ticketed" ? `${sut(units(terms?.ticket_price ?? "0"))} a ticket` : price({ price_per_second: terms?.rate_per_second ?? "0", policy: stream.policy });
}

/** @param {StreamRecord} stream @param {number} height */
function streamRow(stream, height) {
  return row([make("strong", "", link(pathTo.stream(stream.id), stream.title || "No title"))], [idLink(pathTo.stream(stream.id), stream.id), " by ", idLink(pathTo.account(stream.creator), stream.creator)], chip(costOf(stream, height), stream.ended ? "" : "price"));
}

/** @param {Context} context @returns {View} */
export function streams({ chain, feed }) {
  const all = list("ul", make("span", "", "None yet. ", link("/publish", "Publish one"), " with a price, and it is registered here."));
  const root = make("div", "column", box("Streams", "Registered on chain, live or not. The price is the creator's; no relay can ask more.", all.root));
  const load = async () => {
    const records = await chain.streams();
    all.show(cut([...records].sort((one, other) => Number(Boolean(one.ended)) - Number(Boolean(other.ended)) || other.created - one.created).map((each) => streamRow(each, feed.height))));
  };
  return { title: "Streams", root, load };
}

/** @param {Context} context @param {string} id @returns {View} */
export function stream({ chain, feed }, id) {
  const head = make("div", "", heading("Stream", shortId(id)));
  const about = make("div", "about-place");
  const terms = list("ol", "It has no price.");
  const body = make("div", "column", head, make("div", "columns even", box("About", "", about), box("Prices", "Each is announced blocks ahead; the last one whose block has come holds.", terms.root)));
  const root = make("div", "", body);
  const load = async () => {
    const found = await chain.stream(id);
    if (!found) return instead(root, body, nothing("There is no such stream", ["a registered stream"]));
    instead(root, body, null);
    const split = found.split.at(-1);
    const now = termsAt(found, feed.height);
    put(head, heading("Stream", found.title || "No title", chip(costOf(found, feed.height), "price"), link(`/watch/${id}`, "Watch", "button")));
    put(
      about,
      facts([
        ["Id", make("span", "mono", id)],
        ["Creator", idLink(pathTo.account(found.creator), found.creator), "Registered it, and is paid."],
        ["Who may watch", { free: "everybody", paid: "who pays by the second", ticketed: "who has a ticket", allow_list: "who was invited" }[found.policy] ?? found.policy],
        ["Creator's share", split ? `${split.creator_bps / 100} %` : "–", "Of each payment after 1 % fee; relays get the rest."],
        ["Origin", found.origin_relay ? idLink(pathTo.relay(found.origin_relay), found.origin_relay) : "none named", split && split.origin_bps > 0 ? `Its relay gets ${split.origin_bps / 100} %.` : ""],
        ["Codecs", found.codecs.length > 0 ? found.codecs.join(", ") : "–"],
        ["Registered", time(found.created, { day: true })],
        ...(found.ended ? [/** @type {Fact} */ (["Ended", time(found.ended, { day: true })])] : []),
      ]),
    );
    terms.show([...found.terms].reverse().map((each) => row([`${sut(units(each.rate_per_second))}/s`, ...(units(each.ticket_price) > 0n ? [` · ${sut(units(each.ticket_price))} a ticket`] : [])], [`Version ${each.version}, from `, link(pathTo.block(each.from_height), `block ${each.from_height}`)], ...(each === now ? [chip("now", "good")] : []))));
  };
  return { title: "Stream", root, load };
}

/** @param {{ since_height: number }} relay */
const since = ({ since_height: height }) => (height > 0 ? link(pathTo.block(height), `block ${height}`) : "the beginning");

/** @param {Context} context @returns {View} */
export function relays({ chain }) {
  const all = list("ul", "None yet. A node becomes one with sutantra-node start --role relay.");
  const root = make("div", "column", box("Relays", "Who carries the media, under which key they sign, and what they have put in as a bond.", all.root));
  const load = async () => {
    const records = await chain.list("/relays", ({ account }) => account);
    all.show(cut(records.map((relay) => row([make("strong", "", idLink(pathTo.relay(relay.account), relay.account, relay.endpoint || ""))], [`Signs under ${shortId(relay.relay_key)} · since `, since(relay), relay.region ? ` · ${relay.region}` : ""], ...(relay.leaving ? [chip("leaving", "warn")] : []), make("span", "amount", `${sut(units(relay.bond))} bond`)))));
  };
  return { title: "Relays", root, load };
}

/** @param {Context} context @param {string} id @returns {View} */
export function relay({ chain, book }, id) {
  const head = make("div", "", heading("Relay", shortId(id)));
  const about = make("div", "about-place");
  const pools = list("ul", "No pool pays it.");
  const body = make("div", "column", head, make("div", "columns even", box("About", "", about), box("Pools that pay it", "", pools.root)));
  const root = make("div", "", body);
  const load = async () => {
    const [found, records] = await Promise.all([chain.relay(id), chain.list(`/channels/by-payee/${id}`, (each) => each.id).catch(() => []), book.validators()]);
    if (!found) return instead(root, body, nothing("There is no such relay", ["a registered relay"]));
    instead(root, body, null);
    const validator = book.validator(id);
    put(head, heading("Relay", found.endpoint || shortId(id), ...(found.leaving ? [chip("leaving", "warn")] : []), ...(validator ? [chip("also a validator", "good")] : [])));
    put(
      about,
      facts([
        ["Account", idLink(pathTo.account(id), id, id), "It is paid what vouchers bring."],
        ["Signs under", make("span", "mono", String(found.relay_key)), "A wallet pays a relay only under this key."],
        ["Bond", money(units(found.bond)), found.leaving ? "It is leaving: the bond comes back after the unbonding time." : "A part is lost when a fault is proved."],
        ["Takes", `${found.min_share_bps / 100} % at least`, "It serves no stream that leaves it less."],
        ["Region", found.region || "–"],
        ["Since", since(found)],
        ...(validator ? [/** @type {Fact} */ (["Validator", idLink(pathTo.validator(id), id, book.nameOf(id) ?? "")])] : []),
      ]),
    );
    pools.show(cut(records.map(poolRow)));
  };
  return { title: "Relay", root, load };
}

/** @param {any} pool */
function poolRow(pool) {
  const [deposits, redeemed] = [units(pool.deposits), units(pool.redeemed)];
  return row([idLink(pathTo.pool(pool.id), pool.id)], ["of ", idLink(pathTo.account(pool.payer), pool.payer), pool.closed ? " · closed" : pool.close_requested ? " · closing" : "", share(percentOf(redeemed, deposits))], make("span", "amount", `${sut(redeemed)} collected of ${sut(deposits)}`));
}

/** @param {Context} context @returns {View} */
export function pools({ chain }) {
  const now = tiles({ open: ["Open", "Pools that can pay now."], deposits: ["In them", "Deposits not yet collected."], collected: ["Collected", "By relays, out of all pools shown."] });
  const all = list("ul", "None at the moment. One opens when somebody begins to watch a paid stream.");
  const root = make("div", "column", now.root, box("Pools", "Deposits that pay by the second. What relays have not collected goes back when a pool closes.", all.root));
  const load = async () => {
    const known = await chain.list("/relays", ({ account }) => account);
    const lists = await Promise.all(known.map(({ account }) => chain.list(`/channels/by-payee/${account}`, (each) => each.id)));
    const records = [...new Map(lists.flat().map((pool) => [pool.id, pool])).values()].sort((one, other) => Number(one.closed) - Number(other.closed));
    const open = records.filter(({ closed }) => !closed);
    now.set("open", String(open.length));
    now.set("deposits", money(open.reduce((sum, pool) => sum + units(pool.deposits) - units(pool.redeemed), 0n)));
    now.set("collected", money(records.reduce((sum, pool) => sum + units(pool.redeemed), 0n)));
    all.show(cut(records.map(poolRow)));
  };
  return { title: "Pools", root, load };
}

/** @param {Context} context @param {string} id @returns {View} */
export function pool({ chain }, id) {
  const head = make("div", "", heading("Pool", shortId(id)));
  const about = make("div", "about-place");
  const reserves = list("ul", "Nothing is kept for anybody.");
  const lanes = list("ul", "Nobody has collected yet.");
  const body = make("div", "column", head, make("div", "columns even", box("About", "", about), make("div", "column", box("Reserved", "For whom its money is kept, and until when.", reserves.root), box("Collected so far", "By relay and stream.", lanes.root))));
  const root = make("div", "", body);
  const load = async () => {
    const [found, records] = await Promise.all([chain.channel(id), chain.query(`/lanes/${id}`).catch(() => [])]);
    if (!found) return instead(root, body, nothing("There is no such pool", ["a pool, open or closed"]));
    instead(root, body, null);
    const state = found.closed ? "closed" : found.close_requested ? "closing" : "open";
    put(head, heading("Pool", shortId(id), chip(state, state === "open" ? "good" : state === "closing" ? "warn" : "")));
    put(
      about,
      facts([
        ["Id", make("span", "mono", id)],
        ["Of", idLink(pathTo.account(found.payer), found.payer), "Who deposited, and gets the rest."],
        ["Deposits", money(found.deposits), "All that was put in."],
        ["Collected", money(found.redeemed), "All that relays took out by vouchers."],
        ["Left", money(found.deposits - found.redeemed)],
        ["State", state, found.close_requested ? `Closing since block ${found.close_requested.height}.` : `Anybody may close it from block ${found.expires_height} on.`],
      ]),
    );
    reserves.show(found.reserves.map((each) => row([idLink(pathTo.relay(each.payee), each.payee)], [`until block ${each.until_height}`], money(each.amount))));
    lanes.show(
      (records ?? []).map((/** @type {any} */ lane) => row([idLink(pathTo.stream(lane.stream), lane.stream)], ["by ", idLink(pathTo.relay(lane.payee), lane.payee)], money(units(lane.paid)))),
    );
  };
  return { title: "Pool", root, load };
}
