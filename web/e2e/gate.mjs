// R34 in part, R121
// The gate of a viewer closes and opens, again and again: closed means no packet at all, open means a
// picture, and nobody asks for what was held back.
//
//   node e2e/gate.mjs --node ../target/release/sutantra-node [--cycles 100] [--codec VP8]
//        [--viewer chromium]
//
// Three witnesses: the viewer's own count of packets, the datagrams that pass between relay and
// viewer, and the frames that the viewer shows.

import { join } from "node:path";
import { parseArgs } from "node:util";

import { DecisionSource } from "./lib/decisions.mjs";
import { Impairment } from "./lib/impair.mjs";
import { RelayNode } from "./lib/node.mjs";
import { publish } from "./lib/publish.mjs";
import { must, pause, run, said, stats, until } from "./lib/scenario.mjs";

/** The close is obeyed when nothing came for this long, while the publisher went on. */
const STILL_MS = 60;
/** How long a closed gate is watched. */
const CLOSED_MS = 150;
/** What the publisher must send while a closed gate is watched, or its silence proves nothing. */
const PUBLISHED_PACKETS_MIN = 5;
/** How long a gate stays open after its first frame: requests for lost packets would come now. */
const OPEN_MS = 200;
/** From the decision to the frame. */
const FRAME_MS_MAX = 5000;
/** After the last cycle: the node's counters are refreshed once a second. */
const METRICS_MS = 1200;

const { values } = parseArgs({
  options: {
    node: { type: "string", default: "../target/release/sutantra-node" },
    cycles: { type: "string", default: "100" },
    codec: { type: "string", default: "VP8" },
    viewer: { type: "string", default: "chromium" },
  },
});
const cycles = Number(values.cycles);
/** Small, because two cores compose every pixel of every page besides encoding and decoding. */
const LOOK = { width: 480, height: 400, dark: false, phone: true };
const STREAM = "gated";

/** @typedef {import("./lib/scenario.mjs").Page} Page */

/** @type {(() => void | Promise<void>)[]} */
const endings = [];

await run(async (start) => {
  const node = await RelayNode.start(values.node, (home) => ["--decisions", `unix:${join(home, "gates")}`]);
  endings.push(() => node.end());
  const source = await DecisionSource.connect(join(node.home, "gates"));
  const publisherSide = await Impairment.start(node.base);
  const viewerSide = await Impairment.start(node.base);
  endings.push(() => source.close(), () => publisherSide.close(), () => viewerSide.close());

  const publisher = await (await start("chromium")).open();
  await publisher.emulate(LOOK);
  await publish(publisher, {
    base: publisherSide.base,
    stream: STREAM,
    pattern: "clock",
    codec: values.codec.toUpperCase(),
    size: "640x360",
    bitrate: 1_000_000,
  });
  const viewer = await (await start(values.viewer)).open();
  await viewer.emulate(LOOK);
  await viewer.goto(`${viewerSide.base}/watch/${STREAM}`);
  const subscriber = await until("the relay to announce the viewer", async () => source.find(STREAM));
  must(viewerSide.down.rtp === 0, `${viewerSide.down.rtp} packets came before any gate was opened`);
  source.decide(subscriber, true);
  await until("the first frame", async () => ((await stats(viewer))?.framesDecoded ?? 0) > 0).catch(async (error) =>
    must(false, `${error.message}; the page says: ${await said(viewer)}`),
  );
  await pause(2000);

  const first = await stats(viewer);
  let [received, passed, publishedClosed, nackWorst] = [0, 0, 0, 0];
  const closeMs = [];
  const frameMs = [];
  let before = first;
  for (let cycle = 0; cycle < cycles; cycle += 1) {
    source.decide(subscriber, false);
    closeMs.push(await obeyed(viewer, viewerSide, publisherSide));

    const [passedBefore, publishedBefore, closed] = [viewerSide.down.rtp, publisherSide.up.rtp, await stats(viewer)];
    await pause(CLOSED_MS);
    const sends = async () => publisherSide.up.rtp - publishedBefore >= PUBLISHED_PACKETS_MIN;
    await until("the publisher to send while the gate is closed", sends, { everyMs: 5 });
    const still = await stats(viewer);
    must(still, "the viewer lost its session");
    received += packets(still) - packets(closed);
    passed += viewerSide.down.rtp - passedBefore;
    publishedClosed += publisherSide.up.rtp - publishedBefore;

    const at = await nextFrame(viewer);
    const openedAt = Date.now();
    source.decide(subscriber, true);
    const shownAt = await at();
    must(shownAt !== null, `no frame within ${FRAME_MS_MAX / 1000} s of opening number ${cycle + 1}; the page says: ${await said(viewer)}; its numbers: ${JSON.stringify(await stats(viewer))}`);
    frameMs.push(shownAt - openedAt);
    await pause(OPEN_MS);
    const after = await stats(viewer);
    must(after && after.framesDecoded > before.framesDecoded, `no frame was decoded after opening number ${cycle + 1}`);
    nackWorst = Math.max(nackWorst, (after.nack ?? 0) - (before.nack ?? 0));
    before = after;
  }

  await pause(METRICS_MS);
  const last = await stats(viewer);
  const metric = await node.metrics();
  const relayed = (/** @type {string} */ name) => metric(`sutantra_sfu_${name}_total`);
  const result = {
    scenario: "gate",
    codec: last.codec,
    viewer: values.viewer,
    cycles,
    closed: { packetsReceived: received, datagramsPassed: passed, packetsPublished: publishedClosed },
    lastPacketAfterCloseMs: spread(closeMs),
    firstFrameMs: spread(frameMs),
    nack: last.nack - first.nack,
    nackWorst,
    lost: last.lost - first.lost,
    audioLost: last.audioLost - first.audioLost,
    pli: last.pli - first.pli,
    rtx: last.rtx - first.rtx,
    framesDecoded: last.framesDecoded - first.framesDecoded,
    framesDropped: last.framesDropped - first.framesDropped,
    freezes: last.freezes - first.freezes,
    freezeSeconds: last.freezeSeconds - first.freezeSeconds,
    sessions: await viewer.evaluate("window.sutantra.sessions"),
    relay: {
      gateCommands: relayed("gate_commands"),
      gateCommandsStale: relayed("gate_commands_stale"),
      forwarded: relayed("rtp_forwarded_packets"),
      nackReceived: relayed("nack_received_packets"),
      nackSent: relayed("nack_sent_packets"),
      rtxSent: relayed("rtx_sent_packets"),
      retransmitMisses: relayed("retransmit_misses"),
      keyframeRequestsSent: relayed("keyframe_requests_sent"),
      keyframeRequestsReceived: relayed("keyframe_requests_received"),
    },
  };
  try {
    judge(result);
  } catch (error) {
    console.log(JSON.stringify(result));
    throw error;
  }
  return result;
});

for (const end of endings.reverse()) await end();

/** Video and audio. @param {any} record */
function packets(record) {
  return record.packets + record.audioPackets;
}

/**
 * Waits until a close has arrived everywhere: nothing passes and the viewer has counted everything.
 * @param {Page} viewer @param {Impairment} viewerSide @param {Impairment} publisherSide
 * @returns {Promise<number>} milliseconds from now to the last packet
 */
async function obeyed(viewer, viewerSide, publisherSide) {
  const askedAt = performance.now();
  let [lastAt, passed, published] = [askedAt, viewerSide.down.rtp, publisherSide.up.rtp];
  const nothingPasses = async () => {
    if (viewerSide.down.rtp !== passed) {
      [lastAt, passed, published] = [performance.now(), viewerSide.down.rtp, publisherSide.up.rtp];
    }
    return performance.now() - lastAt >= STILL_MS && publisherSide.up.rtp - published >= PUBLISHED_PACKETS_MIN;
  };
  await until("the relay to close the gate", nothingPasses, { everyMs: 2 });
  let counted = -1;
  const allCounted = async () => {
    const [was, now] = [counted, packets(await stats(viewer))];
    counted = now;
    return was === now;
  };
  await until("the viewer to count its last packet", allCounted, { everyMs: STILL_MS });
  return lastAt - askedAt;
}

/**
 * Looks out for the next frame that is shown, from now on.
 * @param {Page} viewer
 * @returns {Promise<() => Promise<number | null>>} when it was shown, by `Date.now()`; null: never
 */
async function nextFrame(viewer) {
  await viewer.evaluate(`(() => {
    const video = document.getElementById('video');
    window.shown = new Promise((resolve) => {
      video.requestVideoFrameCallback(() => resolve(Date.now()));
      setTimeout(() => resolve(null), ${FRAME_MS_MAX});
    });
    return true;
  })()`);
  return () => viewer.evaluate("window.shown");
}

/** @param {number[]} samples milliseconds */
function spread(samples) {
  const sorted = samples.map(Math.round).sort((a, b) => a - b);
  /** @param {number} part */
  const at = (part) => sorted[Math.min(Math.floor(sorted.length * part), sorted.length - 1)];
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}

/** @param {any} result */
function judge({ closed, nack, lost, sessions }) {
  const handful = cycles / 10 + 5;
  must(closed.packetsReceived === 0, `the viewer received ${closed.packetsReceived} packets through a closed gate`);
  must(closed.datagramsPassed === 0, `${closed.datagramsPassed} packets passed a closed gate`);
  must(nack <= handful, `the viewer asked ${nack} times for packets, in ${cycles} cycles`);
  must(lost <= handful, `the viewer counts ${lost} lost packets, in ${cycles} cycles`);
  must(sessions === 1, `the viewer needed ${sessions} sessions`);
}
