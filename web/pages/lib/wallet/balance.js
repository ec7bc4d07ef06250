// Money: BigInt units of 10⁻⁹ SUT, below 2⁹⁶, and the texts that people read and write.

export const UNITS_PER_SUT = 1_000_000_000n;
/** The largest amount, 2⁹⁶ − 1 units. */
export const AMOUNT_MAX = (1n << 96n) - 1n;
/** The most decimals that a person reads without counting. */
const COMPACT_DIGITS = 4;

/** A text that is no amount. */
export class AmountError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "AmountError";
  }
}

/**
 * A decimal string of units, as JSON carries it.
 * @param {unknown} text
 * @returns {bigint}
 */
export function units(text) {
  if (typeof text !== "string" || !/^\d{1,39}$/.test(text)) throw new AmountError("an amount is written in decimal digits, in units of 10⁻⁹ SUT");
  const amount = BigInt(text);
  if (amount > AMOUNT_MAX) throw new AmountError("an amount is below 2⁹⁶ units");
  return amount;
}

/**
 * What a person writes: SUT with at most nine decimals.
 * @param {string} text
 * @returns {bigint} units
 */
export function parseSut(text) {
  const match = /^(\d{1,30})(?:\.(\d{1,9}))?$/.exec(text.trim());
  if (!match) throw new AmountError("Write an amount in SUT, such as 0.001, with at most nine decimals.");
  const amount = BigInt(match[1] ?? "0") * UNITS_PER_SUT + BigInt((match[2] ?? "").padEnd(9, "0"));
  if (amount > AMOUNT_MAX) throw new AmountError("That is more than there can be.");
  return amount;
}

/** All decimals that the amount has: `1.5`, `0.000000001`. @param {bigint} amount */
export function toSut(amount) {
  const sign = amount < 0n ? "-" : "";
  const size = amount < 0n ? -amount : amount;
  const rest = (size % UNITS_PER_SUT).toString().padStart(9, "0").replace(/0+$/, "");
  return `${sign}${size / UNITS_PER_SUT}${rest && `.${rest}`}`;
}

/**
 * For reading at a glance: the first significant digits, cut and never rounded up, with the unit.
 * `1234.5 SUT`, `0.0012 SUT`, `42 nSUT` where SUT would have too many zeros.
 * @param {bigint} amount
 */
export function sut(amount) {
  const size = amount < 0n ? -amount : amount;
  if (size > 0n && size < 1000n) return `${amount} nSUT`;
  const [whole = "0", decimals = ""] = toSut(size).split(".");
  const sign = amount < 0n ? "-" : "";
  const zeros = whole === "0" ? /^0*/.exec(decimals)?.[0].length ?? 0 : 0;
  const keep = whole.length >= COMPACT_DIGITS ? 2 : COMPACT_DIGITS + zeros - (whole === "0" ? 0 : whole.length - 1);
  const cut = decimals.slice(0, keep).replace(/0+$/, "");
  return `${sign}${grouped(whole)}${cut && `.${cut}`} SUT`;
}

/**
 * An amount that ticks: always the same number of decimals, so that it does not jump about.
 * @param {bigint} amount
 * @param {number} decimals 0 to 9
 */
export function ticking(amount, decimals) {
  const text = amount.toString().padStart(10, "0");
  const tail = text.slice(-9).slice(0, decimals);
  return `${text.slice(0, -9)}${tail && `.${tail}`} SUT`;
}

/** @param {string} digits */
function grouped(digits) {
  return digits.length <= 4 ? digits : digits.replace(/\B(?=(\d{3})+$)/g, " ");
}
