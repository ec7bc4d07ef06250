// Addresses of the explorer: which view a path shows, and the path of each thing. Pure.

/** @typedef {"overview" | "search" | "block" | "transaction" | "validators" | "validator" | "stake" | "streams" | "stream" | "relays" | "relay" | "pools" | "pool" | "decisions" | "decision" | "account"} ViewName */
/** @typedef {{ view: ViewName, id: string }} Route */

const ID = /^[0-9a-f]{64}$/;
const NUMBER = /^\d{1,15}$/;

/** Lists, and what one of their things is called and named by. @type {Record<string, { list: ViewName | null, one: ViewName | null, named: RegExp }>} */
const PLACES = {
  blocks: { list: null, one: "block", named: NUMBER },
  transactions: { list: null, one: "transaction", named: ID },
  validators: { list: "validators", one: "validator", named: ID },
  stake: { list: "stake", one: null, named: ID },
  streams: { list: "streams", one: "stream", named: ID },
  relays: { list: "relays", one: "relay", named: ID },
  pools: { list: "pools", one: "pool", named: ID },
  decisions: { list: "decisions", one: "decision", named: NUMBER },
  accounts: { list: null, one: "account", named: ID },
};

/** What stands above every view. */
export const TABS = /** @type {const} */ ([
  ["/network", "Overview"],
  ["/network/validators", "Validators"],
  ["/network/stake", "My stake"],
  ["/network/streams", "Streams"],
  ["/network/relays", "Relays"],
  ["/network/pools", "Pools"],
  ["/network/decisions", "Decisions"],
]);

/**
 * @param {string} path of an address
 * @param {string} [search] its question
 * @returns {Route | null} null: no view of the explorer
 */
export function routeOf(path, search = "") {
  const [, root, place, id, ...rest] = path.replace(/\/$/, "").split("/");
  if (root !== "network" || rest.length > 0) return null;
  if (place === undefined) {
    const asked = new URLSearchParams(search).get("q");
    return asked === null ? { view: "overview", id: "" } : { view: "search", id: asked };
  }
  const known = Object.hasOwn(PLACES, place) ? PLACES[place] : undefined;
  if (!known) return null;
  if (id === undefined) return known.list && { view: known.list, id: "" };
  const name = id.toLowerCase();
  return known.one && known.named.test(name) ? { view: known.one, id: name } : null;
}

/** The tab above a view. @param {string} path */
export function tabOf(path) {
  const place = path.split("/")[2];
  return place === undefined || place === "" ? "/network" : `/network/${place}`;
}

/** Where a thing is shown. */
export const pathTo = {
  /** @param {number | string} height */
  block: (height) => `/network/blocks/${height}`,
  /** @param {string} hash */
  transaction: (hash) => `/network/transactions/${hash.toLowerCase()}`,
  /** @param {string} operator */
  validator: (operator) => `/network/validators/${operator}`,
  /** @param {string} id */
  stream: (id) => `/network/streams/${id}`,
  /** @param {string} account */
  relay: (account) => `/network/relays/${account}`,
  /** @param {string} id */
  pool: (id) => `/network/pools/${id}`,
  /** @param {number | string} number */
  decision: (number) => `/network/decisions/${number}`,
  /** @param {string} account */
  account: (account) => `/network/accounts/${account}`,
  /** Of whatever it is. @param {string} text */
  search: (text) => `/network?q=${encodeURIComponent(text)}`,
};
