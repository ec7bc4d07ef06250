// One's own stake with a validator: put in, take back, move, take the rewards; checked before it is
// signed, awaited until it is in a block.

import { sut, toSut, units } from "../wallet/balance.js";
import { duration } from "../pay-view.js";
import { box, facts, link, make, money, put, say } from "./parts.js";
import { adviceOf } from "./purse.js";
import { nameOf } from "./records.js";
import { pathTo } from "./routes.js";
import { checkMove, checkStake, checkTakeBack } from "./stake-rules.js";

/** @typedef {import("./records.js").Delegation} Delegation */
/** @typedef {import("../wallet/transaction.js").Payload} Payload */
/** @typedef {"stake" | "back" | "move"} Way */

const WAYS = /** @type {const} */ ([
  ["stake", "Stake"],
  ["back", "Take back"],
  ["move", "Move"],
]);

export class StakePanel {
  /** @type {Way} */
  #way = "stake";
  #busy = false;
  /** @type {Delegation[]} */
  #mine = [];
  #balance = 0n;
  /** @type {Record<string, any>} */
  #params = {};
  #facts = make("div", "stake-facts");
  #why = make("p", "help", "Looking for the wallet of this browser…");
  #form = /** @type {HTMLFormElement} */ (make("form", "inset"));
  #amount = field("stake-amount");
  #amountLabel = make("span", "", "Amount in SUT");
  #all = button("All", "button");
  #to = /** @type {HTMLSelectElement} */ (make("select", ""));
  #toLabel = make("label", "", "To", this.#to);
  #hint = make("p", "help", " ");
  #send = button("Stake", "button primary", "submit");
  #withdraw = button("Take the rewards", "button");
  #doing = make("p", "help", "");
  #trouble = make("p", "notice bad", "");
  /** Called when a transaction is in a block. */
  onDone = () => {};

  /** @param {import("./parts.js").Context} context @param {string} operator */
  constructor(context, operator) {
    this.context = context;
    this.operator = operator;
    const ways = make("div", "segments", ...WAYS.map(([way, label]) => this.#wayButton(way, label)));
    ways.setAttribute("role", "group");
    ways.setAttribute("aria-label", "What to do with the stake");
    this.#send.id = "stake-send";
    this.#withdraw.id = "stake-withdraw";
    this.#all.id = "stake-all";
    this.#to.id = "stake-to";
    this.#doing.id = "stake-doing";
    this.#trouble.id = "stake-trouble";
    this.#hint.id = "stake-hint";
    this.#doing.setAttribute("role", "status");
    this.#trouble.setAttribute("role", "alert");
    this.#trouble.hidden = true;
    this.#amount.setAttribute("aria-describedby", "stake-hint");
    this.#form.append(ways, make("label", "", this.#amountLabel, make("span", "field-row", this.#amount, this.#all)), this.#toLabel, this.#hint, make("div", "actions", this.#send));
    this.#form.hidden = true;
    this.#withdraw.hidden = true;
    this.#amount.addEventListener("input", () => this.#check());
    this.#to.addEventListener("change", () => this.#check());
    this.#all.addEventListener("click", () => this.#fillAll());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.#withdraw.addEventListener("click", () => void this.#act({ kind: "withdraw_rewards", validator: operator }, "Signing…"));
    this.root = box("Your stake here", "", this.#facts, this.#why, make("div", "actions", this.#withdraw), this.#form, this.#doing, this.#trouble);
    this.root.id = "stake-panel";
    this.#choose("stake");
  }

  /** @param {Way} way @param {string} label */
  #wayButton(way, label) {
    const made = button(label, "");
    made.id = `stake-way-${way}`;
    made.addEventListener("click", () => this.#choose(way));
    return made;
  }

  /** @param {Way} way */
  #choose(way) {
    this.#way = way;
    for (const [each, label] of WAYS) {
      this.#form.querySelector(`#stake-way-${each}`)?.setAttribute("aria-pressed", String(each === way));
      if (each === way) say(this.#send, label);
    }
    this.#toLabel.hidden = way !== "move";
    this.#all.hidden = way === "stake";
    this.#check();
  }

  get #here() {
    return this.#mine.find(({ validator }) => validator === this.operator) ?? null;
  }

  get #least() {
    return units(String(this.#params["delegation_min"] ?? "0"));
  }

  /** Reads the chain and the wallet, and shows what they say. */
  async load() {
    const { purse, book } = this.context;
    await purse.open();
    if (purse.why !== null || purse.account === null) {
      this.#form.hidden = true;
      if (purse.why !== null) return say(this.#why, purse.why);
      return put(this.#why, "This browser has no wallet yet. ", link("/wallet", "Make one"), ", fund it, and come back to stake.");
    }
    const [mine, balance, params, validators] = await Promise.all([purse.delegations(), purse.balance(), book.params(), book.validators()]);
    [this.#mine, this.#balance, this.#params] = [mine, balance, params];
    const here = this.#here;
    const due = here?.rewards ?? 0n;
    const ready = (here?.leaving ?? []).filter(({ completeMs, to }) => to === null && completeMs <= this.context.chain.info.block_time_ms);
    put(
      this.#facts,
      facts([
        ["Staked", money(here?.amount ?? 0n)],
        ["Rewards due", money(due), purse.account === this.operator ? "Your commission is in it." : undefined],
        ["You can spend", money(balance)],
        ...(here?.leaving ?? []).map((each) => leavingFact(each, this.context)),
      ].map((line) => /** @type {import("./parts.js").Fact} */ (line))),
    );
    say(this.#why, `Stake earns a part of all fees, and can be cut if the validator signs twice. What is taken back is free after ${duration(Number(params["unbonding_ms"] ?? 0))}.`);
    this.#form.hidden = false;
    this.#withdraw.hidden = due === 0n && ready.length === 0;
    say(this.#withdraw, ready.length > 0 ? "Take out what is free" : "Take the rewards");
    this.#fillTargets(validators);
    this.#check();
  }

  /** @param {import("./records.js").Validator[]} validators */
  #fillTargets(validators) {
    const others = validators.filter(({ operator, status }) => operator !== this.operator && status !== "tombstoned");
    const shown = others.map(({ operator, moniker }) => `${operator}${moniker}`).join();
    if (this.#to.dataset["shown"] === shown) return;
    const chosen = this.#to.value;
    this.#to.dataset["shown"] = shown;
    const option = (/** @type {string} */ value, /** @type {string} */ label) => {
      const made = document.createElement("option");
      [made.value, made.textContent] = [value, label];
      return made;
    };
    this.#to.replaceChildren(option("", others.length > 0 ? "Choose a validator" : "There is no other validator"), ...others.map((each) => option(each.operator, `${nameOf(each)} · ${each.commission.bps / 100} %`)));
    this.#to.value = others.some(({ operator }) => operator === chosen) ? chosen : "";
  }

  /** @param {bigint} amount @returns {Payload} */
  #payload(amount) {
    switch (this.#way) {
      case "stake":
        return { kind: "delegate", validator: this.operator, amount: amount.toString() };
      case "back":
        return { kind: "undelegate", validator: this.operator, amount: amount.toString() };
      case "move":
        return { kind: "redelegate", from: this.operator, to: this.#to.value || "00".repeat(32), amount: amount.toString() };
    }
  }

  /** What is typed, judged by the chain's rules. @returns {import("./stake-rules.js").Checked} */
  #judged() {
    const fee = this.context.purse.wallet.feeOf(this.#payload(0n));
    const facts = { balance: this.#balance, fee, least: this.#least, staked: this.#here?.amount ?? 0n, delegation: this.#here };
    if (this.#way === "stake") return checkStake(this.#amount.value, facts);
    if (this.#way === "back") return checkTakeBack(this.#amount.value, facts);
    return checkMove(this.#amount.value, { ...facts, from: this.operator, to: this.#to.value, there: this.#mine.find(({ validator }) => validator === this.#to.value) ?? null });
  }

  /** Says the fee, or what is wrong with what is typed. */
  #check() {
    if (this.context.purse.account === null) return;
    const fee = this.context.purse.wallet.feeOf(this.#payload(0n));
    const typed = this.#amount.value.trim() !== "";
    const judged = typed ? this.#judged() : null;
    const wrong = judged?.why ?? null;
    this.#amount.setAttribute("aria-invalid", String(wrong !== null));
    this.#hint.classList.toggle("urgent", wrong !== null);
    const after = judged?.amount && this.#way === "stake" ? ` You keep ${sut(this.#balance - fee - judged.amount)} to spend.` : "";
    say(this.#hint, wrong ?? `The fee is ${sut(fee)}.${after || ` A stake is ${sut(this.#least)} at least.`}`);
    this.#send.disabled = this.#busy || !judged || judged.amount === null;
  }

  #fillAll() {
    this.#amount.value = toSut(this.#here?.amount ?? 0n);
    this.#check();
    this.#amount.focus();
  }

  async #submit() {
    const judged = this.#judged();
    if (judged.amount === null) return this.#check();
    if (await this.#act(this.#payload(judged.amount), "Signing…")) this.#amount.value = "";
    this.#check();
  }

  /** @param {Payload} payload @param {string} words @returns {Promise<boolean>} whether it took effect */
  async #act(payload, words) {
    if (this.#busy) return false;
    this.#setBusy(true);
    this.#trouble.hidden = true;
    say(this.#doing, words);
    try {
      const { height } = await this.context.purse.transact(payload, (step) => say(this.#doing, step));
      put(this.#doing, "Done: it is in ", link(pathTo.block(height), `block ${height}`), ".");
      this.onDone();
      return true;
    } catch (error) {
      say(this.#doing, "");
      say(this.#trouble, adviceOf(error));
      this.#trouble.hidden = false;
      return false;
    } finally {
      this.#setBusy(false);
      this.context.book.forget();
      await this.load().catch(() => {});
    }
  }

  /** @param {boolean} busy */
  #setBusy(busy) {
    this.#busy = busy;
    for (const each of [this.#withdraw, this.#send, this.#all, this.#amount, this.#to]) each.disabled = busy;
    if (!busy) this.#check();
  }
}

/** @param {import("./records.js").Departure} departure @param {import("./parts.js").Context} context @returns {import("./parts.js").Fact} */
export function leavingFact({ to, amount, completeMs }, { chain, book }) {
  const left = completeMs - chain.info.block_time_ms;
  if (to !== null) return ["Moving", money(amount), `To ${book.nameOf(to) ?? to.slice(0, 8)}; ${left > 0 ? `it can be cut for this validator for another ${duration(left)}` : "it has arrived for good"}.`];
  return ["Leaving", money(amount), left > 0 ? `Free in ${duration(left)}; until then it can be cut, and earns nothing.` : "It is free: take it out."];
}

/** @param {string} id */
function field(id) {
  const made = document.createElement("input");
  [made.id, made.inputMode, made.placeholder, made.autocomplete] = [id, "decimal", "5", "off"];
  return made;
}

/** @param {string} label @param {string} className @param {"button" | "submit"} [type] */
export function button(label, className, type = "button") {
  const made = /** @type {HTMLButtonElement} */ (make("button", className, label));
  made.type = type;
  return made;
}
