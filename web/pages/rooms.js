// Rooms: who is here, what is said, what the room remembers, and how the links came about.

import { copyFrom, element, make, say, showRelay } from "./lib/dom.js";
import { milliseconds } from "./lib/format.js";
import { linkTo, placeOf } from "./lib/rooms/address.js";
import { keepName, keptName, ownIdentity } from "./lib/rooms/keep.js";
import { picture } from "./lib/rooms/mesh.js";
import { Visit, makePrivateRoom } from "./lib/rooms/visit.js";
import { LINK_WORDS, nameWords, signalWords, troubleWords } from "./lib/rooms/words.js";

/** @typedef {import("./lib/rooms/visit.js").Signal} Signal */
/** @typedef {"chat" | "insights" | "memory"} BoxName */

const REFRESH_MS = 1000;
/** Rows that a person may scroll back. */
const SIGNALS_MAX = 200;
const SAID_MAX = 500;

/** @type {Record<BoxName, { about: string, button: string, placeholder: string }>} */
const BOXES = {
  chat: { about: "For those who are here now.", button: "Send", placeholder: "Say something" },
  insights: { about: "Signed by who shares it, and handed on until everybody has it once. Who comes later hears the last ones.", button: "Share", placeholder: "What have you found out?" },
  memory: { about: "Remembered when more than half of those who are here have said yes. Everybody holds the same, in the same order, with the votes as proof.", button: "Propose", placeholder: "What shall this room remember?" },
};

const trouble = element("trouble", HTMLElement);
const said = element("said", HTMLElement);
const roomField = element("room", HTMLInputElement);
const nameField = element("name", HTMLInputElement);
const text = element("text", HTMLInputElement);

/** @type {import("/client/identity.js").Identity | null} */
let identity = null;
/** @type {Visit | null} */
let visit = null;
/** @type {BoxName} */
let box = "chat";
/** What was said since the room was entered. @type {{ who: string, own: boolean, text: string, aside: boolean }[]} */
let lines = [];
/** @type {string | null} */
let invite = null;

/** @param {unknown} error null: all is well */
function complain(error) {
  trouble.hidden = error === null;
  say(trouble, error === null ? "" : troubleWords(error));
}

/** @param {string} words */
const state = (words) => say(element("state", HTMLElement), words);

async function begin() {
  nameField.value = keptName();
  readAddress();
  try {
    const [own, info] = await Promise.all([ownIdentity(), coordinator()]);
    identity = own;
    if (!info) return state("This relay has no coordinator. Start it with --server, and without --no-webrtc.");
    element("known-rooms", HTMLElement).replaceChildren(...(info.rooms ?? []).map((/** @type {string} */ room) => new Option("", room)));
    state(`${!info.peerCount ? "Nobody is in a room yet" : `${info.peerCount} ${info.peerCount === 1 ? "peer is" : "peers are"} connected`}.`);
    for (const id of ["enter", "make-private"]) element(id, HTMLButtonElement).disabled = false;
  } catch (error) {
    state("");
    complain(error);
  }
}

/** @returns {Promise<{ rooms?: string[], peerCount?: number } | null>} */
async function coordinator() {
  const answer = await fetch("/webrtc/info");
  return answer.ok ? answer.json() : null;
}

function readAddress() {
  const place = placeOf(location.hash);
  if (place) roomField.value = place.room;
  invite = place?.invite ?? null;
  element("invited", HTMLElement).hidden = invite === null;
}

/** @param {() => Promise<void>} work */
async function once(work) {
  complain(null);
  const buttons = [element("enter", HTMLButtonElement), element("make-private", HTMLButtonElement)];
  for (const button of buttons) button.disabled = true;
  try {
    await work();
  } catch (error) {
    state("");
    complain(error);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

/** @param {{ room: string, invite: string | null }} place */
async function enter(place) {
  if (!identity) return;
  const name = nameField.value.trim();
  keepName(name);
  state(`Joining ${place.room}…`);
  lines = [];
  element("signals", HTMLElement).replaceChildren();
  const entered = await Visit.enter({ base: location.origin, place, name, identity, signal: showSignal });
  visit = entered;
  entered.on("change", showPeers);
  entered.on("trouble", complain);
  entered.app.on("chat", (/** @type {import("/client/prrc/application.js").Line} */ { from, name: who, text: words }) => tell({ who: nameWords(from, who), own: from === entered.id, text: words, aside: false }));
  entered.app.on("member", (/** @type {string} */ id, /** @type {string} */ who) => who && tell({ who: "", own: false, text: `${nameWords(id, who)} is here.`, aside: true }, { once: true }));
  entered.app.on("gone", (/** @type {string} */ id) => tell({ who: "", own: false, text: `${nameWords(id, entered.app.nameOf(id))} has left.`, aside: true }));
  entered.app.learning.on("item", showBox);
  entered.app.memory.on("trace", showBox);
  for (const event of ["proposal", "vote", "committed", "refused", "expired"]) entered.app.protocol.on(event, showBox);
  history.replaceState(null, "", linkTo(location.origin, place));
  showInside(place);
}

/** @param {{ room: string, invite: string | null }} place */
function showInside(place) {
  element("join", HTMLElement).hidden = visit !== null;
  element("inside", HTMLElement).hidden = visit === null;
  element("leave", HTMLElement).hidden = visit === null;
  if (!visit) return;
  element("own-id", HTMLInputElement).value = visit.id;
  element("link", HTMLInputElement).value = linkTo(location.origin, place);
  const secret = place.room.startsWith("p:");
  say(element("invite-why", HTMLElement), secret ? "This room is private. The link lets in who has it, for one day: send it only to those whom you want here." : "Anybody who knows this room's name can come in.");
  showPeers();
  showBox();
  text.focus({ preventScroll: true });
}

function showPeers() {
  if (!visit) return;
  const peers = visit.peers();
  state(`${visit.room} · ${visit.links}`);
  element("mesh", HTMLElement).replaceChildren(picture({ id: visit.id, name: visit.app.name }, peers.map((peer) => ({ ...peer, name: nameWords(peer.id, peer.name) }))));
  element("alone", HTMLElement).hidden = peers.length > 0;
  element("peers", HTMLElement).replaceChildren(
    ...peers.map(({ id, name, state: link, rttMs }) => {
      const [word, kind, help] = LINK_WORDS[link];
      const chip = make("span", `chip ${kind}`.trim(), word);
      chip.title = help;
      const who = make("span", "row-words", nameWords(id, name), " ", make("span", "mono muted cut", nameWords(id)));
      who.title = id;
      const row = make("li", "row-item", who, chip, make("span", "amount muted", milliseconds(rttMs)));
      row.dataset["peer"] = id;
      row.dataset["state"] = link;
      return row;
    }),
  );
  const facts = element("facts", HTMLElement);
  const rows = visit.facts().map(([label, value]) => make("div", "", make("dt", "", label), make("dd", "", value)));
  facts.replaceChildren(...rows);
}

// ---- What is said

/** @param {{ who: string, own: boolean, text: string, aside: boolean }} line @param {{ once?: boolean }} [how] */
function tell(line, { once: unique = false } = {}) {
  if (unique && lines.some(({ aside, text: words }) => aside && words === line.text)) return;
  lines.push(line);
  if (lines.length > SAID_MAX) lines.shift();
  showBox();
}

function showBox() {
  if (!visit) return;
  for (const name of /** @type {BoxName[]} */ (Object.keys(BOXES))) element(`show-${name}`, HTMLElement).setAttribute("aria-pressed", String(name === box));
  const { about, button, placeholder } = BOXES[box];
  say(element("about-box", HTMLElement), about);
  say(element("say-it", HTMLElement), button);
  text.placeholder = placeholder;
  const { app, id } = visit;
  const who = (/** @type {string} */ by) => (by === id ? app.name : nameWords(by, app.nameOf(by)));
  const rows = {
    chat: () => lines.map((line) => row(line)),
    insights: () => app.learning.recent.map(({ by, text: words }) => row({ who: who(by), own: by === id, text: words, aside: false })),
    memory: () => [
      ...app.memory.traces.map(({ id: trace, by, content }) => row({ who: who(by), own: by === id, text: String(content?.text ?? JSON.stringify(content)), aside: false }, `${app.memory.certificate(trace)?.votes.length} votes`)),
      ...[...app.protocol.pending.values()].map(({ proposal, votes }) => row({ who: who(proposal.by), own: false, text: String(JSON.parse(proposal.body)?.text ?? proposal.body), aside: true }, `${[...votes.values()].filter(({ yes }) => yes).length} of ${proposal.members.length} say yes`)),
    ],
  }[box]();
  const atEnd = said.scrollHeight - said.scrollTop - said.clientHeight < 40;
  said.replaceChildren(...rows);
  if (atEnd) said.scrollTop = said.scrollHeight;
}

/** @param {{ who: string, own: boolean, text: string, aside: boolean }} line @param {string} [note] */
function row({ who, own, text: words, aside }, note = "") {
  const made = make("li", aside ? "aside" : "", ...(who ? [make("span", own ? "who own" : "who", who)] : []), words);
  if (note) made.append(" ", make("span", "chip", note));
  return made;
}

async function sayIt() {
  const words = text.value.trim();
  if (!visit || words === "") return;
  text.value = "";
  const { app } = visit;
  const doing = element("saying", HTMLElement);
  try {
    if (box === "chat") app.chat(words);
    else if (box === "insights") await app.learning.share(words);
    else {
      say(doing, "The room votes…");
      await app.memory.store({ text: words });
    }
    say(doing, "");
    complain(null);
  } catch (error) {
    text.value ||= words;
    say(doing, troubleWords(error));
  }
}

// ---- Signals

/** @param {Signal} signal */
function showSignal(signal) {
  const list = element("signals", HTMLElement);
  const { direction, type, peerId, at } = signal;
  const name = nameWords(peerId, visit?.app.nameOf(peerId));
  const words = make("span", "", signalWords({ direction, type, name }));
  words.title = `${type} ${direction === "in" ? "from" : "to"} ${peerId}`;
  const time = make("time", "", new Date(at).toLocaleTimeString([], { hour12: false }));
  list.prepend(make("li", "", time, make("span", "", direction === "in" ? "↓" : "↑"), words));
  while (list.childElementCount > SIGNALS_MAX) list.lastElementChild?.remove();
}

// ---- Wiring

element("join", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  const room = roomField.value.trim();
  void once(() => enter({ room, invite: placeOf(location.hash)?.room === room ? invite : null }));
});
element("make-private", HTMLButtonElement).addEventListener("click", () => {
  if (!nameField.reportValidity()) return;
  void once(async () => {
    if (!identity) return;
    await enter(await makePrivateRoom({ base: location.origin, identity }));
  });
});
element("leave", HTMLButtonElement).addEventListener("click", async () => {
  const left = visit;
  visit = null;
  showInside({ room: "", invite: null });
  complain(null);
  state("You have left the room.");
  await left?.leave();
});
element("say", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  void sayIt();
});
for (const name of /** @type {BoxName[]} */ (Object.keys(BOXES))) {
  element(`show-${name}`, HTMLButtonElement).addEventListener("click", () => {
    box = name;
    say(element("saying", HTMLElement), "");
    showBox();
  });
}
for (const id of ["own-id", "link"]) element(`${id}-copy`, HTMLButtonElement).addEventListener("click", () => void copyFrom(element(`${id}-copy`, HTMLButtonElement), element(id, HTMLInputElement)));
addEventListener("hashchange", () => {
  if (!visit) readAddress();
});
// A tab that is closed says so, so that others need not wait until it is silent long enough.
addEventListener("pagehide", () => void visit?.leave());
setInterval(() => void visit?.measure().then(showPeers), REFRESH_MS);
Object.defineProperty(window, "rooms", { get: () => visit });
void begin();
void showRelay(element("relay", HTMLElement));
