// One open data channel: messages in order both ways, batched where small, held back where the network lags.

import { Decoder, Encoder } from "./codec.js";
import { asSutantraError, SutantraError } from "./errors.js";
import { batchedBytes, KIND, toBytes } from "./framing.js";

/** @typedef {import("./framing.js").Message} Message */
/** A message that came. @typedef {{ data: string | Uint8Array, kind: number, label: string, signed: boolean }} Received */

/** The label of channels that carry frames. On any other, and in text, a message goes as it is. */
export const LABEL = "sutantra/1";

/** A batch leaves when it is so large, or so old. */
export const BATCH_BYTES = 1200;
const BATCH_MS = 5;
/** Above this the next frame waits; browsers end a channel that holds 16 MiB. */
const BUFFERED_HIGH_BYTES = 1024 * 1024;
const BUFFERED_LOW_BYTES = 256 * 1024;
/** Messages that wait for the network; beyond it a `send` answers `false`. */
export const OUTBOX_BYTES_MAX = 16 * 1024 * 1024;

/** @typedef {{ bytes: Uint8Array, resolve: (sent: boolean) => void }} Waiting */

export class PeerChannel {
  #channel;
  #on;
  #raw;
  #encoder = new Encoder();
  #decoder;
  /** @type {{ bin: boolean, kind: number, waiting: Waiting[], length: number } | null} */
  #batch = null;
  #outboxBytes = 0;
  /** @type {Promise<unknown>} */
  #out = Promise.resolve();
  /** @type {Promise<unknown>} */
  #in = Promise.resolve();
  #closed = false;
  /** SCTP messages and messages of the application. */
  counts = { framesOut: 0, framesIn: 0, messagesOut: 0, messagesIn: 0, dropped: 0 };

  /**
   * @param {RTCDataChannel} channel open or about to
   * @param {{ message: (received: Received) => void, error: (error: SutantraError) => void, closed: () => void }} on
   * @param {{ verify?: import("./codec.js").Verify, take?: import("./replay.js").Take }} [options]
   */
  constructor(channel, on, { verify, take } = {}) {
    this.#channel = channel;
    this.#on = on;
    this.#raw = channel.label !== LABEL;
    this.#decoder = new Decoder(verify, take);
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = BUFFERED_LOW_BYTES;
    channel.addEventListener("message", ({ data }) => this.#receive(data));
    channel.addEventListener("close", () => this.#end());
  }

  get label() {
    return this.#channel.label;
  }

  get open() {
    return !this.#closed && this.#channel.readyState === "open";
  }

  /**
   * @param {Message} message
   * @param {number} [kind] of `KIND`
   * @returns {Promise<boolean>} true once the network's buffer took it; false: the channel closed, or
   *   more than `OUTBOX_BYTES_MAX` wait already (wait for an earlier `send` and try again)
   * @throws {SutantraError} `bad_request`, at once, for what is neither string nor bytes
   */
  send(message, kind = KIND.APPLICATION) {
    const { bin, bytes } = toBytes(message);
    if (!this.open || this.#outboxBytes + bytes.length > OUTBOX_BYTES_MAX) return Promise.resolve(false);
    this.#outboxBytes += bytes.length;
    const sent = new Promise((/** @type {(sent: boolean) => void} */ resolve) => {
      const waiting = { bytes: this.#raw ? bytes : bytes.slice(), resolve };
      if (this.#raw) this.#queue([waiting], () => this.#give(typeof message === "string" ? message : waiting.bytes));
      else this.#gather(waiting, bin, kind);
    });
    return sent;
  }

  close() {
    this.#flush();
    // What was sent before is given to the channel first.
    this.#out = this.#out.then(() => this.#channel.close());
  }

  /** @param {Waiting} waiting @param {boolean} bin @param {number} kind */
  #gather(waiting, bin, kind) {
    const length = batchedBytes(waiting.bytes.length);
    const batch = this.#batch;
    if (batch && (batch.bin !== bin || batch.kind !== kind || batch.length + length > BATCH_BYTES)) this.#flush();
    if (!this.#batch) {
      this.#batch = { bin, kind, waiting: [], length: 0 };
      soon(() => this.#flush());
    }
    this.#batch.waiting.push(waiting);
    this.#batch.length += length;
    if (this.#batch.length >= BATCH_BYTES) this.#flush();
  }

  #flush() {
    const batch = this.#batch;
    if (!batch) return;
    this.#batch = null;
    const { waiting, bin, kind } = batch;
    this.#queue(waiting, async () => {
      const frames = await this.#encoder.encode(waiting.map(({ bytes }) => bytes), { bin, kind });
      for (const frame of frames) if (!(await this.#give(frame))) return false;
      return true;
    });
  }

  /** @param {Waiting[]} waiting @param {() => Promise<boolean>} give */
  #queue(waiting, give) {
    this.#out = this.#out.then(async () => {
      const sent = await give().catch((error) => {
        this.#on.error(asSutantraError(error));
        return false;
      });
      for (const { bytes, resolve } of waiting) {
        this.#outboxBytes -= bytes.length;
        if (sent) this.counts.messagesOut += 1;
        resolve(sent);
      }
    });
  }

  /** @param {string | Uint8Array} data @returns {Promise<boolean>} */
  async #give(data) {
    if (this.open && this.#channel.bufferedAmount > BUFFERED_HIGH_BYTES) await this.#drained();
    if (!this.open) return false;
    this.#channel.send(/** @type {any} */ (data));
    this.counts.framesOut += 1;
    return true;
  }

  /** @returns {Promise<void>} */
  #drained() {
    const channel = this.#channel;
    return new Promise((resolve) => {
      const done = () => {
        channel.removeEventListener("bufferedamountlow", done);
        channel.removeEventListener("close", done);
        resolve();
      };
      channel.addEventListener("bufferedamountlow", done);
      channel.addEventListener("close", done);
    });
  }

  /** @param {string | ArrayBuffer | Uint8Array} data */
  #receive(data) {
    this.counts.framesIn += 1;
    this.#in = this.#in.then(async () => {
      if (typeof data === "string") return this.#deliver({ data, kind: KIND.APPLICATION, label: this.label, signed: false });
      const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : data;
      if (this.#raw) return this.#deliver({ data: bytes, kind: KIND.APPLICATION, label: this.label, signed: false });
      try {
        const decoded = await this.#decoder.decode(bytes, { mustBeSigned: false });
        for (const message of decoded?.messages ?? []) {
          this.#deliver({ data: message, kind: decoded?.kind ?? 0, label: this.label, signed: decoded?.signed ?? false });
        }
      } catch (error) {
        this.counts.dropped += 1;
        this.#on.error(asSutantraError(error));
      }
    });
  }

  /** @param {Received} received */
  #deliver(received) {
    this.counts.messagesIn += 1;
    this.#on.message(received);
  }

  #end() {
    if (this.#closed) return;
    this.#closed = true;
    this.#flush();
    // What came before the end is heard before the end.
    void this.#in.then(() => this.#on.closed());
  }
}

/** Pages that nobody looks at have timers of a second: there a batch leaves when the caller is done. @param {() => void} then */
function soon(then) {
  if (globalThis.document?.hidden) queueMicrotask(then);
  else setTimeout(then, BATCH_MS);
}
