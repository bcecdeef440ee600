/** The controls that say how to search, in step with a state: sliders, hits, filter, ranking and plans. */

import { homeOption } from "./copy.js";
import { byId, el } from "./dom.js";
import { complain } from "./errors.js";
import { count } from "./format.js";
import { onPick } from "./picker.js";
import { Slider } from "./slider.js";
import { hasPlan, opening, RERANK } from "./state.js";

const RERANKS = [0, 2, 5, 10, 20, 50];
const AIM = 0.99; // the overlap of "cheapest for 99 % of hits"

export class Controls {
  /**
   * `changed(patch, pace)` hears of every change; `pace`: "now", "soon" (something is typed) or "along" (a slider moves).
   * `read(name)` gives an index as it is now.
   */
  constructor(changed, read) {
    Object.assign(this, { changed, read });
    this.dim = new Slider("dim", { say: (value) => this.sayDim(value), changed: (isTyped) => this.slid(isTyped) });
    this.rerank = new Slider("rerank", { say: sayRerank, changed: (isTyped) => this.slid(isTyped) });
    this.last = { dim: null, rerank: RERANK }; // what the loss and the cure are shown at
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("k").addEventListener("input", () => this.typedK());
    byId("where").addEventListener("change", () => changed({ where: byId("where").value.trim() }, "now"));
    byId("plan").addEventListener("change", () => changed({ plan: byId("plan").value.trim(), recall: null }, "now"));
    byId("group").addEventListener("change", () => changed({ group: byId("group").checked }, "now"));
    byId("cheapest").addEventListener("click", () => this.takeCheapest());
    onPick(byId("mode"), () => changed({ mode: byId("mode").value }, "now"));
    onPick(byId("recall"), () => {
      const [recall, k] = byId("recall").value.split(" ").map(Number);
      changed({ recall: recall || null, plan: "", ...(recall ? { k } : {}) }, "now");
    });
  }

  /** Set every control by the state. */
  dress(state, index, { limits, home }) {
    Object.assign(this, { state, index, limits, home });
    byId("controls").hidden = Boolean(index.problem);
    if (index.problem) return;
    const full = index.full_dim;
    this.dim.bounds({ least: 1, most: full, stops: [...new Set([...index.dims, full])].sort((a, b) => a - b) });
    this.rerank.bounds({ least: 0, most: limits.rerank, stops: RERANKS });
    this.dim.value = state.dim ?? full;
    this.rerank.value = state.rerank;
    this.remember();
    this.listPlans(index.tuned ?? []);
    byId("k").max = limits.k;
    byId("where").maxLength = limits.where;
    byId("k").value = state.k;
    byId("where").value = state.where;
    byId("plan").value = state.plan;
    byId("mode").value = state.mode;
    byId("group").checked = state.group;
    byId("plan").placeholder = `${Math.min(...index.dims, full)}:100,${full}`;
    byId("where-hint").textContent = `An SQL expression over ${(index.columns ?? []).join(", ")}.`;
    byId("cheapest-note").textContent = "";
    if (state.where || state.plan || state.mode || !state.group) byId("more").open = true;
    this.gloss();
  }

  /** Keep in step with a state that changed in these controls. */
  follow(state) {
    this.state = state;
    this.remember();
    byId("plan").value = state.plan;
    byId("recall").value = state.recall === null ? "" : `${state.recall} ${state.k}`;
    byId("k").value = state.k;
    byId("cheapest-note").textContent = "";
    this.gloss();
  }

  remember() {
    const { dim, rerank } = this.state;
    if (dim !== null) this.last.dim = dim;
    else if (!this.index.dims.includes(this.last.dim) || this.last.dim >= this.index.full_dim) this.last.dim = opening(this.index);
    if (rerank) this.last.rerank = rerank;
  }

  /** The three ways that tell the story: the full dimension, the loss and its cure; none where only one size is stored. */
  story() {
    const { dim, rerank } = this.last;
    const full = { dim: null, rerank: 0 };
    return dim === null ? [] : [full, { dim, rerank: 0 }, { dim, rerank }];
  }

  /** Rerank on or off. */
  toggleRerank() {
    this.rerank.choose(this.state.rerank ? 0 : this.last.rerank);
  }

  /** The full dimension, and back. */
  toggleFull() {
    this.dim.choose(this.state.dim === null ? (this.last.dim ?? this.index.full_dim) : this.index.full_dim);
  }

  slid(isTyped) {
    const dim = this.dim.value >= this.index.full_dim ? null : this.dim.value;
    this.changed({ dim, rerank: this.rerank.value, plan: "", recall: null }, isTyped ? "soon" : "along");
  }

  typedK() {
    const text = byId("k").value.trim();
    const valid = /^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= this.limits.k;
    complain("k-error", valid ? "" : `a whole number from 1 to ${count(this.limits.k)}`);
    if (!valid) return;
    byId("k").removeAttribute("aria-invalid");
    this.changed({ k: Number(text) }, "soon");
  }

  listPlans(tuned) {
    byId("recall-field").hidden = !tuned.length;
    byId("recall").replaceChildren(
      el("option", { value: "" }, "none: as the sliders say"),
      ...tuned.map(({ k, recall, plan }) => el("option", { value: `${recall} ${k}` }, `${recall} of the full hits at k ${k}: ${plan}`)),
    );
    byId("recall").value = this.state.recall === null ? "" : `${this.state.recall} ${this.state.k}`;
  }

  /** Move the sliders to the plan that was tuned, or take it as it is; or say how to tune. */
  async takeCheapest() {
    const { index } = this;
    await this.read(index.name).then(({ tuned }) => Object.assign(index, { tuned }), () => {}); // it may be tuned by now
    if (index !== this.index) return;
    this.listPlans(index.tuned ?? []);
    const { k } = this.state;
    const fit = (index.tuned ?? []).filter((each) => each.k === k && each.recall >= AIM).sort((a, b) => a.recall - b.recall)[0];
    if (!fit) {
      const command = `rsearch tune --index ${index.name} --recall ${AIM}${k === 10 ? "" : ` -k ${k}`}${homeOption(this.home)}`;
      byId("cheapest-note").replaceChildren("Nothing is tuned yet. Run ", el("code", {}, command), " in a terminal, then press this again.");
      return;
    }
    const [, dim, keep, last] = fit.plan.match(/^(\d+):(\d+),(\d+)$/)?.map(Number) ?? [];
    const rerank = keep / Math.max(k, 10);
    const bySliders = last === index.full_dim && Number.isInteger(rerank);
    this.changed(bySliders ? { dim, rerank, plan: "", recall: null } : { recall: fit.recall, plan: "" }, "now");
    if (bySliders) [this.dim.value, this.rerank.value] = [dim, rerank];
    byId("cheapest-note").textContent = `Tuned: plan ${fit.plan} keeps ${fit.recall * 100} % of the hits at k ${k}.`;
  }

  /** What the sliders mean, in words. */
  gloss() {
    const { state, index } = this;
    const full = count(index.full_dim);
    const width = state.dim ?? index.full_dim;
    byId("controls").classList.toggle("inert", hasPlan(state) || state.mode === "lexical");
    const scan = `Compares ${width < index.full_dim ? `the first ${count(width)} of ${full}` : `all ${full}`} numbers of each vector`;
    const again = `, then scores the best ${count(state.rerank * Math.max(state.k, 10))} again with all ${full}`;
    byId("gloss").textContent = state.plan
      ? "The plan below decides, not the sliders."
      : state.recall !== null
        ? `The plan that was tuned for ${state.recall} decides, not the sliders.`
        : state.mode === "lexical"
          ? "Ranks by words alone: dimensions do not count."
          : `${scan}${state.rerank && width < index.full_dim ? again : ""}.`;
  }

  sayDim(value) {
    return `${value} of ${this.index.full_dim} dimensions${this.index.dims.includes(value) ? ", a stored size" : ""}`;
  }
}

function sayRerank(value) {
  return value ? `${value} times k candidates, k at least 10` : "off";
}
