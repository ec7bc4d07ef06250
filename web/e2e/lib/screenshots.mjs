// The pages in the four looks that a stranger may see first.

import { pause, until } from "./scenario.mjs";

/** @typedef {import("./browsers.mjs").Look} Look */

const LOOKS = [390, 1440].flatMap((width) =>
  [false, true].map((dark) => ({ width, height: width === 390 ? 844 : 900, dark, phone: width === 390 })),
);

/**
 * @param {import("./browsers.mjs").Browser} browser
 * @param {string} base
 * @param {string} stream one that is live
 * @param {(name: string) => string} pathFor
 * @returns {Promise<string[]>}
 */
export async function takeScreenshots(browser, base, stream, pathFor) {
  /** @type {{ name: string, path: string, ready: string, then?: string }[]} */
  const views = [
    { name: "home", path: "/", ready: "document.querySelector('.thumb img:not([hidden])') || document.querySelector('#empty:not([hidden])')" },
    { name: "watch", path: `/watch/${stream}`, ready: "sutantra.state === 'playing'", then: "document.getElementById('unmute').click()" },
    { name: "watch-stats", path: `/watch/${stream}`, ready: "sutantra.state === 'playing'", then: "document.getElementById('show-stats').click()" },
    { name: "watch-waiting", path: "/watch/nobody-here", ready: "sutantra.state === 'waiting'" },
    { name: "rooms", path: "/rooms", ready: "!document.getElementById('enter').disabled" },
    { name: "rooms-inside", path: "/rooms#room=a-screenshot", ready: "!document.getElementById('enter').disabled", then: "(() => { document.getElementById('name').value = 'Ada'; document.getElementById('enter').click(); })()" },
    { name: "publish", path: "/publish", ready: "document.readyState === 'complete'" },
    { name: "publish-camera", path: "/publish", ready: "document.readyState === 'complete'", then: "document.getElementById('source-camera').click()" },
    {
      name: "publish-live",
      path: "/publish?stream=a-screenshot",
      ready: "document.readyState === 'complete'",
      then: "(async () => { document.getElementById('source-pattern').click(); for (;;) { const b = document.getElementById('start'); if (!b.disabled) return b.click(); await new Promise((r) => setTimeout(r, 50)); } })()",
    },
  ];
  const files = [];
  for (const look of LOOKS) {
    for (const { name, path, ready, then } of views) {
      const page = await browser.open();
      await page.emulate(look);
      await page.goto(base + path);
      // A picture of a page that is not ready is still worth a look.
      await until(ready, () => page.evaluate(`!!(${ready})`), { timeoutMs: 8000 }).catch(() => {});
      if (then) await page.evaluate(then);
      await pause(then ? 3500 : 700);
      const file = pathFor(`${name}-${look.width}-${look.dark ? "dark" : "light"}.png`);
      await page.screenshot(file);
      files.push(file);
      await page.close();
    }
  }
  return files;
}
