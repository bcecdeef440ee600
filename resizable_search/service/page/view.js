/** Shows an answer: the hits with the lost ones, the figures, the ranks and the chart. */

import { compared, withGhosts } from "./compare.js";
import { Chart } from "./chart.js";
import { byId, debounced } from "./dom.js";
import { count, plural } from "./format.js";
import { HitList } from "./hits.js";
import { showPanel, showWays } from "./panel.js";
import { share } from "./picture.js";
import { Slope, storyOf } from "./slope.js";
import { nameOf } from "./state.js";
import { keyOf, measuredWay, questionOf, ROUNDS, waysOf } from "./sweep.js";

const SETTLED = 700; // milliseconds after the last answer before it is read out

export class View {
  /** `choose(way)` hears which way was taken from a picture, `more(hit)` whose like is wanted. */
  constructor(sweep, { choose, more }) {
    this.sweep = sweep;
    this.choose = choose;
    this.hits = new HitList(byId("list"), more);
    this.chart = new Chart({ place: byId("chart"), table: byId("chart-table"), readout: byId("chart-readout") }, choose);
    this.slope = new Slope(byId("slope"), { point: (row, isOn) => this.point(row, isOn), choose: (row) => this.goTo(row) });
    this.scheduled = 0;
    this.announce = debounced(SETTLED, () => {
      const { answer, state, index } = this;
      const told = answer && `${titleOf(state)}, ${nameOf(measuredWay(state), index.full_dim)}. ${byId("count").textContent}`;
      byId("announcement").textContent = told ?? "";
    });
    byId("to-lost").addEventListener("click", () => this.goTo(this.hits.firstLost()?.dataset.row));
    byId("copy-picture").addEventListener("click", () => this.copyPicture());
    addEventListener("pointerdown", () => (this.isPressed = true));
    for (const name of ["pointerup", "pointercancel"]) {
      addEventListener(name, () => {
        this.isPressed = false;
        if (this.isLate) this.drawSoon();
      });
    }
  }

  /** Show the answer that a state got of an index; `story` are the three ways to compare. */
  show(answer, state, index, story) {
    Object.assign(this, { answer, state, index, story });
    const { full } = answer;
    const comparison = compared(answer.hits, full.hits);
    const fullDim = count(index.full_dim);
    this.kept = full.hits.length - comparison.lost.length;
    this.entries = withGhosts(answer.hits, comparison);
    this.hits.show(this.entries, {
      index: index.name,
      question: questionOf(state),
      query: state.query,
      fullDim,
      depth: full.hits.length,
      at: scoredAt(answer.plan),
    });
    this.summarise(comparison.lost.length, fullDim);
    this.isEmpty = !answer.hits.length && !full.hits.length;
    byId("views").hidden = byId("panel").hidden = this.isEmpty;
    this.draw();
    this.announce();
  }

  summarise(lost, fullDim) {
    const { answer, state } = this;
    const n = answer.hits.length;
    byId("summary").hidden = false;
    byId("count").textContent = n
      ? `${plural(n, "hit")}: ${lost ? count(this.kept) : "all"} of the ${count(answer.full.hits.length)} that the full dimension finds`
      : state.where ? "No document matches the filter" : "No documents";
    byId("to-lost").hidden = !lost;
    byId("to-lost").textContent = `${count(lost)} lost`;
    byId("legend").textContent = n ? `Beside each hit: its rank at ${fullDim} (= the same, ↑ further up here, ↓ further down), and its score.` : "";
    byId("remark").hidden = !answer.remark;
    byId("remark").textContent = answer.remark ?? "";
  }

  forget() {
    this.hits.clear();
    this.answer = null;
    this.announce();
    for (const id of ["summary", "panel", "views", "welcome"]) byId(id).hidden = true;
    byId("count").textContent = "";
    byId("handle-figures").textContent = "";
  }

  /** Draw again when something was measured, but not what is pressed: a button that is replaced is never clicked. */
  drawSoon(failure) {
    byId("chart-title").classList.toggle("error", Boolean(failure));
    if (failure) byId("chart-title").textContent = `Not measured: ${failure.message}`;
    else this.scheduled ||= requestAnimationFrame(() => (this.isPressed ? this.wait() : this.draw()));
  }

  wait() {
    this.scheduled = 0;
    this.isLate = true;
  }

  draw() {
    this.scheduled = 0;
    this.isLate = false;
    if (!this.answer || this.isEmpty) return;
    const { answer, state, index, sweep } = this;
    const full = sweep.figures({ dim: null, rerank: 0 });
    const mine = measuredWay(state);
    const isFull = keyOf(mine) === keyOf({ dim: null });
    showPanel(answer, index, this.kept, isFull ? full : sweep.figures(mine), full);
    byId("handle-way").textContent = nameOf(mine, index.full_dim);
    const ways = this.story.map((way) => ({ way, isCurrent: keyOf(way) === keyOf(mine), figures: sweep.figures(way) }));
    showWays(ways, index, answer.full.hits.length, this.choose);
    this.drawRanks();
    this.drawChart(mine);
  }

  drawRanks() {
    const { answer, state, index } = this;
    this.ranks = storyOf(this.entries, answer.full.hits);
    this.names = [nameOf(measuredWay(state), index.full_dim), `full ${index.full_dim}`];
    const description = `Ranks by ${this.names[0]} beside those of the ${this.names[1]} dimensions: ${this.kept} of ${answer.full.hits.length} hits are in both.`;
    byId("slope-title").textContent = captionOf(this.ranks.lines, answer.full.hits.length);
    this.slope.show(this.ranks, this.names, description);
  }

  drawChart(mine) {
    const { state, index, sweep } = this;
    const rerank = this.story[2]?.rerank;
    const known = waysOf(state, index, rerank).map((way) => [way, sweep.figures(way)]).filter(([, figures]) => figures);
    const runs = known.length ? Math.min(...known.map(([, figures]) => figures.runs)) : 0;
    const progress = runs < ROUNDS ? "measuring …" : `medians of ${runs} runs and their range`;
    const means = known.some(([way]) => this.meanOf(way)) ? "; pale: the mean of many queries" : "";
    byId("chart-title").textContent = `This query at every size, ○ alone and ◆ with rerank ${rerank ?? ""}: ${progress}${means}`;
    this.chart.show(
      known.map(([way, figures]) => ({
        way,
        key: keyOf(way),
        dim: way.dim ?? index.full_dim,
        series: way.plan || way.recall || way.mode ? "plan" : way.rerank ? "rerank" : "plain",
        label: way.plan ? "plan" : way.recall ? String(way.recall) : String(way.dim ?? index.full_dim),
        name: nameOf(way, index.full_dim),
        current: keyOf(way) === keyOf(mine),
        mean: this.meanOf(way),
        ...figures,
      })),
      state.k,
    );
  }

  /** What many queries of this index keep by a way; null where nothing was measured. */
  meanOf(way) {
    const curve = this.index.curve;
    if (!curve || curve.k !== this.state.k || way.plan || way.recall || way.mode) return null;
    const dim = way.dim ?? this.index.full_dim;
    const point = dim < this.index.full_dim && curve.points.find((each) => each.dim === dim && each.rerank === (way.rerank || 0));
    return point ? { overlap: point.overlap, low: point.overlap_ci[0], high: point.overlap_ci[1], queries: point.queries } : null;
  }

  point(row, isOn) {
    this.hits.itemAt(row)?.classList.toggle("pointed", isOn);
  }

  /** Bring a hit into view, and the focus to it. */
  goTo(row) {
    const item = this.hits.itemAt(row);
    if (!item) return;
    item.tabIndex = -1;
    item.focus({ preventScroll: true });
    item.scrollIntoView({ block: "center" });
  }

  async copyPicture() {
    const { state, index, answer } = this;
    const lost = answer.full.hits.length - this.kept;
    byId("picture-note").textContent = await share(this.ranks, {
      title: titleOf(state),
      figures: `${this.names[0]} finds ${this.kept} of the ${answer.full.hits.length} hits of all ${count(index.full_dim)} dimensions${lost ? `: ${lost} lost` : ""}`,
      names: this.names,
      foot: `rsearch · ${index.name} · ${plural(index.rows, "document")} × ${count(index.full_dim)}${index.embedder?.model ? ` · ${index.embedder.model}` : ""}`,
    });
  }
}

const titleOf = ({ query }) => (query ? `“${query}”` : byId("like-text").textContent);

/** What the lines between the ranks mean. */
function captionOf(lines, depth) {
  const has = (kind) => lines.some((line) => line.kind === kind);
  const parts = ["A line joins the two ranks of a hit.", has("lost") && "× lost.", has("other") && `Dashes: not in the full top ${depth}.`];
  return parts.filter(Boolean).join(" ");
}

/** Where the scores of a plan are from: "at 256", or "by words". */
function scoredAt(plan) {
  const [stages, words] = plan.split("+");
  if (words) return "by both";
  const last = stages.split(",").at(-1).match(/^\d+/);
  return last ? `at ${last[0]}` : "by words";
}
