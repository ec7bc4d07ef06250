// The identity of this browser, made once and kept; its secret part cannot be read out, not even by the page.

import { Identity } from "/client/identity.js";

const DATABASE = "sutantra-rooms";
const TABLE = "identity";
const KEY = "own";
const NAME = "sutantra-name";

/** @returns {Promise<Identity>} the one of this browser, a new one where it had none */
export async function ownIdentity() {
  const database = await open().catch(() => null);
  // A private window may keep nothing: an identity for this visit then.
  if (!database) return Identity.generate();
  try {
    const kept = await asked(database.transaction(TABLE).objectStore(TABLE).get(KEY));
    if (kept) return await Identity.fromKeys(kept.privateKey, kept.publicKey);
    const made = await Identity.generate();
    // Two tabs at once: the first that is kept is everybody's.
    const write = database.transaction(TABLE, "readwrite").objectStore(TABLE);
    await asked(write.add({ privateKey: made.privateKey, publicKey: made.publicKey }, KEY)).catch(() => {});
    const first = await asked(database.transaction(TABLE).objectStore(TABLE).get(KEY));
    return first ? await Identity.fromKeys(first.privateKey, first.publicKey) : made;
  } finally {
    database.close();
  }
}

/** What the person is called here. */
export function keptName() {
  try {
    return localStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} name */
export function keepName(name) {
  try {
    localStorage.setItem(NAME, name);
  } catch {
    // Asked again at the next visit.
  }
}

/** @returns {Promise<IDBDatabase>} */
function open() {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
  return asked(request);
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function asked(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = (event) => {
      // Else the transaction's failure goes up to the console as well.
      event.preventDefault();
      reject(request.error);
    };
  });
}
