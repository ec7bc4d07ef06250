// The overview: how the chain is doing now, its money over the last blocks, and the blocks as they come.

import { cadence, usualMs } from "../explorer.js";
import { counted } from "../format.js";
import { sut, UNITS_PER_SUT } from "../wallet/balance.js";
import { box, chip, idLink, link, list, make, money, put, row, sentence, sync, tiles, time } from "./parts.js";
import { bars, line, share } from "./plot.js";
import { bondedOf, nameOf, percentOf, percentWords } from "./records.js";
import { pathTo } from "./routes.js";

/** @typedef {import("./parts.js").Context} Context */
/** @typedef {import("./book.js").Supply} Supply */

const BLOCKS_SHOWN = 10;
const BARS = 60;
const VALIDATORS_SHOWN = 6;

/** @param {Context} context @returns {import("./parts.js").View} */
export function overview({ chain, feed, book }) {
  const now = tiles({
    height: ["Block", "Nothing is undone after it."],
    "block-time": ["Time of a block", "The usual one of the last blocks."],
    voting: ["Validators", "Who signs blocks now."],
    staked: ["Staked", "With those who sign."],
    supply: ["There is", "All money of this chain."],
    burned: ["Burned", "Of fees and payments, gone for good."],
  });
  const cadenceHelp = make("p", "help", "A bar is a block: its height the time it took.");
  const strip = make("div", "strip-place");
  const loadStrip = make("div", "strip-place");
  const loadHelp = make("p", "help", "Transactions in each of the same blocks.");
  const plots = ["supply", "burned", "staked"].map((name) => ({ name, figure: make("p", "figure", "–"), change: make("p", "help", " "), place: make("div", "plot-place") }));
  const titles = /** @type {Record<string, string>} */ ({ supply: "There is", burned: "Burned", staked: "Staked" });
  const blocks = list("ol", "No block yet. The first one comes when the validators begin.");
  blocks.root.classList.add("blocks");
  const stake = list("ul", "This chain has no registered validators: those of its genesis sign.");
  const root = make(
    "div",
    "column",
    now.root,
    make(
      "div",
      "columns even",
      box("Blocks", "", cadenceHelp, strip),
      box("Transactions", "", loadHelp, loadStrip),
    ),
    make("div", "columns three", ...plots.map(({ name, figure, change, place }) => box(titles[name] ?? name, "", figure, place, change))),
    make(
      "div",
      "columns even loose",
      box("Newest blocks", "Each line below a block is a transaction: signed by one account, the same for everybody.", blocks.root),
      box("Validators", "They sign blocks, with what is staked with them as the pledge.", stake.root, make("p", "", link("/network/validators", "All validators"))),
    ),
  );

  const showBlocks = async () => {
    const [newest] = feed.blocks;
    if (!newest) return blocks.show([]);
    const shown = cadence(feed.blocks, BARS);
    const usual = usualMs(shown);
    const most = Math.max(1, ...shown.map(({ transactions }) => transactions));
    const sum = shown.reduce((total, { transactions }) => total + transactions, 0);
    now.set("height", link(pathTo.block(newest.height), String(newest.height)));
    now.set("block-time", usual === null ? "–" : `${(usual / 1000).toFixed(1)} s`);
    const times = `The last ${shown.length} blocks took ${usual === null ? "an unknown time" : `${(usual / 1000).toFixed(1)} s`} each, usually`;
    sync(strip, [bars(shown.map(({ height, ms, share: high, transactions }) => ({ share: high, full: transactions > 0, title: `Block ${height}: ${(ms / 1000).toFixed(2)} s, ${counted(transactions, "transaction")}` })), times)]);
    sync(loadStrip, [bars(shown.map(({ height, transactions }) => ({ share: transactions / most, full: transactions > 0, title: `Block ${height}: ${counted(transactions, "transaction")}` })), `${counted(sum, "transaction")} in the last ${shown.length} blocks`)]);
    loadHelp.textContent = `${counted(sum, "transaction")} in the last ${counted(shown.length, "block")}${sum > 0 ? `, ${most} at most in one` : ""}.`;
    const list = feed.blocks.slice(0, BLOCKS_SHOWN);
    const told = await Promise.all(list.map((block) => (block.transactions > 0 ? feed.tell(block.height) : [])));
    blocks.show(
      list.map((block, at) => {
        const proposer = book.byAddress(block.proposer);
        const carried = block.transactions > 0 ? [` · ${counted(block.transactions, "transaction")}`] : [];
        const by = proposer ? [" · ", idLink(pathTo.validator(proposer.operator), proposer.operator, nameOf(proposer))] : [];
        return make("li", "", make("div", "row-item", make("strong", "", link(pathTo.block(block.height), String(block.height))), make("span", "muted cut", time(block.timeMs), ...carried, ...by)), ...(told[at] ?? []).map((each) => sentence(each, book.nameOf)));
      }),
    );
  };

  const showStake = async () => {
    const [validators, supply] = await Promise.all([book.validators(), book.supply()]);
    const voting = validators.filter(({ status }) => status === "voting");
    const bonded = bondedOf(validators);
    now.set("voting", validators.length > 0 ? String(voting.length) : "–", validators.length > 0 ? `of ${validators.length} registered` : "Those of the genesis sign.");
    now.set("staked", validators.length === 0 ? "–" : percentWords(bonded, supply.current), validators.length > 0 ? `${sut(bonded)} of all there is` : "Nothing is staked on this chain.");
    now.set("supply", money(supply.current), `${percentWords(supply.current, supply.genesis)} of the first supply.`);
    now.set("burned", money(supply.burned));
    stake.show(
      validators.slice(0, VALIDATORS_SHOWN).map((validator) => {
        const weight = percentOf(validator.tokens, bonded);
        return row([idLink(pathTo.validator(validator.operator), validator.operator, nameOf(validator)), " ", ...(validator.status === "voting" ? [] : [chip(validator.status, "warn")])], [share(weight)], make("span", "amount", sut(validator.tokens)));
      }),
    );
  };

  /** @type {Record<string, (supply: Supply) => bigint>} */
  const read = { supply: ({ current }) => current, burned: ({ burned }) => burned, staked: ({ bonded }) => bonded };
  const showMoney = async () => {
    const samples = await book.supplies(feed.height);
    const [first, last] = [samples[0], samples.at(-1)];
    if (!first || !last) return;
    for (const { name, figure, change, place } of plots) {
      const of = read[name];
      if (!of) continue;
      const moved = of(last.supply) - of(first.supply);
      put(figure, money(of(last.supply)));
      const words = `${moved === 0n ? "Unchanged" : `${moved > 0n ? "+" : ""}${sut(moved)}`} since block ${first.height}`;
      change.textContent = words;
      // A picture has no use for more digits than a double has.
      sync(place, [line(samples.map(({ supply }) => Number(of(supply)) / Number(UNITS_PER_SUT)), `${titles[name]}: ${sut(of(last.supply))}. ${words}`)]);
    }
  };

  const load = async () => {
    await Promise.all([showStake().then(showBlocks), showMoney()]);
    cadenceHelp.textContent = `On ${chain.id}. A bar is a block: its height the time it took, filled when it carried transactions.`;
  };
  return { title: "Network", root, load };
}
