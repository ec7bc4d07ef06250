// Who signed which of the last blocks: out of commits and validator sets, one row for each validator.

/** @typedef {"signed" | "missed" | "out"} Mark out: it was not asked to sign */
/** @typedef {import("./feed.js").Block} Block */

/** `BlockIDFlagCommit` of CometBFT: it signed this very block. */
const FLAG_COMMIT = 2;

/** Addresses that signed. @param {any} commit of the RPC's `commit` @returns {Set<string>} */
export function signersOf(commit) {
  const signatures = commit?.signed_header?.commit?.signatures ?? [];
  return new Set(signatures.filter((/** @type {any} */ each) => Number(each.block_id_flag) === FLAG_COMMIT).map((/** @type {any} */ each) => String(each.validator_address).toUpperCase()));
}

export class Signatures {
  /** By height. @type {Map<number, Set<string>>} */
  #signers = new Map();
  /** By the hash that headers have. @type {Map<string, Set<string>>} */
  #sets = new Map();
  /** @type {Promise<void> | null} */
  #running = null;

  /**
   * Learns what is lacking about these blocks. The newest one has no commit of its own yet: the next
   * block brings it.
   * @param {import("../wallet/chain.js").Chain} chain
   * @param {Block[]} blocks newest first
   */
  follow(chain, blocks) {
    this.#running ??= this.#learn(chain, blocks.slice(1)).finally(() => (this.#running = null));
    return this.#running;
  }

  /** @param {import("../wallet/chain.js").Chain} chain @param {Block[]} blocks */
  async #learn(chain, blocks) {
    const lacking = blocks.filter(({ height }) => !this.#signers.has(height));
    const unknown = new Map(blocks.filter(({ validatorsHash }) => !this.#sets.has(validatorsHash)).map((block) => [block.validatorsHash, block.height]));
    for (const [hash, height] of unknown) this.#sets.set(hash, await addressesAt(chain, height));
    const commits = await chain.batch(lacking.map(({ height }) => ["commit", { height: String(height) }]));
    lacking.forEach(({ height }, at) => commits[at] && this.#signers.set(height, signersOf(commits[at])));
    const oldest = blocks.at(-1)?.height ?? 0;
    for (const height of this.#signers.keys()) if (height < oldest) this.#signers.delete(height);
  }

  /**
   * @param {string} address as blocks name the validator
   * @param {Block[]} blocks newest first
   * @returns {{ height: number, mark: Mark }[]} oldest first; blocks of which nothing is known are left out
   */
  of(address, blocks) {
    return blocks
      .flatMap(({ height, validatorsHash }) => {
        const [signers, asked] = [this.#signers.get(height), this.#sets.get(validatorsHash)];
        if (!signers || !asked) return [];
        return [{ height, mark: /** @type {Mark} */ (signers.has(address) ? "signed" : asked.has(address) ? "missed" : "out") }];
      })
      .reverse();
  }

  /** How many were asked to sign a block, and did. @param {Block} block @returns {{ signed: number, asked: number } | null} */
  ofBlock({ height, validatorsHash }) {
    const [signers, asked] = [this.#signers.get(height), this.#sets.get(validatorsHash)];
    return signers && asked ? { signed: signers.size, asked: asked.size } : null;
  }
}

/** Everybody who may sign at a height. @param {import("../wallet/chain.js").Chain} chain @param {number} height @returns {Promise<Set<string>>} */
async function addressesAt(chain, height) {
  return new Set((await engineValidators(chain, height)).map(({ address }) => address));
}

/**
 * The engine's validators, whether or not the application knows more about them.
 * @param {import("../wallet/chain.js").Chain} chain
 * @param {number} height 0: the newest
 * @returns {Promise<{ address: string, power: bigint, key: string }[]>}
 */
export async function engineValidators(chain, height = 0) {
  /** @type {any[]} */
  const found = [];
  for (let page = 1; ; page += 1) {
    const { validators, total } = await chain.call("validators", { ...(height ? { height: String(height) } : {}), page: String(page), per_page: "100" });
    found.push(...validators);
    if (found.length >= Number(total) || validators.length === 0) break;
  }
  return found.map((each) => ({ address: String(each.address).toUpperCase(), power: BigInt(each.voting_power), key: String(each.pub_key?.value ?? "") }));
}
