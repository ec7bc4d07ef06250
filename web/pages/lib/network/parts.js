// Pieces of the explorer's views: links, boxes, tiles, tables, lists that keep still.

import { make, say } from "../dom.js";
import { shortId } from "../format.js";
import { UNITS_PER_SUT, sut, toSut } from "../wallet/balance.js";
import { sentenceFor } from "../wallet/chain.js";
import { pathTo } from "./routes.js";

export { make, say };

/**
 * What the explorer shows at one address.
 * @typedef {object} View
 * @property {string} title of the page
 * @property {HTMLElement} root there at once, filled by `load`
 * @property {() => Promise<void>} load reads the chain and shows it; called again after blocks
 */

/**
 * What every view has.
 * @typedef {object} Context
 * @property {import("../wallet/chain.js").Chain} chain
 * @property {import("./feed.js").BlockFeed} feed
 * @property {import("./signatures.js").Signatures} signatures
 * @property {import("./book.js").Book} book
 * @property {import("./purse.js").Purse} purse
 * @property {import("../light/reader.js").LightReader} light
 * @property {(path: string) => void} go
 */

/** @typedef {string | Node} Content */

/** @param {string} to @param {string} label @param {string} [className] */
export function link(to, label, className = "") {
  const made = /** @type {HTMLAnchorElement} */ (make("a", className, label));
  made.href = to;
  return made;
}

/** A link by the ends of an id; all of it for who points at it. @param {string} to @param {string} id @param {string} [label] */
export function idLink(to, id, label = "") {
  const made = link(to, label || shortId(id), label && label !== id ? "" : "mono");
  made.title = id;
  return made;
}

const MILLION = 1_000_000n * UNITS_PER_SUT;

/** An amount where there is little room: millions with two decimals, cut and never rounded up. @param {bigint} amount */
export function shortSut(amount) {
  if (amount < MILLION) return sut(amount);
  const hundredths = amount / (MILLION / 100n);
  const decimals = String(hundredths % 100n).padStart(2, "0").replace(/0+$/, "");
  return `${hundredths / 100n}${decimals && `.${decimals}`} M SUT`;
}

/** An amount at a glance, all its decimals for who points at it. @param {bigint} amount */
export function money(amount) {
  const made = make("span", "amount", shortSut(amount));
  made.title = `${toSut(amount)} SUT`;
  return made;
}

/** @param {number} ms @param {{ day?: boolean }} [how] */
export function time(ms, { day = false } = {}) {
  const made = /** @type {HTMLTimeElement} */ (make("time", "", day ? new Date(ms).toLocaleString() : new Date(ms).toLocaleTimeString()));
  made.dateTime = new Date(ms).toISOString();
  made.title = new Date(ms).toLocaleString();
  return made;
}

/** @param {string} word @param {string} [kind] good, warn, bad @param {string} [help] */
export function chip(word, kind = "", help = "") {
  const made = make("span", `chip ${kind}`.trim(), word);
  if (help) made.title = help;
  return made;
}

/**
 * A box with a heading and a line that explains it.
 * @param {string} title @param {string} help @param {...Content} children
 */
export function box(title, help, ...children) {
  const made = make("section", "card-box", make("h2", "", title), ...(help ? [make("p", "help", help)] : []), ...children);
  made.setAttribute("aria-label", title);
  return made;
}

/**
 * Figures beside each other. They have their size before they have a value.
 * @param {Record<string, [label: string, help: string]>} what by name
 */
export function tiles(what) {
  const root = make("dl", `tiles facts-${Object.keys(what).length}`);
  /** @type {Map<string, { value: HTMLElement, help: HTMLElement }>} */
  const cells = new Map();
  for (const [name, [label, help]] of Object.entries(what)) {
    const cell = { value: make("dd", "figure", "–"), help: make("dd", "help", help) };
    cell.value.dataset["fact"] = name;
    cells.set(name, cell);
    root.append(make("div", "", make("dt", "", label), cell.value, cell.help));
  }
  /** @param {string} name @param {Content} value @param {string} [help] */
  const set = (name, value, help) => {
    const cell = cells.get(name);
    if (!cell) throw new Error(`there is no figure ${name}`);
    put(cell.value, value);
    if (help !== undefined) say(cell.help, help);
  };
  return { root, set };
}

/** Puts content in, unless it is there already. @param {Element} target @param {...Content} content */
export function put(target, ...content) {
  const next = make("div", "", ...content);
  if (target.innerHTML === next.innerHTML) return;
  const focused = target.contains(document.activeElement) ? document.activeElement?.getAttribute("href") : null;
  target.replaceChildren(...next.childNodes);
  refocus(target, focused);
}

/**
 * Replaces the children only where something changed: a link is not pulled away under a finger, and
 * who came by keyboard stays where they were.
 * @param {Element} list @param {readonly Element[]} nodes
 */
export function sync(list, nodes) {
  const shown = [...list.children];
  if (shown.length === nodes.length && shown.every((node, at) => node.outerHTML === nodes[at]?.outerHTML)) return;
  const focused = list.contains(document.activeElement) ? document.activeElement?.getAttribute("href") : null;
  const kept = new Map(shown.map((node) => [node.outerHTML, node]));
  list.replaceChildren(...nodes.map((node) => kept.get(node.outerHTML) ?? node));
  refocus(list, focused);
}

/** @param {Element} inside @param {string | null | undefined} href */
function refocus(inside, href) {
  if (href) inside.querySelector(/** @type {"a"} */ (`a[href="${CSS.escape(href)}"]`))?.focus();
}

/**
 * A list with what stands there while it is loading, and while there is nothing.
 * @param {"ul" | "ol"} tag @param {Content} empty what to do about nothing
 */
export function list(tag, empty) {
  const items = make(tag, "rows");
  const none = make("p", "muted", empty);
  none.hidden = true;
  const root = make("div", "list", items, none);
  waiting(items, 3);
  /** @param {readonly Element[]} nodes */
  const show = (nodes) => {
    none.hidden = nodes.length > 0;
    sync(items, nodes);
  };
  return { root, show };
}

/** Rows that hold the place of what is coming. @param {Element} target @param {number} count */
export function waiting(target, count) {
  const cell = target instanceof HTMLTableSectionElement ? "tr" : "li";
  target.replaceChildren(
    ...Array.from({ length: count }, () => {
      const inner = make("span", "ghost");
      inner.setAttribute("aria-hidden", "true");
      const row = make(cell, "row-item", cell === "tr" ? make("td", "", inner) : inner);
      row.querySelector("td")?.setAttribute("colspan", "12");
      return row;
    }),
  );
}

/**
 * A table that becomes cards where the screen is narrow.
 * @param {string} label @param {readonly [name: string, className: string][]} columns @param {Content} empty
 */
export function table(label, columns, empty) {
  const body = document.createElement("tbody");
  const head = make("tr", "", ...columns.map(([name, className]) => header(name, className)));
  const inner = make("table", "grid-table", make("thead", "", head), body);
  inner.setAttribute("aria-label", label);
  const none = make("p", "muted", empty);
  none.hidden = true;
  waiting(body, 3);
  /** @param {readonly { cells: readonly Content[], className?: string }[]} rows */
  const show = (rows) => {
    none.hidden = rows.length > 0;
    inner.hidden = rows.length === 0;
    sync(
      body,
      rows.map(({ cells, className }) =>
        make(
          "tr",
          className ?? "",
          ...cells.map((cell, at) => {
            const made = make("td", columns[at]?.[1] ?? "", cell);
            made.dataset["label"] = columns[at]?.[0] ?? "";
            return made;
          }),
        ),
      ),
    );
  };
  return { root: make("div", "list", inner, none), show };
}

/** @param {string} name @param {string} className */
function header(name, className) {
  const made = make("th", className, name);
  made.setAttribute("scope", "col");
  return made;
}

/** A fact: its name, its value, and what it means. @typedef {[name: string, value: Content, help?: string]} Fact */

/** @param {readonly Fact[]} lines */
export function facts(lines) {
  return make("dl", "facts", ...lines.map(([name, value, help]) => make("div", "", make("dt", "", name), make("dd", "", value), ...(help ? [make("dd", "help", help)] : []))));
}

/** A row of a list: words on the left, a figure on the right. @param {Content[]} words @param {Content[]} help @param {...Content} figure */
export function row(words, help, ...figure) {
  return make("li", "row-item", make("div", "row-words", ...words, ...(help.length > 0 ? [make("p", "help", ...help)] : [])), ...figure);
}

/** The heading of a thing's own page. @param {string} kind @param {Content} name @param {...Content} beside */
export function heading(kind, name, ...beside) {
  return make("div", "thing-head", make("p", "label", kind), make("div", "thing-name", make("h2", "", name), ...beside));
}

/**
 * A transaction in words.
 * @param {import("./feed.js").Told} transaction
 * @param {(id: string) => string | null} nameOf of a validator, null: it is none
 * @param {string} [tag]
 */
export function sentence({ hash, parts, code, log }, nameOf, tag = "p") {
  const words = parts.map((part) => {
    if (typeof part === "string") return part;
    if (part.to) return link(part.to, part.label ?? part.id);
    const name = nameOf(part.id);
    return name === null ? idLink(pathTo.search(part.id), part.id) : idLink(pathTo.validator(part.id), part.id, name);
  });
  const made = make(tag, code === 0 ? "told" : "told failed", ...words, " ", idLink(pathTo.transaction(hash), hash, "details"));
  if (code !== 0) made.append(make("span", "help", ` No effect: ${sentenceFor(code, log)}`));
  return made;
}

/** A box that says what was not found, and what was tried. @param {string} what @param {readonly string[]} tried */
export function nothing(what, tried = []) {
  return make("div", "empty", make("h2", "", what), make("p", "muted", ...(tried.length > 0 ? [`Looked for: ${tried.join(", ")}. It may be older than what this relay keeps, or on another chain.`] : ["It may be older than what this relay keeps, or on another chain."])), link("/network", "To the overview", "button"));
}

/** Shows a view's body, or what stands in its place while there is nothing of the kind. @param {Element} root @param {Element} body @param {Element | null} missing */
export function instead(root, body, missing) {
  if (missing === null ? !root.contains(body) : root.contains(body)) root.replaceChildren(missing ?? body);
}
