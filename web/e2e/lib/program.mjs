// A program that says its events as lines of JSON and takes lines of text.

import { createInterface } from "node:readline";

import { Process } from "./processes.mjs";
import { until } from "./scenario.mjs";

export class Program extends Process {
  /** Every event so far, in order. @type {any[]} */
  events = [];

  /** @param {string} program @param {string[]} args @param {Record<string, string>} [env] */
  constructor(program, args, env) {
    super(program, args, env, "pipe");
    if (!this.child.stdout) throw new Error("the program's output is piped");
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      try {
        this.events.push(JSON.parse(line));
      } catch {
        // Words for a person; they are in the log.
      }
    });
  }

  /** @param {string} line */
  say(line) {
    this.child.stdin?.write(`${line}\n`);
  }

  /** @param {string} event @returns {any[]} */
  all(event) {
    return this.events.filter((each) => each.event === event);
  }

  /** The first event of a name, awaited. @param {string} event @returns {Promise<any>} */
  first(event) {
    return until(`${event} of ${this.name}; it said: ${this.log.slice(-300)}`, async () => {
      this.mustRun();
      return this.all(event)[0];
    });
  }
}
