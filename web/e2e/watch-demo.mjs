// R48
// A newcomer: opens Home, clicks the demo stream, agrees to its price, sees moving pictures.
//
//   node e2e/watch-demo.mjs --base http://127.0.0.1:8080 [--stream demo] [--frames 120]
//        [--browser chromium|firefox] [--screenshots DIR]

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { SILENCE_MS } from "../pages/lib/viewer.js";
import { must, pause, run, said, stats, until } from "./lib/scenario.mjs";
import { takeScreenshots } from "./lib/screenshots.mjs";

const { values } = parseArgs({
  options: {
    base: { type: "string", default: "http://127.0.0.1:8080" },
    stream: { type: "string", default: "demo" },
    frames: { type: "string", default: "120" },
    browser: { type: "string", default: "chromium" },
    screenshots: { type: "string" },
  },
});

await run(async (start) => {
  const browser = await start(values.browser);
  const page = await browser.open();
  await page.emulate({ width: 1440, height: 900, dark: false, phone: false });
  const openedAt = performance.now();
  await page.goto(values.base);
  const card = `document.querySelector('[data-stream="${values.stream}"]')`;
  await until(`the card of ${values.stream} on Home`, () => page.evaluate(`${card} !== null`));
  const homeMs = performance.now() - openedAt;

  const clickedAt = performance.now();
  await page.evaluate(`${card}.click()`);
  // The document changes under the question: no answer yet is an answer.
  const frames = async () => (await stats(page).catch(() => null))?.framesDecoded ?? 0;
  const priced = (await (await fetch(`${values.base}/api/streams/${values.stream}`)).json()).policy === "paid";
  let agreedAt = clickedAt;
  if (priced) {
    const asks = "(() => { const button = document.getElementById('pay-now'); return button && !button.hidden && /watch/i.test(button.textContent); })()";
    await until("the page to name the price", () => page.evaluate(asks).catch(() => false), { timeoutMs: 30_000 }).catch(async (error) => must(false, `${error.message}; the page says: ${await said(page)}`));
    agreedAt = performance.now();
    await page.evaluate("document.getElementById('pay-now').click()");
  }
  await until("the first decoded frame", async () => (await frames()) > 0, { everyMs: 10 }).catch(async (error) => {
    must(false, `${error.message}; the page says: ${await said(page)}`);
  });
  const firstFrameMs = performance.now() - agreedAt;
  await until(`${values.frames} decoded frames`, async () => (await frames()) >= Number(values.frames));
  const last = await stats(page);
  const moves = await page.evaluate("(async () => { const v = document.querySelector('video'); const t = v.currentTime; await new Promise((r) => setTimeout(r, 500)); return v.currentTime > t && v.videoWidth > 0; })()");
  must(moves, "frames are decoded, but the video element does not play");
  // Longer than the page takes to call a stream silent.
  await pause(SILENCE_MS + 1000);
  must(await page.evaluate("document.getElementById('veil').hidden"), `the picture is covered: ${await said(page)}`);

  /** @type {string[]} */
  let screenshots = [];
  const folder = values.screenshots;
  if (folder) {
    await mkdir(folder, { recursive: true });
    screenshots = await takeScreenshots(await start("chromium"), values.base, values.stream, (name) => join(folder, name));
  }
  // A browser writes each refused request to its console; the 402 is how a price is asked for.
  const complaints = browser.complaints.filter((complaint) => !(priced && /402/.test(complaint) && complaint.includes("/whep/")));
  must(complaints.length === 0, `the pages complain: ${complaints[0]}`);
  const paid = priced ? await page.evaluate("window.sutantra.wallet.paid()") : "0";
  must(!priced || BigInt(paid) > 0n, "the stream has a price, and nothing was paid");
  return {
    scenario: "watch-demo",
    browser: browser.name,
    version: browser.version,
    homeMs: Math.round(homeMs),
    askedMs: Math.round(agreedAt - clickedAt),
    paid,
    firstFrameMs: Math.round(firstFrameMs),
    framesDecoded: last.framesDecoded,
    freezes: last.freezes,
    lost: last.lost,
    codec: last.codec,
    audioCodec: last.audioCodec,
    size: `${last.width}x${last.height}`,
    srtpCipher: last.srtpCipher,
    tlsVersion: last.tlsVersion,
    dtlsVersion: last.dtlsVersion,
    screenshots: screenshots.length,
  };
});
