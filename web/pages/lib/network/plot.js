// Small plots as SVG: a line over what it fills, bars, and a strip of marks.

const SVG = "http://www.w3.org/2000/svg";

/** @param {string} tag @param {Record<string, string | number>} attributes @param {...Element} children */
function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/**
 * Points of a polyline that fills a box, the first value on the left.
 * @param {readonly number[]} values
 * @param {{ width: number, height: number, min?: number, max?: number }} box
 * @returns {[number, number][]} y grows downward; of one value there are two points, so that it is seen
 */
export function pointsOf(values, { width, height, min = Math.min(...values), max = Math.max(...values) }) {
  const list = values.length === 1 ? [values[0] ?? 0, values[0] ?? 0] : values;
  const span = max - min;
  const round = (/** @type {number} */ value) => Math.round(value * 100) / 100;
  return list.map((value, at) => [round((at / Math.max(1, list.length - 1)) * width), round(span > 0 ? height - ((value - min) / span) * height : height / 2)]);
}

/** A path through points. @param {readonly [number, number][]} points */
export function pathOf(points) {
  return points.map(([x, y], at) => `${at === 0 ? "M" : "L"}${x} ${y}`).join("");
}

/**
 * A line with its area below. It takes the size that its place gives it.
 * @param {readonly number[]} values oldest first
 * @param {string} label what it shows, for who does not see it
 * @param {{ min?: number, max?: number }} [bounds]
 */
export function line(values, label, bounds = {}) {
  const [width, height, pad] = [300, 72, 3];
  const root = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  if (values.length === 0) return root;
  const points = pointsOf(values, { width, height: height - 2 * pad, ...bounds }).map(([x, y]) => /** @type {[number, number]} */ ([x, y + pad]));
  const path = pathOf(points);
  root.append(svg("path", { class: "plot-area", d: `${path}L${width} ${height}L0 ${height}Z` }), svg("path", { class: "plot-line", d: path }));
  return root;
}

/**
 * Bars from the bottom, each with a word for who points at it.
 * @param {readonly { share: number, title: string, full: boolean, href?: string }[]} bars share of the highest, 0 to 1
 * @param {string} label
 */
export function bars(bars, label) {
  const strip = document.createElement("div");
  strip.className = "strip";
  strip.setAttribute("role", "img");
  strip.setAttribute("aria-label", label);
  for (const { share, title, full } of bars) {
    const bar = document.createElement("span");
    if (full) bar.className = "bar-full";
    bar.style.height = `${Math.max(4, share * 100).toFixed(1)}%`;
    bar.title = title;
    strip.append(bar);
  }
  return strip;
}

/**
 * Spans of equal marks, so that a hundred blocks are a few rectangles.
 * @template {string} T
 * @param {readonly T[]} marks
 * @returns {{ from: number, length: number, mark: T }[]}
 */
export function spansOf(marks) {
  /** @type {{ from: number, length: number, mark: T }[]} */
  const spans = [];
  marks.forEach((mark, at) => {
    const last = spans.at(-1);
    if (last?.mark === mark) last.length += 1;
    else spans.push({ from: at, length: 1, mark });
  });
  return spans;
}

/**
 * A strip of marks, oldest on the left; what is not known yet is empty on the left.
 * @param {readonly string[]} marks class names
 * @param {number} most places
 * @param {string} label
 */
export function marks(marks, most, label) {
  const root = svg("svg", { class: "marks", viewBox: `0 0 ${most} 10`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  const shift = Math.max(0, most - marks.length);
  for (const { from, length, mark } of spansOf(marks.slice(-most))) root.append(svg("rect", { class: `mark-${mark}`, x: shift + from, y: 0, width: length, height: 10 }));
  return root;
}

/** A share of a whole as a bar. @param {number | null} percent @param {string} [className] */
export function share(percent, className = "share-bar") {
  const bar = document.createElement("span");
  bar.className = className;
  const filled = document.createElement("span");
  filled.style.width = `${Math.min(100, Math.max(0, percent ?? 0))}%`;
  bar.append(filled);
  bar.setAttribute("aria-hidden", "true");
  return bar;
}
