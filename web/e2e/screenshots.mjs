// Every page as a phone and a laptop show it, light and dark:
//
//   node e2e/screenshots.mjs --base http://127.0.0.1:8080 --out DIR [--stream demo]

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { run } from "./lib/scenario.mjs";
import { takeScreenshots } from "./lib/screenshots.mjs";

const { values } = parseArgs({
  options: {
    base: { type: "string", default: "http://127.0.0.1:8080" },
    out: { type: "string", default: "test-results/screenshots" },
    stream: { type: "string", default: "demo" },
  },
});

await run(async (start) => {
  await mkdir(values.out, { recursive: true });
  const files = await takeScreenshots(await start("chromium"), values.base, values.stream, (name) => join(values.out, name));
  return { scenario: "screenshots", files };
});
