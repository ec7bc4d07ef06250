// What the chain says, in sentences: transactions decoded, searches understood. Pure.

import { sut, units } from "./wallet/balance.js";

/**
 * A piece of a sentence: words, or an id that leads somewhere; `to` where that is known.
 * @typedef {string | { id: string, to?: string, label?: string }} Part
 */
/** @typedef {import("./wallet/transaction.js").Payload} Payload */

/** @param {string} id */
const link = (id) => ({ id });

/** @param {unknown} amount */
const money = (amount) => sut(units(String(amount)));

/** @param {number} bps */
const share = (bps) => `${bps / 100} %`;

const POLICIES = /** @type {Record<string, string>} */ ({ free: "free for all", paid: "paid by the second", ticketed: "by ticket", allow_list: "by invitation" });

/** What each kind does, with `who` in front. @type {Record<string, (payload: Payload) => Part[]>} */
const SENTENCES = {
  transfer: ({ to, amount }) => [`sent ${money(amount)} to `, link(to)],
  register_stream: ({ title, policy, price, split }) => [
    `registered the stream “${title}”, ${POLICIES[policy] ?? policy}`,
    policy === "paid" ? ` at ${money(price.rate_per_second)}/s` : policy === "ticketed" ? ` at ${money(price.ticket_price)}` : "",
    `; ${share(split.creator_bps)} go to the creator`,
  ],
  update_stream: ({ stream }) => ["changed the stream ", link(stream)],
  end_stream: ({ stream }) => ["ended the stream ", link(stream)],
  set_price: ({ stream, price, from_height }) => [`set the price to ${money(price.rate_per_second)}/s ${from_height ? `from block ${from_height} ` : ""}for the stream `, link(stream)],
  set_split: ({ stream, split }) => [`set the creator's share to ${share(split.creator_bps)} for the stream `, link(stream)],
  set_issuers: ({ stream, issuers }) => [`named ${issuers.length} who may sign tokens for the stream `, link(stream)],
  register_relay: ({ relay }) => [`became a relay${relay.endpoint ? ` at ${relay.endpoint}` : ""}`],
  update_relay: () => ["changed what is known of its relay"],
  open_channel: ({ deposit, reserves }) => [`opened a pool with ${money(deposit)}`, ...(reserves[0] ? [", reserved for ", link(reserves[0].payee)] : [])],
  top_up: ({ channel, amount }) => [`added ${money(amount)} to the pool `, link(channel)],
  reserve: ({ channel, reserve }) => [`reserved ${money(reserve.amount)} of the pool `, link(channel), " for ", link(reserve.payee)],
  redeem: ({ entries }) => [`collected ${entries.length === 1 ? "a voucher" : `${entries.length} vouchers`} out of `, ...poolsOf(entries)],
  request_close: ({ channel }) => ["began to close the pool ", link(channel)],
  finalize: ({ channel }) => ["closed the pool ", link(channel)],
  buy_access: ({ stream }) => ["bought a ticket for the stream ", link(stream)],
  grant_access: ({ stream, viewer }) => ["let ", link(viewer), " watch the stream ", link(stream)],
  revoke_access: ({ stream, viewer }) => ["shut ", link(viewer), " out of the stream ", link(stream)],
  bump_revocation: ({ stream }) => ["made all tokens void for the stream ", link(stream)],
  unbond_relay: () => ["takes its relay's bond back"],
  create_validator: ({ moniker, self_delegation, commission }) => [`became the validator “${moniker}” with ${money(self_delegation)} of its own; it keeps ${share(commission.bps)} of rewards`],
  edit_validator: ({ moniker, website, commission_bps }) => [
    `changed its validator: ${[moniker === null ? "" : `the name to “${moniker}”`, website === null ? "" : `the web address to ${website || "none"}`, commission_bps === null ? "" : `the commission to ${share(commission_bps)}`].filter(Boolean).join(", ")}`,
  ],
  delegate: ({ validator, amount }) => [`staked ${money(amount)} with `, link(validator)],
  undelegate: ({ validator, amount }) => [`takes ${money(amount)} back from `, link(validator)],
  redelegate: ({ from, to, amount }) => [`moved ${money(amount)} of stake from `, link(from), " to ", link(to)],
  withdraw_rewards: ({ validator }) => ["took out what it has due with ", link(validator)],
  unjail: () => ["asked that its validator may vote again"],
  submit_evidence: () => ["proved a relay's fault: terms dearer than the chain's price"],
  propose: ({ title }) => [`proposed other parameters: “${title}”`],
  vote: ({ proposal, approve }) => [`voted ${approve ? "for" : "against"} `, { id: String(proposal), to: `/network/decisions/${proposal}`, label: `proposal ${proposal}` }],
  schedule_upgrade: ({ upgrade }) => [`proposed the upgrade “${upgrade.name}” at block ${upgrade.height}`],
};

/** The pools of vouchers: a voucher begins with its channel. @param {string[]} entries @returns {Part[]} */
function poolsOf(entries) {
  const channels = [...new Set(entries.map((entry) => entry.slice(0, 64)))];
  const [first = ""] = channels;
  return channels.length === 1 ? ["the pool ", link(first)] : [`${channels.length} pools`];
}

/**
 * A transaction as a sentence.
 * @param {import("./wallet/transaction.js").Transaction} transaction
 * @returns {Part[]}
 */
export function sentenceOf({ body }) {
  const rest = SENTENCES[body.payload.kind]?.(body.payload) ?? [`sent a transaction of kind ${body.payload.kind}`];
  return [link(body.signer), " ", ...rest];
}

/**
 * What vouchers paid in a block, out of the events of its transactions.
 * @param {{ type: string, attributes: { key: string, value: string }[] }[]} events
 * @returns {{ paid: bigint, burned: bigint }}
 */
export function moneyIn(events) {
  let [paid, burned] = [0n, 0n];
  for (const { type, attributes } of events) {
    const get = (/** @type {string} */ key) => attributes.find((attribute) => attribute.key === key)?.value ?? "0";
    if (type === "channel_redeemed") paid += units(get("paid"));
    if (type === "fee") burned += units(get("burned"));
  }
  return { paid, burned };
}

/**
 * What a person may look for.
 * @param {string} text
 * @returns {{ kind: "height", height: number } | { kind: "id", id: string } | { kind: "address", address: string } | { kind: "name", name: string } | { kind: "nothing", why: string }}
 */
export function searchFor(text) {
  const trimmed = text.trim().replace(/^0x/i, "");
  if (/^\d{1,15}$/.test(trimmed)) return { kind: "height", height: Number(trimmed) };
  if (/^[0-9a-f]{64}$/i.test(trimmed)) return { kind: "id", id: trimmed.toLowerCase() };
  if (/^[0-9a-f]{40}$/i.test(trimmed)) return { kind: "address", address: trimmed.toUpperCase() };
  if (/^[0-9a-f]{16,}$/i.test(trimmed)) return { kind: "nothing", why: `An id has 64 hexadecimal digits, this has ${trimmed.length}: copy all of it.` };
  if (trimmed.length >= 2) return { kind: "name", name: trimmed };
  return { kind: "nothing", why: "Type a block's height, the 64 hexadecimal digits of a transaction, an account, a stream or a pool, or a validator's name." };
}

/**
 * Bars of the last blocks: how long each took, and whether it carried transactions.
 * @param {{ height: number, timeMs: number, transactions: number }[]} blocks newest first
 * @param {number} most bars
 * @returns {{ height: number, ms: number, share: number, transactions: number }[]} oldest first; share of the longest
 */
export function cadence(blocks, most) {
  const bars = blocks
    .slice(0, most + 1)
    .flatMap((block, at, all) => {
      const before = all[at + 1];
      return before ? [{ height: block.height, ms: Math.max(0, block.timeMs - before.timeMs), transactions: block.transactions }] : [];
    })
    .reverse();
  const longest = Math.max(1, ...bars.map(({ ms }) => ms));
  return bars.map((bar) => ({ ...bar, share: bar.ms / longest }));
}

/** The median time of a block, null where too few are known. @param {{ ms: number }[]} bars */
export function usualMs(bars) {
  if (bars.length < 3) return null;
  const sorted = bars.map(({ ms }) => ms).sort((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? null;
}
