// Publishes a test pattern through the Publish page, as a person would.

import { must, said, until } from "./scenario.mjs";

/**
 * @typedef {object} Publication
 * @property {string} base
 * @property {string} stream
 * @property {"noise" | "clock"} pattern
 * @property {string} codec `VP8`, `VP9`, `AV1` or `H264`
 * @property {string} size for example `640x360`
 * @property {number} bitrate at most, bits per second
 */

/** Resolves when the page is live. @param {import("./scenario.mjs").Page} page @param {Publication} what */
export async function publish(page, { base, stream, pattern, codec, size, bitrate }) {
  await page.goto(`${base}/publish?stream=${stream}`);
  const has = await page.evaluate(`[...document.getElementById('codec').options].some(({ value }) => value === '${codec}')`);
  must(has, `this browser cannot send ${codec}`);
  await page.evaluate(`(() => {
    const set = (id, value, type) => {
      const field = document.getElementById(id);
      field.value = value;
      field.dispatchEvent(new Event(type, { bubbles: true }));
    };
    set('pattern', '${pattern}', 'input');
    set('codec', '${codec}', 'change');
    set('size', '${size}', 'change');
    set('bitrate', '${bitrate / 1000}', 'input');
    document.getElementById('source-pattern').click();
  })()`);
  await until("the test pattern", () => page.evaluate("!document.getElementById('start').disabled"));
  await page.evaluate("document.getElementById('start').click()");
  await until("the publisher to be live", () => page.evaluate("window.sutantra.state === 'live'")).catch(async (error) =>
    must(false, `${error.message}; the page says: ${await said(page)}`),
  );
}
