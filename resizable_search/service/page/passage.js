/** The passage of a text that says most about a query, and its words marked. */

import { el, shown } from "./dom.js";

const WORDS = /[\p{L}\p{N}_]+/gu;
const MOST_READ = 200_000;

/** Words of a query, folded; short ones ("a", "of") only if it has no other. */
export function wordsOf(query) {
  const all = [...new Set((query.match(WORDS) ?? []).map((word) => word.toLowerCase()))];
  const long = all.filter((word) => [...word].length > 2);
  return new Set(long.length ? long : all);
}

/** Up to `length` characters with most of the words, the rarest of equals; the beginning if it has none. */
export function passage(text, words, length) {
  text = text.slice(0, MOST_READ).replace(/\s+/g, " ").trim();
  if (text.length <= length) return text;
  const found = [...text.matchAll(WORDS)]
    .map((match) => ({ at: match.index, end: match.index + match[0].length, word: match[0].toLowerCase() }))
    .filter(({ word }) => words.has(word));
  const counts = new Map();
  for (const { word } of found) counts.set(word, (counts.get(word) ?? 0) + 1);
  let best = 0;
  let begin = 0;
  found.forEach(({ at }, i) => {
    const start = Math.max(0, Math.min(at - (length >> 2), text.length - length));
    const inside = new Set();
    for (let j = Math.max(0, i - (length >> 2)); j < found.length && found[j].end <= start + length; j += 1) {
      if (found[j].at >= start) inside.add(found[j].word);
    }
    const worth = [...inside].reduce((sum, word) => sum + 1 + 1 / (1 + counts.get(word)), 0);
    if (worth > best) [best, begin] = [worth, start];
  });
  return trimmed(text, begin, length);
}

function trimmed(text, start, length) {
  const stop = Math.min(text.length, start + length);
  let cut = text.slice(start, stop);
  if (start && text[start - 1] !== " " && cut.includes(" ")) cut = cut.slice(cut.indexOf(" ") + 1);
  if (stop < text.length && text[stop] !== " " && cut.includes(" ")) cut = cut.slice(0, cut.lastIndexOf(" "));
  return `${start ? "…" : ""}${cut.trim()}${stop < text.length ? "…" : ""}`;
}

/** The text as nodes, with these words in <mark>. */
export function marked(text, words) {
  const nodes = [];
  let done = 0;
  text = shown(text);
  for (const match of text.matchAll(WORDS)) {
    if (!words.has(match[0].toLowerCase())) continue;
    nodes.push(text.slice(done, match.index), el("mark", {}, match[0]));
    done = match.index + match[0].length;
  }
  return [...nodes, text.slice(done)];
}
