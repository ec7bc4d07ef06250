import assert from "node:assert/strict";
import test from "node:test";

import { dtlsVersion, flatten, ratesBetween } from "../pages/lib/stats.js";

const viewerReport = [
  { id: "CP1", type: "candidate-pair", nominated: true, currentRoundTripTime: 0.0031, localCandidateId: "L", remoteCandidateId: "R" },
  { id: "L", type: "local-candidate", address: "192.0.2.7", port: 50000 },
  { id: "R", type: "remote-candidate", address: "192.0.2.9", port: 8080 },
  { id: "T", type: "transport", selectedCandidatePairId: "CP1", srtpCipher: "AEAD_AES_256_GCM", dtlsCipher: "TLS_X", tlsVersion: "FEFD" },
  { id: "CV", type: "codec", mimeType: "video/VP8" },
  { id: "CA", type: "codec", mimeType: "audio/opus" },
  { id: "A", type: "inbound-rtp", kind: "audio", codecId: "CA", bytesReceived: 500, packetsReceived: 50, packetsLost: 0, concealedSamples: 9 },
  {
    id: "V", type: "inbound-rtp", kind: "video", codecId: "CV", timestamp: 10_000, bytesReceived: 4000, packetsReceived: 100,
    packetsLost: 2, framesDecoded: 30, framesDropped: 1, freezeCount: 0, totalFreezesDuration: 0, jitter: 0.002, nackCount: 3,
    pliCount: 1, retransmittedPacketsReceived: 2, jitterBufferDelay: 0.6, jitterBufferEmittedCount: 30, frameWidth: 1280,
    frameHeight: 720, framesPerSecond: 30,
  },
];

test("a viewer's report becomes one flat record", () => {
  const flat = flatten(viewerReport);
  const { direction, codec, audioCodec, frames, framesDecoded, framesEncoded, lost, nack, rtx } = flat;
  assert.deepEqual(
    { direction, codec, audioCodec, frames, framesDecoded, framesEncoded, lost, nack, rtx },
    { direction: "receive", codec: "VP8", audioCodec: "opus", frames: 30, framesDecoded: 30, framesEncoded: null, lost: 2, nack: 3, rtx: 2 },
  );
  assert.equal(flat.rttMs?.toFixed(1), "3.1");
  assert.equal(flat.srtpCipher, "AEAD_AES_256_GCM");
  assert.equal(flat.dtlsVersion, "1.2");
  assert.equal(flat.remoteAddress, "192.0.2.9:8080");
});

test("a publisher's losses are those that the relay reports", () => {
  const flat = flatten([
    { id: "O", type: "outbound-rtp", kind: "video", timestamp: 5, bytesSent: 7, packetsSent: 3, framesEncoded: 2, qualityLimitationReason: "bandwidth" },
    { id: "R", type: "remote-inbound-rtp", kind: "video", packetsLost: 1, roundTripTime: 0.02 },
  ]);
  assert.deepEqual(
    [flat.direction, flat.frames, flat.framesEncoded, flat.bytes, flat.lost, flat.rttMs, flat.limitedBy, flat.srtpCipher],
    ["send", 2, 2, 7, 1, 20, "bandwidth", null],
  );
});

test("an empty report has no invented numbers", () => {
  const flat = flatten([]);
  assert.deepEqual([flat.direction, flat.codec, flat.fps, flat.freezes, flat.rttMs, flat.frames], [null, null, null, null, null, 0]);
});

test("rates are differences over time", () => {
  const before = flatten(viewerReport);
  const after = {
    ...before, atMs: 12_000, bytes: 4000 + 500_000, audioBytes: 500 + 10_000, packets: 298, lost: 4, frames: 90,
    jitterBufferDelay: 0.6 + 3, jitterBufferEmitted: 90, audioPackets: 150,
  };
  const rates = ratesBetween(before, after);
  assert.deepEqual(rates, {
    seconds: 2, bitrate: (510_000 * 8) / 2, fps: 30, packets: 298, lossPercent: 1, jitterBufferMs: 50,
  });
});

test("a repaired loss is not a negative one", () => {
  const before = { ...flatten(viewerReport), lost: 9 };
  const rates = ratesBetween(before, { ...before, atMs: 11_000, packets: before.packets + 10, lost: 4 });
  assert.equal(rates?.lossPercent, 0);
});

test("records of two sessions are not compared", () => {
  const one = flatten(viewerReport);
  assert.equal(ratesBetween(null, one), null);
  assert.equal(ratesBetween(one, one), null, "no time went by");
  assert.equal(ratesBetween(one, { ...one, atMs: 11_000, bytes: 1 }), null, "the counter went back");
  assert.equal(ratesBetween(one, { ...one, atMs: 11_000, direction: "send" }), null);
});

test("silence is a rate of zero", () => {
  const one = flatten(viewerReport);
  const rates = ratesBetween(one, { ...one, atMs: 11_000 });
  assert.deepEqual(rates, { seconds: 1, bitrate: 0, fps: 0, packets: 0, lossPercent: 0, jitterBufferMs: null });
});

test("DTLS versions are read from the record header", () => {
  assert.deepEqual(["FEFD", "fefc", "FEFF", "0303", null].map(dtlsVersion), ["1.2", "1.3", "1.0", null, null]);
});
