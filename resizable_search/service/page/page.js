/** The page: reads the controls, asks the service, shows the answer, and keeps the address in step. */

import * as api from "./api.js";
import { Chart } from "./chart.js";
import { compared } from "./compare.js";
import { byId, debounced, el, shown } from "./dom.js";
import { count, ms, plural } from "./format.js";
import { HitList, lostMark, markOf } from "./hits.js";
import { Panel } from "./panel.js";
import { Slider } from "./slider.js";
import { bodyOf, fitted, fromAddress, NOTHING, toAddress, wayOf } from "./state.js";
import { keyOf, questionOf, ROUNDS, Sweep, waysOf } from "./sweep.js";

const PAUSE = 200; // milliseconds after the last key before a typed number is searched with
const BREATH = 160; // milliseconds between searches while a slider moves; browsers limit address changes
const SLOW = 500; // milliseconds after which the page says that it is searching
const LOOK = 5000; // milliseconds between checks for a first index
const EXAMPLES = {
  pydoc: ["walk a directory tree", "parse a json document", "wait for several threads"],
  wiki: ["tree data structures", "history of the bicycle", "how volcanoes erupt"],
};

let state = { ...NOTHING };
let catalog = { indexes: [], limits: {}, default: null };
let answer = null; // what is shown
let good = null; // the state that the last answer was for
let asked = 0; // counts questions: a late answer to an earlier one is dropped
let asking = new AbortController();
let waiting = 0; // the timer of "Searching …"

const hits = new HitList(byId("list"));
const lost = new HitList(byId("lost-list"));
const panel = new Panel();
const sweep = new Sweep(api.search, (failure) => drawSoon(failure));
const chart = new Chart(byId("chart"), byId("chart-table"), choose);
const soon = debounced(PAUSE, () => ask("replace"));
let looking = 0; // the timer of the next such look
let moving = false; // whether a slider's searches are under way
let moved = false; // whether it moved on meanwhile
const dim = new Slider("dim", { say: sayDim, changed: slid });
const rerank = new Slider("rerank", { say: sayRerank, changed: slid });

const index = () => catalog.indexes.find((each) => each.name === state.index);

// ---------------------------------------------------------------------------------- opening

async function open() {
  byId("gone").hidden = true;
  byId("loading").hidden = false;
  try {
    await list();
  } catch (error) {
    return unreachable(error, open);
  } finally {
    byId("loading").hidden = true;
  }
  byId("token").hidden = true;
  const none = !catalog.indexes.length;
  byId("none").hidden = !none;
  for (const id of ["picker", "ask", "board"]) byId(id).hidden = none;
  if (none) {
    document.title = "rsearch";
    clearTimeout(looking);
    looking = setTimeout(open, LOOK);
    return;
  }
  byId("k").max = catalog.limits.k;
  byId("query").maxLength = catalog.limits.query;
  byId("where").maxLength = catalog.limits.where;
  restore();
  if (!state.query) byId("query").focus();
}

async function list() {
  catalog = await api.indexes();
  byId("index").replaceChildren(
    ...catalog.indexes.map((each) => el("option", { value: each.name }, shown(each.name) + (each.problem ? " (cannot be searched)" : ""))),
  );
}

/** Take the state from the address, and show its answer. */
function restore() {
  soon.cancel();
  if (!catalog.indexes.length) return open();
  const given = fromAddress(location.search);
  const name = given.index ?? catalog.default ?? catalog.indexes[0].name;
  const found = catalog.indexes.find((each) => each.name === name);
  if (!found) {
    forget();
    state = { ...given };
    byId("controls").hidden = true;
    byId("query").value = state.query;
    byId("index").selectedIndex = -1;
    byId("facts").textContent = "";
    return complain("problem", `no index ${name} here: choose one above`);
  }
  if (!given.query && given.dim === null && !found.problem) given.dim = middling(found);
  state = fitted(given, found, catalog.limits);
  dress();
  return ask("keep");
}

/** A stored size of about a third, where some hits differ. */
function middling({ dims, full_dim: full }) {
  const smaller = dims.filter((each) => each <= full / 3);
  return smaller.length ? Math.max(...smaller) : null;
}

function unreachable(error, again) {
  const wants = error.kind === "token";
  byId("token").hidden = !wants;
  byId("gone").hidden = wants;
  if (wants) {
    complain("token-error", api.token.get() ? error.message : "");
    api.token.drop();
    byId("token-text").focus();
  } else {
    byId("gone-text").textContent = error.message;
  }
  onward = again;
}

let onward = open; // what "try again" does

// ---------------------------------------------------------------------------------- controls

/** Set every control by the state. */
function dress() {
  const here = index();
  byId("query").value = state.query;
  byId("index").value = state.index;
  byId("facts").textContent = here.problem
    ? ""
    : `${plural(here.rows, "document")} × ${count(here.full_dim)}${here.embedder ? `, ${here.embedder.model || here.embedder.kind}` : ""}`;
  byId("controls").hidden = Boolean(here.problem);
  if (!here.problem) {
    const stops = [...new Set([...here.dims, here.full_dim])].sort((a, b) => a - b);
    dim.bounds({ least: 1, most: here.full_dim, stops });
    rerank.bounds({ least: 0, most: catalog.limits.rerank, reach: 30, stops: [0, 2, 5, 10, 20, 30] });
    dim.value = state.dim ?? here.full_dim;
    rerank.value = state.rerank;
    tune(here);
  }
  byId("k").value = state.k;
  byId("where").value = state.where;
  byId("plan").value = state.plan;
  byId("mode").value = state.mode;
  byId("group").checked = state.group;
  byId("plan").placeholder = `${Math.min(...(here.dims ?? []), here.full_dim)}:100,${here.full_dim}`;
  byId("where-hint").textContent = `An SQL expression over ${(here.columns ?? []).join(", ")}.`;
  if (state.where || state.plan || state.recall !== null || state.mode || !state.group) byId("more").open = true;
  gloss();
}

function tune({ tuned = [] }) {
  byId("recall-field").hidden = !tuned.length;
  byId("recall").replaceChildren(
    el("option", { value: "" }, "none: as the sliders say"),
    ...tuned.map(({ k, recall, plan }) => el("option", { value: `${recall} ${k}` }, `${recall} of the full hits at k ${k}: ${plan}`)),
  );
  byId("recall").value = state.recall === null ? "" : `${state.recall} ${state.k}`;
}

/** What the sliders mean, in words. */
function gloss() {
  const inert = Boolean(state.plan) || state.recall !== null;
  byId("controls").classList.toggle("inert", inert);
  const width = index()?.full_dim ?? 0;
  const full = count(width);
  byId("rerank-gloss").textContent = inert
    ? "the plan below decides"
    : state.rerank && (state.dim ?? width) >= width
      ? `does nothing at ${full} dimensions`
      : state.rerank
        ? `${count(state.rerank * Math.max(state.k, 10))} candidates at ${full}`
        : "off";
}

function sayDim(value) {
  const here = index();
  const stored = here.dims.includes(value) ? ", a stored size" : "";
  return `${value} of ${here.full_dim} dimensions${stored}`;
}

function sayRerank(value) {
  return value ? `${value} times k candidates, k at least 10` : "off";
}

/** A slider was moved: it replaces a plan. */
function slid(isTyped) {
  state = { ...state, ...sliders(), plan: "", recall: null };
  byId("plan").value = "";
  byId("recall").value = "";
  gloss();
  if (isTyped) soon();
  else follow();
}

/** Search while a slider moves: at once, and again after each answer. */
async function follow() {
  moved = true;
  if (moving) return;
  moving = true;
  try {
    while (moved) {
      moved = false;
      await ask("replace");
      await new Promise((resolve) => setTimeout(resolve, BREATH));
    }
  } finally {
    moving = false;
  }
}

function sliders() {
  const full = index().full_dim;
  return { dim: dim.value >= full ? null : dim.value, rerank: rerank.value };
}

/** A point of the chart was chosen. */
function choose(way) {
  state = { ...state, dim: null, rerank: 0, recall: null, plan: "", ...way };
  dress();
  ask("replace");
}

// ---------------------------------------------------------------------------------- asking

/** Search as the controls say; `history`: "push" a new entry, "replace" this one, or "keep" it. */
async function ask(history) {
  soon.cancel();
  asking.abort();
  sweep.stop();
  asking = new AbortController();
  const { signal } = asking;
  const mine = (asked += 1);
  const here = index();
  clearErrors();
  if (!here) return complain("problem", "choose an index above");
  if (here.problem) {
    forget();
    busy(false);
    return complain("problem", `${here.name} cannot be searched: ${here.problem}`);
  }
  state = { ...state, query: byId("query").value.trim() };
  if (history !== "keep") remember(history);
  document.title = state.query ? `${state.query} · rsearch` : "rsearch";
  if (!state.query) {
    forget();
    busy(false);
    return welcome();
  }
  byId("welcome").hidden = true;
  busy(true);
  try {
    const found = await api.search({ ...bodyOf(state), explain: true, compare: true }, signal);
    if (mine !== asked) return;
    if (found.generation !== here.generation) {
      await list();
      if (mine !== asked) return;
      return restore(); // the index was built again: with other sizes, perhaps
    }
    byId("gone").hidden = byId("token").hidden = true;
    [answer, good] = [found, state];
    show();
  } catch (error) {
    if (mine !== asked || error.name === "AbortError") return;
    if (error.kind !== "gone" && (await isStale(here))) return mine === asked && restore();
    forget();
    if (error.kind === "refused") complain(blame(state), error.message);
    else if (error.kind === "failed") complain("problem", error.message);
    else unreachable(error, () => ask("keep"));
  } finally {
    if (mine === asked) busy(false);
  }
}

/** Whether an index is another one, or gone, since the list was read; it is read again. */
async function isStale({ name, generation }) {
  await list().catch(() => {});
  return catalog.indexes.find((each) => each.name === name)?.generation !== generation;
}

function remember(history) {
  const address = toAddress(state);
  const now = location.search || location.pathname;
  const another = history === "push" || fromAddress(location.search).query !== state.query;
  if (address !== now) window.history[another ? "pushState" : "replaceState"](null, "", address);
}

function busy(is) {
  byId("board").classList.toggle("busy", is);
  byId("hits").setAttribute("aria-busy", String(is));
  clearTimeout(waiting);
  byId("waiting").textContent = "";
  if (is) waiting = setTimeout(wait, SLOW);
}

/** Tell that a search takes long; the answer to another question is not left beside it. */
function wait() {
  byId("waiting").textContent = "Searching …";
  if (answer && questionOf(state) !== questionOf(good)) forget();
}

/** The control whose change the service refused; of several, the one most likely to be wrong. */
function blame(now) {
  const before = good ?? NOTHING;
  const numbers = now.query === before.query ? ["rerank", "dim", "k"] : []; // else it is the new text
  const changed = ["plan", "mode", "where", "recall", ...numbers].find((name) => now[name] !== before[name]);
  return `${changed ?? "query"}-error`;
}

function complain(place, message) {
  if (place === "recall-error" && byId("recall-field").hidden) place = "problem"; // of an address: nothing is tuned
  byId(place).textContent = message;
  const field = byId(place.replace(/-error$/, ""));
  if (message && field.matches("input, select")) field.setAttribute("aria-invalid", "true");
  if (["where-error", "plan-error", "mode-error", "recall-error"].includes(place)) byId("more").open = true;
}

function clearErrors() {
  for (const place of document.querySelectorAll(".error")) place.textContent = "";
  for (const field of document.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
}

// ---------------------------------------------------------------------------------- showing

function show() {
  const here = index();
  const { full } = answer;
  const question = questionOf(state);
  const { marks, lost: gone } = compared(answer.hits, full.hits);
  const kept = full.hits.length - gone.length;
  const fullDim = count(here.full_dim);
  hits.show(answer.hits, question, state.query, markOf(marks, fullDim, full.hits.length));
  lost.show(gone, question, state.query, lostMark(fullDim));
  byId("lost").hidden = !gone.length;
  byId("lost-title").textContent = `Lost: ${plural(gone.length, "hit")} that ${fullDim} dimensions find`;
  const n = answer.hits.length;
  byId("count").replaceChildren(
    n
      ? `${plural(n, "hit")}, ${gone.length ? count(kept) : "all"} of the ${count(full.hits.length)} that the full dimension finds`
      : state.where ? "No document matches the filter" : "No documents",
    gone.length ? el("a", { href: "#lost", class: "to-lost" }, `${count(gone.length)} lost, below`) : "",
  );
  byId("legend").hidden = !n;
  byId("legend").textContent = `Beside each hit its rank at ${fullDim}: = the same, ↑ further up here, ↓ further down.`;
  byId("panel").hidden = true;
  if (!n && !full.hits.length) return;
  draw();
  measure();
}

/** Measure all ways, or only this one and the full one while the chart is closed. */
function measure() {
  const ways = waysOf(good, index());
  sweep.measure(good, questionOf(good), byId("deep").open ? ways : ways.slice(0, 2), answer.full.hits);
}

let scheduled = 0;

function drawSoon(failure) {
  byId("chart-title").classList.toggle("error", Boolean(failure));
  if (failure) byId("chart-title").textContent = `Not measured: ${failure.message}`;
  else scheduled ||= requestAnimationFrame(draw);
}

/** Draw the panel and the chart from the measurements so far. */
function draw() {
  scheduled = 0;
  const here = index();
  if (!answer || !here || questionOf(good) !== questionOf(state)) return;
  const kept = Math.round(answer.full.overlap * answer.full.hits.length);
  const full = { dim: null, rerank: 0 };
  const mine = wayOf(good);
  panel.show(answer, here, kept, sweep.figures(mine), sweep.figures(full));
  const known = waysOf(good, here).map((way) => [way, sweep.figures(way)]).filter(([, figures]) => figures);
  const runs = known.length ? Math.min(...known.map(([, figures]) => figures.runs)) : 0;
  const key = good.rerank && !mine.plan && !mine.recall ? `: ○ scan alone, ◆ rerank ×${good.rerank}` : "";
  const progress = runs < ROUNDS ? "measuring …" : `medians of ${runs} runs`;
  byId("chart-title").textContent = `Overlap@${good.k} against time, this query at every stored size${key} (${progress})`;
  chart.show(
    known.map(([way, figures]) => ({
      way,
      key: keyOf(way),
      dim: way.dim ?? here.full_dim,
      series: way.plan || way.recall ? "plan" : way.rerank ? "rerank" : "plain",
      label: way.plan ? "plan" : way.recall ? String(way.recall) : String(way.dim ?? here.full_dim),
      name: nameOf(way, here),
      current: keyOf(way) === keyOf(mine),
      ...figures,
    })),
    { k: good.k, rerank: good.rerank },
  );
}

function nameOf(way, here) {
  if (way.plan) return `plan ${way.plan}`;
  if (way.recall) return `tuned for ${way.recall}`;
  return `${way.dim ?? here.full_dim} dimensions${way.rerank ? `, rerank ×${way.rerank}` : ""}`;
}

function forget() {
  hits.clear();
  lost.clear();
  answer = null;
  for (const id of ["lost", "legend", "panel", "welcome"]) byId(id).hidden = true;
  byId("count").textContent = "";
}

async function welcome() {
  byId("welcome").hidden = false;
  const name = state.index;
  if (byId("examples").dataset.index === name) return;
  const known = Object.keys(EXAMPLES).find((each) => name.startsWith(each));
  const examples = known ? EXAMPLES[known] : await titles(index());
  if (name !== state.index) return;
  byId("examples").dataset.index = name;
  byId("examples").replaceChildren(
    ...examples.map((text) => {
      const button = el("button", { type: "button", class: "example", dir: "auto" }, shown(text));
      button.addEventListener("click", () => {
        byId("query").value = text;
        ask("push");
      });
      return el("li", {}, button);
    }),
  );
}

/** Titles of three documents, as example queries for an unknown index. */
async function titles({ name, rows }) {
  const places = [...new Set([1, 3, 5].map((sixth) => Math.floor((rows * sixth) / 6)))];
  const found = await Promise.allSettled(places.map((row) => api.documentAt(name, row)));
  return [...new Set(found.map((each) => each.value?.title?.trim()).filter((title) => title && title.length < 80))];
}

// ---------------------------------------------------------------------------------- hearing

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask("push");
});
byId("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  ask("replace");
});
byId("index").addEventListener("change", (event) => {
  const chosen = catalog.indexes.find((each) => each.name === event.target.value);
  state = { ...state, plan: "", recall: null, query: byId("query").value.trim() };
  state = chosen.problem ? { ...state, index: chosen.name } : fitted({ ...state, dim: state.dim ?? null }, chosen, catalog.limits);
  dress();
  ask("push");
});
byId("k").addEventListener("input", () => {
  const text = byId("k").value.trim();
  const valid = /^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= catalog.limits.k;
  complain("k-error", valid ? "" : `a whole number from 1 to ${count(catalog.limits.k)}`);
  if (!valid) return;
  byId("k").removeAttribute("aria-invalid");
  state = { ...state, k: Number(text) };
  gloss();
  soon();
});
byId("where").addEventListener("change", () => {
  state = { ...state, where: byId("where").value.trim() };
  ask("replace");
});
byId("plan").addEventListener("change", () => {
  state = { ...state, plan: byId("plan").value.trim(), recall: null };
  byId("recall").value = "";
  gloss();
  ask("replace");
});
byId("recall").addEventListener("change", () => {
  const [recall, k] = byId("recall").value.split(" ").map(Number);
  state = { ...state, recall: recall || null, k: recall ? k : state.k, plan: "" };
  byId("plan").value = "";
  byId("k").value = state.k;
  gloss();
  ask("replace");
});
byId("mode").addEventListener("change", () => {
  state = { ...state, mode: byId("mode").value };
  ask("replace");
});
byId("group").addEventListener("change", () => {
  state = { ...state, group: byId("group").checked };
  ask("replace");
});
byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!api.token.set(byId("token-text").value)) return complain("token-error", "not a token: copy it again, without other characters");
  byId("token-text").value = "";
  onward();
});
byId("retry").addEventListener("click", () => onward());
byId("again").addEventListener("click", () => open());
byId("deep").addEventListener("toggle", () => {
  if (answer && byId("deep").open) measure();
});
addEventListener("popstate", () => catalog.indexes.length && restore());
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  byId("query").focus();
  byId("query").select();
});

const narrow = matchMedia("(max-width: 899px)");
byId("deep").open = !narrow.matches;
narrow.addEventListener("change", () => { byId("deep").open = !narrow.matches; });

open();
