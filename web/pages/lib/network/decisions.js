// What validators decide: proposals and how they stand, and the upgrade that is due.

import { shortId } from "../format.js";
import { duration } from "../pay-view.js";
import { box, chip, facts, heading, idLink, instead, link, list, make, nothing, put, row, say, table, time } from "./parts.js";
import { share } from "./plot.js";
import { adviceOf } from "./purse.js";
import { asProposal, changesOf, parameterWords, percentOf } from "./records.js";
import { pathTo } from "./routes.js";
import { button } from "./stake-panel.js";

/** @typedef {import("./records.js").Proposal} Proposal */
/** @typedef {import("./parts.js").Context} Context */

const STATES = /** @type {const} */ ({ voting: ["Voting", "warn"], passed: ["Passed", "good"], rejected: ["Rejected", "bad"] });

/** A proposal whose time is over has failed, though nobody wrote that down. @param {Proposal} proposal @param {number} nowMs */
export function standing({ state, endsMs }, nowMs) {
  return state === "voting" && nowMs >= endsMs ? /** @type {const} */ (["Not decided in time", ""]) : STATES[state] ?? /** @type {const} */ (["–", ""]);
}

/** @param {Proposal} proposal */
function subject({ change, title }) {
  return title || (change.kind === "upgrade" ? `Upgrade to ${change.upgrade.name}` : "Other parameters");
}

/** A parameter's name and value as people read them, and as they are for who points there. @param {string} name @param {unknown} value */
function parameter(name, value) {
  const made = make("span", "", parameterWords(name, value));
  made.title = `${name}: ${value}`;
  return [name.replace(/_(ms|bps)$/, "").replaceAll("_", " "), made];
}

/** @param {Proposal} proposal */
function tally({ yes, no, total }) {
  const [forIt, against] = [percentOf(yes, total), percentOf(no, total)];
  return make("div", "tally", make("div", "", make("span", "", `For ${forIt ?? 0} %`), share(forIt)), make("div", "", make("span", "", `Against ${against ?? 0} %`), share(against, "share-bar bad-bar")));
}

/** @param {Context} context @returns {import("./parts.js").View} */
export function decisions({ chain, book }) {
  const upgrade = make("div", "");
  const all = list("ul", "None so far. Operators of voting validators propose other parameters, or a new version of the program.");
  const params = table("Parameters", [["Parameter", ""], ["Now", "num"]], "");
  const root = make("div", "column", upgrade, make("div", "columns even", box("Proposals", "Validators decide by their power: more than two thirds for it, and it is done at once.", all.root), box("Parameters", "What the chain holds everybody to.", params.root)));
  const load = async () => {
    const [records, next, now] = await Promise.all([chain.list("/proposals", ({ number }) => BigInt(number).toString(16).padStart(16, "0")), chain.query("/upgrade").catch(() => null), book.params(), book.validators()]);
    const { info } = chain;
    put(upgrade, ...(next ? [make("div", "notice warn", make("h2", "", `Upgrade to ${next.name}`), make("p", "", `From block ${next.height} on only a program that knows it goes on. ${next.info}`))] : []));
    all.show(
      [...records].map(asProposal).reverse().map((proposal) => {
        const [word, kind] = standing(proposal, info.block_time_ms);
        return row([make("strong", "", link(pathTo.decision(proposal.number), `${proposal.number}. ${subject(proposal)}`))], ["by ", idLink(pathTo.validator(proposal.proposer), proposal.proposer, book.nameOf(proposal.proposer) ?? "")], chip(word, kind), tally(proposal));
      }),
    );
    params.show(Object.entries(now).map(([name, value]) => ({ cells: parameter(name, value) })));
  };
  return { title: "Decisions", root, load };
}

/** @param {Context} context @param {string} id @returns {import("./parts.js").View} */
export function decision({ chain, book, purse }, id) {
  const head = make("div", "", heading("Proposal", id));
  const about = make("div", "about-place short");
  const votes = make("div", "");
  const what = table("What it changes", [["Parameter", ""], ["Now", "num"], ["Then", "num"]], "Nothing differs from what holds now.");
  const upgrade = make("div", "");
  const doing = make("p", "help", "");
  const trouble = make("p", "notice bad", "");
  doing.setAttribute("role", "status");
  trouble.setAttribute("role", "alert");
  trouble.hidden = true;
  const [forIt, against] = [button("Vote for it", "button primary"), button("Vote against it", "button")];
  const ballot = make("div", "actions", forIt, against);
  ballot.hidden = true;
  const body = make("div", "column", head, make("div", "columns even", box("About", "", about), make("div", "column", box("Votes", "Operators of voting validators have them, by their power. The last word of each counts.", votes, ballot, doing, trouble), box("What it changes", "", upgrade, what.root))));
  const root = make("div", "", body);
  /** @param {boolean} approve */
  const vote = async (approve) => {
    trouble.hidden = true;
    forIt.disabled = against.disabled = true;
    try {
      await purse.transact({ kind: "vote", proposal: id, approve }, (step) => say(doing, step));
    } catch (error) {
      say(doing, "");
      say(trouble, adviceOf(error));
      trouble.hidden = false;
    }
    forIt.disabled = against.disabled = false;
    book.forget();
    await load();
  };
  forIt.addEventListener("click", () => void vote(true));
  against.addEventListener("click", () => void vote(false));

  const load = async () => {
    const [record, now] = await Promise.all([chain.query(`/proposal/${id}`), book.params(), book.validators(), purse.open()]);
    if (!record) return instead(root, body, nothing(`There is no proposal ${id}`, ["a proposal of this number"]));
    instead(root, body, null);
    const proposal = asProposal({ number: id, ...record });
    const [word, kind] = standing(proposal, chain.info.block_time_ms);
    const left = proposal.endsMs - chain.info.block_time_ms;
    put(head, heading(`Proposal ${id}`, subject(proposal), chip(word, kind)));
    put(
      about,
      facts([
        ["In its words", proposal.text || "–"],
        ["Proposed by", idLink(pathTo.validator(proposal.proposer), proposal.proposer, book.nameOf(proposal.proposer) ?? shortId(proposal.proposer))],
        ["Made", link(pathTo.block(proposal.height), `block ${proposal.height}`)],
        ["Ends", time(proposal.endsMs, { day: true }), proposal.state === "voting" && left > 0 ? `In ${duration(left)}; without two thirds by then it has failed.` : ""],
      ]),
    );
    put(votes, tally(proposal), make("p", "help", `${proposal.yes} for, ${proposal.no} against, of ${proposal.total} of power.`));
    const own = purse.account === null ? null : book.validator(purse.account);
    ballot.hidden = !(own?.status === "voting" && proposal.state === "voting" && left > 0);
    const { change } = proposal;
    put(upgrade, ...(change.kind === "upgrade" ? [facts([["Version", change.upgrade.name], ["From block", String(change.upgrade.height), "Only a program that knows it goes on from there."], ["Where", change.upgrade.info || "–"]])] : []));
    what.root.hidden = change.kind === "upgrade";
    if (change.kind === "params") what.show(changesOf(now, change.params).map(({ name, from, to }) => ({ cells: [...parameter(name, from), ...parameter(name, to).slice(1)] })));
  };
  return { title: `Proposal ${id}`, root, load };
}
