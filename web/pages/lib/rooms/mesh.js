// The picture of a room: this node and its peers on a circle, a line for each link, as it is.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 640;
const HEIGHT = 320;
const MARGIN = 46;
/** More than these are one dot with their number: names would lie on each other. */
export const SHOWN_MAX = 24;

/** How a link is. @typedef {"open" | "making" | "lost" | "relayed"} LinkState */
/** @typedef {{ id: string, name: string, state: LinkState, rttMs: number | null }} Node */
/** @typedef {{ x: number, y: number }} Point */

/**
 * Places on an ellipse, beginning at the top, clockwise. Ids stand in alphabetical order, so that everybody
 * sees the same picture and nobody moves when a word changes.
 * @param {readonly string[]} ids
 * @returns {Map<string, Point>}
 */
export function placesOf(ids) {
  const sorted = [...ids].sort();
  const round = (/** @type {number} */ value) => Math.round(value * 10) / 10;
  return new Map(
    sorted.map((id, at) => {
      const angle = (2 * Math.PI * at) / sorted.length - Math.PI / 2;
      return [id, { x: round(WIDTH / 2 + (WIDTH / 2 - MARGIN * 2) * Math.cos(angle)), y: round(HEIGHT / 2 + (HEIGHT / 2 - MARGIN) * Math.sin(angle)) }];
    }),
  );
}

/** @param {readonly Node[]} peers @returns {string} for who does not see it */
export function wordsOf(peers) {
  const open = peers.filter(({ state }) => state === "open" || state === "relayed").length;
  return peers.length === 0 ? "You are alone in this room." : `You and ${peers.length === 1 ? "one peer" : `${peers.length} peers`}; ${open === peers.length ? "all links are open" : `${open} of ${peers.length} links are open`}.`;
}

/**
 * @param {{ id: string, name: string }} self
 * @param {readonly Node[]} peers
 * @param {readonly (readonly [string, string])[]} [others] links between peers, which are not ours to measure
 * @returns {SVGElement}
 */
export function picture(self, peers, others = []) {
  const shown = peers.slice(0, SHOWN_MAX);
  const places = placesOf([self.id, ...shown.map(({ id }) => id)]);
  const root = svg("svg", { class: "mesh", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": wordsOf(peers) });
  const own = /** @type {Point} */ (places.get(self.id));
  for (const [one, other] of others) {
    const [from, to] = [places.get(one), places.get(other)];
    if (from && to) root.append(svg("line", { class: "mesh-other", x1: from.x, y1: from.y, x2: to.x, y2: to.y }));
  }
  for (const { id, state, rttMs } of shown) {
    const { x, y } = /** @type {Point} */ (places.get(id));
    root.append(svg("line", { class: `mesh-link ${state}`, x1: own.x, y1: own.y, x2: x, y2: y }));
    if (rttMs !== null && shown.length <= 8) root.append(label("mesh-rtt", own.x + (x - own.x) * 0.6, own.y + (y - own.y) * 0.6 - 5, `${rttMs < 10 ? rttMs.toFixed(1) : Math.round(rttMs)} ms`));
  }
  for (const { id, name } of shown) root.append(dot("mesh-node", /** @type {Point} */ (places.get(id)), name));
  root.append(dot("mesh-node own", own, self.name || "You"));
  if (peers.length > shown.length) root.append(label("mesh-rtt", WIDTH / 2, HEIGHT / 2, `and ${peers.length - shown.length} more`));
  return root;
}

/** @param {string} className @param {Point} place @param {string} name */
function dot(className, { x, y }, name) {
  const short = name.length > 16 ? `${name.slice(0, 15)}…` : name;
  // Below the lower half, above the upper one: a name lies on no line.
  const group = svg("g", { class: className }, svg("circle", { cx: x, cy: y, r: 9 }), label("mesh-name", x, y > HEIGHT / 2 ? y + 27 : y - 17, short));
  const title = svg("title", {});
  title.textContent = name;
  group.append(title);
  return group;
}

/** @param {string} className @param {number} x @param {number} y @param {string} text */
function label(className, x, y, text) {
  const made = svg("text", { class: className, x: Math.round(x), y: Math.round(y), "text-anchor": "middle" });
  made.textContent = text;
  return made;
}

/** @param {string} tag @param {Record<string, string | number>} attributes @param {...Element} children */
function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}
