/** The hits of an answer, as a list whose items move when the answer changes. */

import { labels } from "./compare.js";
import { el, followable, shown, stillness } from "./dom.js";
import { cut } from "./format.js";
import { marked, passage, wordsOf } from "./passage.js";

const PASSAGE = 260; // characters
const TITLE = 240;
const PLACE = 80;
const MOST_MOVED = 60; // hits

export class HitList {
  constructor(list) {
    this.list = list;
    this.items = new Map(); // row -> its item
    this.question = null;
  }

  clear() {
    this.items.clear();
    this.list.replaceChildren();
  }

  /** Show these hits; `markOf(hit, i)` is [kind, mark, what is read out]. Items of the same question move. */
  show(hits, question, query, markOf) {
    if (question !== this.question) this.clear();
    this.question = question;
    const before = new Map([...this.items].map(([row, item]) => [row, item.getBoundingClientRect().top]));
    const items = hits.map((hit, i) => {
      const item = this.items.get(hit.row) ?? itemOf(hit, wordsOf(query));
      dress(item, hit, markOf(hit, i));
      return [hit.row, item];
    });
    this.items = new Map(items);
    this.list.replaceChildren(...this.items.values());
    if (before.size && items.length <= MOST_MOVED && !stillness.matches) this.move(before);
  }

  move(before) {
    for (const [row, item] of this.items) {
      const shift = before.has(row) ? before.get(row) - item.getBoundingClientRect().top : null;
      if (shift === 0) continue;
      const from = shift === null ? { opacity: 0 } : { transform: `translateY(${shift}px)` };
      item.animate([from, {}], { duration: 260, easing: "cubic-bezier(.2,.7,.2,1)" });
    }
  }
}

/** The parts of an item that are the same for every way to search. */
function itemOf(hit, words) {
  const title = hit.title || hit.id || "(no title)";
  const short = cut(title, TITLE);
  const url = followable(hit.url);
  const name = url
    ? el("a", { href: url.href, rel: "noopener noreferrer", target: "_blank" }, shown(short))
    : el("span", {}, shown(short));
  const text = withoutTitle(hit.text ?? "", hit.title);
  const brief = passage(text, words, PASSAGE);
  return el(
    "li",
    { class: "hit" },
    el("span", { class: "rank" }),
    el("h3", { dir: "auto" }, name),
    el(
      "p",
      { class: "verdict" },
      el("span", { class: "mark" }, el("span", { "aria-hidden": "true" }), el("span", { class: "unseen" })),
      el("span", { class: "score" }),
    ),
    placeOf(hit, url),
    brief && el("p", { class: "passage", dir: "auto" }, marked(brief, words)),
    hit.copies > 0 && el("p", { class: "place" }, `${hit.copies} or more others with the same text`),
    wholeOf(hit, title, short, text, brief, words),
  );
}

/** The parts that change: rank, score and mark. */
function dress(item, hit, [kind, mark, meaning]) {
  item.className = `hit ${kind}`;
  item.querySelector(".rank").textContent = hit.rank;
  const score = item.querySelector(".score");
  score.replaceChildren(el("span", { class: "unseen" }, ", score "), hit.score.toFixed(4));
  const [seen, read] = item.querySelector(".mark").children;
  seen.textContent = mark;
  read.textContent = meaning;
  item.querySelector(".mark").title = meaning;
}

/** The source of a hit: its address, or its id. */
function placeOf(hit, url) {
  let place = hit.url || (hit.title ? hit.id : "") || "";
  if (url) place = url.host + decoded(url.pathname) + decoded(url.hash);
  return place && el("p", { class: "place" }, el("bdi", {}, shown(cut(place, PLACE))));
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The rest behind an expander, made when it is opened; null if nothing is left. */
function wholeOf(hit, title, short, text, brief, words) {
  const metadata = Object.entries(hit.metadata ?? {});
  const more = brief.length < text.replace(/\s+/g, " ").trim().length;
  if (!more && !metadata.length && short === title) return null;
  const whole = el("details", { class: "whole" }, el("summary", {}, more ? "Whole text" : "Details"));
  whole.addEventListener(
    "toggle",
    () => {
      if (short !== title) whole.append(el("p", { class: "text", dir: "auto" }, shown(title)));
      if (more) whole.append(el("div", { class: "text", dir: "auto" }, marked(text, words)));
      if (metadata.length) whole.append(table(metadata));
    },
    { once: true },
  );
  return whole;
}

function table(metadata) {
  const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const rows = metadata.map(([key, value]) =>
    el("div", {}, el("dt", {}, el("bdi", {}, shown(key))), el("dd", { dir: "auto" }, shown(asText(value)))),
  );
  return el("dl", { class: "metadata" }, rows);
}

/** The text without the title that it starts with. */
function withoutTitle(text, title) {
  return title && text.startsWith(title) && /^\s/.test(text.slice(title.length)) ? text.slice(title.length).trimStart() : text;
}

export const markOf = (marks, fullDim, depth) => (hit, i) => [marks[i].kind, ...labels(marks[i], hit.rank, fullDim, depth)];

export const lostMark = (fullDim) => (hit) => ["gone", `was ${hit.rank}`, `rank ${hit.rank} at ${fullDim} dimensions, not found here`];
