// All validators by rank: stake, commission, who signed the last hundred blocks, how they stand.

import { sut } from "../wallet/balance.js";
import { BLOCKS_KEPT } from "./feed.js";
import { box, chip, idLink, make, money, table, tiles } from "./parts.js";
import { marks, share } from "./plot.js";
import { STATUS, bondedOf, nameOf, percentOf, percentWords, uptime } from "./records.js";
import { pathTo } from "./routes.js";
import { engineValidators } from "./signatures.js";

/** @typedef {import("./records.js").Validator} Validator */
/** @typedef {import("./parts.js").Context} Context */

/** Blocks of a strip. */
export const STRIP_BLOCKS = BLOCKS_KEPT - 1;

/** @param {Validator} validator */
export function statusChip({ status }) {
  return chip(STATUS[status].word, status === "voting" ? "good" : status === "waiting" ? "" : status === "jailed" ? "warn" : "bad", STATUS[status].help);
}

/** @param {{ mark: string }[]} list @returns {string} */
export function stripLabel(list) {
  const [signed, missed] = ["signed", "missed"].map((mark) => list.filter((each) => each.mark === mark).length);
  return list.length === 0 ? "Not known yet" : `Signed ${signed} and missed ${missed} of the last ${list.length} blocks`;
}

/** @param {Context} context @returns {import("./parts.js").View} */
export function validators({ chain, feed, book, signatures }) {
  const now = tiles({
    voting: ["Voting", "They propose and sign blocks."],
    staked: ["Staked with them", "What they can lose."],
    quorum: ["To stop the chain", "So many of the largest hold a third of the power."],
    window: ["Window", "Who misses too much of it is jailed."],
  });
  const all = table("Validators", [["#", "num"], ["Name", ""], ["Stake", "num"], ["Share", "num"], ["Commission", "num"], ["Uptime", "wide"], ["State", ""]], "");
  const engine = table("Validators of the engine", [["#", "num"], ["Address", ""], ["Power", "num"], ["Last blocks", "wide"]], "The chain names none.");
  const withoutStake = box("Validators of the genesis", "This chain was begun without staked validators: these keys sign its blocks, and nobody can join or stake. A chain with staked validators begins from gentx transactions; see sutantra-node genesis.", engine.root);
  withoutStake.hidden = true;
  const withStake = box("Validators", `The strip is the last ${STRIP_BLOCKS} blocks: a gap is one that it did not sign. Stake with one on its page.`, all.root);
  const root = make("div", "column", now.root, withStake, withoutStake);

  const load = async () => {
    const [list, params] = await Promise.all([book.validators(), book.params()]);
    withoutStake.hidden = list.length > 0;
    withStake.hidden = list.length === 0;
    await signatures.follow(chain, feed.blocks);
    if (list.length === 0) return showEngine();
    const windowBlocks = Number(params["signed_window_blocks"] ?? 0);
    const bonded = bondedOf(list);
    now.set("voting", String(list.filter(({ status }) => status === "voting").length), `of ${params["validators_max"] ?? "–"} places; ${list.length} registered`);
    now.set("staked", money(bonded));
    now.set("quorum", String(thirdOf(list.map(({ power }) => power))));
    now.set("window", `${windowBlocks} blocks`, `Who signs less than ${Number(params["signed_min_bps"] ?? 0) / 100} % of it is jailed.`);
    all.show(
      list.map((validator, at) => {
        const [part, up] = [validator.status === "voting" ? percentOf(validator.tokens, bonded) : null, uptime(validator, windowBlocks, feed.height)];
        const strip = signatures.of(validator.address, feed.blocks);
        return {
          className: validator.status === "voting" ? "" : "aside",
          cells: [
            String(at + 1),
            make("strong", "", idLink(pathTo.validator(validator.operator), validator.operator, nameOf(validator))),
            money(validator.tokens),
            make("span", "with-bar", part === null ? "–" : percentWords(validator.tokens, bonded), share(part)),
            make("span", "with-bar", `${validator.commission.bps / 100} %`, share(validator.commission.bps / 100, "share-bar second")),
            make("span", "with-marks", up === null ? "–" : `${up} %`, marks(strip.map(({ mark }) => mark), STRIP_BLOCKS, stripLabel(strip))),
            statusChip(validator),
          ],
        };
      }),
    );
  };

  const showEngine = async () => {
    const list = await engineValidators(chain);
    const power = list.reduce((sum, each) => sum + each.power, 0n);
    now.set("voting", String(list.length), "Named by the genesis.");
    now.set("staked", "–", `${power} of power, no stake.`);
    now.set("quorum", String(thirdOf(list.map((each) => each.power))));
    now.set("window", "–", "Nobody is jailed.");
    engine.show(
      list.map(({ address, power: weight }, at) => {
        const strip = signatures.of(address, feed.blocks);
        const name = make("span", "mono", address);
        return { cells: [String(at + 1), name, String(weight), marks(strip.map(({ mark }) => mark), STRIP_BLOCKS, stripLabel(strip))] };
      }),
    );
  };
  return { title: "Validators", root, load };
}

/** How many of the heaviest have a third of all power together: without them no block is signed. @param {bigint[]} powers */
export function thirdOf(powers) {
  const all = powers.reduce((sum, power) => sum + power, 0n);
  let [sum, count] = [0n, 0];
  for (const power of [...powers].sort((one, other) => (one > other ? -1 : 1))) {
    if (power === 0n) break;
    sum += power;
    count += 1;
    if (sum * 3n >= all) break;
  }
  return count;
}

/** @param {Validator} validator */
export function commissionWords({ commission, commissionDue }) {
  return `At most ${commission.max_bps / 100} %, and ${commission.step_bps / 100} % more or less a day.${commissionDue > 0n ? ` ${sut(commissionDue)} wait for its operator.` : ""}`;
}
