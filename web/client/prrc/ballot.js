// Proposals, votes and certificates: what is signed, and what makes each of them good.

import { idOf, signText, textHash, verifyText } from "./signed.js";

/** @typedef {import("./signed.js").Signer} Signer */

/** Members that may vote on one proposal; a room with more elects some. */
export const MEMBERS_MAX = 256;
/** Nobody lifts the order of a memory out of reach: above every height there is another one. */
const HEIGHT_MAX = 2 ** 40;
export const BODY_CHARS_MAX = 16 * 1024;
export const WHY_CHARS_MAX = 200;
const NODE_ID = /^sn1[a-z2-7]{32}$/;
const HASH = /^[0-9a-f]{64}$/;

/**
 * Something that a room is to agree on.
 * @typedef {object} Proposal
 * @property {string} id SHA-256 of all that follows but the signature, hex
 * @property {string} room
 * @property {string} by node id
 * @property {string} pk the node's public key, hex
 * @property {number} height where it stands: one more than the highest that its maker had seen committed
 * @property {number} ts Unix ms by its maker's clock
 * @property {string[]} members who votes, in alphabetical order
 * @property {string} body JSON
 * @property {string} sig hex
 */

/**
 * @typedef {object} Vote
 * @property {string} id of the proposal
 * @property {string} by node id
 * @property {string} pk
 * @property {boolean} yes
 * @property {string} why empty for a yes
 * @property {string} sig
 */

/** What anybody can check without having been there. @typedef {{ proposal: Proposal, votes: Vote[] }} Certificate */

/** More than half. @param {number} members @returns {number} */
export const majority = (members) => Math.floor(members / 2) + 1;

/** @param {Omit<Proposal, "id" | "pk" | "sig">} of */
const proposalText = ({ room, by, height, ts, members, body }) => `sutantra/prop/v1\n${room}\n${by}\n${height}\n${ts}\n${members.join(",")}\n${body}`;
/** @param {Pick<Vote, "id" | "by" | "yes" | "why">} of */
const voteText = ({ id, by, yes, why }) => `sutantra/vote/v1\n${id}\n${by}\n${yes ? "yes" : "no"}\n${why}`;

/**
 * @param {Signer} signer @param {{ room: string, height: number, ts: number, members: Iterable<string>, body: unknown }} of
 * @returns {Promise<Proposal>}
 */
export async function makeProposal(signer, { room, height, ts, members, body }) {
  const what = { room, by: signer.nodeId, height, ts, members: [...new Set(members)].sort(), body: JSON.stringify(body) };
  if (what.body === undefined || what.body.length > BODY_CHARS_MAX) throw new RangeError(`what is proposed has at most ${BODY_CHARS_MAX} characters of JSON: propose its hash, and send the rest as a file`);
  if (what.members.length > MEMBERS_MAX) throw new RangeError(`at most ${MEMBERS_MAX} members vote on a proposal: name an electorate`);
  const text = proposalText(what);
  return { id: await textHash(text), pk: signer.pk, sig: await signText(signer, text), ...what };
}

/** @param {Signer} signer @param {string} id @param {boolean} yes @param {string} [why] @returns {Promise<Vote>} */
export async function makeVote(signer, id, yes, why = "") {
  const what = { id, by: signer.nodeId, yes, why: why.slice(0, WHY_CHARS_MAX) };
  return { ...what, pk: signer.pk, sig: await signText(signer, voteText(what)) };
}

/**
 * A copy with the known keys only, if the value has a proposal's form and its signature is its maker's.
 * @param {any} value @param {string} room @returns {Promise<Proposal | null>}
 */
export async function checkedProposal(value, room) {
  const { id, by, pk, height, ts, members, body, sig } = value ?? {};
  const formed =
    value?.room === room &&
    HASH.test(id) &&
    NODE_ID.test(by) &&
    Number.isSafeInteger(height) &&
    height > 0 &&
    height <= HEIGHT_MAX &&
    Number.isSafeInteger(ts) &&
    typeof body === "string" &&
    body.length <= BODY_CHARS_MAX &&
    isJson(body) &&
    Array.isArray(members) &&
    members.length <= MEMBERS_MAX &&
    members.every((member, at) => NODE_ID.test(member) && (at === 0 || members[at - 1] < member)) &&
    members.includes(by);
  if (!formed) return null;
  const proposal = { id, room, by, pk, height, ts, members: [...members], body, sig };
  const text = proposalText(proposal);
  return (await idOf(pk)) === by && (await textHash(text)) === id && (await verifyText(pk, sig, text)) ? proposal : null;
}

/** @param {any} value @returns {Promise<Vote | null>} */
export async function checkedVote(value) {
  const { id, by, pk, yes, why, sig } = value ?? {};
  if (!HASH.test(id) || !NODE_ID.test(by) || typeof yes !== "boolean" || typeof why !== "string" || why.length > WHY_CHARS_MAX) return null;
  const vote = { id, by, pk, yes, why, sig };
  return (await idOf(pk)) === by && (await verifyText(pk, sig, voteText(vote))) ? vote : null;
}

/**
 * Whether enough of those who were to vote said yes, each once.
 * @param {any} value @param {string} room @param {(members: number) => number} quorum of the one who checks, not of the maker
 * @returns {Promise<Certificate | null>}
 */
export async function checkedCertificate(value, room, quorum) {
  const proposal = await checkedProposal(value?.proposal, room);
  if (!proposal || !Array.isArray(value.votes) || value.votes.length > proposal.members.length) return null;
  const members = new Set(proposal.members);
  /** @type {Map<string, Vote>} */
  const votes = new Map();
  for (const each of value.votes) {
    const vote = await checkedVote(each);
    if (!vote?.yes || vote.id !== proposal.id || !members.has(vote.by) || votes.has(vote.by)) return null;
    votes.set(vote.by, vote);
  }
  return votes.size >= quorum(members.size) ? { proposal, votes: [...votes.values()] } : null;
}

/** @param {string} text */
function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
