// Chromium and Firefox behind the few verbs that the scenarios need.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

import { BidiConnection } from "./bidi.mjs";

const START_TIMEOUT_MS = 60_000;

/**
 * @typedef {object} Page
 * @property {(url: string) => Promise<void>} goto resolves when the page has loaded
 * @property {(expression: string) => Promise<any>} evaluate a JavaScript expression, awaited; its value must be JSON
 * @property {(path: string) => Promise<void>} screenshot PNG
 * @property {(look: Look) => Promise<void>} emulate
 * @property {() => Promise<void>} close
 */

/** @typedef {{ width: number, height: number, dark: boolean, phone: boolean }} Look */

/**
 * @typedef {object} Browser
 * @property {string} name
 * @property {string} version
 * @property {() => Promise<Page>} open a new page
 * @property {string[]} complaints what pages wrote to the console as errors, and uncaught exceptions
 * @property {() => Promise<void>} close
 */

/** @param {string} name @returns {Promise<Browser>} */
export function startBrowser(name) {
  switch (name) {
    case "chromium":
      return startChromium();
    case "firefox":
      return startFirefox();
    default:
      throw new Error(`no browser ${name}: chromium or firefox`);
  }
}

/** @returns {Promise<Browser>} */
async function startChromium() {
  const browser = await chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
      "--autoplay-policy=no-user-gesture-required",
    ],
  });
  /** @type {string[]} */
  const complaints = [];
  return {
    name: "chromium",
    version: browser.version(),
    complaints,
    async open() {
      const context = await browser.newContext();
      const page = await context.newPage();
      page.on("pageerror", (error) => complaints.push(String(error)));
      page.on("console", (line) => line.type() === "error" && complaints.push(`${line.text()} (${line.location().url})`));
      return {
        goto: async (url) => void (await page.goto(url)),
        evaluate: (expression) => page.evaluate(expression),
        screenshot: async (path) => void (await page.screenshot({ path })),
        async emulate({ width, height, dark }) {
          await page.setViewportSize({ width, height });
          await page.emulateMedia({ colorScheme: dark ? "dark" : "light" });
        },
        close: () => context.close(),
      };
    },
    close: () => browser.close(),
  };
}

/** @returns {Promise<Browser>} */
async function startFirefox() {
  const profile = await mkdtemp(join(tmpdir(), "sutantra-firefox-"));
  /** @type {Record<string, boolean | number | string>} */
  const preferences = {
    "app.normandy.enabled": false,
    "app.update.enabled": false,
    "browser.aboutwelcome.enabled": false,
    "browser.shell.checkDefaultBrowser": false,
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.startup.page": 0,
    "browser.safebrowsing.downloads.enabled": false,
    "datareporting.policy.dataSubmissionEnabled": false,
    "dom.disable_beforeunload": true,
    "extensions.update.enabled": false,
    "media.autoplay.default": 0,
    "media.gmp-manager.updateEnabled": false,
    "media.navigator.permission.disabled": true,
    "media.navigator.streams.fake": true,
    // Both ends are on one machine: its own addresses have to do.
    "media.peerconnection.ice.loopback": true,
    "media.peerconnection.ice.obfuscate_host_addresses": false,
    "network.captive-portal-service.enabled": false,
    "network.connectivity-service.enabled": false,
    "toolkit.telemetry.enabled": false,
  };
  const lines = Object.entries(preferences).map(([key, value]) => `user_pref("${key}", ${JSON.stringify(value)});`);
  await writeFile(join(profile, "user.js"), lines.join("\n"));
  const port = await freePort();
  const child = spawn(
    process.env["FIREFOX"] ?? "firefox-esr",
    ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", String(port), "about:blank"],
    { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, MOZ_CRASHREPORTER_DISABLE: "1" } },
  );
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const close = async () => {
    child.kill("SIGTERM");
    const killer = setTimeout(() => child.kill("SIGKILL"), 5000);
    await exited;
    clearTimeout(killer);
    await rm(profile, { recursive: true, force: true, maxRetries: 3 });
  };
  try {
    const url = await announcedAddress(child);
    const bidi = await BidiConnection.connect(`${url}/session`);
    const { capabilities } = await bidi.send("session.new", { capabilities: {} });
    /** @type {string[]} */
    const complaints = [];
    bidi.onEvent = (method, { level, text }) => {
      if (method === "log.entryAdded" && level === "error") complaints.push(String(text));
    };
    await bidi.send("session.subscribe", { events: ["log.entryAdded"] });
    return {
      name: "firefox",
      version: capabilities.browserVersion,
      complaints,
      open: () => openFirefoxPage(bidi),
      async close() {
        bidi.socket.terminate();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** @param {BidiConnection} bidi @returns {Promise<Page>} */
async function openFirefoxPage(bidi) {
  const { context } = await bidi.send("browsingContext.create", { type: "tab" });
  return {
    goto: async (url) => void (await bidi.send("browsingContext.navigate", { context, url, wait: "complete" })),
    async evaluate(expression) {
      const answer = await bidi.send("script.evaluate", {
        // The value travels as JSON, so that both browsers hand back the same.
        expression: `(async () => JSON.stringify((await (${expression})) ?? null))()`,
        target: { context },
        awaitPromise: true,
        userActivation: true,
      });
      if (answer.type === "exception") throw new Error(answer.exceptionDetails.text);
      return JSON.parse(answer.result.value);
    },
    async screenshot(path) {
      const { data } = await bidi.send("browsingContext.captureScreenshot", { context });
      await writeFile(path, Buffer.from(data, "base64"));
    },
    async emulate({ width, height }) {
      await bidi.send("browsingContext.setViewport", { context, viewport: { width, height } });
    },
    close: async () => void (await bidi.send("browsingContext.close", { context })),
  };
}

/**
 * Firefox says on its error stream where it listens.
 * @param {import("node:child_process").ChildProcess} child
 * @returns {Promise<string>}
 */
function announcedAddress(child) {
  return new Promise((resolve, reject) => {
    let said = "";
    const timer = setTimeout(() => reject(new Error(`Firefox did not start: ${said.slice(-500)}`)), START_TIMEOUT_MS);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`Firefox ended with ${code}: ${said.slice(-500)}`)));
    child.stderr?.on("data", (bytes) => {
      said += bytes;
      const address = /WebDriver BiDi listening on (ws:\/\/\S+)/.exec(said)?.[1];
      if (!address) return;
      clearTimeout(timer);
      resolve(address);
    });
  });
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}
