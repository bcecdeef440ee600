/** What an answer costs and loses: three figures, three ways to search, two bars and a table of stages. */

import { byId, el } from "./dom.js";
import { bytes, count, ms, times } from "./format.js";
import { FEWEST, ratio } from "./sweep.js";
import { nameOf } from "./state.js";

/** Show an answer of this index; `here` and `there` are a sweep's figures of its way and of the full one, or null so far. */
export function showPanel(answer, index, kept, here, there) {
  const { full } = answer;
  const wanted = full.hits.length;
  const fullDim = count(index.full_dim);
  byId("overlap").textContent = `${kept}\u2009/\u2009${wanted}`;
  byId("overlap-of").replaceChildren(...lines("hits found", `full ${fullDim}: ${count(wanted)}`), pips(kept, wanted));
  byId("speed").textContent = here ? `${ms(here.ms)}\u00a0ms` : "…";
  byId("speed-of").replaceChildren(el("span", { class: "unseen" }, "time: "), ...lines(comparison(here, there), there ? `full ${fullDim}: ${ms(there.ms)}\u00a0ms` : ""));
  const [read, readAtFull] = [readBy(answer), readBy(full)];
  byId("read").textContent = bytes(read);
  byId("read-of").replaceChildren(...lines(share(read, readAtFull), `full ${fullDim}: ${bytes(readAtFull)}`));
  byId("handle-figures").textContent = `${kept}/${wanted} hits · ${here ? `${ms(here.ms)} ms · ` : ""}${bytes(read)}`;
  byId("plan-shown").textContent = answer.plan;
  byId("stages").replaceChildren(...(answer.explain ?? []).map((run, i) => stageRow(run, here?.stages[i])));
  byId("stages-runs").textContent = here ? ` (medians of ${here.runs} runs)` : "";
  showBars(answer, here, there, fullDim);
  byId("panel").hidden = false;
}

const lines = (first, second) => [first, el("br"), second];

/** A factor is shown only where the times of all runs differ. */
function comparison(here, there) {
  if (!here || !there || here.runs < FEWEST) return "measuring …";
  if (here === there) return "the full search";
  const factor = ratio(here, there);
  if (factor === null) return "no clear difference";
  return factor > 1 ? `${times(factor)} faster` : `${times(1 / factor)} slower`;
}

function share(read, readAtFull) {
  if (times(readAtFull / read) === times(1) || times(read / readAtFull) === times(1)) return "read";
  return read < readAtFull ? `read: ${times(readAtFull / read)} less` : `read: ${times(read / readAtFull)} more`;
}

/**
 * The loss, its cure and the full dimension as buttons. `ways`: [{way, isCurrent, figures}]; `choose(way)` hears which
 * one was taken.
 */
export function showWays(ways, index, wanted, choose) {
  const place = byId("ways");
  const focused = [...place.children].indexOf(document.activeElement);
  place.replaceChildren(
    ...ways.map(({ way, isCurrent, figures }) => {
      const kept = figures ? `${Math.round(figures.overlap * wanted)}/${wanted}` : "…";
      const button = el(
        "button",
        { type: "button", class: "way", "aria-pressed": String(isCurrent) },
        el("span", {}, nameOf(way, index.full_dim)),
        el("b", {}, el("span", { class: "unseen" }, ", finds "), kept),
      );
      button.addEventListener("click", () => choose(way));
      return button;
    }),
  );
  place.children[focused]?.focus();
}

function showBars(answer, here, there, fullDim) {
  if (!here || !there) return byId("bars").replaceChildren();
  const longest = Math.max(here.ms, there.ms) || 1;
  const bar = (label, time) => {
    const part = (kind) => {
      const drawn = el("span", { class: `part ${kind}` });
      drawn.style.setProperty("--share", time[kind] / longest);
      return drawn;
    };
    const figures = time.rerank ? `${ms(time.scan)} + ${ms(time.rerank)} ms` : `${ms(time.scan)} ms`;
    return el(
      "div",
      { class: "bar" },
      el("span", { class: "bar-label" }, label),
      el("span", { class: "track", "aria-hidden": "true" }, part("scan"), part("rerank")),
      el("span", { class: "bar-value" }, figures),
    );
  };
  const { embed, prepare } = answer.timings_ms;
  const key = el(
    "p",
    { class: "key" },
    el("span", { class: "swatch scan", "aria-hidden": "true" }), "scan ",
    el("span", { class: "swatch rerank", "aria-hidden": "true" }), "rerank. ",
    embed ? `The query’s embedding took ${ms(embed)} ms, the same at every dimension. ` : "",
    prepare ? `This size is not stored: deriving it took ${ms(prepare)} ms, once.` : "",
  );
  byId("bars").replaceChildren(bar("this search", here), bar(`full ${fullDim}`, there), key);
}

const readBy = (answer) => (answer.explain ?? []).reduce((sum, run) => sum + run.bytes, 0);

/** A small square for each wanted hit, filled if it was found; for few enough to be counted. */
function pips(kept, wanted) {
  if (wanted > 20) return "";
  const squares = Array.from({ length: wanted }, (_, i) => el("i", { class: i < kept ? "kept" : "" }));
  return el("span", { class: "pips", "aria-hidden": "true" }, squares);
}

function stageRow(run, median) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("code", {}, run.stage)),
    el("td", {}, `${count(run.rows_in)} → ${count(run.rows_out)}`),
    el("td", {}, bytes(run.bytes), el("small", {}, ` ${run.read}`)),
    el("td", {}, median === undefined ? "…" : ms(median)),
  );
}
