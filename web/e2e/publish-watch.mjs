// R6, R7
// Chromium publishes noise through the Publish page, browsers watch it through the Watch page.
//
//   node e2e/publish-watch.mjs --base http://127.0.0.1:8080 [--codec VP8|VP9|AV1|H264] [--seconds 30]
//        [--bitrate 2500000] [--size 1280x720] [--viewers chromium,firefox] [--freezes-max 0]
//        [--stream NAME]
//
// What the relay owes is measured against what the publisher encoded in the same seconds, so that a
// slow encoder on a small machine is not taken for a relay that loses frames, nor its stutter for a
// relay that freezes.

import { parseArgs } from "node:util";

import { publish } from "./lib/publish.mjs";
import { must, pause, run, said, stats, until } from "./lib/scenario.mjs";

/** A publisher below this is no test of anything. */
const PUBLISHED_FPS_MIN = 8;
/** Part of the published frames that must be decoded. */
const DECODED_MIN = 0.8;
/** From the first frame to the measurement: the bandwidth estimate rises, jitter buffers settle. */
const SETTLE_MS = 4000;

const { values } = parseArgs({
  options: {
    base: { type: "string", default: "http://127.0.0.1:8080" },
    codec: { type: "string", default: "VP8" },
    seconds: { type: "string", default: "30" },
    bitrate: { type: "string", default: "2500000" },
    size: { type: "string", default: "1280x720" },
    viewers: { type: "string", default: "chromium,firefox" },
    stream: { type: "string" },
    "freezes-max": { type: "string", default: "0" },
  },
});
const seconds = Number(values.seconds);
const codec = values.codec.toUpperCase();
/** Small, because two cores compose every pixel of every page besides encoding and decoding. */
const LOOK = { width: 480, height: 400, dark: false, phone: true };
const stream = values.stream ?? `e2e-${codec.toLowerCase()}-${process.pid}`;

/** Notes in the publisher's page when its count of sent frames grew, to within the 50 ms for which Chromium keeps a report. */
const NOTE_SENT_FRAMES = `void (async () => {
  const sender = window.sutantra.pc.getSenders().find(({ track }) => track?.kind === 'video');
  window.sentAt = [];
  for (let last = -1; ; await new Promise((resolve) => setTimeout(resolve, 20))) {
    const report = [...(await sender.getStats()).values()].find(({ type }) => type === 'outbound-rtp');
    if (report.framesSent === last) continue;
    last = report.framesSent;
    window.sentAt.push(report.timestamp);
  }
})()`;

await run(async (start) => {
  const publisher = await (await start("chromium")).open();
  await publisher.emulate(LOOK);
  const { base, size } = values;
  await publish(publisher, { base, stream, pattern: "noise", codec, size, bitrate: Number(values.bitrate) });

  const viewers = [];
  for (const name of values.viewers.split(",").filter(Boolean)) {
    const browser = await start(name);
    const page = await browser.open();
    await page.emulate(LOOK);
    const openedAt = performance.now();
    await page.goto(`${values.base}/watch/${stream}`);
    await until(`the first frame in ${name}`, async () => ((await stats(page))?.framesDecoded ?? 0) > 0, { everyMs: 10 }).catch(
      async (error) => must(false, `${error.message}; the page says: ${await said(page)}`),
    );
    viewers.push({ browser, page, firstFrameMs: Math.round(performance.now() - openedAt) });
  }

  await pause(SETTLE_MS);
  const all = [publisher, ...viewers.map(({ page }) => page)];
  await publisher.evaluate(NOTE_SENT_FRAMES);
  const before = await Promise.all(all.map(stats));
  await pause(seconds * 1000);
  const after = await Promise.all(all.map(stats));

  const sentAt = /** @type {number[]} */ (await publisher.evaluate("window.sentAt"));
  const [sentBefore, sentAfter] = [before[0], after[0]];
  const published = sentAfter.framesEncoded - sentBefore.framesEncoded;
  const elapsed = (sentAfter.atMs - sentBefore.atMs) / 1000;
  must(
    published >= PUBLISHED_FPS_MIN * elapsed,
    `the publisher encoded only ${published} frames in ${elapsed.toFixed(1)} s`,
  );
  const results = viewers.map(({ browser, firstFrameMs }, index) => {
    const [from, to] = [before[index + 1], after[index + 1]];
    must(to, `${browser.name} lost its session`);
    /** @param {string} key */
    const during = (key) => (to[key] === null || from[key] === null ? null : to[key] - from[key]);
    const span = (to.atMs - from.atMs) / 1000;
    return {
      browser: browser.name,
      version: browser.version,
      firstFrameMs,
      framesDecoded: during("framesDecoded"),
      framesDropped: during("framesDropped"),
      freezes: during("freezes"),
      lost: during("lost"),
      nack: during("nack"),
      pli: during("pli"),
      rtx: during("rtx"),
      audioPackets: during("audioPackets"),
      audioLost: during("audioLost"),
      bitrate: Math.round((8 * (during("bytes") ?? 0)) / span),
      jitterBufferMs: Math.round((1000 * (during("jitterBufferDelay") ?? 0)) / Math.max(during("jitterBufferEmitted") ?? 0, 1)),
      size: `${to.width}x${to.height}`,
      codec: to.codec,
      audioCodec: to.audioCodec,
      srtpCipher: to.srtpCipher,
      dtlsCipher: to.dtlsCipher,
      tlsVersion: to.tlsVersion,
      dtlsVersion: to.dtlsVersion,
    };
  });
  const result = {
    scenario: "publish-watch",
    codec,
    seconds: Number(elapsed.toFixed(1)),
    published: {
      frames: published,
      fps: Number((published / elapsed).toFixed(1)),
      bitrate: Math.round((8 * (sentAfter.bytes - sentBefore.bytes)) / elapsed),
      size: `${sentAfter.width}x${sentAfter.height}`,
      limitedBy: sentAfter.limitedBy,
      stutters: stutters(sentAt, (1000 * elapsed) / published),
      srtpCipher: sentAfter.srtpCipher,
      dtlsVersion: sentAfter.dtlsVersion,
      rtx: sentAfter.rtx - sentBefore.rtx,
      nack: sentAfter.nack - sentBefore.nack,
      pli: sentAfter.pli - sentBefore.pli,
    },
    viewers: results,
  };
  try {
    for (const viewer of results) judge(viewer, published, result.published.stutters);
  } catch (error) {
    console.log(JSON.stringify(result));
    throw error;
  }
  return result;
});

/**
 * How often the publisher itself paused for what a viewer calls a freeze (W3C webrtc-stats,
 * `freezeCount`: longer than three frames, and than a frame and 150 ms).
 * @param {number[]} sentAt
 * @param {number} frameMs
 */
function stutters(sentAt, frameMs) {
  const freezeMs = Math.max(3 * frameMs, frameMs + 150);
  return sentAt.filter((at, index) => at - (sentAt[index - 1] ?? at) > freezeMs).length;
}

/** @param {any} viewer @param {number} published @param {number} stutters */
function judge(viewer, published, stutters) {
  const who = viewer.browser;
  must(viewer.framesDecoded >= DECODED_MIN * published, `${who} decoded ${viewer.framesDecoded} of ${published} frames`);
  must(
    (viewer.freezes ?? 0) <= Number(values["freezes-max"]) + stutters,
    `${who} froze ${viewer.freezes} times while the publisher stuttered ${stutters} times`,
  );
  must(viewer.codec?.toUpperCase() === codec, `${who} received ${viewer.codec} and not ${codec}`);
  must(viewer.audioCodec === "opus" && viewer.audioPackets > 0, `${who} received no Opus`);
  // A browser that does not say what it negotiated cannot be asked; Chromium does say.
  if (who !== "chromium" && viewer.srtpCipher === null) return;
  must(viewer.srtpCipher?.includes("GCM"), `${who} negotiated ${viewer.srtpCipher} and not GCM`);
  must(viewer.dtlsVersion === "1.2" || viewer.dtlsVersion === "1.3", `${who} speaks DTLS ${viewer.tlsVersion}`);
}
