/** Errors beside what caused them. */

import { byId, prose } from "./dom.js";
import { NOTHING } from "./state.js";

const FOLDED = ["k-error", "where-error", "plan-error", "mode-error", "recall-error"];

/** Show an error at a place: "dim-error", or "problem" where no control is to blame. */
export function complain(place, message) {
  if (place === "recall-error" && byId("recall-field").hidden) place = "problem"; // of an address: nothing is tuned
  byId(place).replaceChildren(...prose(message));
  const field = fieldOf(place);
  if (message && field.matches("input, select")) field.setAttribute("aria-invalid", "true");
  if (message && FOLDED.includes(place)) byId("more").open = true;
}

const fieldOf = (place) => byId(place.replace(/-error$/, ""));

/** Tell where the hits would be that an option of the instrument is wrong, and lead to it. */
export function pointTo(place) {
  const field = fieldOf(place);
  if (!field.closest("#tools")) return;
  const lead = () => {
    if (!field.checkVisibility()) byId("handle").click(); // the bar of a small screen is closed
    field.scrollIntoView({ block: "nearest" });
  };
  lead();
  byId("unanswered").hidden = false;
  byId("to-wrong").textContent = `Change “${field.labels[0]?.textContent ?? field.ariaLabel}”`;
  byId("to-wrong").onclick = () => {
    lead();
    field.focus();
  };
}

export function clearErrors() {
  byId("unanswered").hidden = true;
  for (const place of document.querySelectorAll(".error[id]")) place.textContent = "";
  for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
}

/**
 * The place for an error: at the field that the service names, else at the control that changed since `good`; of
 * several, the one most likely to be wrong.
 */
export function blame(now, good, field) {
  if (byId(`${field}-error`)) return `${field}-error`;
  const before = good ?? NOTHING;
  const isSame = now.query === before.query && now.index === before.index;
  const numbers = isSame ? ["rerank", "dim", "k"] : []; // else it is the new text
  const changed = ["plan", "mode", "where", "recall", ...numbers].find((name) => now[name] !== before[name]);
  return `${changed ?? "query"}-error`;
}
