// Raw deflate (RFC 1951) of whole messages, with a bound on what a small one may grow into.

import { concat } from "./bytes.js";
import { SutantraError } from "./errors.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */

/** A message inflates to no more than this, and to no more than `RATIO_MAX` of what came. */
export const INFLATED_BYTES_MAX = 8 * 1024 * 1024;
export const RATIO_MAX = 100;

/** Node's own deflate: its streams of the web's shape know `deflate-raw` only since version 20.12. */
const zlib = globalThis.process?.versions?.node ? await import("node:zlib") : null;

/** @param {Uint8Array} plain @returns {Promise<Bytes>} */
export async function deflate(plain) {
  if (zlib) {
    return new Promise((resolve, reject) => {
      zlib.deflateRaw(plain, (error, packed) => (error ? reject(error) : resolve(new Uint8Array(packed))));
    });
  }
  return collect(plain, new CompressionStream("deflate-raw"), Number.POSITIVE_INFINITY);
}

/**
 * @param {Uint8Array} packed one deflate stream and nothing after it
 * @returns {Promise<Bytes>}
 * @throws {SutantraError} `bad_frame`: not deflate, cut short, or more than the bounds allow
 */
export async function inflate(packed) {
  const bytesMax = Math.min(INFLATED_BYTES_MAX, RATIO_MAX * packed.length);
  try {
    if (zlib) return await inflateInNode(zlib, packed, bytesMax);
    return await collect(packed, new DecompressionStream("deflate-raw"), bytesMax);
  } catch (cause) {
    throw new SutantraError(
      "bad_frame",
      `a compressed message is broken or inflates beyond ${bytesMax} bytes: send it again, in parts if it is that large`,
      { cause },
    );
  }
}

/**
 * @param {typeof import("node:zlib")} zlib
 * @param {Uint8Array} packed
 * @param {number} bytesMax
 * @returns {Promise<Bytes>}
 */
function inflateInNode(zlib, packed, bytesMax) {
  return new Promise((resolve, reject) => {
    const options = { maxOutputLength: Math.max(bytesMax, 1), info: true };
    zlib.inflateRaw(packed, options, (error, result) => {
      if (error) return reject(error);
      // With `info` the answer names its engine, which knows where the stream ended.
      const { buffer, engine } = /** @type {{ buffer: Uint8Array, engine: { bytesWritten: number } }} */ (
        /** @type {unknown} */ (result)
      );
      if (engine.bytesWritten !== packed.length) return reject(new Error("bytes after the end"));
      resolve(new Uint8Array(buffer));
    });
  });
}

/**
 * @param {Uint8Array} bytes
 * @param {CompressionStream | DecompressionStream} stream
 * @param {number} bytesMax
 * @returns {Promise<Bytes>}
 */
async function collect(bytes, stream, bytesMax) {
  const writer = stream.writable.getWriter();
  // Their failure is the reader's failure too, and is heard there.
  writer.write(/** @type {Bytes} */ (bytes)).catch(() => {});
  writer.close().catch(() => {});
  const reader = stream.readable.getReader();
  /** @type {Uint8Array[]} */
  const parts = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return concat(...parts);
    length += value.length;
    if (length > bytesMax) {
      await reader.cancel();
      throw new Error("too large");
    }
    parts.push(value);
  }
}
