/** The words of a query that say something, marked in a text. The service finds passages by the same rules. */

import { el, shown } from "./dom.js";

const WORDS = /[\p{L}\p{N}\p{M}_]+/gu;
const ENDING = /(?<=[\p{L}\p{N}_]{3})(?:(?:ing|ed|ie|e|y)(?:(?<!s)s)?|(?<!s)s)$/u;
const STOP_WORDS = new Set(
  `a about after also an and any are as at be because been before but by can could did do does for from get had
  has have how i if in into is it its me more most my no not of on only or other our over same should so some
  such than that the their them then there these they this those to up very was we were what when where which
  who whose why will with would you your`.split(/\s+/),
);

const stem = (word) => word.toLowerCase().replace(ENDING, "");

/** Words of a query, folded and without their endings; stop words only if it has no others. */
export function wordsOf(query) {
  const all = (query.match(WORDS) ?? []).map((word) => word.toLowerCase());
  const telling = all.filter((word) => !STOP_WORDS.has(word));
  return new Set((telling.length ? telling : all).map(stem));
}

/** The text as nodes, with these words in <mark>. */
export function marked(text, words) {
  const nodes = [];
  let done = 0;
  text = shown(text);
  if (!words.size) return [text];
  for (const match of text.matchAll(WORDS)) {
    if (!words.has(stem(match[0]))) continue;
    nodes.push(text.slice(done, match.index), el("mark", {}, match[0]));
    done = match.index + match[0].length;
  }
  return [...nodes, text.slice(done)];
}
