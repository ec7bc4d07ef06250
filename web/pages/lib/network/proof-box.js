// What this browser has checked itself about a validator and one's own stake with it.

import { NotProved } from "../light/block.js";
import { delegationKey, readDelegation, readValidator, validatorKey, worth } from "../light/stake.js";
import { sut } from "../wallet/balance.js";
import { box, chip, link, make, put } from "./parts.js";
import { pathTo } from "./routes.js";

/** Between two proofs: they cost the relay a few answers. */
const PROOF_MS = 5000;

/** Blocks that a new record may take until it is under a signed header. */
const WAITED_MAX = 5;

/** @param {import("./parts.js").Context} context @param {string} operator */
export function proofBox({ light, purse }, operator) {
  const words = make("p", "proof-words", "Asking for proofs…");
  const root = box("Checked by this browser", "", words);
  root.id = "stake-proof";
  let provedMs = -Infinity;
  let waited = 0;

  const load = async () => {
    if (performance.now() - provedMs < PROOF_MS) return;
    provedMs = performance.now();
    await purse.open();
    const mine = purse.account === null ? [] : (await purse.delegations()).filter((each) => each.validator === operator && each.amount > 0n);
    try {
      const [validator, delegation] = await light.prove([validatorKey(operator), ...(mine.length > 0 && purse.account !== null ? [delegationKey(purse.account, operator)] : [])]);
      if (!validator) return;
      const record = readValidator(validator.value);
      const percent = Number((validator.signed * 1000n) / validator.total) / 10;
      root.dataset["proof"] = "proved";
      waited = 0;
      put(
        words,
        chip("Proved", "good"),
        ` ${delegation ? `${sut(worth(readDelegation(delegation.value).shares, record))} of yours, of ` : ""}${sut(record.tokens)} with this validator, under `,
        link(pathTo.block(validator.height), `block ${validator.height}`),
        `, which ${percent} % of the power signed. This browser follows the validators since block ${validator.firstHeight}.`,
      );
    } catch (error) {
      if (root.dataset["proof"] === "proved" && !(error instanceof NotProved)) return;
      // The state is signed with the next block: what is new cannot be proved before.
      if (error instanceof NotProved && error.absent && waited < WAITED_MAX) {
        waited += 1;
        provedMs = -Infinity;
        return put(words, "Waiting for the block that signs the newest stake…");
      }
      root.dataset["proof"] = "unproved";
      put(words, chip("Not proved", "warn"), ` What is shown here is this relay's word: ${error instanceof Error ? error.message.replace(/[.]$/, "") : String(error)}.`);
    }
  };
  return { root, load, forget: () => void (provedMs = -Infinity) };
}
