// The peer of the command line, as a scenario sees it.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Program } from "./program.mjs";

/** @typedef {import("./peers.mjs").RoomPeer} RoomPeer */
/** @typedef {import("./peers.mjs").Wish} Wish */

/** @param {string} node the program that has the command `peer` @param {Wish} wish @returns {Promise<RoomPeer>} */
export async function rustPeer(node, { base, room, name, signaling = "websocket", relayOnly = false }) {
  const folder = await mkdtemp(join(tmpdir(), "sutantra-peer-"));
  const args = ["peer", "--seed", base, "--room", room, "--name", name, "--transport", signaling, "--key", join(folder, "key"), "--json"];
  const program = new Program(node, [...args, ...(relayOnly ? ["--relay-only"] : [])]);
  const close = async () => {
    await program.end();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const { nodeId: id, transport } = await program.first("joined");
    const connected = () => program.all("peer-connected").map(({ peer }) => peer);
    const lost = () => program.all("peer-disconnected").filter(({ wasOpen }) => wasOpen).map(({ peer }) => peer);
    return {
      kind: "rust",
      id,
      open: async () => connected().filter((peer) => !lost().includes(peer)),
      heard: async () => program.all("message").map(({ from, text }) => [from, text]),
      send: async (to, text) => {
        program.say(`/to ${to} ${text}`);
        return true;
      },
      facts: async () => ({
        connected: connected().length,
        disconnected: lost().length,
        errors: [...program.all("warning"), ...program.all("refused")].map(({ message }) => message),
        transport: String(transport).toLowerCase(),
        candidates: [],
      }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
