// Publish: a camera, a screen or a test pattern, seen first, then sent.

import { STREAM_NAME, adoptTokenFromAddress, keepToken, liveStream, tokenFor } from "./lib/api.js";
import { StreamMoney } from "./lib/publish-money.js";
import { copyFrom, element, make, say, showRelay } from "./lib/dom.js";
import { Backoff } from "./lib/backoff.js";
import { bitrate, clock, inventedName, milliseconds, size, whole } from "./lib/format.js";
import { RequestError } from "./lib/http.js";
import { openCamera, openPattern, openScreen, devices } from "./lib/source.js";
import { ratesBetween, readStats } from "./lib/stats.js";
import { WhipClient, videoCodecs } from "./lib/whip.js";

/** @typedef {import("./lib/source.js").Source} Source */
/** @typedef {Source["kind"]} SourceKind */

/**
 * `idle`, `starting`, `live`, `reconnecting`: live as far as the person is concerned.
 * @typedef {"idle" | "starting" | "live" | "reconnecting"} PublishState
 */

const STATS_MS = 1000;
/** A broken path that ICE does not mend within this time is given up. */
const DISCONNECTED_MS = 4000;
/** How long after the start a reduced picture is still on its way up. */
const SETTLE_MS = 10_000;
/** How many answers in a row without our stream mean that the relay has forgotten the session. */
const UNLISTED_TIMES_MAX = 2;

const form = element("settings", HTMLFormElement);
const name = element("name", HTMLInputElement);
const title = element("title", HTMLInputElement);
const preview = element("preview", HTMLVideoElement);
const start = element("start", HTMLButtonElement);
const slider = element("bitrate", HTMLInputElement);
const tokenField = element("token", HTMLInputElement);
const trouble = element("trouble", HTMLElement);
const KINDS = /** @type {const} */ (["camera", "screen", "pattern"]);

const money = new StreamMoney();

/** @type {Source | null} */
let source = null;
/** The name in the address: the person's, or the stream's id on the chain. */
let published = "";
/** @type {WhipClient | null} */
let client = null;
/** @type {PublishState} */
let state = "idle";
let sessions = 0;
/** The relay has listed the present session. */
let listed = false;
let unlistedTimes = 0;
let liveSince = 0;
let opening = 0;
/** @type {import("./lib/stats.js").FlatStats | null} */
let before = null;
const backoff = new Backoff();

const maxBitrate = () => Number(slider.value) * 1000;

/** @param {string | null} text */
function complain(text) {
  trouble.hidden = text === null;
  say(trouble, text ?? "");
}

/** @param {unknown} error */
function complainOf(error) {
  complain(error instanceof Error ? error.message : String(error));
}

// ---- The source and its preview

/** Shows one kind of source, and sends it at once when live. @param {SourceKind} kind */
async function choose(kind) {
  const turn = ++opening;
  complain(null);
  for (const each of KINDS) {
    element(`source-${each}`, HTMLButtonElement).setAttribute("aria-pressed", String(each === kind));
    element(`${each}-settings`, HTMLElement).hidden = each !== kind;
  }
  const [width = 1280, height = 720] = element("size", HTMLSelectElement).value.split("x").map(Number);
  // A camera is often exclusive, so the old one is let go first; a live stream keeps its picture.
  if (state === "idle") setSource(null);
  try {
    const opened = await open(kind, width, height);
    // The person has chosen something else meanwhile.
    if (turn !== opening) return opened.stop();
    setSource(opened);
    if (kind === "camera") await listDevices();
  } catch (error) {
    if (turn !== opening) return;
    complain(whyNoSource(kind, error));
  }
  showState();
}

/** @param {SourceKind} kind @param {number} width @param {number} height @returns {Promise<Source>} */
function open(kind, width, height) {
  switch (kind) {
    case "camera":
      return openCamera({
        camera: element("camera", HTMLSelectElement).value,
        microphone: element("microphone", HTMLSelectElement).value,
        width,
        height,
      });
    case "screen":
      return openScreen({ width, height });
    case "pattern":
      return openPattern({
        pattern: element("pattern", HTMLSelectElement).value === "noise" ? "noise" : "clock",
        tone: element("tone", HTMLInputElement).checked,
        width,
        height,
      });
  }
}

/** @param {Source | null} next */
function setSource(next) {
  const old = source;
  source = next;
  preview.srcObject = next?.stream ?? null;
  preview.classList.toggle("mirrored", next?.kind === "camera");
  element("stage-hint", HTMLElement).hidden = next !== null;
  if (next) {
    preview.play().catch(() => {});
    // The person ended the sharing in the browser's own bar, or pulled the camera's plug.
    next.video?.addEventListener("ended", () => {
      if (source === next) {
        setSource(null);
        complain(next.kind === "screen" ? "Screen sharing was ended. Choose what to show next." : "The camera went away. Plug it in and choose it again.");
        showState();
      }
    });
  }
  if (client) client.replaceTracks({ video: next?.video ?? null, audio: next?.audio ?? null }).catch(() => {});
  old?.stop();
}

/** @param {SourceKind} kind @param {unknown} error */
function whyNoSource(kind, error) {
  const what = kind === "screen" ? "screen" : "camera or microphone";
  switch (error instanceof DOMException ? error.name : "") {
    case "NotAllowedError":
      return kind === "screen"
        ? "No screen was chosen. Press Screen again to choose one."
        : "The browser may not use the camera. Allow it in the address bar's settings of this page, then press Camera again.";
    case "NotFoundError":
      return "No camera was found. Plug one in, or publish a screen or a test pattern.";
    case "NotReadableError":
      return "Another program uses the camera. Close it there, then press Camera again.";
    case "OverconstrainedError":
      return "This camera cannot do what was asked. Choose another one or another size.";
    default:
      return `The ${what} could not be opened: ${error instanceof Error ? error.message : error}`;
  }
}

async function listDevices() {
  const { cameras, microphones } = await devices();
  fill(element("camera", HTMLSelectElement), cameras, source?.video?.getSettings().deviceId);
  fill(
    element("microphone", HTMLSelectElement),
    [...microphones, { id: "none", label: "No microphone" }],
    source?.audio ? source.audio.getSettings().deviceId : "none",
  );
}

/**
 * @param {HTMLSelectElement} select
 * @param {{ id: string, label: string }[]} choices
 * @param {string | undefined} chosen
 */
function fill(select, choices, chosen) {
  select.replaceChildren(
    ...choices.map(({ id, label }) => {
      const option = /** @type {HTMLOptionElement} */ (make("option", "", label));
      option.value = id;
      return option;
    }),
  );
  if (chosen !== undefined) select.value = chosen;
}

// ---- The session

async function goLive() {
  if (!source) return;
  if (!money.onChain && (!name.reportValidity() || !STREAM_NAME.test(name.value))) return;
  remember();
  complain(null);
  state = "starting";
  showState();
  try {
    published = money.onChain ? await money.prepare(title.value) : name.value;
  } catch (error) {
    complain(error instanceof Error ? error.message : String(error));
    return stopPublishing();
  }
  if (!money.onChain) keepToken(published, "publish", tokenField.value.trim() || null);
  await connect();
}

async function connect() {
  const stream = published;
  try {
    const token = money.onChain ? await money.token() : await tokenFor(stream, "publish");
    const query = title.value.trim() ? `?title=${encodeURIComponent(title.value.trim())}` : "";
    const session = new WhipClient({ endpoint: `/whip/${encodeURIComponent(stream)}${query}`, token });
    client = session;
    sessions += 1;
    before = null;
    listed = false;
    unlistedTimes = 0;
    followConnection(session);
    await session.publish({
      video: source?.video ?? null,
      audio: source?.audio ?? null,
      codec: element("codec", HTMLSelectElement).value,
      maxBitrate: maxBitrate(),
    });
  } catch (error) {
    if (state === "idle") return;
    client?.close();
    client = null;
    await refused(error);
  }
}

/** @param {WhipClient} session */
function followConnection(session) {
  let patience = 0;
  session.on("state", (connection) => {
    if (client !== session) return;
    clearTimeout(patience);
    switch (connection) {
      case "connected":
        if (liveSince === 0) liveSince = Date.now();
        backoff.reset();
        state = "live";
        showState();
        showShare();
        break;
      case "disconnected":
        patience = setTimeout(() => void reconnect(session), DISCONNECTED_MS);
        break;
      case "failed":
      case "closed":
        void reconnect(session);
        break;
    }
  });
  session.on("closed", (reason) => {
    if (reason === "page" && client === session) stopPublishing();
  });
}

/** @param {WhipClient} broken @param {number | null} [retryAfterMs] */
async function reconnect(broken, retryAfterMs = null) {
  if (client !== broken && client !== null) return;
  if (state === "idle") return;
  client = null;
  broken.close();
  await comeBack(retryAfterMs);
}

/** @param {number | null} retryAfterMs */
async function comeBack(retryAfterMs) {
  state = "reconnecting";
  showState();
  await new Promise((resolve) => setTimeout(resolve, backoff.next(retryAfterMs)));
  if (state === "reconnecting" && client === null) await connect();
}

/** @param {unknown} error */
async function refused(error) {
  const refusal = error instanceof RequestError ? error.refusal : "refused";
  const detail = error instanceof Error ? error.message : String(error);
  switch (refusal) {
    case "network":
    case "busy":
      // Someone who has never been live wants to hear why; someone who is live wants to be back.
      if (liveSince > 0) return comeBack(error instanceof RequestError ? error.retryAfterMs : null);
      complain(`${detail} Press Start to try again.`);
      break;
    case "token":
      if (money.onChain) {
        complain(`The relay does not let this account publish the stream: ${detail}`);
        break;
      }
      element("token-settings", HTMLElement).hidden = false;
      complain(tokenField.value ? `The relay does not accept this token: ${detail}` : "This relay admits publishers by token. Paste yours under Token, then press Start.");
      tokenField.focus();
      break;
    case "conflict":
      // Our own session before a break may still hold the name for a few seconds.
      if (liveSince > 0) return comeBack(1000);
      complain(money.onChain ? "This stream is live already, in another tab or on another machine. Stop it there first." : `The name “${name.value}” is taken by a stream that is live. Choose another one.`);
      name.focus();
      break;
    case "payment":
    case "not-live":
    case "refused":
      complain(`The relay refused the stream: ${detail}`);
      break;
  }
  stopPublishing();
}

function stopPublishing() {
  state = "idle";
  liveSince = 0;
  before = null;
  const session = client;
  client = null;
  session?.close();
  element("share", HTMLElement).hidden = true;
  for (const each of ["bitrate", "fps", "size", "codec", "rtt", "viewers"]) stat(each, "–");
  showState();
}

// ---- What the page shows

/** @param {string} which @param {string} text */
const stat = (which, text) => say(element(`stat-${which}`, HTMLElement), text);

function showState() {
  const live = state !== "idle";
  start.disabled = !live && source === null;
  say(start, live ? "Stop" : "Start publishing");
  start.classList.toggle("stop", live);
  start.classList.toggle("primary", !live);
  const words = {
    idle: source ? "Ready. Only you see this." : "Not publishing.",
    starting: "Connecting to the relay…",
    live: source ? "You are live." : "You are live, without a picture.",
    reconnecting: "The connection broke. Trying again by itself…",
  };
  say(element("state", HTMLElement), words[state]);
  element("on-air", HTMLElement).hidden = state !== "live";
  money.lock(live);
  for (const id of ["name", "title", "codec", "size", "token"]) {
    /** @type {HTMLInputElement | HTMLSelectElement} */ (form.elements.namedItem(id)).disabled = live;
  }
  element("pattern", HTMLSelectElement).disabled = live;
  element("tone", HTMLInputElement).disabled = live;
}

function showShare() {
  const link = `${location.origin}/watch/${encodeURIComponent(published)}`;
  element("share-link", HTMLInputElement).value = link;
  element("share-open", HTMLAnchorElement).href = link;
  say(element("share-label", HTMLElement), money.shareWords);
  element("share", HTMLElement).hidden = false;
}

async function showStats() {
  const session = client;
  if (!session || state !== "live") return;
  const stats = await readStats(session.pc);
  const rates = ratesBetween(before, stats);
  before = stats;
  say(element("on-air-time", HTMLElement), clock((Date.now() - liveSince) / 1000));
  if (rates) {
    stat("bitrate", bitrate(rates.bitrate));
    stat("fps", `${whole(rates.fps)} fps`);
  }
  stat("size", size(stats.width, stats.height));
  stat("codec", stats.codec ?? "–");
  stat("rtt", milliseconds(stats.rttMs, 1));
  // The estimate of the bandwidth starts low and takes some seconds to rise: that is no news.
  const settled = Date.now() - liveSince > SETTLE_MS;
  const narrow = !settled ? null : stats.limitedBy === "bandwidth" ? "the network is narrow" : stats.limitedBy === "cpu" ? "this machine is busy" : null;
  say(element("state", HTMLElement), narrow ? `You are live. The picture is reduced: ${narrow}.` : "You are live.");
  const relayed = await liveStream(published).catch(() => undefined);
  if (client !== session) return;
  if (relayed?.publisherPresent) {
    listed = true;
    unlistedTimes = 0;
    stat("viewers", whole(relayed.viewers));
  } else if (relayed !== undefined && listed && ++unlistedTimes >= UNLISTED_TIMES_MAX) {
    // The relay answers and does not know us: it was started anew. ICE would need long to notice.
    await reconnect(session);
  }
}

function showBitrate() {
  say(element("bitrate-value", HTMLOutputElement), bitrate(maxBitrate()));
  client?.setMaxBitrate(maxBitrate()).catch(() => {});
}

// ---- What the page remembers

function remember() {
  localStorage.setItem("publish", JSON.stringify({ name: name.value, title: title.value, kbps: slider.value }));
}

function recall() {
  const asked = new URLSearchParams(location.search).get("stream");
  /** @type {{ name?: string, title?: string, kbps?: string }} */
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem("publish") ?? "{}");
  } catch {
    // Somebody else's words under our key: begin anew.
  }
  name.value = asked ?? kept.name ?? inventedName();
  title.value = kept.title ?? "";
  if (kept.kbps) slider.value = kept.kbps;
  showBitrate();
}

function explainInsecureContext() {
  if (isSecureContext) return;
  element("insecure", HTMLElement).hidden = false;
  const here = new URL(location.href);
  here.hostname = "127.0.0.1";
  element("insecure-local", HTMLAnchorElement).href = here.href;
  element("source-camera", HTMLButtonElement).disabled = true;
  element("source-screen", HTMLButtonElement).disabled = true;
}

for (const kind of KINDS) element(`source-${kind}`, HTMLButtonElement).addEventListener("click", () => void choose(kind));
element("screen-again", HTMLButtonElement).addEventListener("click", () => void choose("screen"));
for (const id of ["camera", "microphone"]) {
  element(id, HTMLSelectElement).addEventListener("change", () => void choose("camera"));
}
for (const id of ["pattern", "tone"]) {
  element(id, HTMLElement).addEventListener("change", () => void choose("pattern"));
}
element("size", HTMLSelectElement).addEventListener("change", () => {
  if (source && source.kind !== "screen") void choose(source.kind);
});
slider.addEventListener("input", showBitrate);
start.addEventListener("click", () => (state === "idle" ? void goLive() : stopPublishing()));
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (state === "idle") void goLive();
});
element("share-copy", HTMLButtonElement).addEventListener("click", ({ currentTarget }) =>
  copyFrom(/** @type {HTMLButtonElement} */ (currentTarget), element("share-link", HTMLInputElement)),
);
addEventListener("beforeunload", (event) => {
  if (state === "live") event.preventDefault();
});
setInterval(() => void showStats(), STATS_MS);

for (const codec of videoCodecs()) {
  const option = /** @type {HTMLOptionElement} */ (make("option", "", codec === "H264" ? "H.264" : codec));
  option.value = codec;
  element("codec", HTMLSelectElement).append(option);
}
if (!navigator.mediaDevices?.getDisplayMedia) element("source-screen", HTMLButtonElement).disabled = true;

window.sutantra = {
  get published() {
    return published;
  },
  get pc() {
    return client?.pc ?? null;
  },
  get state() {
    return state;
  },
  get sessions() {
    return sessions;
  },
  stats: async () => (client ? readStats(client.pc) : null),
};

recall();
void money.begin().catch(complainOf);
adoptTokenFromAddress(name.value, "publish");
explainInsecureContext();
showState();
void showRelay(element("relay", HTMLElement));
