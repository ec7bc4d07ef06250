// What can be published, each kind opened to the same shape: one video track, one audio track.

import { startPattern } from "./pattern.js";

const FPS = 30;

/**
 * @typedef {object} Source
 * @property {"camera" | "screen" | "pattern"} kind
 * @property {MediaStream} stream
 * @property {MediaStreamTrack | null} video
 * @property {MediaStreamTrack | null} audio
 * @property {() => void} stop
 */

/**
 * @param {Source["kind"]} kind
 * @param {MediaStream} stream
 * @param {() => void} [stop]
 * @returns {Source}
 */
function asSource(kind, stream, stop) {
  const video = stream.getVideoTracks()[0] ?? null;
  // Text must stay sharp; everything else must stay smooth.
  if (video) video.contentHint = kind === "screen" ? "detail" : "motion";
  const end = stop ?? (() => stream.getTracks().forEach((track) => track.stop()));
  return { kind, stream, video, audio: stream.getAudioTracks()[0] ?? null, stop: end };
}

/**
 * @param {{ camera: string, microphone: string, width: number, height: number }} options device ids;
 *   empty for the browser's choice, microphone `"none"` for no sound
 */
export async function openCamera({ camera, microphone, width, height }) {
  const stream = await navigator.mediaDevices.getUserMedia({
    video: {
      width: { ideal: width },
      height: { ideal: height },
      frameRate: { ideal: FPS },
      ...(camera ? { deviceId: { exact: camera } } : { facingMode: "user" }),
    },
    audio: microphone === "none" ? false : microphone ? { deviceId: { exact: microphone } } : true,
  });
  return asSource("camera", stream);
}

/** @param {{ width: number, height: number }} options */
export async function openScreen({ width, height }) {
  const stream = await navigator.mediaDevices.getDisplayMedia({
    video: { width: { max: width }, height: { max: height }, frameRate: { max: FPS } },
    audio: true,
  });
  return asSource("screen", stream);
}

/** @param {{ pattern: import("./pattern.js").PatternKind, tone: boolean, width: number, height: number }} options */
export async function openPattern({ pattern, tone, width, height }) {
  const { stream, stop } = startPattern({ kind: pattern, tone, width, height, fps: FPS });
  return asSource("pattern", stream, stop);
}

/**
 * The machine's cameras and microphones. Names are known once one of them was allowed.
 * @returns {Promise<{ cameras: { id: string, label: string }[], microphones: { id: string, label: string }[] }>}
 */
export async function devices() {
  const all = await navigator.mediaDevices.enumerateDevices();
  /** @param {MediaDeviceKind} kind @param {string} word */
  const named = (kind, word) =>
    all
      .filter((device) => device.kind === kind && device.deviceId !== "")
      .map((device, index) => ({ id: device.deviceId, label: device.label || `${word} ${index + 1}` }));
  return { cameras: named("videoinput", "Camera"), microphones: named("audioinput", "Microphone") };
}
