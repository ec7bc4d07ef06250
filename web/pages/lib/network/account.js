// An account: what it has, what it has staked and deposited, and its newest transactions.

import { shortId } from "../format.js";
import { fromBase64 } from "../wallet/bytes.js";
import { told } from "./feed.js";
import { box, chip, facts, heading, idLink, instead, link, list, make, money, nothing, put, row, sentence } from "./parts.js";
import { asDelegation, nameOf } from "./records.js";
import { pathTo } from "./routes.js";

const TRANSACTIONS_SHOWN = 12;
/** Blocks between two looks at the index of events. */
const SEARCH_BLOCKS = 5;

/** @param {import("./parts.js").Context} context @param {string} id @returns {import("./parts.js").View} */
export function account({ chain, feed, book, purse }, id) {
  const head = make("div", "", heading("Account", shortId(id)));
  const about = make("div", "about-place");
  const stakes = list("ul", "It has staked nothing.");
  const pools = list("ul", "It has opened no pool.");
  const history = list("ol", "None that this relay's node remembers.");
  const body = make("div", "column", head, make("div", "columns even", make("div", "column", box("About", "", about), box("Stake", "", stakes.root), box("Pools", "Deposits that pay by the second.", pools.root)), box("Newest transactions", "Those that it paid the fee of.", history.root)));
  const root = make("div", "", body);
  let searched = -Infinity;

  const load = async () => {
    const [record, relay, delegations, channels] = await Promise.all([chain.query(`/account/${id}`), chain.relay(id).catch(() => null), chain.list(`/delegations/${id}`, ({ validator }) => validator).catch(() => []), chain.channelsOf(id).catch(() => []), book.validators(), purse.open()]);
    if (!record && delegations.length === 0 && !relay && !book.validator(id)) return instead(root, body, nothing("The chain knows no such account", ["an account with money, a relay, a stake"]));
    instead(root, body, null);
    const { balance, nonce } = record ? await chain.account(id) : { balance: 0n, nonce: 0 };
    const mine = delegations.map(asDelegation);
    const validator = book.validator(id);
    put(head, heading("Account", shortId(id), ...(validator ? [chip("Operator of a validator", "good")] : []), ...(relay ? [chip("Relay")] : []), ...(purse.account === id ? [chip("Yours", "price")] : [])));
    put(
      about,
      facts([
        ["Id", make("span", "mono", id), "Its public key."],
        ["Balance", money(balance), "What it can spend now."],
        ["Staked", money(mine.reduce((sum, { amount }) => sum + amount, 0n)), "With validators; it comes back after the unbonding time."],
        ["In pools", money(channels.filter((pool) => !pool.closed).reduce((sum, pool) => sum + pool.deposits - pool.redeemed, 0n)), "Its deposits that are not yet collected."],
        ["Transactions", String(nonce), "How many it was charged for so far."],
        ...(validator ? [/** @type {import("./parts.js").Fact} */ (["Validator", idLink(pathTo.validator(id), id, nameOf(validator))])] : []),
        ...(relay ? [/** @type {import("./parts.js").Fact} */ (["Relay", link(pathTo.relay(id), relay.endpoint || "its page")])] : []),
      ]),
    );
    stakes.show(mine.map(({ validator: operator, amount }) => row([idLink(pathTo.validator(operator), operator, book.nameOf(operator) ?? "")], [], money(amount))));
    pools.show(channels.map((pool) => row([idLink(pathTo.pool(pool.id), pool.id)], [pool.closed ? "closed" : pool.close_requested ? "closing" : "open"], money(pool.deposits))));
    await showHistory();
  };

  const showHistory = async () => {
    if (feed.height < searched + SEARCH_BLOCKS) return;
    searched = feed.height;
    const { txs } = await chain.call("tx_search", { query: `fee.payer='${id}'`, prove: false, page: "1", per_page: String(TRANSACTIONS_SHOWN), order_by: "desc" }).catch(() => ({ txs: [] }));
    const list = await Promise.all(txs.map(async (/** @type {any} */ tx) => ({ height: Number(tx.height), told: await told(fromBase64(tx.tx), tx.tx_result) })));
    history.show(list.map((each) => make("li", "", make("div", "row-item", link(pathTo.block(each.height), `Block ${each.height}`)), sentence(each.told, book.nameOf))));
  };
  return { title: "Account", root, load };
}
