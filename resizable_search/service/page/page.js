/** The page: asks the service what the controls say, has the answer shown, and keeps the address in step. */

import * as api from "./api.js";
import { Controls } from "./controls.js";
import { asCommand, asCurl, asPython, homeOption, toClipboard } from "./copy.js";
import { byId, debounced, el, prose, shown, shownTitle } from "./dom.js";
import { blame, clearErrors, complain, pointTo } from "./errors.js";
import * as keys from "./keys.js";
import { onPick } from "./picker.js";
import { fitted, fromAddress, isAsking, NOTHING, toAddress } from "./state.js";
import { questionOf, Sweep, waysOf } from "./sweep.js";
import { makeTabs } from "./tabs.js";
import { View } from "./view.js";
import { factsOf, showChoices, showQuestions } from "./welcome.js";

const PAUSE = 200; // milliseconds after the last key before a typed number is searched with
const TYPING = 120; // the same for a query, where embedding is quick
const QUIET = 700; // after which an error of a half typed query is shown
const BREATH = 160; // milliseconds between searches while a slider moves; browsers limit address changes
const SLOW = 500; // milliseconds after which the page says that it is searching
const LOOK = 5000; // milliseconds between checks for a first index

let state = { ...NOTHING };
let catalog = { indexes: [], limits: {}, default: null };
let answer = null; // what is shown
let good = null; // the state that the last answer was for
let asked = 0; // counts questions: a late answer to an earlier one is dropped
let asking = new AbortController();
let waiting = 0; // the timer of "Searching …"
let looking = 0; // the timer of the next look for a first index
let complaining = 0; // the timer of an error of a half typed query
let moving = false; // whether a slider's searches are under way
let moved = false; // whether it moved on meanwhile
let isDraft = false; // whether the address has a query that is being typed
let liked = null; // the hit whose like was asked for
let onward = open; // what "try again" does

const sweep = new Sweep(api.measure, (failure) => view.drawSoon(failure));
const controls = new Controls(change, api.index);
const view = new View(sweep, { choose, more });
const soon = debounced(PAUSE, () => ask("replace"));
const typed = debounced(TYPING, typing);
const narrow = matchMedia("(max-width: 61.99em)");

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
  for (const command of document.querySelectorAll("[data-command]")) command.textContent = command.dataset.command + homeOption(catalog.home);
  byId("version").textContent = catalog.version;
  if (none) {
    document.title = "rsearch";
    clearTimeout(looking);
    looking = setTimeout(open, LOOK);
    return;
  }
  byId("query").maxLength = catalog.limits.query;
  restore();
  if (!isAsking(state)) byId("query").focus();
}

async function list() {
  catalog = await api.indexes();
  byId("index").replaceChildren(
    ...catalog.indexes.map((each) => el("option", { value: each.name }, shownTitle(each.name) + (each.problem ? " (cannot be searched)" : ""))),
  );
  if (state.index) byId("index").value = state.index;
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
    state = { ...NOTHING, ...given };
    byId("instrument").hidden = true;
    byId("query").value = state.query;
    byId("index").selectedIndex = -1;
    byId("facts").textContent = "";
    return complain("problem", `no index ${shown(name)} here: choose one above`);
  }
  state = found.problem ? { ...NOTHING, ...given, index: name } : fitted(given, found, catalog.limits);
  dress();
  return ask("keep");
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
    byId("gone-text").replaceChildren(...prose(error.message));
  }
  onward = again;
}

/** Set everything that stands for the state. */
function dress() {
  const here = index();
  byId("query").value = state.query;
  byId("index").value = state.index;
  const [size, model] = here.problem ? [] : factsOf(here);
  byId("facts").replaceChildren(size ?? "", model ? el("span", { class: "model" }, ` · ${model}`) : "");
  byId("like").hidden = !state.similar;
  if (!byId("like").hidden) byId("like-text").textContent = `More like ${shownTitle(likeOf(state.similar))}`;
  controls.dress(state, here, catalog);
  detail(here);
}

/** Read what else is known of an index, once. */
async function detail(here) {
  if (here.isDetailed || here.problem) return;
  here.isDetailed = true;
  const details = await api.index(here.name).catch(() => null); // the page does without
  if (here !== index() || details?.generation !== here.generation) return;
  Object.assign(here, details);
  if (!byId("welcome").hidden) welcome(here);
  else view.drawSoon(null);
}

const likeOf = (id) => (liked?.id === id && liked.title ? `“${liked.title}”` : id);

// ---------------------------------------------------------------------------------- changes

/** A control was changed; `pace` as `Controls` has it. */
function change(patch, pace) {
  state = { ...state, ...patch };
  controls.follow(state);
  if (pace === "soon") soon();
  else if (pace === "along") along();
  else ask("replace");
}

/** Search while a slider moves: at once, and again after each answer. */
async function along() {
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

/** A way was chosen from a picture. */
function choose(way) {
  state = { ...state, mode: state.mode && "dense", dim: null, rerank: 0, recall: null, plan: "", ...way };
  controls.dress(state, index(), catalog);
  ask("replace");
}

/** Documents like this hit are wanted. */
function more(hit) {
  liked = hit;
  state = { ...state, query: "", similar: hit.id, mode: "" };
  dress();
  ask("push");
  byId("hits").focus(); // the button that had it goes
  scrollTo({ top: 0 });
}

/** Another index is wanted. */
function pick(name) {
  const chosen = catalog.indexes.find((each) => each.name === name);
  const dim = chosen.dims?.includes(state.dim) && state.dim < chosen.full_dim ? state.dim : undefined;
  const query = byId("query").value.trim();
  state = { ...state, dim, rerank: dim ? state.rerank : undefined, plan: "", recall: null, query, similar: "" };
  state = chosen.problem ? { ...state, dim: null, rerank: 0, index: name } : fitted(state, chosen, catalog.limits);
  dress();
  ask("push");
}

/** Search for what has been typed so far, if embedding costs nothing; a back button leads to the query before. */
function typing() {
  const text = byId("query").value.trim();
  if (!index()?.local || text === state.query) return;
  const history = isDraft ? "replace" : "push";
  isDraft = true;
  ask(history, true);
}

// ---------------------------------------------------------------------------------- asking

/** Search as the controls say; `history`: "push" a new entry, "replace" this one, or "keep" it. */
async function ask(history, isTyped = false) {
  soon.cancel();
  typed.cancel();
  clearTimeout(complaining);
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
    byId("instrument").hidden = true;
    return complain("problem", `${shown(here.name)} cannot be searched: ${here.problem}`);
  }
  const query = byId("query").value.trim();
  state = { ...state, query, similar: query ? "" : state.similar };
  byId("like").hidden = !state.similar;
  if (history !== "keep") remember(history);
  document.title = state.query ? `${state.query} · rsearch` : "rsearch";
  byId("instrument").hidden = !isAsking(state);
  if (!isAsking(state)) {
    forget();
    busy(false);
    return welcome(here);
  }
  byId("welcome").hidden = true;
  busy(true);
  try {
    const found = await api.search(state, signal);
    if (mine !== asked) return;
    if (found.generation !== here.generation) {
      await list();
      if (mine !== asked) return;
      return restore(); // the index was built again: with other sizes, perhaps
    }
    byId("gone").hidden = byId("token").hidden = true;
    [answer, good] = [found, state];
    view.show(answer, good, here, controls.story());
    measure();
  } catch (error) {
    if (mine !== asked || error.name === "AbortError") return;
    if (error.kind !== "gone" && (await isStale(here))) return mine === asked && restore();
    forget();
    if (error.kind === "refused") complaining = setTimeout(() => refused(error), isTyped ? QUIET : 0);
    else if (error.kind === "failed") complain("problem", error.message);
    else unreachable(error, () => ask("keep"));
  } finally {
    if (mine === asked) busy(false);
  }
}

function refused({ field, message }) {
  const place = blame(state, good, field);
  complain(place, message);
  pointTo(place);
}

/** Whether an index is another one, or gone, since the list was read; it is read again. */
async function isStale({ name, generation }) {
  await list().catch(() => {});
  return catalog.indexes.find((each) => each.name === name)?.generation !== generation;
}

function remember(history) {
  const address = toAddress(state);
  const now = location.search || location.pathname;
  if (address !== now) window.history[history === "push" ? "pushState" : "replaceState"](null, "", address);
}

/** Measure all ways, or on a small screen only what is seen until the instrument is opened. */
function measure() {
  if (!answer || !answer.full.hits.length) return;
  const ways = waysOf(good, index(), controls.story()[2]?.rerank);
  const isSmall = narrow.matches && !document.body.classList.contains("open");
  sweep.measure(good, questionOf(good), isSmall ? ways.slice(0, 2) : ways, answer.full.hits);
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

function forget() {
  view.forget();
  answer = null;
}

function welcome(here) {
  byId("welcome").hidden = false;
  showChoices(catalog.indexes, here.name, pick);
  showQuestions(here, (text) => {
    byId("query").value = text;
    ask("push");
  });
}

// ---------------------------------------------------------------------------------- hearing

byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const history = isDraft ? "replace" : "push";
  isDraft = false;
  ask(history);
});
byId("query").addEventListener("input", () => typed());
byId("query").addEventListener("change", () => { isDraft = false; });
byId("unlike").addEventListener("click", () => {
  state = { ...state, similar: "" };
  ask("push");
  byId("query").focus();
});
onPick(byId("index"), () => pick(byId("index").value));
byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!api.token.set(byId("token-text").value)) return complain("token-error", "not a token: copy it again, without other characters");
  byId("token-text").value = "";
  onward();
});
byId("retry").addEventListener("click", () => onward());
byId("again").addEventListener("click", () => open());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the view's
  byId("hits").focus();
});
addEventListener("popstate", () => catalog.indexes.length && restore());

const COPIES = {
  command: () => asCommand(state, catalog.home),
  curl: () => asCurl(state, api.SEARCH, Boolean(api.token.get())),
  python: () => asPython(state, catalog.home),
  address: () => location.href,
};
byId("pane-copy").addEventListener("click", async (event) => {
  const wanted = event.target.dataset.copy;
  if (!wanted) return;
  const text = COPIES[wanted]();
  byId("copied").hidden = false;
  byId("copied").textContent = text;
  byId("copy-note").textContent = (await toClipboard(text)) ? `Copied: ${event.target.textContent}.` : "Copy it from here.";
});

byId("mcp").textContent = new URL("mcp", document.baseURI).href;
makeTabs(document.querySelector("[role=tablist]"));
keys.listen({
  "/": () => {
    byId("query").focus();
    byId("query").select();
  },
  "[": () => answer && controls.dim.step(false),
  "]": () => answer && controls.dim.step(true),
  r: () => answer && controls.toggleRerank(),
  f: () => answer && controls.toggleFull(),
});

function openTools(is) {
  document.body.classList.toggle("open", is);
  byId("handle").setAttribute("aria-expanded", String(is));
  if (is) measure();
}
byId("handle").addEventListener("click", () => openTools(!document.body.classList.contains("open")));
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !document.body.classList.contains("open") || byId("keys").open) return;
  openTools(false);
  byId("handle").focus();
});
narrow.addEventListener("change", () => measure());

open();
