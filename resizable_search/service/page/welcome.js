/** What a first visitor sees: questions to start with, and the indexes as choices. */

import { byId, el, shownTitle } from "./dom.js";
import { plural } from "./format.js";

const QUESTIONS = {
  pydoc: ["walk a directory tree", "parse a json document", "wait for several threads"],
  wiki: ["tree data structures", "history of the bicycle", "how volcanoes erupt"],
};
const MOST_CHOICES = 12;

/** The facts of an index in few words: its size, and its model. */
export function factsOf(index) {
  if (index.problem) return [index.problem];
  const model = index.embedder && (index.embedder.model || index.embedder.kind);
  return [`${plural(index.rows, "document")} · ${plural(index.full_dim, "dimension")}`, ...(model ? [model] : [])];
}

/** Show the choices among these indexes; `pick(name)` hears which one is taken. */
export function showChoices(indexes, chosen, pick) {
  byId("choices-part").hidden = indexes.length < 2;
  byId("choices").replaceChildren(
    ...indexes.slice(0, MOST_CHOICES).map((index) => {
      const button = el(
        "button",
        { type: "button", class: "choice", "aria-pressed": String(index.name === chosen) },
        el("b", {}, shownTitle(index.name)),
        factsOf(index).map((fact) => el("span", {}, fact)),
      );
      button.addEventListener("click", () => pick(index.name));
      return el("li", {}, button);
    }),
  );
}

/** Show questions of an index; `ask(text)` hears which one is taken. */
export function showQuestions(index, ask) {
  const known = Object.keys(QUESTIONS).find((each) => index.name.startsWith(each));
  const questions = known ? QUESTIONS[known] : (index.questions ?? []);
  byId("examples-title").hidden = !questions.length;
  byId("examples").replaceChildren(
    ...questions.map((text) => {
      const button = el("button", { type: "button", class: "example", dir: "auto" }, shownTitle(text));
      button.addEventListener("click", () => ask(text));
      return el("li", {}, button);
    }),
  );
}
