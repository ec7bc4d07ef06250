// A 32-byte seed as 24 words: the BIP-39 English encoding of 256 bits and an 8-bit checksum.
//
// The words carry the seed itself as their entropy; there is no passphrase and no stretching, so the
// same words give the same account in the browser and on the command line.

import { WORDS } from "./bip39-english.js";
import { sha256 } from "./bytes.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */

const SEED_BYTES = 32;
const WORD_BITS = 11;
const COUNT = 24;

/** Words that are no key, and which of them a person should look at. */
export class WordsError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "WordsError";
  }
}

/** @param {Uint8Array} seed 32 bytes @returns {Promise<string[]>} */
export async function wordsOf(seed) {
  if (seed.length !== SEED_BYTES) throw new RangeError("a seed has 32 bytes");
  const checksum = (await sha256(seed))[0] ?? 0;
  let bits = 0n;
  for (const byte of [...seed, checksum]) bits = (bits << 8n) | BigInt(byte);
  return Array.from({ length: COUNT }, (_, at) => {
    const index = Number((bits >> BigInt(WORD_BITS * (COUNT - 1 - at))) & 2047n);
    return WORDS[index] ?? "";
  });
}

/**
 * @param {string} text words with anything but letters between them, in either case
 * @returns {Promise<Bytes>} the seed
 * @throws {WordsError}
 */
export async function seedOf(text) {
  const words = text.toLowerCase().match(/\p{L}+/gu) ?? [];
  const unknown = words.findIndex((word) => !WORDS.includes(word));
  if (unknown >= 0) throw new WordsError(`Word ${unknown + 1}, “${words[unknown]}”, is not in the list. Check its spelling.`);
  if (words.length !== COUNT) throw new WordsError(`A wallet has ${COUNT} words; these are ${words.length}.`);
  let bits = 0n;
  for (const word of words) bits = (bits << BigInt(WORD_BITS)) | BigInt(WORDS.indexOf(word));
  const checksum = Number(bits & 255n);
  const seed = Uint8Array.from({ length: SEED_BYTES }, (_, at) => Number((bits >> BigInt(8 * (SEED_BYTES - at))) & 255n));
  if ((await sha256(seed))[0] !== checksum) {
    throw new WordsError("The words do not fit together: one is wrong, or two changed places. Compare them with your note.");
  }
  return seed;
}
