/** What an answer costs and loses, in three figures, two bars and a table of stages. */

import { byId, el } from "./dom.js";
import { bytes, count, ms, times } from "./format.js";

export class Panel {
  /** Show an answer of this index; `measured` and `measuredFull` are a sweep's figures, or null so far. */
  show(answer, index, kept, measured, measuredFull) {
    const { full } = answer;
    const here = measured && measuredFull ? measured : once(answer.timings_ms);
    const there = measured && measuredFull ? measuredFull : once(full.timings_ms);
    this.figures(answer, index, kept, here, there);
    this.bars(answer, index, here, there);
    byId("plan-shown").textContent = answer.plan;
    byId("stages").replaceChildren(...(answer.explain ?? []).map(stageRow));
    byId("panel").hidden = false;
  }

  figures(answer, index, kept, here, there) {
    const { full, k } = answer;
    const wanted = full.hits.length;
    byId("overlap").replaceChildren(`${kept}\u2009/\u2009${wanted}`, pips(kept, wanted));
    byId("overlap-of").textContent = `as at ${count(index.full_dim)}: overlap@${k} ${full.overlap.toFixed(2)}`;
    const ratio = there.ms / here.ms;
    byId("speed").textContent = times(Math.max(ratio, 1 / ratio));
    const runs = here.runs > 1 ? `medians of ${here.runs}` : "one run";
    const told = times(ratio) === times(1) ? "as fast as full" : ratio > 1 ? "faster than full" : "slower than full";
    byId("speed-of").textContent = `${told} (${runs})`;
    const read = readBy(answer);
    byId("read").textContent = bytes(read);
    byId("read-of").textContent = `read, of ${bytes(readBy(full))} at full`;
  }

  bars(answer, index, here, there) {
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
    const embed = `The query’s embedding took ${ms(answer.timings_ms.embed)} ms, the same at every dimension.`;
    const key = el(
      "p",
      { class: "key" },
      el("span", { class: "swatch scan", "aria-hidden": "true" }), "scan ",
      el("span", { class: "swatch rerank", "aria-hidden": "true" }), "rerank. ",
      embed,
    );
    byId("bars").replaceChildren(bar("this search", here), bar(`full ${count(index.full_dim)}`, there), key);
  }
}

const once = ({ scan, rerank }) => ({ scan, rerank, ms: scan + rerank, runs: 1 });

const readBy = (answer) => (answer.explain ?? []).reduce((sum, run) => sum + run.bytes, 0);

/** A small square for each wanted hit, filled if it was found; for few enough to be counted. */
function pips(kept, wanted) {
  if (wanted > 20) return "";
  const squares = Array.from({ length: wanted }, (_, i) => el("i", { class: i < kept ? "kept" : "" }));
  return el("span", { class: "pips", "aria-hidden": "true" }, squares);
}

function stageRow(run) {
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("code", {}, run.stage)),
    el("td", {}, `${count(run.rows_in)} → ${count(run.rows_out)}`),
    el("td", {}, bytes(run.bytes), el("small", {}, ` ${run.read}`)),
    el("td", {}, ms(run.ms)),
  );
}
