// One box for everything: a height, an id of whatever kind, a validator's address or name, a stream's
// title; and what was tried where nothing was found.

import { searchFor } from "../explorer.js";
import { shortId } from "../format.js";
import { fromHex, toBase64 } from "../wallet/bytes.js";
import { nothing, make, box, idLink, list, row } from "./parts.js";
import { asValidator, nameOf } from "./records.js";
import { pathTo } from "./routes.js";

/** Something that fits. @typedef {{ to: string, kind: string, name: string }} Hit */
/** @typedef {{ hits: Hit[], tried: string[], why: string }} Found */

/** The most hits by name. */
const HITS_MAX = 20;

/**
 * Asks the chain for everything that a text may mean.
 * @param {import("../wallet/chain.js").Chain} chain
 * @param {string} text
 * @returns {Promise<Found>}
 */
export async function find(chain, text) {
  const wanted = searchFor(text);
  switch (wanted.kind) {
    case "height":
      return { hits: [{ to: pathTo.block(wanted.height), kind: "Block", name: String(wanted.height) }], tried: ["a block of this height"], why: "" };
    case "id":
      return byId(chain, wanted.id);
    case "address":
      return byAddress(chain, wanted.address);
    case "name":
      return byName(chain, wanted.name);
    case "nothing":
      return { hits: [], tried: [], why: wanted.why };
  }
}

/** An id may be of anything: all are asked, and the most telling comes first. @param {import("../wallet/chain.js").Chain} chain @param {string} id @returns {Promise<Found>} */
async function byId(chain, id) {
  const none = () => null;
  const asked = /** @type {[what: string, kind: string, to: string, answer: Promise<unknown>][]} */ ([
    ["a transaction", "Transaction", pathTo.transaction(id), chain.call("tx", { hash: toBase64(fromHex(id)), prove: false }).catch(none)],
    ["a stream", "Stream", pathTo.stream(id), chain.stream(id).catch(none)],
    ["a pool", "Pool", pathTo.pool(id), chain.channel(id).catch(none)],
    ["a validator", "Validator", pathTo.validator(id), chain.query(`/validator/${id}`).catch(none)],
    ["a relay", "Relay", pathTo.relay(id), chain.relay(id).catch(none)],
    ["an account", "Account", pathTo.account(id), chain.query(`/account/${id}`).catch(none)],
    ["a block's hash", "Block", "", chain.call("header_by_hash", { hash: toBase64(fromHex(id)) }).catch(none)],
  ]);
  const answers = await Promise.all(asked.map(([, , , answer]) => answer));
  const hits = asked.flatMap(([, kind, to], at) => {
    /** @type {any} */
    const answer = answers[at];
    if (kind === "Block") return answer?.header?.height ? [{ to: pathTo.block(answer.header.height), kind, name: String(answer.header.height) }] : [];
    return answer ? [{ to, kind, name: id }] : [];
  });
  return { hits, tried: asked.map(([what]) => what), why: "" };
}

/** @param {import("../wallet/chain.js").Chain} chain @param {string} address @returns {Promise<Found>} */
async function byAddress(chain, address) {
  const all = (await chain.list("/validators", ({ account }) => account)).map(asValidator);
  const hits = all.filter((each) => each.address === address).map((each) => ({ to: pathTo.validator(each.operator), kind: "Validator", name: nameOf(each) }));
  return { hits, tried: ["a validator's address in blocks"], why: "" };
}

/** @param {import("../wallet/chain.js").Chain} chain @param {string} name @returns {Promise<Found>} */
async function byName(chain, name) {
  const fits = (/** @type {string} */ text) => text.toLowerCase().includes(name.toLowerCase());
  const [validators, streams] = await Promise.all([chain.list("/validators", ({ account }) => account).catch(() => []), chain.streams().catch(() => [])]);
  const hits = [
    ...validators.map(asValidator).filter((each) => fits(nameOf(each))).map((each) => ({ to: pathTo.validator(each.operator), kind: "Validator", name: nameOf(each) })),
    ...streams.filter(({ title }) => fits(title)).map((each) => ({ to: pathTo.stream(each.id), kind: "Stream", name: each.title })),
  ];
  return { hits: hits.slice(0, HITS_MAX), tried: ["a validator's name", "a stream's title"], why: "Heights are digits; transactions, accounts, streams and pools are named by 64 hexadecimal digits." };
}

/** @param {import("./parts.js").Context} context @param {string} text @returns {import("./parts.js").View} */
export function search({ chain, go }, text) {
  const root = make("div", "column", make("p", "muted", `Looking for ${text}…`));
  let done = false;
  const load = async () => {
    if (done) return;
    done = true;
    const { hits, tried, why } = await find(chain, text);
    const [only] = hits;
    // What has one meaning, or an account of which something more is known, is shown at once.
    if (only && (hits.length === 1 || hits.every(({ name }) => name === only.name))) return go(only.to);
    if (only) {
      const found = list("ul", "");
      found.show(hits.map(({ to, kind, name }) => row([idLink(to, name, name)], [kind])));
      return root.replaceChildren(box(`Found for “${text}”`, "", found.root));
    }
    const miss = nothing(`Nothing is called ${shortId(text.trim()) || "so"}`, tried);
    if (why) miss.querySelector("p")?.append(" ", why);
    root.replaceChildren(miss);
  };
  return { title: "Search", root, load };
}
