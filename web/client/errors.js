// Why something with a coordinator or a peer did not work, with a code to branch on.

/**
 * What the coordinator answers (`docs/coordinator.md`, "Errors") and what this side finds.
 * @typedef {"bad_request" | "unauthenticated" | "payment_required" | "forbidden" | "unknown_room" | "not_found"
 *   | "unknown_peer" | "id_taken" | "too_large" | "room_full" | "rate_limited" | "internal" | "draining"
 *   | "unreachable" | "timeout" | "closed" | "no_webrtc" | "no_identity" | "no_cryptography"
 *   | "bad_frame" | "bad_signature" | "unverified_peer" | "bad_invite"
 *   | "bad_key"} ErrorCode
 */

/** Every error of this package. */
export class SutantraError extends Error {
  /**
   * @param {ErrorCode} code
   * @param {string} message a sentence that says what to do next
   * @param {{ status?: number, retryAfterMs?: number | null, ref?: unknown, cause?: unknown, peerId?: string, room?: string, details?: unknown }} [more]
   */
  constructor(code, message, more = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = "SutantraError";
    this.code = code;
    /** HTTP status, where one was answered. */
    this.status = more.status ?? null;
    /** Wait so long before the next try. */
    this.retryAfterMs = more.retryAfterMs ?? null;
    /** The `id` of the message that caused it. */
    this.ref = more.ref ?? null;
    this.peerId = more.peerId ?? null;
    this.room = more.room ?? null;
    /** The coordinator's whole answer, for example the terms of a `payment_required`. */
    this.details = more.details ?? null;
  }
}

/** @param {unknown} error @returns {SutantraError} */
export function asSutantraError(error, /** @type {ErrorCode} */ code = "internal") {
  if (error instanceof SutantraError) return error;
  return new SutantraError(code, error instanceof Error ? error.message : String(error), { cause: error });
}
