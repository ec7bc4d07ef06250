// Pictures for the cards of Home: a live preview while somebody looks, a still frame otherwise.

import { isFree, tokenFor } from "./api.js";
import { WhepClient } from "./whip.js";

/** A still older than this is taken anew. */
const FRESH_MS = 60_000;
/** Give up on a picture that does not come. */
const FIRST_FRAME_MS = 5000;
const [WIDTH, HEIGHT] = [480, 270];

/** @param {string} id */
const storageKey = (id) => `poster:${id}`;

/**
 * @param {string} id
 * @returns {{ url: string, atMs: number } | null} the last still of a stream seen in this tab
 */
export function storedPoster(id) {
  try {
    return JSON.parse(sessionStorage.getItem(storageKey(id)) ?? "null");
  } catch {
    return null;
  }
}

/** @param {string} id */
export function hasFreshPoster(id) {
  return Date.now() - (storedPoster(id)?.atMs ?? 0) < FRESH_MS;
}

/**
 * Keeps the frame that a video shows.
 * @param {string} id
 * @param {HTMLVideoElement} video
 * @returns {string | null} address of the still
 */
export function keepPoster(id, video) {
  if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || video.videoWidth === 0) return null;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  const scale = Math.max(WIDTH / video.videoWidth, HEIGHT / video.videoHeight);
  const [width, height] = [video.videoWidth * scale, video.videoHeight * scale];
  canvas.getContext("2d")?.drawImage(video, (WIDTH - width) / 2, (HEIGHT - height) / 2, width, height);
  const url = canvas.toDataURL("image/jpeg", 0.8);
  try {
    sessionStorage.setItem(storageKey(id), JSON.stringify({ url, atMs: Date.now() }));
  } catch {
    // The store is full or forbidden: the still lives as long as the page.
  }
  return url;
}

/** One silent session into one video element. */
export class Preview {
  /** @type {WhepClient | null} */
  #client = null;
  #ended = false;

  /**
   * @param {import("./api.js").LiveStream} stream
   * @param {HTMLVideoElement} video
   */
  constructor(stream, video) {
    this.stream = stream;
    this.video = video;
  }

  /** Resolves at the first frame. @returns {Promise<boolean>} false: no picture came */
  async start() {
    // A preview must not cost the visitor anything.
    if (!isFree(this.stream)) return false;
    try {
      const token = await tokenFor(this.stream.id, "subscribe");
      if (this.#ended) return false;
      this.#client = new WhepClient({ endpoint: this.stream.whep, token });
      await this.#client.watch({ audio: false });
    } catch {
      return false;
    }
    this.video.srcObject = this.#client.stream;
    const first = firstFrame(this.video);
    this.video.play().catch(() => {});
    return (await first) && !this.#ended;
  }

  stop() {
    this.#ended = true;
    this.#client?.close();
    this.video.srcObject = null;
  }
}

/** @param {HTMLVideoElement} video @returns {Promise<boolean>} */
function firstFrame(video) {
  return new Promise((resolve) => {
    const give = (/** @type {boolean} */ came) => {
      clearTimeout(timer);
      video.removeEventListener("loadeddata", loaded);
      resolve(came);
    };
    const loaded = () => give(true);
    const timer = setTimeout(() => give(false), FIRST_FRAME_MS);
    video.addEventListener("loadeddata", loaded);
  });
}
