// A worker that ticks: timers of a page in the background are slowed down, those of a worker are not.

addEventListener("message", ({ data: intervalMs }) => {
  setInterval(() => postMessage(null), intervalMs);
});
