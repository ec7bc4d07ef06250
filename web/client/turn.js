// TURN credentials that end are asked for again before they do: a newcomer hours later needs good ones.

/** A name that a shared secret gives (coturn's `use-auth-secret`): its end in Unix s, then whose it is. */
const TIMED = /^(\d{9,11}):/;
/** Refusals are not answered by asking more often than this. */
const WAIT_MS_MIN = 60_000;
/** Timers count no further (2^31 − 1 ms). */
const WAIT_MS_MAX = 2 ** 31 - 1;

/**
 * @param {RTCIceServer[]} iceServers
 * @param {number} now Unix ms
 * @returns {number | null} ms until half of the shortest time is over; null: none of them ends
 */
export function renewalMs(iceServers, now) {
  const ends = iceServers.flatMap((server) => {
    const [, seconds] = TIMED.exec(String(server?.username ?? "")) ?? [];
    return seconds === undefined ? [] : [Number(seconds) * 1000];
  });
  if (ends.length === 0) return null;
  return Math.min(Math.max((Math.min(...ends) - now) / 2, WAIT_MS_MIN), WAIT_MS_MAX);
}

export class Renewal {
  #iceServers;
  #ask;
  #renewed;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {() => RTCIceServer[]} iceServers that are known now
   * @param {() => Promise<void>} ask for others
   * @param {(iceServers: RTCIceServer[]) => void} renewed
   */
  constructor(iceServers, ask, renewed) {
    this.#iceServers = iceServers;
    this.#ask = ask;
    this.#renewed = renewed;
  }

  /** Call when servers came. */
  later() {
    this.stop();
    const before = this.#iceServers();
    const wait = renewalMs(before, Date.now());
    if (wait === null) return;
    const timer = setTimeout(async () => {
      await this.#ask();
      const now = this.#iceServers();
      if (now !== before) this.#renewed(now);
      else if (this.#timer === timer) this.later();
    }, wait);
    this.#timer = timer;
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
