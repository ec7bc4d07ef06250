// What an application passes in is checked where it enters, so that a mistake is named there and not met later.

import { SutantraError } from "./errors.js";

/** @typedef {import("./errors.js").ErrorCode} ErrorCode */

const NODE_ID = /^[A-Za-z0-9._:@-]{1,64}$/;
const ROOM = /^[a-z0-9][a-z0-9._:-]{0,63}$/;
const KIND_MAX = 3;
/** Characters of a wrong value that an error shows. */
const SHOWN_MAX = 60;

/** A wrong value as an error shows it. @param {unknown} value */
export function shown(value) {
  if (typeof value === "string") return JSON.stringify(value.length > SHOWN_MAX ? `${value.slice(0, SHOWN_MAX)}…` : value);
  if (value instanceof Promise) return "a Promise (await it)";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" && value !== null ? `an object (${value.constructor?.name ?? "without a class"})` : String(value);
}

/** @param {string} what @param {unknown} value @param {ErrorCode} [code] @returns {never} */
export function mistaken(what, value, code = "bad_request") {
  throw new SutantraError(code, `${what}, not ${shown(value)}`);
}

/** @param {unknown} id @param {string} [name] */
export function mustBeNodeId(id, name = "a peer's id") {
  if (typeof id !== "string" || !NODE_ID.test(id)) mistaken(`${name} is 1 to 64 of A-Z a-z 0-9 . _ : @ -`, id);
}

/** @param {unknown} room */
export function mustBeRoom(room) {
  if (typeof room !== "string" || !ROOM.test(room)) mistaken("a room's name is 1 to 64 of a-z 0-9 . _ : - and begins with a letter or digit", room);
}

/**
 * An address of http or https.
 * @param {unknown} url @param {string} what it is, and where one gets it
 */
export function mustBeAddress(url, what) {
  try {
    if (["http:", "https:"].includes(new URL(String(url)).protocol)) return;
  } catch {
    // No address at all.
  }
  mistaken(`${what} begins with http or https and names a host`, url);
}

/** @param {unknown} kind of a message */
export function mustBeKind(kind) {
  if (!Number.isInteger(kind) || Number(kind) < 0 || Number(kind) > KIND_MAX) mistaken("a message's kind is one of KIND", kind);
}

/** @param {unknown} message */
export function mustBeMessage(message) {
  if (typeof message === "string" || message instanceof ArrayBuffer || ArrayBuffer.isView(message)) return;
  mistaken("a message is a string or bytes (turn anything else into JSON first)", message);
}

/** What peers and their signalling take alike. @param {any} options */
export function mustBeOptions(options) {
  mustBeObject("what stands for options", options);
  if (options.identity) mustBeIdentity(options.identity);
  mustBeOneOf("`transport`", options.transport ?? "auto", ["auto", "websocket", "poll"]);
  for (const name of ["RTCPeerConnection", "WebSocket", "fetch", "random"]) {
    const value = options[name];
    if (value !== undefined && typeof value !== "function") mistaken(`\`${name}\` is a class or function`, value);
  }
  const { iceServers } = options;
  if (iceServers !== undefined && !Array.isArray(iceServers)) mistaken("`iceServers` is an array of { urls, username?, credential? }", iceServers);
}

/** @param {string} name @param {unknown} value @param {readonly string[]} allowed */
export function mustBeOneOf(name, value, allowed) {
  if (!allowed.includes(/** @type {string} */ (value))) mistaken(`${name} is ${allowed.join(" or ")}`, value);
}

/** An object that crosses as JSON. @param {string} name @param {unknown} value */
export function mustBeJson(name, value) {
  mustBeObject(name, value);
  try {
    JSON.stringify(value);
  } catch (cause) {
    throw new SutantraError("bad_request", `${name} has to be JSON (${cause instanceof Error ? cause.message.split("\n")[0] : cause}): leave out what is not`, { cause });
  }
}

/** @param {string} name @param {unknown} value */
export function mustBeObject(name, value) {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Promise) mistaken(`${name} is an object`, value);
}

/** @param {string} name @param {unknown} value @param {number} length @param {ErrorCode} code */
export function mustBeBytes(name, value, length, code) {
  if (!(value instanceof Uint8Array)) mistaken(`${name} is a Uint8Array of ${length} bytes`, value, code);
  if (value.length !== length) throw new SutantraError(code, `${name} has ${length} bytes, not ${value.length}`);
}

/** Whoever has a key of its own and signs with it. @param {unknown} value */
export function mustBeIdentity(value) {
  const { nodeId, sign, pk } = /** @type {any} */ (value ?? {});
  if (typeof nodeId !== "string" || typeof sign !== "function" || typeof pk !== "string") mistaken("an identity is what Identity.generate(), fromSeed or fromKeys resolve to", value, "bad_key");
}
