// One validator: what it says of itself, its stake, its signatures, what happened to it, and one's own
// stake with it.

import { shortId } from "../format.js";
import { units } from "../wallet/balance.js";
import { historyOf } from "./history.js";
import { box, chip, facts, heading, idLink, instead, link, list, make, money, nothing, put, row, sync, time } from "./parts.js";
import { share } from "./plot.js";
import { proofBox } from "./proof-box.js";
import { STATUS, bondedOf, countedBlocks, nameOf, percentOf, percentWords, uptime } from "./records.js";
import { pathTo } from "./routes.js";
import { StakePanel } from "./stake-panel.js";
import { STRIP_BLOCKS, commissionWords, statusChip, stripLabel } from "./validators.js";

const DELEGATORS_SHOWN = 25;
/** Blocks between two looks at the index of events. */
const HISTORY_BLOCKS = 10;

/** @param {import("./parts.js").Context} context @param {string} operator @returns {import("./parts.js").View} */
export function validator(context, operator) {
  const { chain, feed, book, signatures } = context;
  const head = make("div", "", heading("Validator", shortId(operator)));
  const about = make("div", "about-place tall taller");
  const blocks = make("div", "block-grid");
  const blocksWords = make("p", "help", " ");
  blocks.setAttribute("role", "img");
  sync(blocks, Array.from({ length: STRIP_BLOCKS }, () => make("span", "")));
  const delegators = list("ul", "Nobody has a stake here.");
  const history = list("ul", "Nothing that this relay's node remembers.");
  const panel = new StakePanel(context, operator);
  const proof = proofBox(context, operator);
  const body = make(
    "div",
    "column",
    head,
    make(
      "div",
      "columns",
      make("div", "column", box("About", "", about), box(`The last ${STRIP_BLOCKS} blocks`, "", blocks, blocksWords), box("Who has staked with it", "The largest first; all of them share its rewards, and what is cut.", delegators.root)),
      make("div", "column", panel.root, proof.root, box("What happened", "", history.root)),
    ),
  );
  const root = make("div", "", body);
  let historyHeight = -Infinity;

  const load = async () => {
    const [all, params] = await Promise.all([book.validators(), book.params()]);
    const found = book.validator(operator);
    if (!found) return instead(root, body, nothing("There is no such validator", ["a validator of this operator"]));
    instead(root, body, null);
    const [height, windowBlocks] = [feed.height, Number(params["signed_window_blocks"] ?? 0)];
    const bonded = bondedOf(all);
    const part = found.status === "voting" ? percentOf(found.tokens, bonded) : null;
    const rank = all.indexOf(found) + 1;
    put(head, heading("Validator", nameOf(found), statusChip(found), chip(`Rank ${rank}`)));
    // Only an address of the web becomes a link: anybody can write anything there.
    const site = /^https?:[/][/][^\s]+$/.test(found.website) ? link(found.website, found.website) : (found.website || "–");
    if (site instanceof HTMLAnchorElement) site.rel = "noopener noreferrer nofollow";
    const up = uptime(found, windowBlocks, height);
    put(
      about,
      facts([
        ["State", STATUS[found.status].word, STATUS[found.status].help],
        ...(found.jailed ? [/** @type {import("./parts.js").Fact} */ (["Jailed", make("span", "", "at block ", link(pathTo.block(found.jailed.height), String(found.jailed.height)), ", until ", time(found.jailed.until_ms, { day: true }))])] : []),
        ...(found.slashed ? [/** @type {import("./parts.js").Fact} */ (["Cut", make("span", "", `${found.slashed.bps / 100} % at block `, link(pathTo.block(found.slashed.height), String(found.slashed.height))), `It signed twice at block ${found.slashed.infraction_height}.`])] : []),
        ["Stake", money(found.tokens), part === null ? "It does not vote, and earns nothing." : `${percentWords(found.tokens, bonded)} of what votes; ${found.power} of power in the engine.`],
        ["Commission", make("span", "with-bar", `${found.commission.bps / 100} %`, share(found.commission.bps / 100, "share-bar second")), commissionWords(found)],
        ["Uptime", up === null ? "–" : `${up} %`, `Missed ${found.missed} of the last ${countedBlocks(found, windowBlocks, height)} blocks.`],
        ["Web", site],
        ["Operator", idLink(pathTo.account(operator), operator, operator), "The account that is paid its commission."],
        ["Signs under", make("span", "mono", found.consensusKey), `In blocks: ${found.address}`],
        ["Since", found.sinceHeight > 0 ? link(pathTo.block(found.sinceHeight), `block ${found.sinceHeight}`) : "the beginning"],
      ]),
    );
    await Promise.all([showBlocks(found), showDelegators(found.tokens), panel.load(), showHistory(height)]);
    void proof.load();
  };

  /** @param {import("./records.js").Validator} found */
  const showBlocks = async ({ address }) => {
    await signatures.follow(chain, feed.blocks);
    const marks = signatures.of(address, feed.blocks);
    blocks.setAttribute("aria-label", stripLabel(marks));
    blocksWords.textContent = `${stripLabel(marks)}. The newest is the last one.`;
    const lacking = Array.from({ length: Math.max(0, STRIP_BLOCKS - marks.length) }, () => make("span", ""));
    const words = { signed: "signed", missed: "missed", out: "not asked" };
    sync(blocks, [
      ...lacking,
      ...marks.map(({ height, mark }) => {
        const cell = make("span", `mark-${mark}`);
        cell.title = `Block ${height}: ${words[mark]}`;
        return cell;
      }),
    ]);
  };

  /** @param {bigint} tokens */
  const showDelegators = async (tokens) => {
    const all = (await chain.list(`/delegators/${operator}`, ({ delegator }) => delegator)).map(({ delegator, amount }) => ({ delegator: String(delegator), amount: units(amount) }));
    all.sort((one, other) => (one.amount > other.amount ? -1 : 1));
    delegators.show([
      ...all.slice(0, DELEGATORS_SHOWN).map(({ delegator, amount }) => {
        const whose = delegator === operator ? " its operator" : delegator === context.purse.account ? " you" : "";
        return row([idLink(pathTo.account(delegator), delegator), ...(whose ? [make("span", "muted", whose)] : [])], [share(percentOf(amount, tokens))], money(amount));
      }),
      ...(all.length > DELEGATORS_SHOWN ? [make("li", "row-item muted", `and ${all.length - DELEGATORS_SHOWN} more`)] : []),
    ]);
  };

  /** @param {number} height */
  const showHistory = async (height) => {
    if (height < historyHeight + HISTORY_BLOCKS) return;
    historyHeight = height;
    const happened = await historyOf(chain, operator, height);
    history.show(
      happened.map(({ height: at, words, bad, who }) => row([make("span", bad ? "bad-words" : "", words), ...(who ? [" ", idLink(pathTo.account(who), who)] : [])], [], link(pathTo.block(at), `block ${at}`))),
    );
  };

  // What was just sent is seen at once, not ten blocks later.
  panel.onDone = () => {
    historyHeight = -Infinity;
    proof.forget();
  };
  return { title: "Validator", root, load };
}
