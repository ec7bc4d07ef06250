// A block: when, by whom, who signed it, and each of its transactions; and a transaction by itself.

import { moneyIn } from "../explorer.js";
import { counted, shortId } from "../format.js";
import { units } from "../wallet/balance.js";
import { fromBase64, fromHex, toBase64 } from "../wallet/bytes.js";
import { sentenceFor } from "../wallet/chain.js";
import { decodeTransaction } from "../wallet/transaction.js";
import { told } from "./feed.js";
import { box, chip, facts, heading, idLink, instead, link, list, make, money, nothing, put, row, sentence, time } from "./parts.js";
import { nameOf } from "./records.js";
import { pathTo } from "./routes.js";
import { signersOf } from "./signatures.js";

/** @typedef {import("./parts.js").Context} Context */

/** What a block's own events say, for those that people ask about. @type {Record<string, string>} */
const EVENTS = {
  validator_jailed: "Jailed: ",
  validator_slashed: "Cut for signing twice: ",
  validator_tombstoned: "Banned: ",
  validator_power: "Votes from two blocks later with another power: ",
  decided: "Decided: proposal ",
  upgrade_scheduled: "An upgrade is due: ",
};

/** @param {Context} context @param {string} id @returns {import("./parts.js").View} */
export function block({ chain, feed, book }, id) {
  const height = Number(id);
  const head = make("div", "", heading("Block", id));
  const about = make("div", "about-place tall");
  const transactions = list("ol", "It carried no transaction.");
  const events = list("ul", "None.");
  const around = make("div", "actions");
  const body = make("div", "column", head, make("div", "columns even", box("About", "", about), make("div", "column", box("Transactions", "", transactions.root), box("What it changed by itself", "At its end, without anybody asking.", events.root))), around);
  const root = make("div", "", body);
  let done = false;

  const load = async () => {
    put(around, ...(height > 1 ? [link(pathTo.block(height - 1), "Block before", "button")] : []), ...(height < feed.height ? [link(pathTo.block(height + 1), "Block after", "button")] : []));
    if (done) return;
    if (height > feed.height) return put(head, make("div", "empty", make("h2", "", `Block ${height} is not there yet`), make("p", "muted", `The newest is ${feed.height}. This page shows it when it comes.`)));
    const found = await chain.call("block", { height: id }).catch(() => null);
    if (!found) return instead(root, body, nothing(`Block ${height} is not kept here`, ["a block of this height"]));
    instead(root, body, null);
    const [list, results, commit] = await Promise.all([feed.tell(height), chain.call("block_results", { height: id }), chain.call("commit", { height: id }).catch(() => null), book.validators()]);
    const { header } = found.block;
    const all = [...(results.txs_results ?? []).flatMap((/** @type {any} */ result) => result.events ?? []), ...(results.finalize_block_events ?? [])];
    const { paid, burned } = moneyIn(all);
    const proposer = book.byAddress(String(header.proposer_address).toUpperCase());
    const asked = commit?.signed_header?.commit?.signatures?.length ?? 0;
    put(head, heading("Block", id, chip(counted(list.length, "transaction"))));
    put(
      about,
      facts([
        ["Closed", time(Date.parse(header.time), { day: true }), "The time the validators agreed on."],
        ["Proposed by", proposer ? idLink(pathTo.validator(proposer.operator), proposer.operator, nameOf(proposer)) : make("span", "mono", String(header.proposer_address))],
        ["Signed by", asked > 0 ? `${signersOf(commit).size} of ${asked}` : "–", "More than two thirds of the power must, or there is no block."],
        ["Hash", make("span", "mono", String(found.block_id.hash)), "Names this block and all before it."],
        ["State", make("span", "mono", String(header.app_hash)), "The root of all accounts, streams, pools and stakes before this block."],
        ["Collected", money(paid), "What vouchers paid in this block."],
        ["Burned", money(burned), "Of fees, gone for good."],
      ]),
    );
    transactions.show(list.map((each) => make("li", "row-item", sentence(each, book.nameOf))));
    events.show(
      (results.finalize_block_events ?? []).flatMap((/** @type {any} */ event) => {
        const words = EVENTS[event.type];
        if (words === undefined) return [];
        const of = Object.fromEntries(event.attributes.map((/** @type {any} */ each) => [each.key, String(each.value)]));
        const what = of["validator"] ? idLink(pathTo.validator(of["validator"]), of["validator"], book.nameOf(of["validator"]) ?? "") : of["proposal"] ? link(pathTo.decision(of["proposal"]), of["proposal"]) : String(of["name"] ?? "");
        const more = of["power"] !== undefined ? `: ${of["power"]}` : of["passed"] !== undefined ? (of["passed"] === "true" ? " passed" : " was rejected") : "";
        return [row([words, what, more], [])];
      }),
    );
    done = true;
  };
  return { title: `Block ${id}`, root, load };
}

/** @param {Context} context @param {string} hash @returns {import("./parts.js").View} */
export function transaction({ chain, book }, hash) {
  const head = make("div", "", heading("Transaction", shortId(hash)));
  const about = make("div", "about-place");
  const words = make("div", "");
  const payload = make("pre", "", " ");
  const body = make("div", "column", head, make("div", "columns even", box("About", "", words, about), box("As it was signed", "", payload)));
  const root = make("div", "", body);
  let done = false;

  const load = async () => {
    if (done) return;
    const [tx] = await Promise.all([chain.call("tx", { hash: toBase64(fromHex(hash)), prove: false }).catch(() => null), book.validators()]);
    if (!tx) return instead(root, body, nothing("The chain knows no such transaction", ["a transaction in a block"]));
    instead(root, body, null);
    const bytes = fromBase64(tx.tx);
    const code = Number(tx.tx_result?.code ?? 0);
    const { paid, burned } = moneyIn(tx.tx_result?.events ?? []);
    let signed = null;
    try {
      signed = decodeTransaction(bytes).body;
    } catch {
      // Shown by its hash alone.
    }
    put(head, heading("Transaction", shortId(hash), code === 0 ? chip("Done", "good") : chip(`Code ${code}`, "bad")));
    put(words, sentence(await told(bytes, tx.tx_result), book.nameOf));
    put(
      about,
      facts([
        ["Hash", make("span", "mono", hash.toUpperCase()), "Names it on this chain."],
        ["Block", link(pathTo.block(tx.height), String(tx.height)), "Where it took effect."],
        ["Result", code === 0 ? "done" : `code ${code}`, code === 0 ? "It has taken effect." : sentenceFor(code, String(tx.tx_result?.log ?? ""))],
        ["Signed by", signed ? idLink(pathTo.account(signed.signer), signed.signer) : "–", signed ? `Its transaction number ${signed.nonce}.` : ""],
        ["Fee", signed ? money(units(signed.fee)) : "–"],
        ["Burned", money(burned)],
        ...(paid > 0n ? [/** @type {import("./parts.js").Fact} */ (["Paid out", money(paid), "By its vouchers, before the split."])] : []),
      ]),
    );
    payload.textContent = signed ? JSON.stringify(signed.payload, null, 2) : "These bytes are no transaction of this chain.";
    done = true;
  };
  return { title: "Transaction", root, load };
}
