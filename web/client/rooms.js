// Who is in which of our rooms, as far as the coordinator and our own channels say.

/** @typedef {import("./signaling.js").Member} Member */

export class Rooms {
  /** @type {Map<string, Map<string, Member>>} */
  #rooms = new Map();

  get names() {
    return [...this.#rooms.keys()];
  }

  /** @param {string} room @returns {Member[]} */
  members(room) {
    return [...(this.#rooms.get(room)?.values() ?? [])];
  }

  /** @param {string} room @param {string} peerId */
  member(room, peerId) {
    return this.#rooms.get(room)?.get(peerId);
  }

  /** A room of ours where the peer is too, so that signals can pass. @param {string} peerId @returns {string | null} */
  shared(peerId) {
    for (const [room, members] of this.#rooms) if (members.has(peerId)) return room;
    return null;
  }

  /**
   * We joined, and these are there.
   * @param {string} room @param {Member[]} members
   * @param {(peerId: string) => boolean} reached whether a channel of ours reaches the peer: a coordinator that
   *   began anew has not heard yet of everybody
   */
  enter(room, members, reached) {
    const known = [...(this.#rooms.get(room) ?? [])].filter(([peerId]) => reached(peerId));
    this.#rooms.set(room, new Map([...known, ...members.map((member) => /** @type {const} */ ([member.nodeId, member]))]));
  }

  /** We left. @param {string} room @returns {string[]} who was there */
  leave(room) {
    const members = this.#rooms.get(room);
    this.#rooms.delete(room);
    return [...(members?.keys() ?? [])];
  }

  /** @param {string} room @param {Member} member @returns {boolean} whether that is news */
  add(room, member) {
    const members = this.#rooms.get(room);
    if (!members) return false;
    const isNew = !members.has(member.nodeId);
    members.set(member.nodeId, member);
    return isNew;
  }

  /** @param {string} room @param {string} peerId @returns {boolean} whether that is news */
  remove(room, peerId) {
    return this.#rooms.get(room)?.delete(peerId) ?? false;
  }
}
