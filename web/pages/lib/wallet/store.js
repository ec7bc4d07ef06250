// What a wallet remembers in this browser (IndexedDB), and the one rule of its writes: a transaction
// is on the disk before anybody is told that it worked.

/**
 * @typedef {object} AccountRow
 * @property {"me"} id
 * @property {Uint8Array<ArrayBuffer>} seed 32 bytes
 * @property {number} createdMs
 * @property {boolean} noted the person has seen the words
 */

/**
 * @typedef {object} PoolRow
 * @property {string} chain
 * @property {string} channel hex
 * @property {string} account hex, the payer
 * @property {string} payee hex, whom its money is reserved for
 * @property {CryptoKey} voucherKey cannot be taken out
 * @property {string} voucherPublic hex
 * @property {bigint} deposits units
 * @property {number} expiresHeight
 * @property {"opening" | "open" | "closing" | "closed"} state
 * @property {number} openedMs
 */

/**
 * @typedef {object} LaneRow
 * @property {string} chain
 * @property {string} channel hex
 * @property {string} payee hex
 * @property {string} stream hex
 * @property {number} lane
 * @property {number} termsVersion
 * @property {bigint} nonce of the newest voucher
 * @property {bigint} cumulative units
 * @property {bigint} mediaMs
 * @property {bigint} bytes
 * @property {bigint} servedMs as the relay last said
 */

/** @typedef {{ chain: string, day: string, stream: string, spent: bigint, title: string }} SumRow */
/** Most units for one stream and for all of them on one day. @typedef {{ chain: string, perStream: bigint, perDay: bigint }} CapsRow */

/**
 * @typedef {object} Rows
 * @property {AccountRow} account
 * @property {PoolRow} pools
 * @property {LaneRow} lanes
 * @property {SumRow} sums
 * @property {CapsRow} caps
 */

/** @typedef {keyof Rows} Table */

const DATABASE = "sutantra-wallet";
const VERSION = 1;
const KEYS = /** @type {const} */ ({
  account: "id",
  pools: ["chain", "channel"],
  lanes: ["chain", "channel", "payee", "stream", "lane"],
  sums: ["chain", "day", "stream"],
  caps: "chain",
});

/** Reads and writes of one transaction. Await nothing else inside: the transaction would end. */
export class Access {
  #transaction;

  /** @param {IDBTransaction} transaction */
  constructor(transaction) {
    this.#transaction = transaction;
  }

  /** @template {Table} T @param {T} table @param {IDBValidKey} key @returns {Promise<Rows[T] | null>} */
  async get(table, key) {
    return (await done(this.#transaction.objectStore(table).get(key))) ?? null;
  }

  /** All rows whose keys begin so. @template {Table} T @param {T} table @param {string[]} [prefix] @returns {Promise<Rows[T][]>} */
  all(table, prefix) {
    // An array sorts behind every text: the end of all keys with this beginning.
    const range = prefix && IDBKeyRange.bound(prefix, [...prefix, []]);
    return done(this.#transaction.objectStore(table).getAll(range));
  }

  /** @template {Table} T @param {T} table @param {Rows[T]} row */
  async put(table, row) {
    await done(this.#transaction.objectStore(table).put(row));
  }

  /** @param {Table} table @param {IDBValidKey} key */
  async delete(table, key) {
    await done(this.#transaction.objectStore(table).delete(key));
  }
}

export class Store {
  #database;

  /** @param {IDBDatabase} database */
  constructor(database) {
    this.#database = database;
    // Another tab has a newer version of the pages: let it through.
    database.onversionchange = () => database.close();
  }

  /** @param {string} [name] @returns {Promise<Store>} */
  static async open(name = DATABASE) {
    const opening = indexedDB.open(name, VERSION);
    opening.onupgradeneeded = () => {
      for (const [table, keyPath] of Object.entries(KEYS)) {
        opening.result.createObjectStore(table, { keyPath: typeof keyPath === "string" ? keyPath : [...keyPath] });
      }
    };
    return new Store(await done(opening));
  }

  /** @template R @param {(access: Access) => Promise<R>} work @returns {Promise<R>} */
  read(work) {
    return this.#run("readonly", work);
  }

  /**
   * All or nothing. Resolves when it is on the disk; `work` that throws leaves everything as it was.
   * @template R
   * @param {(access: Access) => Promise<R>} work
   * @returns {Promise<R>}
   */
  write(work) {
    return this.#run("readwrite", work);
  }

  close() {
    this.#database.close();
  }

  /** @template R @param {IDBTransactionMode} mode @param {(access: Access) => Promise<R>} work */
  async #run(mode, work) {
    const transaction = this.#database.transaction(/** @type {string[]} */ (Object.keys(KEYS)), mode, { durability: "strict" });
    const ended = new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(null);
      transaction.onerror = () => reject(transaction.error);
      transaction.onabort = () => reject(transaction.error ?? new Error("The wallet's storage gave up. Is the disk full?"));
    });
    ended.catch(() => {});
    /** @type {R} */
    let result;
    try {
      result = await work(new Access(transaction));
    } catch (error) {
      try {
        transaction.abort();
      } catch {
        // It has ended by itself already.
      }
      throw error;
    }
    await ended;
    return result;
  }
}

/** Asks the browser not to clear the wallet when space is short. @returns {Promise<boolean>} whether it promised */
export async function keepForGood() {
  return (await navigator.storage?.persist?.().catch(() => false)) ?? false;
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
