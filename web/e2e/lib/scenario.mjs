// What every scenario does: wait for a condition, keep the browsers, say one line, end.

import { startBrowser } from "./browsers.mjs";

/** @typedef {import("./browsers.mjs").Browser} Browser */
/** @typedef {import("./browsers.mjs").Page} Page */

/** A failure in one sentence. */
export class ScenarioError extends Error {}

/** @param {unknown} condition @param {string} sentence @returns {asserts condition} */
export function must(condition, sentence) {
  if (!condition) throw new ScenarioError(sentence);
}

/** @param {number} ms */
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Asks until the answer is truthy.
 * @template T
 * @param {string} what for the sentence of the failure: "waited 10 s for …"
 * @param {() => Promise<T>} ask
 * @param {{ timeoutMs?: number, everyMs?: number }} [pace]
 * @returns {Promise<NonNullable<T>>}
 */
export async function until(what, ask, { timeoutMs = 20_000, everyMs = 50 } = {}) {
  const end = performance.now() + timeoutMs;
  let last;
  for (;;) {
    last = await ask();
    if (last) return last;
    if (performance.now() > end) throw new ScenarioError(`waited ${timeoutMs / 1000} s for ${what}`);
    await pause(everyMs);
  }
}

/** The page's own record of its session. @param {Page} page @returns {Promise<any>} */
export const stats = (page) => page.evaluate("window.sutantra?.stats() ?? null");

/** What the page tells its user. @param {Page} page @returns {Promise<string>} */
export const said = (page) =>
  page.evaluate("[document.getElementById('state')?.textContent, document.getElementById('advice')?.textContent, document.getElementById('trouble')?.textContent].filter(Boolean).join(' ')");

/**
 * Runs a scenario, prints its result as one JSON line, sets the exit code, ends every browser.
 * @param {(start: (name: string) => Promise<Browser>) => Promise<Record<string, unknown>>} scenario
 */
export async function run(scenario) {
  /** @type {Map<string, Browser>} */
  const browsers = new Map();
  const start = async (/** @type {string} */ name) => {
    const browser = browsers.get(name) ?? (await startBrowser(name));
    browsers.set(name, browser);
    return browser;
  };
  try {
    console.log(JSON.stringify(await scenario(start)));
  } catch (error) {
    process.exitCode = 1;
    console.error(error instanceof ScenarioError ? `failed: ${error.message}` : error);
    for (const { name, complaints } of browsers.values()) {
      for (const complaint of complaints.slice(0, 10)) console.error(`${name}: ${complaint}`);
    }
  } finally {
    await Promise.all([...browsers.values()].map((browser) => browser.close().catch(() => {})));
  }
}
