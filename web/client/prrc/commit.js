// CoherentCommitProtocol: a room proposes, votes and commits; a certificate of signed votes is the proof.

import { EventEmitter } from "../emitter.js";
import { checkedCertificate, checkedProposal, checkedVote, majority, makeProposal, makeVote } from "./ballot.js";
import { KIND } from "./channel.js";

/** @typedef {import("./ballot.js").Proposal} Proposal */
/** @typedef {import("./ballot.js").Vote} Vote */
/** @typedef {import("./ballot.js").Certificate} Certificate */
/** @typedef {import("./signed.js").Signer} Signer */
/** @typedef {import("./channel.js").PRRCChannel} PRRCChannel */

/** Proposals that wait for votes; one more is not looked at, its commit still is. */
const PENDING_MAX = 64;
/** Of one maker, so that nobody fills all places. */
const PENDING_OF_ONE_MAX = 8;
/** Ids that are remembered; a later copy of an older one is checked again, and the memory knows it. */
const IDS_MAX = 4096;
/** How far above what is committed a proposal may stand: nobody lifts the order out of reach. */
const HEIGHT_LEAP_MAX = 64;
const TIMEOUT_MS = 10_000;

/** Why a proposal was not committed. */
export class CommitError extends Error {
  /** @param {"refused" | "timeout" | "closed"} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = "CommitError";
    this.code = code;
  }
}

/**
 * @typedef {object} Pending
 * @property {Proposal} proposal
 * @property {Map<string, Vote>} votes by voter
 * @property {ReturnType<typeof setTimeout>} timer
 * @property {((certificate: Certificate) => void) | null} resolve set where this node proposed
 * @property {((error: CommitError) => void) | null} reject
 */

/**
 * Events: `proposal` (Proposal), `vote` (Vote, Proposal), `committed` (Certificate) once each,
 * `refused` (Proposal, string), `expired` (Proposal).
 */
export class CoherentCommitProtocol extends EventEmitter {
  /** What was dropped, by why. `equivocation`: a second vote that says the other thing. */
  dropped = { forged: 0, duplicate: 0, equivocation: 0, outsider: 0, late: 0, full: 0 };
  /** The highest place that was committed. */
  height = 0;
  /** @type {Map<string, Pending>} */
  pending = new Map();
  /** @type {Set<string>} */
  #decided = new Set();
  /** Those that were looked at: each is voted on once. @type {Set<string>} */
  #seen = new Set();
  /** Work on one proposal is done in the order in which it came. @type {Promise<unknown>} */
  #last = Promise.resolve();

  /**
   * @param {object} options
   * @param {PRRCChannel} options.channel
   * @param {Signer} options.signer its node id must be the channel's
   * @param {() => Iterable<string>} [options.members] who votes; else this node and whom the channel reaches
   * @param {readonly string[]} [options.electorate] fixed: nothing counts that others voted for
   * @param {(members: number) => number} [options.quorum] else more than half
   * @param {(body: any, proposal: Proposal) => boolean | string | Promise<boolean | string>} [options.verify] the application's word: true, or why not
   * @param {number} [options.timeoutMs]
   * @param {() => number} [options.now]
   */
  constructor({ channel, signer, members, electorate, quorum = majority, verify = () => true, timeoutMs = TIMEOUT_MS, now = Date.now }) {
    super();
    if (signer.nodeId !== channel.nodeId) throw new RangeError(`votes are signed by the node's key: ${channel.nodeId} is not the id of the key of ${signer.nodeId}`);
    this.channel = channel;
    this.signer = signer;
    this.electorate = electorate ? [...electorate].sort() : null;
    // Who has no key, as in mode `open`, cannot vote.
    this.members = members ?? (() => [signer.nodeId, ...[...channel.peers.keys()].filter((id) => id.startsWith("sn1"))]);
    this.quorum = quorum;
    this.verify = verify;
    this.timeoutMs = timeoutMs;
    this.now = now;
    const inOrder = (/** @type {(from: string, body: any) => Promise<void>} */ work) => (/** @type {string} */ from, /** @type {any} */ body) => this.#inOrder(() => work(from, body));
    channel.handle("propose", inOrder((_, body) => this.#proposed(body)));
    channel.handle("vote", inOrder((_, body) => this.#voted(body)));
    channel.handle("commit", inOrder(async (from, body) => void (await this.#certified(body, from))));
  }

  /**
   * @param {unknown} body JSON
   * @returns {Promise<Certificate>} when enough have said yes; a CommitError when they cannot any more, or did not in time
   */
  async propose(body) {
    const members = this.electorate ?? new Set([this.signer.nodeId, ...this.members()]);
    const proposal = await makeProposal(this.signer, { room: this.channel.room, height: this.height + 1, ts: this.now(), members, body });
    const outcome = new Promise((resolve, reject) => this.#open(proposal, resolve, reject));
    this.channel.broadcast("propose", { proposal }, { kind: KIND.COMMIT });
    this.#decide(proposal);
    return outcome;
  }

  /**
   * Takes a certificate that came from elsewhere, as when memories are compared.
   * @param {unknown} certificate @param {string} from the peer who gave it
   * @returns {Promise<boolean>} whether it is good and was new
   */
  accept(certificate, from) {
    return this.#inOrder(() => this.#certified({ certificate }, from));
  }

  /** Ends what waits. */
  close() {
    for (const id of [...this.pending.keys()]) this.#end(id)?.reject?.(new CommitError("closed", "the protocol was closed before the room had decided"));
  }

  /** @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  #inOrder(work) {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  /** @param {Proposal} proposal @param {Pending["resolve"]} resolve @param {Pending["reject"]} reject */
  #open(proposal, resolve = null, reject = null) {
    const timer = setTimeout(() => this.#expired(proposal), this.timeoutMs);
    this.pending.set(proposal.id, { proposal, votes: new Map(), timer, resolve, reject });
    remember(this.#seen, proposal.id);
    this.emit("proposal", proposal);
  }

  /** @param {any} body */
  async #proposed({ proposal: value }) {
    const proposal = await checkedProposal(value, this.channel.room);
    if (!proposal) return this.#drop("forged");
    if (this.#seen.has(proposal.id) || this.#decided.has(proposal.id)) return this.#drop("duplicate");
    if (!this.#isElectorate(proposal) || !proposal.members.includes(this.signer.nodeId)) return this.#drop("outsider");
    const ofMaker = [...this.pending.values()].filter((each) => each.proposal.by === proposal.by).length;
    if (this.pending.size >= PENDING_MAX || ofMaker >= PENDING_OF_ONE_MAX) return this.#drop("full");
    this.#open(proposal);
    this.#decide(proposal);
  }

  /** This node's own vote. Nothing else waits for the application's judgement. @param {Proposal} proposal */
  #decide(proposal) {
    const decided = async () => {
      const why = await this.#why(proposal);
      const vote = await makeVote(this.signer, proposal.id, why === "", why);
      this.channel.broadcast("vote", { vote }, { kind: KIND.COMMIT });
      this.#count(vote);
    };
    decided().catch((error) => this.emit("error", error));
  }

  /** Empty for a yes. @param {Proposal} proposal */
  async #why(proposal) {
    if (proposal.height > this.height + HEIGHT_LEAP_MAX) return "it stands too far above what is committed here";
    try {
      const verdict = await this.verify(JSON.parse(proposal.body), proposal);
      return verdict === true ? "" : verdict || "the application refuses it";
    } catch (error) {
      return `the application cannot judge it: ${error instanceof Error ? error.message : error}`;
    }
  }

  /** @param {any} body */
  async #voted({ vote: value }) {
    const vote = await checkedVote(value);
    if (!vote) return this.#drop("forged");
    const pending = this.pending.get(vote.id);
    if (!pending) return this.#drop("late");
    if (!pending.proposal.members.includes(vote.by)) return this.#drop("outsider");
    const earlier = pending.votes.get(vote.by);
    if (earlier) return this.#drop(earlier.yes === vote.yes ? "duplicate" : "equivocation");
    this.#count(vote);
  }

  /** @param {Vote} vote */
  #count(vote) {
    const pending = this.pending.get(vote.id);
    if (!pending) return;
    const { proposal, votes } = pending;
    votes.set(vote.by, vote);
    this.emit("vote", vote, proposal);
    const all = [...votes.values()];
    const yes = all.filter((each) => each.yes);
    const needed = this.quorum(proposal.members.length);
    if (yes.length >= needed) this.#commit({ proposal, votes: yes });
    else if (proposal.members.length - (all.length - yes.length) < needed) this.#refused(pending, all.filter((each) => !each.yes));
  }

  /** @param {Certificate} certificate */
  #commit(certificate) {
    const { proposal } = certificate;
    const pending = this.#end(proposal.id);
    remember(this.#decided, proposal.id);
    this.height = Math.max(this.height, proposal.height);
    // Others may have missed a vote. The maker tells all, also whom the proposal did not reach.
    if (proposal.by === this.signer.nodeId) this.channel.broadcast("commit", { certificate }, { kind: KIND.COMMIT });
    this.emit("committed", certificate);
    pending?.resolve?.(certificate);
  }

  /** @param {any} body @param {string} from */
  async #certified({ certificate: value }, from) {
    if (this.#decided.has(value?.proposal?.id)) {
      this.#drop("duplicate");
      return false;
    }
    const certificate = await checkedCertificate(value, this.channel.room, this.quorum);
    if (!certificate) {
      this.#drop("forged");
      return false;
    }
    const { proposal } = certificate;
    // An electorate of strangers proves nothing here: it must hold this node, or whom it heard this from.
    const { members } = proposal;
    const known = members.includes(this.signer.nodeId) || members.includes(from) || members.some((member) => this.channel.peers.has(member));
    if (!this.#isElectorate(proposal) || !known) {
      this.#drop("outsider");
      return false;
    }
    this.#commit(certificate);
    return true;
  }

  /** @param {Pending} pending @param {Vote[]} no */
  #refused({ proposal }, no) {
    const reasons = [...new Set(no.map(({ why }) => why).filter(Boolean))].join("; ") || "no reason was given";
    const pending = this.#end(proposal.id);
    this.emit("refused", proposal, reasons);
    pending?.reject?.(new CommitError("refused", `${no.length} of ${proposal.members.length} members said no: ${reasons}`));
  }

  /** @param {Proposal} proposal */
  #expired(proposal) {
    const pending = this.#end(proposal.id);
    if (!pending) return;
    this.emit("expired", proposal);
    const { size } = pending.votes;
    pending.reject?.(new CommitError("timeout", `${size} of ${proposal.members.length} members voted within ${this.timeoutMs / 1000} s, ${this.quorum(proposal.members.length)} must say yes: propose it again when more are here`));
  }

  /** @param {string} id */
  #end(id) {
    const pending = this.pending.get(id);
    clearTimeout(pending?.timer);
    this.pending.delete(id);
    return pending;
  }

  /** @param {Proposal} proposal */
  #isElectorate({ members }) {
    const wanted = this.electorate;
    return !wanted || (members.length === wanted.length && members.every((member, at) => member === wanted[at]));
  }

  /** @param {keyof CoherentCommitProtocol["dropped"]} why */
  #drop(why) {
    this.dropped[why] += 1;
  }
}

/** @param {Set<string>} ids the oldest goes when there are too many @param {string} id */
function remember(ids, id) {
  ids.add(id);
  const [oldest] = ids;
  if (ids.size > IDS_MAX && oldest !== undefined) ids.delete(oldest);
}
