// A generated picture and tone: something to publish where there is no camera, and a picture that
// costs bits where a load is wanted.

/** @typedef {"clock" | "noise"} PatternKind */

/**
 * @typedef {object} Pattern
 * @property {MediaStream} stream
 * @property {() => void} stop
 */

/**
 * Starts a test pattern.
 * @param {{ kind: PatternKind, width: number, height: number, fps: number, tone: boolean }} options
 * @returns {Pattern}
 */
export function startPattern({ kind, width, height, fps, tone }) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { alpha: false });
  if (!context) throw new Error("This browser draws no canvas.");
  const draw = kind === "noise" ? noisePainter(context) : clockPainter(context);
  draw(0);
  let frame = 0;
  const ticker = new Worker(new URL("./ticker.js", import.meta.url), { type: "module" });
  ticker.addEventListener("message", () => draw(++frame));
  ticker.postMessage(1000 / fps);

  const stream = canvas.captureStream(fps);
  const sound = tone ? startTone() : null;
  for (const track of sound?.stream.getAudioTracks() ?? []) stream.addTrack(track);
  return {
    stream,
    stop() {
      ticker.terminate();
      sound?.stop();
      for (const track of stream.getTracks()) track.stop();
    },
  };
}

/**
 * Threads that move, a clock to the hundredth of a second to read the latency from, and the frame's
 * number. @param {CanvasRenderingContext2D} context
 */
function clockPainter(context) {
  const { width, height } = context.canvas;
  const unit = height / 720;
  const sky = context.createLinearGradient(0, 0, width, height);
  sky.addColorStop(0, "#0d2b33");
  sky.addColorStop(0.55, "#123c43");
  sky.addColorStop(1, "#241f3d");
  const colours = ["#5fd0b4", "#f2b56b", "#7fa8f5", "#e98a8a", "#d9d3f0"];
  /** @param {number} frame */
  return (frame) => {
    const seconds = performance.now() / 1000;
    context.fillStyle = sky;
    context.fillRect(0, 0, width, height);
    context.lineWidth = 5 * unit;
    context.lineCap = "round";
    colours.forEach((colour, index) => {
      context.strokeStyle = colour;
      context.globalAlpha = 0.85;
      context.beginPath();
      for (let x = -20; x <= width + 20; x += 12 * unit) {
        const along = (x / width) * Math.PI * 2;
        const swing = Math.sin(along * 1.5 + seconds * 0.9 + index * 1.25);
        const y = height * 0.74 + swing * height * 0.13 * Math.cos(along * 0.5 + index + seconds * 0.2);
        context.lineTo(x, y);
      }
      context.stroke();
    });
    context.globalAlpha = 1;

    const now = new Date();
    const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
    const time = `${two(now.getHours())}:${two(now.getMinutes())}:${two(now.getSeconds())}`;
    const hundredths = two(Math.floor(now.getMilliseconds() / 10));
    context.fillStyle = "#f4f1ea";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = `600 ${150 * unit}px ui-sans-serif, system-ui, sans-serif`;
    context.fillText(time, width / 2, height * 0.36);
    context.font = `400 ${44 * unit}px ui-monospace, monospace`;
    context.globalAlpha = 0.75;
    context.fillText(`.${hundredths}   frame ${frame}   ${width}×${height}`, width / 2, height * 0.52);
    context.globalAlpha = 1;
    // A hand that turns once a second: a frozen picture is seen at once.
    const angle = (now.getMilliseconds() / 1000) * Math.PI * 2 - Math.PI / 2;
    const [x, y, radius] = [width - 92 * unit, 92 * unit, 46 * unit];
    context.strokeStyle = "rgba(244,241,234,.35)";
    context.lineWidth = 6 * unit;
    context.beginPath();
    context.arc(x, y, radius, 0, Math.PI * 2);
    context.stroke();
    context.strokeStyle = "#f2b56b";
    context.beginPath();
    context.arc(x, y, radius, -Math.PI / 2, angle);
    context.stroke();
  };
}

/**
 * Grain that moves, from tiles made once: it reaches any bitrate that is asked for.
 * @param {CanvasRenderingContext2D} context
 */
function noisePainter(context) {
  const { width, height } = context.canvas;
  const tile = document.createElement("canvas");
  tile.width = tile.height = 512;
  const grain = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
  const pixels = grain.createImageData(512, 512);
  for (let i = 0; i < pixels.data.length; i += 4) {
    pixels.data.fill(96 + Math.random() * 64, i, i + 3);
    pixels.data[i + 3] = 255;
  }
  grain.putImageData(pixels, 0, 0);
  /** @param {number} frame */
  return (frame) => {
    context.fillStyle = `hsl(${frame % 360} 45% 38%)`;
    context.fillRect(0, 0, width, height);
    for (const [index, step] of [7, 5].entries()) {
      const x = ((frame * step + index * 600) % (width + 512)) - 512;
      const y = ((frame * 3 + index * 300) % (height + 512)) - 512;
      context.drawImage(tile, x, y);
    }
    context.fillStyle = "#fff";
    context.font = `600 ${height / 12}px ui-monospace, monospace`;
    context.fillText(`frame ${frame}`, width / 28, height / 8);
  };
}

/** A quiet tone with a short mark on each second, so that one hears that it is alive. */
function startTone() {
  const audio = new AudioContext();
  const destination = audio.createMediaStreamDestination();
  const gain = audio.createGain();
  gain.gain.value = 0.03;
  gain.connect(destination);
  const drone = audio.createOscillator();
  drone.frequency.value = 220;
  drone.connect(gain);
  drone.start();
  const mark = audio.createOscillator();
  const markGain = audio.createGain();
  mark.frequency.value = 880;
  markGain.gain.value = 0;
  mark.connect(markGain).connect(destination);
  mark.start();
  const beat = setInterval(() => {
    const at = audio.currentTime;
    markGain.gain.setTargetAtTime(0.12, at, 0.005);
    markGain.gain.setTargetAtTime(0, at + 0.08, 0.02);
  }, 1000);
  audio.resume().catch(() => {});
  return {
    stream: destination.stream,
    stop() {
      clearInterval(beat);
      audio.close().catch(() => {});
    },
  };
}
