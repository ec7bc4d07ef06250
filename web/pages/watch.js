// Watch: one stream, what is the matter when it does not play, and its numbers.

import { adoptTokenFromAddress, keepToken, liveStream, status } from "./lib/api.js";
import { copyFrom, element, make, say, showRelay } from "./lib/dom.js";
import { bitrate, counted, milliseconds, percent, price, size, whole } from "./lib/format.js";
import { runPaidSum, showPayButton, showPayPanel } from "./lib/pay-panel.js";
import { gateWords, payView } from "./lib/pay-view.js";
import { hasFreshPoster, keepPoster } from "./lib/poster.js";
import { readStats } from "./lib/stats.js";
import { Viewer } from "./lib/viewer.js";
import { Watching } from "./lib/watching.js";

/** @typedef {import("./lib/viewer.js").ViewerState} ViewerState */

const DETAILS_MS = 3000;
/** The controls fade when nothing moved for this long. */
const IDLE_MS = 2500;
/** Seconds of bitrate in the little curve. */
const SPARK_SECONDS = 60;

const id = decodeURIComponent(location.pathname.replace(/^\/watch\/?/, "").replace(/\/$/, ""));
const player = element("player", HTMLElement);
const video = element("video", HTMLVideoElement);
const veil = element("veil", HTMLElement);
const unmute = element("unmute", HTMLButtonElement);
const mute = element("mute", HTMLButtonElement);
const overlay = element("overlay", HTMLElement);
const showStats = element("show-stats", HTMLButtonElement);

adoptTokenFromAddress(id, "subscribe");
const viewer = new Viewer(id);
const watching = new Watching(viewer);
let detailNow = "";
let idleTimer = 0;
let udpPort = 0;

/**
 * The words for a state: what is the matter, and what to do about it.
 * @param {ViewerState} state
 * @param {string} detail
 * @returns {{ what: string, advice: string, busy: boolean }}
 */
function wordsFor(state, detail) {
  switch (state) {
    case "connecting":
      return { what: "Connecting…", advice: "", busy: true };
    case "playing":
      return { what: "Playing", advice: "", busy: false };
    case "silent":
      if (watching.payer?.held) return { what: "You paused paying", advice: "Press Resume to go on.", busy: false };
      if (watching.facts.sight?.state === "over") return { what: "The relay ended the session", advice: upper(watching.facts.failed ?? ""), busy: false };
      if (watching.gate !== "open") return { ...gateWords(watching.gate), busy: false };
      return {
        what: "Paused by the relay",
        advice: "The stream is live, but nothing is sent to you: your access is closed, or the publisher pauses. The picture comes back by itself.",
        busy: true,
      };
    case "away":
      return {
        what: "The publisher is away",
        advice: "The connection of the publisher broke. If it comes back within some seconds, it goes on here.",
        busy: true,
      };
    case "waiting":
      return {
        what: "Waiting for the publisher",
        advice: `Nobody publishes “${id}” yet. It begins here by itself, within a second of the publisher.`,
        busy: true,
      };
    case "ended":
      return {
        what: "The stream has ended",
        advice: "If the publisher comes back, it goes on here by itself.",
        busy: false,
      };
    case "reconnecting":
      return {
        what: "Reconnecting…",
        advice: detail || "The connection to the relay broke. Trying again by itself.",
        busy: true,
      };
    case "payment":
      if (watching.restricted) return wordsOfMoney(detail);
      return { what: "Payment required", advice: detail, busy: false };
    case "token":
      if (watching.restricted) return watching.facts.allowed ? { what: "No access", advice: detail, busy: false } : wordsOfMoney(detail);
      return {
        what: "This stream needs a token",
        advice: `${detail} Paste one, or open the link that its publisher sent you.`.trim(),
        busy: false,
      };
    case "no-path":
      return {
        what: "No path for the picture",
        advice: `The relay answers, but no UDP gets through${udpPort ? ` to its port ${udpPort}` : ""}. A firewall or a VPN may be in the way; try another network. Trying again by itself.`,
        busy: true,
      };
    case "unreachable":
      return {
        what: "The relay does not answer",
        advice: `${detail} Trying again by itself.`.trim(),
        busy: true,
      };
    case "refused":
      return { what: "The relay refused", advice: detail, busy: false };
  }
}

/** A relay's reason as a sentence. @param {string} reason */
function upper(reason) {
  return reason && `${reason.charAt(0).toUpperCase()}${reason.slice(1)}${/[.!?]$/.test(reason) ? "" : "."}`;
}

/** @param {string} detail */
function wordsOfMoney(detail) {
  const { what, advice } = payView(watching.facts);
  return { what, advice: advice || detail, busy: watching.facts.busy !== null };
}

/** @param {ViewerState} state @param {string} [detail] */
function show(state, detail = "") {
  const { what, advice, busy } = wordsFor(state, detail);
  veil.hidden = state === "playing";
  player.dataset["state"] = state;
  say(element("state", HTMLElement), what);
  say(element("advice", HTMLElement), advice);
  element("spinner", HTMLElement).hidden = !busy;
  element("token-form", HTMLFormElement).hidden = state !== "token" || watching.restricted;
  const again = ["unreachable", "refused", "no-path", "reconnecting"].includes(state) || (state === "payment" && !watching.restricted);
  element("retry", HTMLButtonElement).hidden = !again;
  showPayButton(watching);
  const badge = element("badge", HTMLElement);
  badge.hidden = state !== "playing";
  badge.classList.add("live");
  say(badge, "Live");
  showSound();
}

function showSound() {
  const tracks = video.srcObject instanceof MediaStream ? video.srcObject.getAudioTracks() : [];
  unmute.hidden = !video.muted || viewer.state !== "playing" || tracks.length === 0 || unmute.dataset["used"] === "yes";
  mute.setAttribute("aria-pressed", String(video.muted));
  mute.setAttribute("aria-label", video.muted ? "Muted" : "Sound on");
}

/** @param {boolean} muted */
function setMuted(muted) {
  video.muted = muted;
  if (!muted) unmute.dataset["used"] = "yes";
  video.play().catch(() => {
    // The browser wants a click for sound: go on without.
    video.muted = true;
    video.play().catch(() => {});
  });
  showSound();
}

function toggleStats() {
  overlay.hidden = !overlay.hidden;
  showStats.setAttribute("aria-pressed", String(!overlay.hidden));
}

function toggleFull() {
  if (document.fullscreenElement) return void document.exitFullscreen();
  if (player.requestFullscreen) return void player.requestFullscreen().catch(() => {});
  // iPhones show only the video itself in full screen.
  /** @type {any} */ (video).webkitEnterFullscreen?.();
}

/** @type {number[]} */
const curve = [];

/** @param {number} bitsPerSecond */
function drawCurve(bitsPerSecond) {
  curve.push(bitsPerSecond);
  if (curve.length > SPARK_SECONDS) curve.shift();
  const top = Math.max(...curve, 1) * 1.15;
  const points = curve.map((value, index) => {
    const x = 240 - (curve.length - 1 - index) * (240 / (SPARK_SECONDS - 1));
    return `${x.toFixed(1)} ${(43 - (value / top) * 41).toFixed(1)}`;
  });
  const line = `M${points.join("L")}`;
  const begin = 240 - (curve.length - 1) * (240 / (SPARK_SECONDS - 1));
  element("spark-line", SVGPathElement).setAttribute("d", line);
  element("spark-area", SVGPathElement).setAttribute("d", `${line}L240 44L${begin.toFixed(1)} 44Z`);
}

/** @param {string} name @param {string} text */
const stat = (name, text) => say(element(`stat-${name}`, HTMLElement), text);

watching.on("change", () => {
  if (["payment", "token", "silent"].includes(viewer.state)) show(viewer.state, detailNow);
  showPayPanel(watching);
});

viewer.on("stats", ({ stats, rates }) => {
  if (!rates) return;
  drawCurve(rates.bitrate);
  stat("bitrate", bitrate(rates.bitrate));
  stat("lost", `${whole(stats.lost)} (${percent(rates.lossPercent)} now)`);
  stat("freezes", stats.freezes === null ? "–" : `${stats.freezes} (${(stats.freezeSeconds ?? 0).toFixed(1)} s)`);
  stat("buffer", milliseconds(rates.jitterBufferMs));
  stat("rtt", milliseconds(stats.rttMs, 1));
  stat("size", `${size(stats.width, stats.height)} · ${whole(rates.fps)} fps`);
  stat("codec", [stats.codec, stats.audioCodec].filter(Boolean).join(" · ") || "–");
  stat("repairs", `${stats.nack ?? 0} NACK · ${stats.rtx ?? 0} RTX · ${stats.pli ?? 0} PLI`);
  const cipher = stats.srtpCipher?.replace(/^(SRTP_)?(AEAD_)?/, "").replaceAll("_", "-");
  const version = stats.dtlsVersion && `DTLS ${stats.dtlsVersion}`;
  stat("cipher", [cipher, version].filter(Boolean).join(" · ") || "DTLS-SRTP");
});

viewer.on("stream", (stream) => {
  video.srcObject = stream;
  stream.addEventListener("addtrack", showSound);
  video.play().catch(() => {});
});

viewer.on("state", ({ state, detail }) => {
  detailNow = detail;
  show(state, detail);
  // It was not live when the page was opened, so nobody could say what it costs.
  if ((state === "payment" || state === "token") && !watching.record) void watching.discover().catch(() => {});
  if (state === "playing" || state === "ended") void showDetails();
});

async function showDetails() {
  const stream = await liveStream(id).catch(() => null);
  if (!stream) return;
  say(element("title", HTMLElement), stream.title);
  document.title = `${stream.title} · Sutantra`;
  say(element("viewers", HTMLElement), counted(stream.viewers, "viewer"));
  const chips = element("chips", HTMLElement);
  chips.className = "chips";
  const texts = [...stream.codecs, price(stream)];
  chips.replaceChildren(...texts.map((text, at) => make("span", at === texts.length - 1 ? "chip price" : "chip", text)));
}

function wakeControls() {
  player.classList.remove("idle");
  clearTimeout(idleTimer);
  idleTimer = setTimeout(() => player.classList.toggle("idle", viewer.state === "playing"), IDLE_MS);
}

async function begin() {
  if (!id) {
    show("refused", "This address names no stream. Choose one on the first page.");
    return;
  }
  show(viewer.state);
  // Whoever has agreed to pay before goes on at once; everybody else is asked by the relay's 402.
  await watching.discover().catch(() => {});
  void viewer.run();
}

say(element("title", HTMLElement), id || "No stream");
element("share-link", HTMLInputElement).value = location.origin + location.pathname;
element("share-copy", HTMLButtonElement).addEventListener("click", ({ currentTarget }) =>
  copyFrom(/** @type {HTMLButtonElement} */ (currentTarget), element("share-link", HTMLInputElement)),
);
unmute.addEventListener("click", () => setMuted(false));
mute.addEventListener("click", () => setMuted(!video.muted));
showStats.addEventListener("click", toggleStats);
element("full", HTMLButtonElement).addEventListener("click", toggleFull);
element("retry", HTMLButtonElement).addEventListener("click", () => viewer.retry());
element("token-form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  keepToken(id, "subscribe", element("token", HTMLInputElement).value.trim() || null);
  viewer.retry();
});
video.addEventListener("dblclick", toggleFull);
for (const type of ["pointermove", "pointerdown", "focusin"]) player.addEventListener(type, wakeControls);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLInputElement) return;
  switch (event.key.toLowerCase()) {
    case "m":
      return setMuted(!video.muted);
    case "s":
      return toggleStats();
    case "f":
      return toggleFull();
  }
});
// A page that comes back from the browser's cache has lost its session.
addEventListener("pageshow", ({ persisted }) => persisted && viewer.retry());
addEventListener("pagehide", () => {
  if (!hasFreshPoster(id)) keepPoster(id, video);
});
setInterval(() => {
  if (document.hidden) return;
  void showDetails();
  if (watching.restricted) void watching.refresh().catch(() => {});
}, DETAILS_MS);

window.sutantra = {
  get pc() {
    return viewer.client?.pc ?? null;
  },
  get state() {
    return viewer.state;
  },
  get sessions() {
    return viewer.sessions;
  },
  stats: async () => (viewer.client ? readStats(viewer.client.pc) : null),
  get payment() {
    return watching.diagnostics;
  },
  wallet: {
    get account() {
      return watching.facts.account;
    },
    get pool() {
      return watching.facts.sight?.channel ?? null;
    },
    balance: async () => ((await watching.wallet?.balance()) ?? 0n).toString(),
    paid: () => (watching.facts.sight?.paid ?? 0n).toString(),
    watch: () => watching.watch(),
    buyTicket: () => watching.buyTicket(),
    pausePaying: () => watching.pause(),
    resumePaying: () => watching.resume(),
    topUp: (amount) => watching.topUp(amount === undefined ? undefined : BigInt(amount)),
    acceptPrice: () => watching.agree(),
    closePool: () => watching.close(),
  },
};

status().then((relay) => (udpPort = relay.udp_port)).catch(() => {});
void showRelay(element("relay", HTMLElement));
void showDetails();
runPaidSum(watching);
wakeControls();
void begin();
