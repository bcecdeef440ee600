/** The hits of an answer, as a list whose items move when the answer changes. */

import { labels } from "./compare.js";
import { el, followable, shownAddress, shownTitle, stillness } from "./dom.js";
import { cut } from "./format.js";
import { marked, wordsOf } from "./passage.js";
import { wholeOf } from "./whole.js";

const TITLE = 240; // characters
const PLACE = 80;
const MOST_MOVED = 60; // hits

export class HitList {
  /** `more(hit)` hears whose like is wanted. */
  constructor(list, more) {
    this.list = list;
    this.more = more;
    this.items = new Map(); // row and whether it is lost -> its item
    this.question = null;
  }

  clear() {
    this.items.clear();
    this.list.replaceChildren();
  }

  /**
   * Show these entries: {hit, mark}, best first. `context`: {index, question, query, fullDim, depth, at}; `at` is
   * where scores are from. Items of the same question move.
   */
  show(entries, context) {
    if (context.question !== this.question) this.clear();
    this.question = context.question;
    const words = wordsOf(context.query);
    const before = new Map([...this.items.values()].map((item) => [item.dataset.row, item.getBoundingClientRect().top]));
    const items = entries.map(({ hit, mark }) => {
      const key = `${hit.row} ${mark.kind === "lost"}`;
      const made = mark.kind === "lost" ? ghostOf : this.itemOf.bind(this);
      const item = this.items.get(key) ?? made(hit, words, context);
      dress(item, hit, mark, context);
      return [key, item];
    });
    this.items = new Map(items);
    this.list.replaceChildren(...this.items.values());
    if (before.size && items.length <= MOST_MOVED && !stillness.matches) this.move(before);
  }

  move(before) {
    for (const item of this.items.values()) {
      const { row } = item.dataset;
      const shift = before.has(row) ? before.get(row) - item.getBoundingClientRect().top : null;
      if (shift === 0) continue;
      const from = shift === null ? { opacity: 0 } : { transform: `translateY(${shift}px)` };
      item.animate([from, {}], { duration: 260, easing: "cubic-bezier(.2,.7,.2,1)" });
    }
  }

  /** The item of a row, a lost one too. */
  itemAt(row) {
    return [...this.items.values()].find((item) => item.dataset.row === String(row));
  }

  firstLost() {
    return this.list.querySelector(".lost");
  }

  /** The parts of an item that are the same for every way to search. */
  itemOf(hit, words, context) {
    const title = titleOf(hit);
    const more = el("button", { type: "button", class: "link like-this" }, "More like this", unseen(`: ${title}`));
    more.addEventListener("click", () => this.more(hit));
    const passage = withoutTitle(hit.snippet ?? "", hit.title);
    return el(
      "li",
      { class: "hit", "data-row": hit.row },
      ...headOf(hit, title),
      passage && el("p", { class: "passage", dir: "auto" }, marked(passage, words)),
      hit.copies > 0 && el("p", { class: "place" }, `${hit.copies} or more others with the same text`),
      el("div", { class: "hit-actions" }, wholeOf(hit, context.index, title, words), more),
    );
  }
}

/** A lost hit: where it would have been, in short. */
function ghostOf(hit) {
  return el("li", { class: "hit lost", "data-row": hit.row, tabindex: "-1" }, ...headOf(hit, titleOf(hit)));
}

function headOf(hit, title) {
  const url = followable(hit.url);
  const short = cut(title, TITLE);
  const name = url
    ? el("a", { href: url.href, rel: "noopener noreferrer", target: "_blank" }, short)
    : el("span", {}, short);
  return [
    el("span", { class: "rank" }),
    el("h3", { dir: "auto" }, name),
    el(
      "p",
      { class: "verdict" },
      el("span", { class: "mark" }, el("span", { "aria-hidden": "true" }), unseen("")),
      el("span", { class: "score" }),
    ),
    placeOf(hit, url),
  ];
}

const titleOf = (hit) => shownTitle(hit.title).trim() || shownTitle(hit.id).trim() || "(no title)";

const unseen = (text) => el("span", { class: "unseen" }, text);

/** The parts that change: rank, score and mark. */
function dress(item, hit, mark, { fullDim, depth, at }) {
  const isLost = mark.kind === "lost";
  item.className = `hit ${mark.kind}`;
  item.querySelector(".rank").textContent = hit.rank;
  const [seen, read] = item.querySelector(".mark").children;
  const [short, meaning] = labels(mark, hit.rank, fullDim, depth);
  seen.textContent = short;
  read.textContent = meaning;
  item.querySelector(".mark").title = meaning;
  const place = isLost ? `at ${fullDim}` : at;
  item.querySelector(".score").replaceChildren(unseen(", score "), hit.score.toFixed(4), el("small", {}, ` ${place}`));
}

/** A passage without the title that it starts with. */
function withoutTitle(passage, title) {
  const begin = (title ?? "").replace(/\s+/g, " ").trim();
  const isThere = begin && passage.startsWith(begin) && /^\s/.test(passage.slice(begin.length));
  return isThere ? passage.slice(begin.length).trimStart() : passage;
}

/** The source of a hit: its address, or its id. */
function placeOf(hit, url) {
  let place = hit.url || (hit.title ? hit.id : "") || "";
  if (url) place = url.host + decoded(url.pathname) + decoded(url.hash);
  return place && el("p", { class: "place" }, el("bdi", {}, shownAddress(cut(place, PLACE))));
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
