// What Publish and Watch show to a debugger and to the browser tests.

import type { FlatStats } from "./stats.js";

/** How paying stands; amounts in units of 10⁻⁹ SUT, decimal. */
export interface PaymentDiagnostics {
  /** `PayState` of the payer, `none` before the person has agreed to pay. */
  state: string;
  policy: string;
  /** `PayRefusal`, where the wallet does not sign. */
  reason: string | null;
  message: string | null;
  /** What is being done at this moment. */
  busy: string | null;
  /** Why the relay holds media back, `open` where it does not. */
  gate: string;
  rate: string;
  termsVersion: number | null;
  paid: string;
  left: string;
  /** State of the lane as the relay last said. */
  lane: string | null;
  servedMs: number;
  /** Rate of new terms that wait for the person's word. */
  asked: string | null;
}

/** What the buttons of Watch do. */
export interface WalletDiagnostics {
  account: string | null;
  /** Channel id of the pool that pays, hex. */
  pool: string | null;
  balance(): Promise<string>;
  paid(): string;
  watch(): Promise<void>;
  buyTicket(): Promise<void>;
  pausePaying(): void;
  resumePaying(): void;
  topUp(amount?: string | number): Promise<void>;
  acceptPrice(): void;
  closePool(): Promise<void>;
}

export interface Diagnostics {
  /** The connection at this moment, null between two sessions. */
  pc: RTCPeerConnection | null;
  /** What the page tells its user. */
  state: string;
  /** Sessions opened since the page was loaded. */
  sessions: number;
  stats(): Promise<FlatStats | null>;
  /** Publish only: the name in the stream's address. */
  published?: string;
  /** Watch only. */
  payment?: PaymentDiagnostics;
  /** Watch only. */
  wallet?: WalletDiagnostics;
}

declare global {
  interface Window {
    sutantra?: Diagnostics;
  }
}
