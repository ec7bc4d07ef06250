// Elements by id with the type the page expects, and the two small interactions every page shares.

/**
 * @template {Element} T
 * @param {string} id
 * @param {abstract new () => T} type
 * @returns {T}
 */
export function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} #${id}`);
  return found;
}

/**
 * @param {string} tag
 * @param {string} className
 * @param {...(Node | string)} children
 */
export function make(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Sets text only where it differs: a screen reader then speaks only news. @param {Element} target @param {string} text */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * Copies, and says so on the button for a moment.
 * @param {HTMLButtonElement} button
 * @param {HTMLInputElement} source
 */
export async function copyFrom(button, source) {
  const before = button.dataset["label"] ?? (button.dataset["label"] = button.textContent ?? "");
  source.select();
  let done = false;
  try {
    await navigator.clipboard.writeText(source.value);
    done = true;
  } catch {
    // No clipboard in an insecure context; the selection above still serves the old way.
    done = document.execCommand("copy");
  }
  say(button, done ? "Copied" : "Press Ctrl+C");
  setTimeout(() => say(button, before), 1800);
}

/** The footer's line about the relay. @param {Element} target */
export async function showRelay(target) {
  const [{ status }, { counted, span }] = await Promise.all([import("./api.js"), import("./format.js")]);
  try {
    const relay = await status();
    const parts = [
      `Sutantra ${relay.version}`,
      // A validator alone has no media, and says nothing about it.
      relay.link ?? "validator",
      relay.shards === undefined ? "" : counted(relay.shards, "shard"),
      relay.udp_port === undefined ? "" : `UDP ${relay.udp_port}`,
      `up ${span(Date.now() - relay.started_ms)}`,
    ];
    say(target, parts.filter(Boolean).join(" · "));
  } catch {
    say(target, "The relay does not answer.");
  }
}
