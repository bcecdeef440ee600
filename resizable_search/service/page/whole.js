/** The whole text of a hit behind an expander. It is asked for when it is opened, and shown piece by piece. */

import * as api from "./api.js";
import { el, shown, shownTitle } from "./dom.js";
import { count } from "./format.js";
import { marked } from "./passage.js";

const PIECE = 20_000; // characters: browsers lay out some thousand marks at once without a pause

/** The expander of a hit. */
export function wholeOf(hit, index, title, words) {
  const whole = el("details", { class: "whole" }, el("summary", {}, hit.text_length > (hit.snippet ?? "").length ? "Whole text" : "Details", el("span", { class: "unseen" }, ` of ${title}`)));
  const load = async () => {
    if (!whole.open || whole.dataset.state) return;
    whole.dataset.state = "loading";
    whole.querySelector(".error")?.remove();
    const waiting = el("p", { class: "hint" }, "Reading …");
    whole.append(waiting);
    try {
      const document = await api.documentAt(index, hit.row);
      whole.append(...partsOf(document, title, words));
      whole.dataset.state = "there";
    } catch (error) {
      whole.append(el("p", { class: "error", role: "alert" }, error.message));
      delete whole.dataset.state;
    }
    waiting.remove();
  };
  whole.addEventListener("toggle", load);
  return whole;
}

function partsOf(document, title, words) {
  const metadata = Object.entries(document.metadata ?? {});
  const text = document.text ?? "";
  return [
    title.length > 200 ? el("p", { class: "text", dir: "auto", tabindex: "0", role: "group", "aria-label": "Title" }, shownTitle(title)) : "",
    el("div", { class: "text", dir: "auto", tabindex: "0", role: "group", "aria-label": "Text" }, piecesOf(text, words)),
    metadata.length ? table(metadata) : "",
  ];
}

/** The first piece of a text, and a button for the next. */
function piecesOf(text, words, from = 0) {
  let to = Math.min(text.length, from + PIECE);
  if (to < text.length) to = Math.max(from + PIECE / 2, text.lastIndexOf(" ", to)) + 1;
  const nodes = marked(text.slice(from, to), words);
  if (to >= text.length) return nodes;
  const next = el("button", { type: "button", class: "next" }, `Show more (${count(text.length - to)} characters are left)`);
  next.addEventListener("click", () => {
    next.parentNode.focus();
    next.replaceWith(...piecesOf(text, words, to));
  });
  return [...nodes, next];
}

function table(metadata) {
  const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const rows = metadata.map(([key, value]) =>
    el("div", {}, el("dt", {}, el("bdi", {}, shown(key))), el("dd", { dir: "auto" }, shown(asText(value)))),
  );
  return el("dl", { class: "metadata" }, rows);
}
