// Invites to private rooms: a chain of signed links, each of which may only narrow the one before.

import { fromBase64url, fromHex, toBase32, toBase64url, toHex, utf8 } from "./bytes.js";
import { SutantraError } from "./errors.js";
import { mistaken, mustBeBytes, mustBeIdentity, mustBeNodeId, mustBeRoom } from "./inputs.js";
import { nodeIdOf, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, verify } from "./identity.js";
import { webcrypto } from "./webcrypto.js";

/** @typedef {import("./identity.js").Identity} Identity */
/** @typedef {"join" | "invite"} Right */
/** @typedef {{ by: string, to: string, room: string, exp: number, can: Right[], sig: string }} InviteLink */

const PREFIX = "si1.";
/** Whoever holds it. */
export const ANYBODY = "*";
export const LINKS_MAX = 4;
/** Characters, so that a pasted novel is not parsed. */
const TEXT_MAX = 8192;

/** @param {string} what */
const bad = (what) => new SutantraError("bad_invite", `This invite cannot be used, ${what}: ask for a new one`);

/**
 * The name of a private room.
 * @param {Uint8Array} ownerKey 32 bytes
 * @param {string} salt that tells the owner's rooms apart
 */
export async function privateRoom(ownerKey, salt) {
  mustBeBytes("the owner's key", ownerKey, PUBLIC_KEY_BYTES, "bad_key");
  if (typeof salt !== "string") mistaken("a room's salt is a string", salt);
  const text = utf8(`sutantra/room/v1\n${toHex(ownerKey)}\n${salt}`);
  const hash = new Uint8Array(await webcrypto.subtle.digest("SHA-256", text));
  return `p:${toBase32(hash).slice(0, 32)}`;
}

/** @param {string} networkId @param {Omit<InviteLink, "sig">} link @param {string} before signature of the link before */
const linkText = (networkId, { by, to, room, exp, can }, before) =>
  utf8(`sutantra/invi/v1\n${networkId}\n${room}\n${by}\n${to}\n${exp}\n${can.join(",")}\n${before}`);

/**
 * The owner's own invite.
 * @param {Identity} owner
 * @param {{ networkId: string, room: string, to?: string, exp: number, can?: Right[] }} what `exp` in Unix ms
 * @throws {SutantraError} `bad_request`, `bad_key`: what is wrong with an argument
 */
export async function makeInvite(owner, { networkId, room, to = ANYBODY, exp, can = ["join"] }) {
  mustBeIdentity(owner);
  mustBeRoom(room);
  mustBeGrant({ networkId, to, exp, can });
  const link = { by: owner.pk, to, room, exp, can };
  return text([{ ...link, sig: toHex(await owner.sign(linkText(networkId, link, ""))) }]);
}

/**
 * Hands on an invite, with less: the one it names gives another the same or fewer rights, for no longer.
 * @param {Identity} holder
 * @param {string} invite
 * @param {{ networkId: string, to?: string, exp?: number, can?: Right[] }} what without `exp` and `can`: to join, as long as before
 * @throws {SutantraError} `bad_invite`; `bad_request`, `bad_key`: what is wrong with another argument
 */
export async function attenuateInvite(holder, invite, { networkId, to = ANYBODY, exp, can = ["join"] }) {
  mustBeIdentity(holder);
  const links = parseInvite(invite);
  const last = /** @type {InviteLink} */ (links.at(-1));
  mustBeGrant({ networkId, to, exp: exp ?? last.exp, can });
  if (last.to !== holder.nodeId) throw bad(`it names ${last.to} and not ${holder.nodeId}`);
  if (!last.can.includes("invite")) throw bad("it does not allow inviting others");
  if (links.length === LINKS_MAX) throw bad(`it was handed on ${LINKS_MAX - 1} times already`);
  const link = { by: holder.pk, to, room: last.room, exp: Math.min(exp ?? last.exp, last.exp), can };
  if (!can.every((right) => last.can.includes(right))) throw bad("it allows less than that");
  const sig = toHex(await holder.sign(linkText(networkId, link, last.sig)));
  return text([...links, { ...link, sig }]);
}

/**
 * @param {string} invite
 * @returns {InviteLink[]} 1 to 4, the owner's first; nothing is checked but the form
 * @throws {SutantraError} `bad_invite`
 */
export function parseInvite(invite) {
  if (typeof invite !== "string" || !invite.startsWith(PREFIX)) throw bad(`it does not begin with ${PREFIX}`);
  if (invite.length > TEXT_MAX) throw bad("it is too long");
  let links;
  try {
    const bytes = fromBase64url(invite.slice(PREFIX.length));
    links = bytes && JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    links = null;
  }
  if (!Array.isArray(links) || links.length === 0) throw bad("it is cut short or garbled");
  if (links.length > LINKS_MAX) throw bad(`it has ${links.length} links, at most ${LINKS_MAX} count`);
  for (const link of links) {
    const whole =
      fromHex(link?.by, PUBLIC_KEY_BYTES) &&
      fromHex(link?.sig, SIGNATURE_BYTES) &&
      typeof link.to === "string" &&
      typeof link.room === "string" &&
      Number.isSafeInteger(link.exp) &&
      Array.isArray(link.can) &&
      link.can.every((/** @type {unknown} */ right) => right === "join" || right === "invite");
    if (!whole) throw bad("a link of it is incomplete");
  }
  return links;
}

/**
 * Whether an invite lets somebody in, as the coordinator will decide it.
 * @param {string} invite
 * @param {{ networkId: string, owner: Uint8Array, nodeId: string, now?: number }} who `owner` is the room's key, `nodeId` who wants in
 * @returns {Promise<{ room: string, to: string, can: Right[], exp: number }>} the last link
 * @throws {SutantraError} `bad_invite`
 */
export async function checkInvite(invite, { networkId, owner, nodeId, now = Date.now() }) {
  mustBeBytes("the owner's key", owner, PUBLIC_KEY_BYTES, "bad_key");
  mustBeNodeId(nodeId, "the id of who wants in");
  const links = parseInvite(invite);
  let before = "";
  /** @type {InviteLink | null} */
  let last = null;
  for (const link of links) {
    const key = /** @type {Uint8Array} */ (fromHex(link.by, PUBLIC_KEY_BYTES));
    const signature = /** @type {Uint8Array} */ (fromHex(link.sig, SIGNATURE_BYTES));
    if (!(await verify(key, linkText(networkId, link, before), signature))) throw bad("a signature of it is wrong");
    if (link.exp <= now) throw bad("it has expired");
    if (!last) {
      if (link.by !== toHex(owner)) throw bad("its first link is not the owner's");
    } else {
      if ((await nodeIdOf(key)) !== last.to) throw bad("a link was made by another than the one before names");
      if (!last.can.includes("invite")) throw bad("it was handed on by one who may not");
      if (link.room !== last.room) throw bad("its links name different rooms");
      if (link.exp > last.exp || !link.can.every((right) => last?.can.includes(right))) throw bad("a link widens the one before");
    }
    before = link.sig;
    last = link;
  }
  const { room, to, can, exp } = /** @type {InviteLink} */ (last);
  if (to !== ANYBODY && to !== nodeId) throw bad(`it names ${to} and not ${nodeId}`);
  if (!can.includes("join")) throw bad("it does not allow joining");
  return { room, to, can, exp };
}

/** @param {{ networkId: unknown, to: unknown, exp: unknown, can: unknown }} grant */
function mustBeGrant({ networkId, to, exp, can }) {
  if (typeof networkId !== "string" || networkId === "") mistaken("the networkId is what fetchFromSeed found", networkId);
  if (to !== ANYBODY) mustBeNodeId(to, "an invite's `to`");
  if (!Number.isSafeInteger(exp)) mistaken("an invite's `exp` is a whole number, Unix ms (Date.now() + 3_600_000 is an hour)", exp);
  const rights = Array.isArray(can) ? can : [];
  const wrong = rights.find((right) => right !== "join" && right !== "invite");
  if (rights.length === 0 || wrong !== undefined) mistaken('an invite\'s `can` is ["join"], ["invite"] or ["join", "invite"]', wrong ?? can);
}

/** @param {InviteLink[]} links */
const text = (links) => PREFIX + toBase64url(utf8(JSON.stringify(links)));

