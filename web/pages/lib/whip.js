// WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): one HTTP exchange makes a WebRTC session.
//
// The relay is ICE-lite with its own candidates in the answer and learns the browser's address from
// the first connectivity check, so the offer leaves without waiting for a single local candidate.

import { TypedEvents } from "./events.js";
import { RequestError, iceServers, parseLinks, request, resolveLocation } from "./http.js";

/** How long an exchange of SDP may take. The relay answers within milliseconds. */
const EXCHANGE_TIMEOUT_MS = 10_000;
/** A payment is asked for, signed, and perhaps corrected by what the relay knows of the lane. */
const PAYMENTS_MAX = 3;

/**
 * What a session that has to be paid, or signed in to, asks of a wallet.
 * @typedef {object} Payment
 * @property {(pc: RTCPeerConnection) => void} attach before the offer
 * @property {(refused: RequestError, offerSdp: string) => Promise<string | null>} authorize the value of PAYMENT-SIGNATURE; null: this refusal is not about payment
 * @property {(response: string | null, answerSdp: string) => Promise<void>} accepted before any media; throws where the answer is not the relay's
 * @property {() => void} detach
 */

/**
 * @typedef {object} SessionEvents
 * @property {RTCPeerConnectionState} state the connection's state changed
 * @property {MediaStreamTrack} track a remote track was negotiated
 * @property {"asked" | "page"} closed the session was ended here: by `close`, or because the page goes away
 */

/**
 * @typedef {object} SessionInit
 * @property {string} endpoint address to POST the offer to
 * @property {string | null} [token] bearer token
 * @property {Payment | null} [payment]
 */

/** The half that both protocols share: offer, answer, session address, end. @extends {TypedEvents<SessionEvents>} */
class HttpSession extends TypedEvents {
  /** @type {string | null} */
  #token;
  /** @type {string | null} */
  #sessionUrl = null;
  #closed = false;
  #abort = new AbortController();

  /** @param {SessionInit} init */
  constructor({ endpoint, token = null, payment = null }) {
    super();
    this.endpoint = new URL(endpoint, location.href).href;
    this.#token = token;
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    /** Entity tag of the ICE session (RFC 9725 §4.3.1). @type {string | null} */
    this.etag = null;
    /** @type {Payment | null} */
    this.payment = payment;
    this.pc.addEventListener("connectionstatechange", () =>
      this.emit("state", this.pc.connectionState),
    );
    this.pc.addEventListener("track", ({ track }) => this.emit("track", track));
    addEventListener("pagehide", this.#onPageHide);
  }

  /** Absolute address of the session, null before `open` and after `close`. */
  get sessionUrl() {
    return this.#sessionUrl;
  }

  get closed() {
    return this.#closed;
  }

  /** Sends the offer, applies the answer. Transceivers must have been added before. */
  async negotiate() {
    this.payment?.attach(this.pc);
    const offer = await this.pc.createOffer();
    await this.pc.setLocalDescription(offer);
    const signal = AbortSignal.any
      ? AbortSignal.any([this.#abort.signal, AbortSignal.timeout(EXCHANGE_TIMEOUT_MS)])
      : this.#abort.signal;
    /** @type {Record<string, string>} */
    const headers = { "content-type": "application/sdp", accept: "application/sdp" };
    if (this.#token) headers["authorization"] = `Bearer ${this.#token}`;
    const sdp = this.pc.localDescription?.sdp ?? offer.sdp ?? "";
    const response = await this.#exchange(headers, sdp, signal);
    this.#sessionUrl = resolveLocation(response.headers.get("location"), response.url);
    this.etag = response.headers.get("etag");
    if (this.#closed) {
      this.#deleteSession();
      throw new RequestError("network", "Closed while connecting.");
    }
    if (response.status !== 201 || !this.#sessionUrl) {
      throw new RequestError("refused", "The relay's answer names no session.", {
        status: response.status,
      });
    }
    const servers = iceServers(parseLinks(response.headers.get("link")));
    if (servers.length > 0) this.pc.setConfiguration({ bundlePolicy: "max-bundle", iceServers: servers });
    const answer = await response.text();
    await this.payment?.accepted(response.headers.get("payment-response"), answer);
    await this.pc.setRemoteDescription({ type: "answer", sdp: answer });
  }

  /** The offer for an answer; where the relay asks to be paid, with a payment. @param {Record<string, string>} headers @param {string} body @param {AbortSignal} signal */
  async #exchange(headers, body, signal) {
    for (let payments = 0; ; payments += 1) {
      try {
        return await request(this.endpoint, { method: "POST", headers, body, signal });
      } catch (error) {
        if (!(error instanceof RequestError)) throw new RequestError("network", "The relay did not answer in time.", { cause: error });
        const paid = payments < PAYMENTS_MAX ? await this.payment?.authorize(error, body) : null;
        if (!paid) throw error;
        headers["payment-signature"] = paid;
      }
    }
  }

  /** Ends the session here and at the relay. Safe to call twice. */
  close() {
    this.#end("asked");
  }

  #onPageHide = () => this.#end("page");

  /** @param {"asked" | "page"} reason */
  #end(reason) {
    if (this.#closed) return;
    this.#closed = true;
    removeEventListener("pagehide", this.#onPageHide);
    this.#abort.abort();
    this.#deleteSession();
    this.payment?.detach();
    this.pc.close();
    this.emit("closed", reason);
  }

  #deleteSession() {
    if (!this.#sessionUrl) return;
    /** @type {HeadersInit} */
    const headers = this.#token ? { authorization: `Bearer ${this.#token}` } : {};
    // Nobody is left to hear of a failure, and the relay ends a silent session by itself.
    fetch(this.#sessionUrl, { method: "DELETE", headers, keepalive: true }).catch(() => {});
    this.#sessionUrl = null;
  }
}

/**
 * @typedef {object} PublishOptions
 * @property {MediaStreamTrack | null} video
 * @property {MediaStreamTrack | null} audio
 * @property {string} codec `"auto"`, or a codec's name as in `video/NAME`
 * @property {number} maxBitrate of the video, bits per second
 */

/** Publishes one video and one audio track. */
export class WhipClient extends HttpSession {
  /** @type {RTCRtpTransceiver | null} */
  #video = null;
  /** @type {RTCRtpTransceiver | null} */
  #audio = null;

  /**
   * Resolves when the relay has answered; the `state` event tells when media flows.
   * @param {PublishOptions} options
   * @throws {RequestError}
   */
  async publish({ video, audio, codec, maxBitrate }) {
    const direction = "sendonly";
    this.#audio = this.pc.addTransceiver(audio ?? "audio", { direction });
    this.#video = this.pc.addTransceiver(video ?? "video", {
      direction,
      sendEncodings: [{ maxBitrate }],
    });
    if (codec !== "auto") this.#video.setCodecPreferences(codecsFor(codec));
    await this.negotiate();
  }

  /** @param {number} maxBitrate bits per second */
  async setMaxBitrate(maxBitrate) {
    const sender = this.#video?.sender;
    const parameters = sender?.getParameters();
    const encoding = parameters?.encodings?.[0];
    if (!sender || !parameters || !encoding) return;
    encoding.maxBitrate = maxBitrate;
    await sender.setParameters(parameters);
  }

  /**
   * Changes what is sent without a new negotiation.
   * @param {{ video: MediaStreamTrack | null, audio: MediaStreamTrack | null }} tracks
   */
  async replaceTracks({ video, audio }) {
    await Promise.all([
      this.#video?.sender.replaceTrack(video),
      this.#audio?.sender.replaceTrack(audio),
    ]);
  }
}

/** Watches one stream. */
export class WhepClient extends HttpSession {
  /** Every track that the relay sends. */
  stream = new MediaStream();

  /**
   * Resolves when the relay has answered; the tracks are in `stream`.
   * @param {{ audio?: boolean }} [options]
   * @throws {RequestError}
   */
  async watch({ audio = true } = {}) {
    this.on("track", (track) => this.stream.addTrack(track));
    this.pc.addTransceiver("video", { direction: "recvonly" });
    if (audio) this.pc.addTransceiver("audio", { direction: "recvonly" });
    await this.negotiate();
  }
}

/**
 * The browser's video codecs by name, as a person may choose them.
 * @returns {string[]} for example `["VP8", "VP9", "H264", "AV1"]`
 */
export function videoCodecs() {
  const codecs = RTCRtpSender.getCapabilities?.("video")?.codecs ?? [];
  const names = codecs.map(({ mimeType }) => mimeType.replace(/^video\//i, "").toUpperCase());
  const known = ["VP8", "VP9", "AV1", "H264"];
  return known.filter((name) => names.includes(name));
}

/**
 * One codec in all its profiles, with the repair formats that belong to any codec.
 * @param {string} name
 */
function codecsFor(name) {
  const codecs = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
  const wanted = `video/${name}`.toLowerCase();
  const chosen = codecs.filter(({ mimeType }) => mimeType.toLowerCase() === wanted);
  if (chosen.length === 0) {
    throw new RequestError("refused", `This browser cannot send ${name}. Choose another codec.`);
  }
  return [...chosen, ...codecs.filter(({ mimeType }) => mimeType.toLowerCase() === "video/rtx")];
}
