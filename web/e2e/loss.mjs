// Publisher and viewer each lose packets both ways, and the pictures go on: NACK and RTX on both legs.
//
//   node e2e/loss.mjs --node ../target/release/sutantra-node [--loss 3] [--seconds 20] [--codec VP8]
//        [--viewer chromium] [--size 640x360] [--bitrate 1000000] [--delay 0] [--jitter 0]
//        [--seed 1] [--freezes-max N]
//
// Freezes are printed and, unless a maximum is given, not judged: on a shared machine an encoder
// that was not scheduled looks the same.

import { parseArgs } from "node:util";

import { Impairment } from "./lib/impair.mjs";
import { RelayNode } from "./lib/node.mjs";
import { publish } from "./lib/publish.mjs";
import { must, pause, run, said, stats, until } from "./lib/scenario.mjs";

/** Part of the published frames that must be decoded. */
const DECODED_MIN = 0.9;
/** A publisher below this is no test of anything. */
const PUBLISHED_FPS_MIN = 8;
/** From the first frame to the measurement: the bandwidth estimate rises, jitter buffers settle. */
const SETTLE_MS = 4000;
/** After the measurement: the node's counters are refreshed once a second. */
const METRICS_MS = 1200;

const { values } = parseArgs({
  options: {
    node: { type: "string", default: "../target/release/sutantra-node" },
    loss: { type: "string", default: "3" },
    delay: { type: "string", default: "0" },
    jitter: { type: "string", default: "0" },
    seed: { type: "string", default: "1" },
    seconds: { type: "string", default: "20" },
    codec: { type: "string", default: "VP8" },
    viewer: { type: "string", default: "chromium" },
    size: { type: "string", default: "640x360" },
    bitrate: { type: "string", default: "1000000" },
    "freezes-max": { type: "string" },
  },
});
const codec = values.codec.toUpperCase();
const damage = { lossPercent: Number(values.loss), delayMs: Number(values.delay), jitterMs: Number(values.jitter) };
/** Small, because two cores compose every pixel of every page besides encoding and decoding. */
const LOOK = { width: 480, height: 400, dark: false, phone: true };
const STREAM = "lossy";

/** @type {(() => void | Promise<void>)[]} */
const endings = [];

await run(async (start) => {
  const node = await RelayNode.start(values.node);
  endings.push(() => node.end());
  const seed = Number(values.seed);
  const publisherSide = await Impairment.start(node.base, { ...damage, seed });
  const viewerSide = await Impairment.start(node.base, { ...damage, seed: seed + 1 });
  endings.push(() => publisherSide.close(), () => viewerSide.close());

  const publisher = await (await start("chromium")).open();
  await publisher.emulate(LOOK);
  const bitrate = Number(values.bitrate);
  await publish(publisher, { base: publisherSide.base, stream: STREAM, pattern: "noise", codec, size: values.size, bitrate });

  const viewer = await (await start(values.viewer)).open();
  await viewer.emulate(LOOK);
  const openedAt = performance.now();
  await viewer.goto(`${viewerSide.base}/watch/${STREAM}`);
  await until("the first frame", async () => ((await stats(viewer))?.framesDecoded ?? 0) > 0, { everyMs: 10 }).catch(
    async (error) => must(false, `${error.message}; the page says: ${await said(viewer)}`),
  );
  const firstFrameMs = Math.round(performance.now() - openedAt);
  const firstPacketMs = viewerSide.down.firstRtpAt && Math.round(viewerSide.down.firstRtpAt - openedAt);

  await pause(SETTLE_MS);
  const [sentFrom, seenFrom] = await Promise.all([stats(publisher), stats(viewer)]);
  await pause(Number(values.seconds) * 1000);
  const [sentTo, seenTo] = await Promise.all([stats(publisher), stats(viewer)]);
  must(sentTo && seenTo, "a session was lost");
  const sessions = await Promise.all([publisher, viewer].map((page) => page.evaluate("window.sutantra.sessions")));
  must(sessions.every((count) => count === 1), `a page had to open its session again: ${sessions}`);
  await pause(METRICS_MS);
  const metric = await node.metrics();

  const elapsed = (sentTo.atMs - sentFrom.atMs) / 1000;
  /** @param {any} from @param {any} to @param {string} key */
  const during = (from, to, key) => (to[key] === null || from[key] === null ? null : to[key] - from[key]);
  const published = during(sentFrom, sentTo, "framesEncoded") ?? 0;
  const decoded = during(seenFrom, seenTo, "framesDecoded") ?? 0;
  const relayed = (/** @type {string} */ name) => metric(`sutantra_sfu_${name}_total`);
  const result = {
    scenario: "loss",
    codec,
    lossPercent: damage.lossPercent,
    seconds: Number(elapsed.toFixed(1)),
    publisher: {
      frames: published,
      fps: Number((published / elapsed).toFixed(1)),
      bitrate: Math.round((8 * (sentTo.bytes - sentFrom.bytes)) / elapsed),
      limitedBy: sentTo.limitedBy,
      // Since the session began, as everything below but the frames and freezes.
      packets: sentTo.packets,
      nack: sentTo.nack,
      rtx: sentTo.rtx,
      pli: sentTo.pli,
      keyFrames: sentTo.keyFrames,
      lost: sentTo.lost,
      proxy: proxied(publisherSide),
    },
    viewer: {
      browser: values.viewer,
      firstPacketMs,
      firstFrameMs,
      frames: decoded,
      framesDropped: during(seenFrom, seenTo, "framesDropped"),
      freezes: during(seenFrom, seenTo, "freezes"),
      freezeSeconds: during(seenFrom, seenTo, "freezeSeconds"),
      packets: seenTo.packets,
      lost: seenTo.lost,
      audioPackets: seenTo.audioPackets,
      audioLost: seenTo.audioLost,
      nack: seenTo.nack,
      rtx: seenTo.rtx,
      pli: seenTo.pli,
      keyFrames: seenTo.keyFrames,
      proxy: proxied(viewerSide),
    },
    relay: {
      received: relayed("rtp_received_packets"),
      forwarded: relayed("rtp_forwarded_packets"),
      nackSent: relayed("nack_sent_packets"),
      nackReceived: relayed("nack_received_packets"),
      rtxSent: relayed("rtx_sent_packets"),
      rtxReceived: relayed("rtx_received_packets"),
      retransmitMisses: relayed("retransmit_misses"),
      keyframeRequestsSent: relayed("keyframe_requests_sent"),
      keyframeRequestsReceived: relayed("keyframe_requests_received"),
      droppedLate: relayed("dropped_late_packets"),
      droppedDuplicate: relayed("dropped_duplicate_packets"),
      droppedReplayed: relayed("dropped_replayed_packets"),
    },
  };
  try {
    judge(result, elapsed);
  } catch (error) {
    console.log(JSON.stringify(result));
    throw error;
  }
  return result;
});

for (const end of endings.reverse()) await end();

/** @param {Impairment} side */
function proxied({ up, down }) {
  return {
    up: { rtp: up.rtp, rtcp: up.rtcp, droppedRtp: up.droppedRtp, droppedRtcp: up.droppedRtcp },
    down: { rtp: down.rtp, rtcp: down.rtcp, droppedRtp: down.droppedRtp, droppedRtcp: down.droppedRtcp },
  };
}

/** @param {any} result @param {number} elapsed seconds */
function judge({ publisher, viewer, relay }, elapsed) {
  must(publisher.frames >= PUBLISHED_FPS_MIN * elapsed, `the publisher encoded only ${publisher.frames} frames in ${elapsed.toFixed(1)} s`);
  for (const [who, { up, down }] of [["publisher", publisher.proxy], ["viewer", viewer.proxy]]) {
    must(up.droppedRtp + up.droppedRtcp > 0 && down.droppedRtp + down.droppedRtcp > 0, `the ${who}'s network dropped nothing one way`);
  }
  must(publisher.proxy.up.droppedRtp > 0 && viewer.proxy.down.droppedRtp > 0, "no media packet was dropped on one of the legs");
  must(relay.nackSent > 0, "the relay asked the publisher for nothing");
  must(publisher.rtx > 0, "the publisher repeated nothing");
  must(relay.rtxSent > 0, "the relay repeated nothing to the viewer");
  must(viewer.frames >= DECODED_MIN * publisher.frames, `the viewer decoded ${viewer.frames} of ${publisher.frames} frames`);
  const freezesMax = values["freezes-max"];
  if (freezesMax !== undefined) must((viewer.freezes ?? 0) <= Number(freezesMax), `the viewer froze ${viewer.freezes} times`);
}
