// The money part of Publish: who may watch and at what price, what came in, and what to change.

import { Creator, FormError } from "./creator.js";
import { element, make, say } from "./dom.js";
import { shortId } from "./format.js";
import { perHour } from "./pay-view.js";
import { parseSut, sut, units } from "./wallet/balance.js";
import { termsAt } from "./wallet/chain.js";

/** @typedef {import("./wallet/chain.js").StreamRecord} StreamRecord */

const REFRESH_MS = 2000;
const STEPS = { signed: "Sending to the chain…", sent: "Sent. Waiting for a block…", "in-block": "In a block." };
/** The fields of the price, by the names of `StreamForm`. */
const FIELDS = /** @type {const} */ (["price", "ticketPrice", "ticketMinutes", "creatorPercent", "originPercent"]);

export class StreamMoney {
  /** @type {Creator | null} */
  #creator = null;
  /** The registered stream that is published. */
  #stream = "";
  /** @type {StreamRecord | null} */
  #record = null;
  /** @type {StreamRecord[]} */
  #mine = [];
  #policy = element("policy", HTMLSelectElement);
  #registered = element("registered", HTMLSelectElement);

  /** Whether the stream is one of the chain. */
  get onChain() {
    return this.#creator !== null && this.#policy.value !== "";
  }

  /** Finds the chain; without one the page stays as it is. */
  async begin() {
    this.#policy.addEventListener("change", () => this.#showForm());
    this.#registered.addEventListener("change", () => this.#showForm());
    element("price", HTMLInputElement).addEventListener("input", () => this.#showForm());
    this.#onSubmit("change-price", () => this.#change("The new price is announced", (progress) => this.#setPrice(progress)));
    this.#onSubmit("let-in", () => this.#change("Let in", (progress) => this.#need().grant(this.#stream, this.#viewer(), progress)));
    element("shut-out", HTMLButtonElement).addEventListener("click", () => void this.#change("Shut out", (progress) => this.#need().revoke(this.#stream, this.#viewer(), progress)));
    element("end-stream", HTMLButtonElement).addEventListener("click", () => this.#end());
    this.#creator = await Creator.open();
    if (!this.#creator) return;
    element("who", HTMLElement).hidden = false;
    await this.#loadMine();
    this.#showForm();
    setInterval(() => void this.#refresh(), REFRESH_MS);
  }

  /**
   * Registers the stream unless it is one already.
   * @param {string} title
   * @returns {Promise<string>} its id, the name in addresses
   */
  async prepare(title) {
    const creator = this.#need();
    this.#said("Looking at your account…");
    await creator.ready();
    this.#stream = this.#registered.value || (await this.#register(creator, title));
    this.#record = await creator.chain.stream(this.#stream);
    this.#said("");
    element("money", HTMLElement).hidden = false;
    void this.#refresh();
    return this.#stream;
  }

  /** Who may use the link to the stream. */
  get shareWords() {
    switch (this.#policy.value) {
      case "paid":
        return "Whoever opens this link sees the price, and can pay and watch";
      case "ticketed":
        return "Whoever opens this link can buy a ticket and watch";
      case "allow_list":
        return "Whoever opens this link finds an account to send you, and watches once you let it in";
      default:
        return "Anyone who opens this link can watch";
    }
  }

  /** A bearer token for WHIP, signed by the account. */
  token() {
    return this.#need().token(this.#stream);
  }

  /** While a stream is live its registration is not chosen anew. @param {boolean} live */
  lock(live) {
    for (const each of [this.#policy, this.#registered]) each.disabled = live;
    for (const field of FIELDS) element(field, HTMLInputElement).disabled = live;
  }

  /** @param {Creator} creator @param {string} title */
  async #register(creator, title) {
    const field = (/** @type {string} */ id) => element(id, HTMLInputElement).value;
    try {
      const id = await creator.register(
        {
          title: title.trim() || "Live",
          policy: /** @type {any} */ (this.#policy.value),
          price: field("price"),
          ticketPrice: field("ticketPrice"),
          ticketMinutes: field("ticketMinutes"),
          creatorPercent: field("creatorPercent"),
          originPercent: field("originPercent"),
        },
        (step) => this.#said(`Registering the stream. ${STEPS[step]}`),
      );
      await this.#loadMine();
      this.#registered.value = id;
      this.#showForm();
      return id;
    } catch (error) {
      if (error instanceof FormError && error.field !== "title") element(error.field, HTMLInputElement).focus();
      throw error;
    } finally {
      this.#said("");
    }
  }

  async #loadMine() {
    this.#mine = (await this.#creator?.mine().catch(() => [])) ?? [];
  }

  /** Fields that this policy has, and streams of this account that could go on. */
  #showForm() {
    const policy = this.#policy.value;
    const known = this.#mine.filter((stream) => stream.policy === policy);
    const kept = this.#registered.value;
    const options = [{ id: "", title: "A new one" }, ...known].map(({ id, title }) => {
      const option = /** @type {HTMLOptionElement} */ (make("option", "", id ? `${title} · ${shortId(id)}` : title));
      option.value = id;
      return option;
    });
    this.#registered.replaceChildren(...options);
    this.#registered.value = known.some(({ id }) => id === kept) ? kept : "";
    element("known", HTMLElement).hidden = known.length === 0;
    element("name-field", HTMLElement).hidden = policy !== "";
    element("name-help", HTMLElement).hidden = policy !== "";
    element("price-settings", HTMLElement).hidden = policy === "" || policy === "free" || policy === "allow_list" || this.#registered.value !== "";
    for (const each of document.querySelectorAll("[data-policy]")) each.toggleAttribute("hidden", each.getAttribute("data-policy") !== policy);
    let help = "Write a price, such as 0.001.";
    try {
      help = `${perHour(parseSut(element("price", HTMLInputElement).value))} an hour. It may be changed while live.`;
    } catch {
      // Half a number, while it is being written.
    }
    say(element("price-help", HTMLElement), help);
  }

  async #refresh() {
    const creator = this.#creator;
    if (!creator || !this.#stream || document.hidden) return;
    try {
      const [info, record, balance, earnings] = await Promise.all([
        creator.chain.refresh(),
        creator.chain.stream(this.#stream),
        creator.wallet.balance(),
        creator.earnings(this.#stream).catch(() => null),
      ]);
      this.#record = record ?? this.#record;
      say(element("earn-balance", HTMLElement), sut(balance));
      if (this.#record) this.#showPrice(this.#record, info.height);
      if (!earnings) return;
      say(element("earned", HTMLElement), sut(earnings.accepted));
      say(element("earned-note", HTMLElement), `By vouchers that this relay holds; ${sut(earnings.owed)} of it were watched. Your part arrives when it collects them.`);
      say(element("earn-viewers", HTMLElement), String(earnings.viewers));
      say(element("earn-redeemed", HTMLElement), sut(earnings.redeemed));
    } catch {
      this.#said("The chain does not answer. Trying again by itself.");
    }
  }

  /** @param {StreamRecord} record @param {number} height */
  #showPrice(record, height) {
    const terms = termsAt(record, height);
    const next = record.terms.find(({ from_height }) => from_height > height);
    const ticketed = record.policy === "ticketed";
    element("change-price", HTMLElement).hidden = record.policy !== "paid";
    element("let-in", HTMLElement).hidden = record.policy !== "allow_list" && !ticketed;
    say(element("earn-price", HTMLElement), record.policy === "paid" ? `${sut(units(terms?.rate_per_second ?? "0"))}/s` : ticketed ? sut(units(terms?.ticket_price ?? "0")) : "–");
    say(element("earn-price-note", HTMLElement), next ? `From block ${next.from_height} on ${sut(units(next.rate_per_second))}/s; now is ${height}.` : ticketed ? "For a ticket." : "On chain, for every relay.");
  }

  /** @param {import("./wallet/pool.js").Progress} progress */
  async #setPrice(progress) {
    const creator = this.#need();
    const record = await creator.chain.stream(this.#stream);
    if (!record) throw new Error("The chain does not know this stream any more.");
    await creator.setPrice(record, element("new-price", HTMLInputElement).value, progress);
    element("change-price", HTMLFormElement).reset();
  }

  #end() {
    if (!confirm("End this stream for good? Nobody can watch or publish it again.")) return;
    void this.#change("The stream has ended", (progress) => this.#need().end(this.#stream, progress));
  }

  /** @param {string} done @param {(progress: import("./wallet/pool.js").Progress) => Promise<unknown>} work */
  async #change(done, work) {
    try {
      await work((step) => this.#said(STEPS[step]));
      this.#said(`${done}.`);
      await this.#refresh();
    } catch (error) {
      this.#said(error instanceof Error ? error.message : String(error));
    }
  }

  #viewer() {
    const viewer = element("viewer", HTMLInputElement);
    if (!viewer.reportValidity()) throw new Error("Paste the viewer's account, 64 hexadecimal digits.");
    return viewer.value.trim().toLowerCase();
  }

  #need() {
    if (!this.#creator) throw new Error("This relay runs without a chain.");
    return this.#creator;
  }

  /** @param {string} text */
  #said(text) {
    say(element("money-said", HTMLElement), text);
    if (text) element("money", HTMLElement).hidden = false;
  }

  /** @param {string} id @param {() => unknown} submit */
  #onSubmit(id, submit) {
    element(id, HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      void submit();
    });
  }
}
