// Links, signals and errors of a room as sentences, with what to do next.

/** @typedef {import("./mesh.js").LinkState} LinkState */

/** @type {Record<LinkState, [word: string, chip: string, help: string]>} */
export const LINK_WORDS = {
  open: ["Direct", "good", "Data goes from browser to browser."],
  relayed: ["Relayed", "warn", "The networks let no direct link through; a TURN server passes the encrypted data on."],
  making: ["Connecting", "", "The two are finding a way to each other."],
  lost: ["Lost", "bad", "The link broke; it is being made again."],
};

/** @type {Record<string, string>} what to do about a refusal of the coordinator, by its code */
const REMEDIES = {
  unauthenticated: "The coordinator did not take this browser's signature. Is this machine's clock right? Then reload the page.",
  payment_required: "This room belongs to a paid stream. Open the stream under Live and pay there, then come back.",
  forbidden: "This room is private, and this browser has no invite that is good for it. Ask its owner for a new link.",
  unknown_room: "There is no such room any more. A private room ends with its coordinator: ask its owner to make it again.",
  id_taken: "This browser's id is in use, probably by another tab. Close that tab, or use another browser.",
  room_full: "The room is full. Try again when somebody has left, or make a room of your own.",
  rate_limited: "That was too much at once. Wait a little; the page goes on by itself.",
  draining: "The relay is being restarted. The page comes back by itself.",
  too_large: "That was too long. Say it shorter.",
  no_cryptography: "",
  backpressure: "The link is slower than what is sent. Wait a little, then send again.",
};

/** @param {unknown} error @returns {string} */
export function troubleWords(error) {
  const { code = "", message = String(error) } = /** @type {{ code?: string, message?: string }} */ (error ?? {});
  return REMEDIES[code] || message;
}

/** @param {string} peerId @param {string} [name] */
export function nameWords(peerId, name = "") {
  return name || `${peerId.slice(0, 7)}…${peerId.slice(-4)}`;
}

/** @type {Record<string, string>} */
const SIGNAL_WORDS = {
  offer: "offers a link",
  answer: "answers",
  "ice-candidate": "names an address",
  message: "sends a message",
  "peer-joined": "came",
  "peer-left": "left",
};

/** What one signal says. @param {{ direction: "in" | "out", type: string, name: string }} signal */
export function signalWords({ direction, type, name }) {
  const words = SIGNAL_WORDS[type] ?? type;
  return direction === "in" ? `${name} ${words}` : `to ${name}: ${type === "ice-candidate" ? "an address" : type}`;
}
