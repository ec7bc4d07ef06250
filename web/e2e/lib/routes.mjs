// Every route of CometBFT 0.38, with parameters that it answers, and the skeleton of an answer.

/** @typedef {{ method: string, params: Record<string, unknown> }} Call */

/**
 * The reading routes at a height that has a transaction.
 * @param {{ height: number, blockHash: string, txHash: string, tx: string, key: string }} known hashes in hex, the transaction in base64
 * @returns {Call[]}
 */
export function routes({ height, blockHash, txHash, tx, key }) {
  const at = { height: String(height) };
  const base64 = (/** @type {string} */ hex) => Buffer.from(hex, "hex").toString("base64");
  return [
    { method: "abci_info", params: {} },
    { method: "abci_query", params: { path: "/store/app/key", data: key, height: String(height + 1), prove: true } },
    { method: "block", params: at },
    { method: "block_by_hash", params: { hash: base64(blockHash) } },
    { method: "block_results", params: at },
    { method: "block_search", params: { query: `block.height=${height}`, page: "1", per_page: "5", order_by: "asc" } },
    { method: "blockchain", params: { minHeight: "1", maxHeight: String(height) } },
    { method: "broadcast_evidence", params: {} },
    { method: "check_tx", params: { tx } },
    { method: "commit", params: at },
    { method: "consensus_params", params: at },
    { method: "consensus_state", params: {} },
    { method: "dump_consensus_state", params: {} },
    { method: "genesis", params: {} },
    { method: "genesis_chunked", params: { chunk: "0" } },
    { method: "header", params: at },
    { method: "header_by_hash", params: { hash: blockHash } },
    { method: "health", params: {} },
    { method: "net_info", params: {} },
    { method: "num_unconfirmed_txs", params: {} },
    { method: "status", params: {} },
    { method: "tx", params: { hash: base64(txHash), prove: true } },
    { method: "tx_search", params: { query: `tx.height=${height}`, prove: true, page: "1", per_page: "5", order_by: "asc" } },
    { method: "unconfirmed_txs", params: { limit: "5" } },
    { method: "validators", params: { ...at, page: "1", per_page: "5" } },
    // Refused by every node, in the same words' class.
    { method: "dial_seeds", params: {} },
    { method: "subscribe", params: { query: "tm.event='NewBlock'" } },
    { method: "block", params: { height: "-1" } },
    { method: "block", params: { height: "1000000000" } },
    { method: "tx", params: { hash: base64("00".repeat(32)) } },
    { method: "validators", params: { ...at, page: "99" } },
    { method: "genesis_chunked", params: { chunk: "7" } },
    { method: "tx_search", params: { query: "tx.height>0", order_by: "sideways" } },
    { method: "block_search", params: { query: "block.height>0", order_by: "sideways" } },
    { method: "check_tx", params: { tx: Buffer.from("no transaction").toString("base64") } },
  ];
}

/**
 * What an answer is made of: each path with the type of what is there. Array elements share a path.
 * @param {unknown} value
 * @param {string} [path]
 * @param {Map<string, Set<string>>} [into]
 */
export function skeleton(value, path = "", into = new Map()) {
  const type = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  const types = into.get(path) ?? new Set();
  into.set(path, types.add(type));
  if (Array.isArray(value)) for (const each of value) skeleton(each, `${path}[]`, into);
  else if (value !== null && typeof value === "object") {
    for (const [name, each] of Object.entries(value)) skeleton(each, `${path}.${name}`, into);
  }
  return into;
}

/**
 * Paths where one answer has what the other has not, or of another type. What is inside an array
 * that is empty in one of them, or under a null, cannot be compared and is not.
 * @param {Map<string, Set<string>>} one
 * @param {Map<string, Set<string>>} other
 * @returns {string[]}
 */
export function differences(one, other) {
  const found = [];
  for (const path of new Set([...one.keys(), ...other.keys()])) {
    const [here, there] = [one.get(path), other.get(path)];
    if (here && there) {
      const [a, b] = [known(here), known(there)];
      if (a.length > 0 && b.length > 0 && a.join() !== b.join()) found.push(`${path} is ${a} here, ${b} there`);
    } else if (parentIsThere(path, here ? other : one)) {
      found.push(`${path} is only ${here ? "here" : "there"}`);
    }
  }
  return found;
}

/** @param {Set<string>} types */
const known = (types) => [...types].filter((type) => type !== "null").sort();

/** @param {string} path @param {Map<string, Set<string>>} answer */
function parentIsThere(path, answer) {
  if (path.endsWith("[]")) return false;
  const parent = path.slice(0, path.lastIndexOf("."));
  return answer.get(parent)?.has("object") ?? false;
}
