// A node's key, the id that follows from it, and what it signs for the coordinator and for peers.

import { concat, fromBase64url, fromHex, randomBytes, toBase32, toHex, utf8 } from "./bytes.js";
import { SutantraError } from "./errors.js";
import { mistaken, mustBeBytes } from "./inputs.js";
import { webcrypto } from "./webcrypto.js";

/** @typedef {import("./bytes.js").Bytes} Bytes */
/** What a join carries beside the id. @typedef {{ pk: string, ts: number, nonce: string, sig: string }} SignedJoin */

export const SIGNATURE_BYTES = 64;
export const PUBLIC_KEY_BYTES = 32;
const SEED_BYTES = 32;
const ED25519 = "Ed25519";
/** PKCS #8 of an Ed25519 key without attributes (RFC 8410 §7), up to the seed. */
const PKCS8_HEAD = /** @type {Bytes} */ (fromHex("302e020100300506032b657004220420"));
/** An id that follows from a key. */
const ID_PREFIX = "sn1";
const ID_HASH_BYTES = 20;

/** @returns {SubtleCrypto} @throws {SutantraError} `no_cryptography` */
function subtle() {
  if (webcrypto?.subtle) return webcrypto.subtle;
  throw new SutantraError(
    "no_cryptography",
    "This page came over plain http, where browsers switch cryptography off: open it over https, or on the coordinator's own machine at 127.0.0.1",
  );
}

/** An Ed25519 key pair with the id that it gives its holder. */
export class Identity {
  /**
   * @param {CryptoKey} privateKey
   * @param {Bytes} publicKey 32 bytes
   * @param {string} nodeId
   */
  constructor(privateKey, publicKey, nodeId) {
    this.privateKey = privateKey;
    this.publicKey = publicKey;
    this.nodeId = nodeId;
  }

  /** A new one, whose secret part cannot be read out. */
  static async generate() {
    const keys = await unlessMissing(subtle().generateKey(ED25519, false, ["sign", "verify"]));
    const { privateKey, publicKey } = /** @type {CryptoKeyPair} */ (keys);
    const raw = new Uint8Array(await subtle().exportKey("raw", publicKey));
    return Identity.fromKeys(privateKey, raw);
  }

  /** The one of a seed. @param {Uint8Array} seed 32 bytes @throws {SutantraError} `bad_key` */
  static async fromSeed(seed) {
    mustBeBytes("a key's seed", seed, SEED_BYTES, "bad_key");
    const pkcs8 = concat(PKCS8_HEAD, seed);
    // WebCrypto derives no public key; the JWK of a private one names it (RFC 8037 §2).
    const open = await unlessMissing(subtle().importKey("pkcs8", pkcs8, ED25519, true, ["sign"]));
    const { x } = await subtle().exportKey("jwk", open);
    const privateKey = await subtle().importKey("pkcs8", pkcs8, ED25519, false, ["sign"]);
    return Identity.fromKeys(privateKey, /** @type {Bytes} */ (fromBase64url(x)));
  }

  /** One that was kept, for example in IndexedDB. @param {CryptoKey} privateKey @param {Uint8Array} publicKey 32 bytes @throws {SutantraError} `bad_key` */
  static async fromKeys(privateKey, publicKey) {
    if (privateKey?.type !== "private" || privateKey.algorithm?.name !== ED25519 || !privateKey.usages.includes("sign")) mistaken("a private key is a CryptoKey of Ed25519 that signs", privateKey, "bad_key");
    mustBeBytes("a public key", publicKey, PUBLIC_KEY_BYTES, "bad_key");
    const own = new Uint8Array(publicKey);
    const identity = new Identity(privateKey, own, await nodeIdOf(own));
    if (await verify(own, own, await identity.sign(own))) return identity;
    throw new SutantraError("bad_key", "the public key is not that of the private key: keep both of one identity together");
  }

  /** 64 hexadecimal digits. */
  get pk() {
    return toHex(this.publicKey);
  }

  /** @param {Uint8Array} bytes @returns {Promise<Bytes>} 64 bytes */
  async sign(bytes) {
    const own = new Uint8Array(bytes);
    return new Uint8Array(await subtle().sign(ED25519, this.privateKey, own));
  }

  /** @param {string} text @returns {Promise<string>} 128 hexadecimal digits */
  async signText(text) {
    return toHex(await this.sign(utf8(text)));
  }

  /**
   * @param {{ networkId: string, room?: string, now?: number, nonce?: string }} what `now` in Unix ms,
   *   `nonce` in 32 hexadecimal digits
   * @returns {Promise<SignedJoin>}
   */
  async signJoin({ networkId, room = "", now = Date.now(), nonce = toHex(randomBytes(16)) }) {
    const text = joinText({ networkId, nodeId: this.nodeId, room, ts: now, nonce });
    return { pk: this.pk, ts: now, nonce, sig: await this.signText(text) };
  }

  /**
   * Vouches for the certificate that a description names, so that a coordinator cannot swap it.
   * @param {{ to: string, room: string, sdp: string }} what
   * @returns {Promise<{ fpSig: string, pk: string }>}
   */
  async signFingerprint({ to, room, sdp }) {
    const text = fingerprintText({ from: this.nodeId, to, room, fingerprint: fingerprintOf(sdp) });
    return { fpSig: await this.signText(text), pk: this.pk };
  }
}

/** @param {Uint8Array} publicKey 32 bytes @returns {Promise<string>} 35 characters @throws {SutantraError} `bad_key` */
export async function nodeIdOf(publicKey) {
  mustBeBytes("a public key", publicKey, PUBLIC_KEY_BYTES, "bad_key");
  const hash = new Uint8Array(await subtle().digest("SHA-256", new Uint8Array(publicKey)));
  return ID_PREFIX + toBase32(hash.subarray(0, ID_HASH_BYTES));
}

/** Whether an id claims to follow from a key. @param {string} nodeId */
export const isKeyId = (nodeId) => nodeId.startsWith(ID_PREFIX);

/**
 * The key that an id follows from.
 * @param {unknown} pk 64 hexadecimal digits
 * @param {string} nodeId
 * @returns {Promise<Bytes | null>} null: no key, or another's
 */
export async function keyOf(pk, nodeId) {
  const key = fromHex(pk, PUBLIC_KEY_BYTES);
  return key && (await nodeIdOf(key)) === nodeId ? key : null;
}

/**
 * @param {Uint8Array} publicKey @param {Uint8Array} bytes @param {Uint8Array} signature
 * @returns {Promise<boolean>} false also for what is no key and no signature
 */
export async function verify(publicKey, bytes, signature) {
  try {
    const key = await subtle().importKey("raw", new Uint8Array(publicKey), ED25519, false, ["verify"]);
    return await subtle().verify(ED25519, key, new Uint8Array(signature), new Uint8Array(bytes));
  } catch (error) {
    if (error instanceof SutantraError) throw error;
    return false;
  }
}

/** @param {{ networkId: string, nodeId: string, room: string, ts: number, nonce: string }} join */
export const joinText = ({ networkId, nodeId, room, ts, nonce }) =>
  `sutantra/join/v1\n${networkId}\n${nodeId}\n${room}\n${ts}\n${nonce}`;

/** @param {{ from: string, to: string, room: string, fingerprint: string }} what */
export const fingerprintText = ({ from, to, room, fingerprint }) =>
  `sutantra/fpsg/v1\n${from}\n${to}\n${room}\n${fingerprint}`;

/** What a signed frame's signature covers. @param {string} from @param {string} to a node or a room @param {bigint} seq @param {Uint8Array} covered */
export const frameText = (from, to, seq, covered) =>
  concat(utf8(`sutantra/dmsg/v1\n${from}\n${to}\n${seq}\n`), covered);

/**
 * The one certificate that a session description names (RFC 8122 §5).
 * @param {string} sdp
 * @returns {string} algorithm as it stands there, and hexadecimal in upper case
 * @throws {SutantraError} `unverified_peer`: none, or several
 */
export function fingerprintOf(sdp) {
  const found = new Set();
  for (const [, algorithm, hex] of sdp.matchAll(/^a=fingerprint:(\S+) ([0-9A-Fa-f:]+)\s*$/gm)) {
    found.add(`${algorithm} ${hex?.toUpperCase()}`);
  }
  const [fingerprint] = found;
  if (found.size === 1 && fingerprint) return fingerprint;
  throw new SutantraError(
    "unverified_peer",
    `a session description names ${found.size} certificates where one is needed: make it with one certificate`,
  );
}

/**
 * Whether an offer or answer is from the key that its sender's id follows from.
 * @param {{ from: string, to: string, room: string, sdp: string, fpSig?: unknown, pk?: unknown }} signal
 * @returns {Promise<Bytes | null>} the sender's key; null: it carries no `fpSig`
 * @throws {SutantraError} `unverified_peer`: what it carries is wrong
 */
export async function checkFingerprint({ from, to, room, sdp, fpSig, pk }) {
  if (fpSig === undefined || fpSig === null) return null;
  const key = await keyOf(pk, from);
  const signature = fromHex(fpSig, SIGNATURE_BYTES);
  const text = utf8(fingerprintText({ from, to, room, fingerprint: fingerprintOf(sdp) }));
  if (key && signature && (await verify(key, text, signature))) return key;
  throw new SutantraError(
    "unverified_peer",
    `${from} did not sign this certificate: somebody between may have changed it, so no channel is opened; try another coordinator`,
    { peerId: from },
  );
}

/** @template T @param {Promise<T>} made @returns {Promise<T>} */
async function unlessMissing(made) {
  try {
    return await made;
  } catch (cause) {
    throw new SutantraError(
      "no_cryptography",
      "Ed25519 is missing here: use Chromium 137, Firefox 129, Safari 17, Node 18 or newer",
      { cause },
    );
  }
}
