// All that the wallet of this browser has staked: with whom, what it has earned, what is on its way out.

import { sut } from "../wallet/balance.js";
import { box, idLink, link, list, make, money, nothing, put, row, say, tiles } from "./parts.js";
import { adviceOf } from "./purse.js";
import { nameOf } from "./records.js";
import { pathTo } from "./routes.js";
import { button, leavingFact } from "./stake-panel.js";
import { statusChip } from "./validators.js";

/** @typedef {import("./records.js").Delegation} Delegation */

/** @param {import("./parts.js").Context} context @returns {import("./parts.js").View} */
export function stake(context) {
  const { chain, book, purse } = context;
  const now = tiles({
    staked: ["Staked", "It earns a part of all fees."],
    rewards: ["Rewards due", "Taken out with any change of a stake, or below."],
    leaving: ["On its way out", "Can still be cut; then it is yours to spend."],
    balance: ["You can spend", "In this browser's wallet."],
  });
  const without = make("div", "");
  const with_ = list("ul", make("span", "", "Nothing is staked from this wallet. ", link("/network/validators", "Choose a validator"), " and stake on its page."));
  const doing = make("p", "help", "");
  const trouble = make("p", "notice bad", "");
  doing.setAttribute("role", "status");
  trouble.setAttribute("role", "alert");
  trouble.hidden = true;
  const mine = make("div", "column", now.root, box("With these validators", "To add, take back or move, open the validator.", with_.root, doing, trouble));
  const root = make("div", "column", without, mine);
  let busy = false;

  /** @param {string} validator */
  const withdraw = async (validator) => {
    if (busy) return;
    busy = true;
    trouble.hidden = true;
    for (const each of root.querySelectorAll("button")) each.disabled = true;
    try {
      await purse.transact({ kind: "withdraw_rewards", validator }, (step) => say(doing, step));
    } catch (error) {
      say(doing, "");
      say(trouble, adviceOf(error));
      trouble.hidden = false;
    } finally {
      busy = false;
      book.forget();
      await load();
      for (const each of root.querySelectorAll("button")) each.disabled = false;
    }
  };

  const load = async () => {
    const [validators] = await Promise.all([book.validators(), purse.open()]);
    const account = purse.account;
    mine.hidden = account === null || validators.length === 0;
    if (validators.length === 0) return put(without, nothingToStake());
    if (purse.why !== null) return put(without, make("p", "notice warn", purse.why));
    if (account === null) return put(without, noWallet());
    put(without);
    const [delegations, balance] = await Promise.all([purse.delegations(), purse.balance()]);
    const sum = (/** @type {(each: Delegation) => bigint} */ of) => delegations.reduce((total, each) => total + of(each), 0n);
    now.set("staked", money(sum(({ amount }) => amount)));
    now.set("rewards", money(sum(({ rewards }) => rewards)));
    now.set("leaving", money(sum(({ leaving }) => leaving.filter(({ to }) => to === null).reduce((total, each) => total + each.amount, 0n))));
    now.set("balance", money(balance));
    with_.show(
      delegations.map((delegation) => {
        const { validator, amount, rewards, leaving } = delegation;
        const known = book.validator(validator);
        const ready = leaving.some(({ to, completeMs }) => to === null && completeMs <= chain.info.block_time_ms);
        const take = button(ready ? "Take out what is free" : "Take the rewards", "button");
        take.addEventListener("click", () => void withdraw(validator));
        take.disabled = busy;
        const words = [`${sut(rewards)} of rewards due`, ...leaving.map((each) => leavingFact(each, context)).map(([name, , help]) => `${name.toLowerCase()}: ${help}`)].join(" · ");
        return row(
          [make("strong", "", idLink(pathTo.validator(validator), validator, known ? nameOf(known) : "")), " ", ...(known ? [statusChip(known)] : [])],
          [words],
          money(amount),
          ...(rewards > 0n || ready ? [make("div", "actions", take)] : []),
        );
      }),
    );
  };
  return { title: "My stake", root, load };
}

function noWallet() {
  return make("div", "empty", make("h2", "", "This browser has no wallet yet"), make("p", "muted", "A stake belongs to an account. Make one, fund it, and choose a validator."), link("/wallet", "To the wallet", "button primary"));
}

function nothingToStake() {
  const made = nothing("Nobody can stake on this chain");
  put(made, make("h2", "", "Nobody can stake on this chain"), make("p", "muted", "It was begun without staked validators: the keys of its genesis sign its blocks."), link("/network/validators", "Who signs", "button"));
  return made;
}
