// Node's EventEmitter, as much of it as peers need, for pages too.

/** @typedef {(...args: any[]) => void} Listener */

/**
 * Listeners are called in the order of their adding, on the spot. One that throws does not keep the
 * others from hearing: its error is thrown again in a task of its own. An `error` that nobody listens
 * for is dropped, unlike in Node, because a peer of ours cannot be allowed to end our process.
 */
export class EventEmitter {
  /** @type {Map<string, { listener: Listener, once: boolean }[]>} */
  #listeners = new Map();

  /** @param {string} event @param {Listener} listener */
  on(event, listener) {
    return this.#add(event, listener, { once: false, first: false });
  }

  /** @param {string} event @param {Listener} listener */
  once(event, listener) {
    return this.#add(event, listener, { once: true, first: false });
  }

  /** @param {string} event @param {Listener} listener */
  prependListener(event, listener) {
    return this.#add(event, listener, { once: false, first: true });
  }

  /** Removes the latest adding of `listener`. @param {string} event @param {Listener} listener */
  off(event, listener) {
    const entries = this.#listeners.get(event) ?? [];
    const at = entries.map((entry) => entry.listener).lastIndexOf(listener);
    // A copy, so that an `emit` in progress goes on over the row that it began with.
    if (at >= 0) this.#listeners.set(event, entries.filter((_, i) => i !== at));
    return this;
  }

  /** @param {string} event @param {Listener} listener */
  addListener(event, listener) {
    return this.on(event, listener);
  }

  /** @param {string} event @param {Listener} listener */
  removeListener(event, listener) {
    return this.off(event, listener);
  }

  /** @param {string} [event] without it, of all events */
  removeAllListeners(event) {
    if (event === undefined) this.#listeners.clear();
    else this.#listeners.delete(event);
    return this;
  }

  /** @param {string} event @returns {Listener[]} */
  listeners(event) {
    return (this.#listeners.get(event) ?? []).map((entry) => entry.listener);
  }

  /** @param {string} event */
  listenerCount(event) {
    return this.#listeners.get(event)?.length ?? 0;
  }

  /** @returns {string[]} */
  eventNames() {
    return [...this.#listeners].filter(([, entries]) => entries.length > 0).map(([event]) => event);
  }

  /**
   * @param {string} event
   * @param {...any} args
   * @returns {boolean} whether somebody listened
   */
  emit(event, ...args) {
    const entries = this.#listeners.get(event) ?? [];
    for (const { listener, once } of entries) {
      if (once) this.off(event, listener);
      try {
        listener.apply(this, args);
      } catch (error) {
        setTimeout(() => {
          throw error;
        });
      }
    }
    return entries.length > 0;
  }

  /**
   * @param {string} event
   * @param {Listener} listener
   * @param {{ once: boolean, first: boolean }} how
   */
  #add(event, listener, { once, first }) {
    if (typeof listener !== "function") throw new TypeError("a listener is a function");
    const entries = this.#listeners.get(event) ?? [];
    const entry = { listener, once };
    this.#listeners.set(event, first ? [entry, ...entries] : [...entries, entry]);
    return this;
  }
}
