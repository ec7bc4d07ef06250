// The Web Cryptography API, wherever this runs: Node 18 has it under another name than pages do.

/** Over plain http a page has this, and no `subtle` in it. */
export const webcrypto =
  globalThis.crypto ?? /** @type {Crypto} */ ((await import("node:crypto")).webcrypto);
