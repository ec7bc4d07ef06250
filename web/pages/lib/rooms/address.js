// Which room a link leads to, and with what invite. Both stand behind the #, which no server is sent.

const ROOM = /^[a-z0-9][a-z0-9._:-]{0,63}$/;
const INVITE = /^[\w.-]{1,16384}$/;

/** @typedef {{ room: string, invite: string | null }} Place */

/** @param {unknown} name */
export function isRoomName(name) {
  return typeof name === "string" && ROOM.test(name);
}

/** @param {string} hash of an address, with or without its # @returns {Place | null} null: it names no room */
export function placeOf(hash) {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const room = fields.get("room");
  const invite = fields.get("invite");
  if (room === null || !isRoomName(room)) return null;
  return { room, invite: invite !== null && INVITE.test(invite) ? invite : null };
}

/** @param {string} origin @param {Place} place @returns {string} an address of the page */
export function linkTo(origin, { room, invite }) {
  const fields = new URLSearchParams({ room, ...(invite === null ? {} : { invite }) });
  return `${origin}/rooms#${fields.toString().replaceAll("%3A", ":")}`;
}
