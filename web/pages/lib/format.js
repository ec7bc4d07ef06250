// Numbers as a person reads them. An unknown value is an en dash, never a zero.

import { sut } from "./wallet/balance.js";

export const UNKNOWN = "–";

/** @param {number | null | undefined} bitsPerSecond */
export function bitrate(bitsPerSecond) {
  if (bitsPerSecond == null) return UNKNOWN;
  if (bitsPerSecond >= 999_500) return `${(bitsPerSecond / 1e6).toFixed(bitsPerSecond < 1e7 ? 2 : 1)} Mb/s`;
  return `${Math.round(bitsPerSecond / 1000)} kb/s`;
}

/** @param {number | null | undefined} value @param {number} [digits] */
export function milliseconds(value, digits = 0) {
  return value == null ? UNKNOWN : `${value.toFixed(value > 0 && value < 10 ? Math.max(digits, 1) : digits)} ms`;
}

/** @param {number | null | undefined} value */
export function percent(value) {
  if (value == null) return UNKNOWN;
  return value === 0 ? "0 %" : `${value < 0.1 ? "< 0.1" : value.toFixed(1)} %`;
}

/** @param {number | null | undefined} value */
export function whole(value) {
  return value == null ? UNKNOWN : String(Math.round(value));
}

/** @param {number | null} width @param {number | null} height */
export function size(width, height) {
  return width && height ? `${width}×${height}` : UNKNOWN;
}

/** @param {number} count @param {string} one @param {string} [many] */
export function counted(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

/** @param {number} ms */
export function span(ms) {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return "less than a minute";
  if (minutes < 60) return counted(minutes, "minute");
  if (minutes < 48 * 60) return counted(Math.floor(minutes / 60), "hour");
  return counted(Math.floor(minutes / 1440), "day");
}

/** @param {number} seconds */
export function clock(seconds) {
  const two = (/** @type {number} */ value) => String(Math.floor(value)).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  return `${hours > 0 ? `${hours}:` : ""}${two((seconds / 60) % 60)}:${two(seconds % 60)}`;
}

/**
 * What watching costs, in two words.
 * @param {{ price_per_second: string, policy: import("./wallet/chain.js").Policy | null }} stream price in units of 10⁻⁹ SUT
 */
export function price({ price_per_second, policy }) {
  if (policy === "ticketed") return "by ticket";
  if (policy === "allow_list") return "by invitation";
  return /^\d+$/.test(price_per_second) && BigInt(price_per_second) > 0n ? `${sut(BigInt(price_per_second))}/s` : "free";
}

/** The beginning and the end of an id: enough to tell two apart. @param {string} id */
export function shortId(id) {
  return id.length > 16 ? `${id.slice(0, 8)}…${id.slice(-6)}` : id;
}

/** A name that a person can say aloud. @param {() => number} [random] uniform in [0, 1) */
export function inventedName(random = Math.random) {
  const first = ["amber", "bright", "calm", "early", "gentle", "late", "little", "quiet", "silver", "tidal"];
  const second = ["comet", "field", "harbour", "heron", "lantern", "loom", "meadow", "river", "thread", "willow"];
  const pick = (/** @type {string[]} */ words) => words[Math.floor(random() * words.length)];
  return `${pick(first)}-${pick(second)}-${Math.floor(random() * 90) + 10}`;
}
