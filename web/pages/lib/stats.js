// One flat record out of `RTCPeerConnection.getStats`, and what two of them in a row say.

/**
 * The numbers of a session that a person or a test asks for. `null`: this browser does not say.
 * @typedef {object} FlatStats
 * @property {number} atMs clock of the report
 * @property {"send" | "receive" | null} direction
 * @property {string | null} codec of the video, for example `VP8`
 * @property {string | null} audioCodec
 * @property {number | null} width of the last frame
 * @property {number | null} height
 * @property {number | null} fps the browser's own figure
 * @property {number} frames decoded or encoded
 * @property {number | null} framesDecoded
 * @property {number | null} framesEncoded
 * @property {number | null} framesDropped
 * @property {number | null} keyFrames decoded or encoded
 * @property {number | null} freezes
 * @property {number | null} freezeSeconds
 * @property {number} bytes of payload, video
 * @property {number} packets of video
 * @property {number} lost packets of video: ours when receiving, as the relay reports when sending
 * @property {number | null} nack requests for a packet
 * @property {number | null} pli requests for a keyframe
 * @property {number | null} rtx packets repaired or repeated
 * @property {number | null} jitterMs
 * @property {number | null} jitterBufferDelay seconds, summed over all frames
 * @property {number | null} jitterBufferEmitted frames
 * @property {number} audioBytes
 * @property {number} audioPackets
 * @property {number} audioLost
 * @property {number | null} audioConcealed samples
 * @property {number | null} rttMs
 * @property {number | null} availableBitrate the sender's estimate, bits per second
 * @property {string | null} limitedBy why the encoder sends less than asked
 * @property {string | null} srtpCipher
 * @property {string | null} dtlsCipher
 * @property {string | null} tlsVersion as on the wire, for example `FEFD`
 * @property {string | null} dtlsVersion for example `1.2`
 * @property {string | null} localAddress
 * @property {string | null} remoteAddress
 */

/** @param {unknown} value */
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
/** @param {unknown} value */
const text = (value) => (typeof value === "string" && value !== "" ? value : null);
/** @param {number | null} seconds */
const milliseconds = (seconds) => (seconds === null ? null : seconds * 1000);

/**
 * @param {Iterable<Record<string, any>>} report the values of an `RTCStatsReport`
 * @returns {FlatStats}
 */
export function flatten(report) {
  const all = [...report];
  const byId = new Map(all.map((entry) => [entry["id"], entry]));
  /** @param {string} type @param {string} kind */
  const rtp = (type, kind) =>
    all.find((entry) => entry["type"] === type && (entry["kind"] ?? entry["mediaType"]) === kind);

  const received = rtp("inbound-rtp", "video");
  const sent = received ? undefined : rtp("outbound-rtp", "video");
  const video = received ?? sent ?? {};
  const audio = rtp("inbound-rtp", "audio") ?? rtp("outbound-rtp", "audio") ?? {};
  const reported = rtp("remote-inbound-rtp", "video") ?? {};
  const audioReported = rtp("remote-inbound-rtp", "audio") ?? {};
  const transport = all.find((entry) => entry["type"] === "transport") ?? {};
  const pair =
    byId.get(transport["selectedCandidatePairId"]) ??
    all.find((entry) => entry["type"] === "candidate-pair" && (entry["selected"] || entry["nominated"])) ??
    {};

  return {
    atMs: number(video["timestamp"]) ?? number(transport["timestamp"]) ?? number(all[0]?.["timestamp"]) ?? 0,
    direction: received ? "receive" : sent ? "send" : null,
    codec: codecName(byId.get(video["codecId"])),
    audioCodec: codecName(byId.get(audio["codecId"])),
    width: number(video["frameWidth"]),
    height: number(video["frameHeight"]),
    fps: number(video["framesPerSecond"]),
    frames: number(video["framesDecoded"]) ?? number(video["framesEncoded"]) ?? 0,
    framesDecoded: number(video["framesDecoded"]),
    framesEncoded: number(video["framesEncoded"]),
    framesDropped: number(video["framesDropped"]),
    keyFrames: number(video["keyFramesDecoded"]) ?? number(video["keyFramesEncoded"]),
    freezes: number(video["freezeCount"]),
    freezeSeconds: number(video["totalFreezesDuration"]),
    bytes: number(video["bytesReceived"]) ?? number(video["bytesSent"]) ?? 0,
    packets: number(video["packetsReceived"]) ?? number(video["packetsSent"]) ?? 0,
    lost: number(video["packetsLost"]) ?? number(reported["packetsLost"]) ?? 0,
    nack: number(video["nackCount"]),
    pli: number(video["pliCount"]),
    rtx: number(video["retransmittedPacketsReceived"]) ?? number(video["retransmittedPacketsSent"]),
    jitterMs: milliseconds(number(video["jitter"]) ?? number(reported["jitter"])),
    jitterBufferDelay: number(video["jitterBufferDelay"]),
    jitterBufferEmitted: number(video["jitterBufferEmittedCount"]),
    audioBytes: number(audio["bytesReceived"]) ?? number(audio["bytesSent"]) ?? 0,
    audioPackets: number(audio["packetsReceived"]) ?? number(audio["packetsSent"]) ?? 0,
    audioLost: number(audio["packetsLost"]) ?? number(audioReported["packetsLost"]) ?? 0,
    audioConcealed: number(audio["concealedSamples"]),
    rttMs: milliseconds(number(pair["currentRoundTripTime"]) ?? number(reported["roundTripTime"])),
    availableBitrate: number(pair["availableOutgoingBitrate"]),
    limitedBy: text(video["qualityLimitationReason"]),
    srtpCipher: text(transport["srtpCipher"]),
    dtlsCipher: text(transport["dtlsCipher"]),
    tlsVersion: text(transport["tlsVersion"]),
    dtlsVersion: dtlsVersion(text(transport["tlsVersion"])),
    localAddress: candidateAddress(byId.get(pair["localCandidateId"])),
    remoteAddress: candidateAddress(byId.get(pair["remoteCandidateId"])),
  };
}

/** @param {Record<string, any> | undefined} codec */
function codecName(codec) {
  return text(codec?.["mimeType"])?.replace(/^(video|audio)\//i, "") ?? null;
}

/** @param {Record<string, any> | undefined} candidate */
function candidateAddress(candidate) {
  const address = text(candidate?.["address"]) ?? text(candidate?.["ip"]);
  return address === null ? null : `${address}:${candidate?.["port"]}`;
}

/**
 * @param {string | null} version the two bytes of the record header, in hexadecimal
 * @returns {string | null}
 */
export function dtlsVersion(version) {
  switch (version?.toUpperCase()) {
    case "FEFF":
      return "1.0";
    case "FEFD":
      return "1.2";
    case "FEFC":
      return "1.3";
    default:
      return null;
  }
}

/**
 * What happened between two records.
 * @typedef {object} Rates
 * @property {number} seconds
 * @property {number} bitrate of audio and video together, bits per second
 * @property {number} fps frames decoded or encoded per second
 * @property {number} packets of video and audio
 * @property {number} lossPercent of the video packets that were due
 * @property {number | null} jitterBufferMs mean time a frame waited in the jitter buffer
 */

/**
 * @param {FlatStats | null} before
 * @param {FlatStats} after
 * @returns {Rates | null} null when the two are not records of one session in order
 */
export function ratesBetween(before, after) {
  if (!before || before.direction !== after.direction) return null;
  const seconds = (after.atMs - before.atMs) / 1000;
  // A counter that went back belongs to another session.
  if (seconds <= 0 || after.bytes < before.bytes || after.audioBytes < before.audioBytes) return null;
  const bytes = after.bytes - before.bytes + after.audioBytes - before.audioBytes;
  const videoPackets = Math.max(after.packets - before.packets, 0);
  // Lost packets that a repeat brought back are subtracted again, so the difference may be negative.
  const lost = Math.max(after.lost - before.lost, 0);
  const due = after.direction === "send" ? videoPackets : videoPackets + lost;
  const emitted = (after.jitterBufferEmitted ?? 0) - (before.jitterBufferEmitted ?? 0);
  const waited = (after.jitterBufferDelay ?? 0) - (before.jitterBufferDelay ?? 0);
  return {
    seconds,
    bitrate: (bytes * 8) / seconds,
    fps: Math.max(after.frames - before.frames, 0) / seconds,
    packets: videoPackets + Math.max(after.audioPackets - before.audioPackets, 0),
    lossPercent: due > 0 ? Math.min((100 * lost) / due, 100) : 0,
    jitterBufferMs: emitted > 0 ? (1000 * waited) / emitted : null,
  };
}

/**
 * @param {RTCPeerConnection} pc
 * @returns {Promise<FlatStats>}
 */
export async function readStats(pc) {
  const report = await pc.getStats();
  return flatten(/** @type {Iterable<Record<string, any>>} */ (/** @type {any} */ (report).values()));
}
