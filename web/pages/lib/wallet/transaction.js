// Transactions: body (borsh) ‖ signature [‖ the fee payer's]. Payloads have the JSON form of the chain:
// a `kind`, ids in hex, amounts as decimal strings; so what an explorer shows is what a wallet signs.

import { units } from "./balance.js";
import { BorshReader, BorshWriter } from "./borsh.js";
import { DecodeError, concat, fromHex, sha256, toHex } from "./bytes.js";
import { preimage } from "./preimage.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** @typedef {{ kind: string, [field: string]: any }} Payload */

/**
 * @typedef {object} TransactionBody
 * @property {string} signer hex
 * @property {string | null} fee_payer hex
 * @property {number} nonce
 * @property {number} valid_until_height 0: no limit
 * @property {string} fee units, charged whole
 * @property {Payload} payload
 */

/** @typedef {{ body: TransactionBody, signature: string, fee_payer_signature: string | null }} Transaction */

/**
 * How a field is written and read.
 * @typedef {{ write: (to: BorshWriter, value: any) => void, read: (from: BorshReader) => any }} Codec
 */

/** @param {number} length @returns {Codec} */
const hexOf = (length) => ({
  write: (to, value) => void to.fixed(fromHex(String(value), length), length),
  read: (from) => toHex(from.fixed(length)),
});

/** A u64 as JSON has it: a number, and a bigint only where that would lose digits. @param {bigint} value */
const narrow = (value) => (value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value);

/** @type {Codec} */
const id = hexOf(32);
/** @type {Codec} */
const hash = id;
/** @type {Codec} */
const amount = {
  write: (to, value) => void to.u128(units(String(value))),
  read: (from) => units(from.u128().toString()).toString(),
};
/** @type {Codec} */
const rate = { write: (to, value) => void to.u64(BigInt(value)), read: (from) => from.u64().toString() };
/** @type {Codec} */
const u64 = { write: (to, value) => void to.u64(BigInt(value)), read: (from) => narrow(from.u64()) };
/** @type {Codec} */
const u32 = { write: (to, value) => void to.u32(value), read: (from) => from.u32() };
/** @type {Codec} */
const u16 = { write: (to, value) => void to.u16(value), read: (from) => from.u16() };
/** @type {Codec} */
const u8 = { write: (to, value) => void to.u8(value), read: (from) => from.u8() };
/** A u64 that JSON has as a decimal string. */
const number = rate;
/** @type {Codec} */
const bool = { write: (to, value) => void to.bool(value), read: (from) => from.bool() };
/** Bytes of any number, in hex. @type {Codec} */
const hexBytes = {
  write: (to, value) => void to.list(Array.from(fromHex(String(value))), (byte) => void to.u8(byte)),
  read: (from) => toHex(Uint8Array.from(from.list(() => from.u8()))),
};
/** @type {Codec} */
const text = { write: (to, value) => void to.string(value), read: (from) => from.string() };

/** @param {Codec} item @returns {Codec} */
const list = (item) => ({
  write: (to, value) => void to.list(value, (each) => item.write(to, each)),
  read: (from) => from.list(() => item.read(from)),
});

/** @param {Codec} item @returns {Codec} */
const optional = (item) => ({
  write: (to, value) => void to.option(value ?? null, (each) => item.write(to, each)),
  read: (from) => from.option(() => item.read(from)),
});

/** An optional that may be taken away: null leaves it, the empty text clears it. @param {Codec} item @returns {Codec} */
const clearable = (item) => ({
  write: (to, value) => void to.option(value ?? null, (each) => void to.option(each === "" ? null : each, (kept) => item.write(to, kept))),
  read: (from) => from.option(() => from.option(() => item.read(from)) ?? ""),
});

/** @param {Record<string, Codec>} fields @returns {Codec} */
const struct = (fields) => ({
  write: (to, value) => Object.entries(fields).forEach(([name, codec]) => codec.write(to, value[name])),
  read: (from) => Object.fromEntries(Object.entries(fields).map(([name, codec]) => [name, codec.read(from)])),
});

const POLICIES = ["free", "paid", "ticketed", "allow_list"];

/** @type {Codec} */
const policy = {
  write: (to, value) => {
    const tag = POLICIES.indexOf(value);
    if (tag < 0) throw new RangeError(`“${value}” is no policy`);
    to.u8(tag);
  },
  read: (from) => {
    const tag = from.u8();
    const name = POLICIES[tag];
    if (name === undefined) throw new DecodeError(`${tag} is no policy`);
    return name;
  },
};

/** Three shares, one for each tier. @type {Codec} */
const tiers = {
  write: (to, value) => [0, 1, 2].forEach((at) => to.u16(value[at])),
  read: (from) => [from.u16(), from.u16(), from.u16()],
};

/** Names to bytes, in the order of the names' bytes. @type {Codec} */
const extensions = {
  write: (to, value) => {
    const entries = Object.entries(value ?? {}).sort(([one], [other]) => (one < other ? -1 : 1));
    to.list(entries, ([name, bytes]) => void to.string(name).list(/** @type {number[]} */ (Array.from(bytes)), (byte) => void to.u8(byte)));
  },
  read: (from) => Object.fromEntries(from.list(() => [from.string(), from.list(() => from.u8())])),
};

const price = struct({ rate_per_second: rate, tier_bps: tiers, ticket_price: amount, ticket_ms: u64 });
const split = struct({ creator_bps: u16, origin_bps: u16 });
const relay = struct({ relay_key: id, endpoint: text, region: text, wholesale_per_gb: amount, min_share_bps: u16 });
const reserve = struct({ payee: id, amount, until_height: u64 });
const reserves = list(reserve);
const commission = struct({ bps: u16, max_bps: u16, step_bps: u16 });
const upgrade = struct({ name: text, height: u64, info: text });
const params = struct({
  fee_base: amount,
  fee_per_byte: amount,
  fee_per_voucher: amount,
  transaction_bytes_max: u32,
  close_window_ms: u64,
  close_window_blocks: u64,
  notice_blocks: u64,
  terms_grace_blocks: u64,
  channel_blocks_min: u64,
  reserve_margin_blocks: u64,
  deposit_fees_min: u64,
  account_fees_min: u64,
  idle_stream_ms: u64,
  validators_max: u32,
  power_unit: amount,
  delegation_min: amount,
  self_delegation_min: amount,
  unbonding_ms: u64,
  signed_window_blocks: u32,
  signed_min_bps: u16,
  downtime_jail_ms: u64,
  double_sign_bps: u16,
  relay_fault_bps: u16,
  reporter_bps: u16,
  relay_bond_min: amount,
  voting_ms: u64,
});

/** What a field may be, by the tag of each: in JSON a `kind`. @param {string} what @param {Record<string, Record<string, Codec>>} kinds in the order of their tags @returns {Codec} */
const either = (what, kinds) => {
  const names = Object.keys(kinds);
  const codecs = Object.values(kinds).map(struct);
  return {
    write: (to, value) => {
      const tag = names.indexOf(value.kind);
      if (tag < 0) throw new RangeError(`“${value.kind}” is no ${what}`);
      to.u8(tag);
      codecs[tag]?.write(to, value);
    },
    read: (from) => {
      const tag = from.u8();
      const codec = codecs[tag];
      if (!codec) throw new DecodeError(`${tag} is no ${what}`);
      return { kind: names[tag], ...codec.read(from) };
    },
  };
};

const evidence = either("evidence", { dear_terms: { terms: text, bind: hexBytes, ack: hexBytes } });

/** The kinds by name: tag and fields in their order. @type {Record<string, [number, Record<string, Codec>]>} */
const KINDS = {
  transfer: [0, { to: id, amount }],
  register_stream: [1, { title: text, policy, price, split, origin_relay: optional(id), issuers: list(id), codecs: list(text), ext: extensions }],
  update_stream: [2, { stream: id, title: optional(text), policy: optional(policy), origin_relay: clearable(id), codecs: optional(list(text)), ext: optional(extensions) }],
  end_stream: [3, { stream: id }],
  set_price: [4, { stream: id, price, from_height: u64 }],
  set_split: [5, { stream: id, split, from_height: u64 }],
  set_issuers: [6, { stream: id, issuers: list(id) }],
  register_relay: [7, { relay, bond: amount }],
  update_relay: [8, { relay }],
  unbond_relay: [9, {}],
  open_channel: [10, { deposit: amount, voucher_key: id, expires_height: u64, reserves }],
  top_up: [11, { channel: id, amount, reserves }],
  reserve: [12, { channel: id, reserve }],
  redeem: [13, { entries: list(hexOf(240)), watch_root: hash, qos_root: hash }],
  request_close: [14, { channel: id }],
  finalize: [15, { channel: id }],
  buy_access: [16, { stream: id, terms_version: u32, max_price: amount }],
  grant_access: [17, { stream: id, viewer: id, valid_until: u64, payment_status: u8, max_layer: u8 }],
  revoke_access: [18, { stream: id, viewer: id }],
  bump_revocation: [19, { stream: id }],
  create_validator: [20, { consensus_key: id, possession: hexOf(64), moniker: text, website: text, commission, self_delegation: amount }],
  edit_validator: [21, { moniker: optional(text), website: optional(text), commission_bps: optional(u16) }],
  delegate: [22, { validator: id, amount }],
  undelegate: [23, { validator: id, amount }],
  redelegate: [24, { from: id, to: id, amount }],
  withdraw_rewards: [25, { validator: id }],
  unjail: [26, {}],
  submit_evidence: [27, { evidence }],
  propose: [28, { title: text, text, params }],
  vote: [29, { proposal: number, approve: bool }],
  schedule_upgrade: [30, { upgrade }],
};

const byTag = new Map(Object.entries(KINDS).map(([kind, [tag, fields]]) => [tag, { kind, fields: struct(fields) }]));

/** @type {Codec} */
const payload = {
  write: (to, value) => {
    const known = KINDS[value.kind];
    if (!known) throw new RangeError(`“${value.kind}” is no kind of transaction`);
    to.u8(known[0]);
    struct(known[1]).write(to, value);
  },
  read: (from) => {
    const tag = from.u8();
    const known = byTag.get(tag);
    if (!known) throw new DecodeError(`${tag} is no kind of transaction`);
    return { kind: known.kind, ...known.fields.read(from) };
  },
};

const body = struct({ signer: id, fee_payer: optional(id), nonce: u64, valid_until_height: u64, fee: amount, payload });

/** @param {TransactionBody} value @returns {Bytes} */
export function encodeBody(value) {
  const writer = new BorshWriter();
  body.write(writer, value);
  return writer.take();
}

/**
 * @param {TransactionBody} value
 * @param {import("./keys.js").Signer} key the signer's
 * @param {string} chainId
 * @returns {Promise<Bytes>} what is sent
 */
export async function signTransaction(value, key, chainId) {
  if (value.fee_payer !== null) throw new TypeError("this wallet signs alone");
  const bytes = encodeBody(value);
  return concat(bytes, await key.sign(await preimage("transaction", chainId, bytes)));
}

/** @param {Uint8Array} bytes @returns {Transaction} not verified @throws {DecodeError} */
export function decodeTransaction(bytes) {
  const reader = new BorshReader(bytes);
  /** @type {TransactionBody} */
  let value;
  try {
    value = body.read(reader);
  } catch (error) {
    throw error instanceof DecodeError ? error : new DecodeError(error instanceof Error ? error.message : String(error));
  }
  const signature = toHex(reader.fixed(64));
  const second = value.fee_payer === null ? null : toHex(reader.fixed(64));
  reader.end();
  return { body: value, signature, fee_payer_signature: second };
}

/** A transaction's name in blocks and in the RPC: SHA-256 of its bytes. @param {Uint8Array} bytes */
export async function transactionHash(bytes) {
  return toHex(await sha256(bytes)).toUpperCase();
}

/**
 * @typedef {object} Params of the chain, as much as a wallet needs
 * @property {string} fee_base
 * @property {string} fee_per_byte
 * @property {string} fee_per_voucher
 */

/**
 * The least fee of a transaction of this length.
 * @param {Params} params
 * @param {Payload} what
 * @param {number} lengthBytes signatures included
 */
export function feeMin(params, what, lengthBytes) {
  const entries = what.kind === "redeem" ? what["entries"].length : 0;
  return units(params.fee_base) + units(params.fee_per_byte) * BigInt(lengthBytes) + units(params.fee_per_voucher) * BigInt(entries);
}
