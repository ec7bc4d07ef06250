// Home: the streams that are live, kept current, each a picture to click on.

import { isFree, liveStreams } from "./lib/api.js";
import { element, make, say, showRelay } from "./lib/dom.js";
import { counted, price } from "./lib/format.js";
import { Preview, hasFreshPoster, keepPoster, storedPoster } from "./lib/poster.js";

/** @typedef {import("./lib/api.js").LiveStream} LiveStream */

const REFRESH_MS = 2000;
/** How long the pointer rests on a card before a preview starts. */
const REST_MS = 250;
/** How many cards get a still on their own, one after the other. */
const STILLS_MAX = 8;
/** The least time between two tries for a still of the same stream. */
const STILL_AGAIN_MS = 20_000;

const list = element("streams", HTMLUListElement);
const empty = element("empty", HTMLElement);
const count = element("count", HTMLElement);
const trouble = element("trouble", HTMLElement);

/** @type {Map<string, Card>} */
const cards = new Map();
let takingStills = false;

class Card {
  /** @type {Preview | null} */
  #preview = null;
  #resting = 0;
  /** A stream that sends nothing is not asked for a still again and again. */
  #tryStillAt = 0;

  /** @param {LiveStream} stream */
  constructor(stream) {
    this.stream = stream;
    this.root = make("li", "");
    this.video = /** @type {HTMLVideoElement} */ (make("video", ""));
    this.video.muted = this.video.playsInline = true;
    this.still = /** @type {HTMLImageElement} */ (make("img", ""));
    this.still.alt = "";
    this.still.hidden = true;
    this.watching = make("span", "badge watching");
    this.title = make("h2", "");
    this.chips = make("span", "chips");
    const thumb = make("div", "thumb", threads(), this.still, this.video, make("span", "badge live", "Live"), this.watching);
    thumb.style.setProperty("--hue", String(hueOf(stream.id)));
    const link = /** @type {HTMLAnchorElement} */ (
      make("a", "card", thumb, make("div", "about", this.title, this.chips))
    );
    link.href = `/watch/${encodeURIComponent(stream.id)}`;
    link.dataset["stream"] = stream.id;
    for (const type of ["pointerenter", "focus"]) link.addEventListener(type, () => this.#look());
    for (const type of ["pointerleave", "blur"]) link.addEventListener(type, () => this.lookAway());
    this.root.append(link);
    this.#showStill(storedPoster(stream.id)?.url ?? null);
    this.update(stream);
  }

  /** @param {LiveStream} stream */
  update(stream) {
    this.stream = stream;
    say(this.title, stream.title);
    say(this.watching, stream.viewers === 0 ? "no viewers" : counted(stream.viewers, "viewer"));
    const chips = [...stream.codecs, price(stream)];
    if (this.chips.dataset["shown"] === chips.join()) return;
    this.chips.dataset["shown"] = chips.join();
    this.chips.replaceChildren(
      ...chips.map((text, index) => make("span", index === chips.length - 1 ? "chip price" : "chip", text)),
    );
  }

  /** Takes a still when there is none that is fresh. */
  async refreshStill() {
    if (this.#preview || performance.now() < this.#tryStillAt || hasFreshPoster(this.stream.id)) return;
    this.#tryStillAt = performance.now() + STILL_AGAIN_MS;
    const video = /** @type {HTMLVideoElement} */ (make("video", ""));
    video.muted = video.playsInline = true;
    const preview = new Preview(this.stream, video);
    if (await preview.start()) this.#showStill(keepPoster(this.stream.id, video));
    preview.stop();
  }

  #look() {
    if (this.#preview || this.#resting) return;
    this.#resting = setTimeout(async () => {
      this.#resting = 0;
      const preview = (this.#preview = new Preview(this.stream, this.video));
      const came = await preview.start();
      if (this.#preview === preview) this.video.classList.toggle("shown", came);
    }, REST_MS);
  }

  lookAway() {
    clearTimeout(this.#resting);
    this.#resting = 0;
    if (!this.#preview) return;
    if (this.video.classList.contains("shown")) this.#showStill(keepPoster(this.stream.id, this.video));
    this.video.classList.remove("shown");
    this.#preview.stop();
    this.#preview = null;
  }

  /** @param {string | null} url */
  #showStill(url) {
    if (!url) return;
    this.still.src = url;
    this.still.hidden = false;
  }
}

/** The threads of the sign, as the picture of a stream that has none yet. */
function threads() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 320 180");
  svg.setAttribute("fill", "none");
  svg.setAttribute("stroke-width", "3");
  svg.setAttribute("aria-hidden", "true");
  for (const [shape, colour] of [
    ["M-10 108c58 0 58-44 117-44s58 56 116 56 59-48 117-48", "#5fd0b4"],
    ["M-10 76c58 0 58 50 117 50s58-60 116-60 59 46 117 46", "#f2b56b"],
    ["M-10 92h350", "#f4f1ea"],
  ]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", shape ?? "");
    path.setAttribute("stroke", colour ?? "");
    svg.append(path);
  }
  return svg;
}

/** A colour of its own for each stream that has no picture yet. @param {string} id */
function hueOf(id) {
  let hash = 0;
  for (const letter of id) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) % 360;
  return (hash + 150) % 360;
}

/** @param {LiveStream[]} streams */
function show(streams) {
  const ids = new Set(streams.map(({ id }) => id));
  for (const [id, card] of cards) {
    if (ids.has(id)) continue;
    card.lookAway();
    card.root.remove();
    cards.delete(id);
  }
  for (const stream of streams) {
    const card = cards.get(stream.id);
    if (card) {
      card.update(stream);
    } else {
      const made = new Card(stream);
      cards.set(stream.id, made);
      list.append(made.root);
    }
  }
  empty.hidden = streams.length > 0;
  const viewers = streams.reduce((sum, stream) => sum + stream.viewers, 0);
  const watching = viewers > 0 ? `, ${counted(viewers, "person", "people")} watching` : "";
  say(count, streams.length > 0 ? counted(streams.length, "stream") + watching : "No streams at the moment");
}

async function refresh() {
  if (document.hidden) return;
  try {
    show(await liveStreams());
    trouble.hidden = true;
  } catch {
    say(trouble, "The relay does not answer. This page tries again by itself; is sutantra-node still running?");
    trouble.hidden = false;
    say(count, "Out of touch with the relay");
  }
}

async function takeStills() {
  const saving = /** @type {any} */ (navigator).connection?.saveData === true;
  if (saving || document.hidden || takingStills) return;
  takingStills = true;
  const free = [...cards.values()].filter((card) => isFree(card.stream)).slice(0, STILLS_MAX);
  for (const card of free) await card.refreshStill();
  takingStills = false;
}

async function keepCurrent() {
  await refresh();
  void takeStills();
  setTimeout(keepCurrent, REFRESH_MS);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) for (const card of cards.values()) card.lookAway();
  else void refresh();
});
void keepCurrent();
void showRelay(element("relay", HTMLElement));
