// What Publish and Watch show to a debugger and to the browser tests.

import type { FlatStats } from "./stats.js";

export interface Diagnostics {
  /** The connection at this moment, null between two sessions. */
  pc: RTCPeerConnection | null;
  /** What the page tells its user. */
  state: string;
  /** Sessions opened since the page was loaded. */
  sessions: number;
  stats(): Promise<FlatStats | null>;
}

declare global {
  interface Window {
    sutantra?: Diagnostics;
  }
}
