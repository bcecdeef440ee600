/**
 * Elements. What an index holds was written by anybody, so text only ever becomes text here: nothing on
 * this page is parsed as HTML, and a url becomes a link only if it is plain http or https.
 */

const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
/** They turn a text round, or are not seen. Joiners (U+200C, U+200D) stay after letters and emoji, which need them. */
const UNSEEN = /[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]|(?<![\p{L}\p{M}\p{Extended_Pictographic}\ufe0f])[\u200c\u200d]/gu;
const UNSEEN_OR_JOINER = /[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

export const byId = (id) => document.getElementById(id);

/** Control characters as pictures, so that they are seen and do nothing. */
export function shown(text) {
  return String(text ?? "").replace(CONTROLS, picture);
}

/** A title, which keeps its order beside other texts. */
export const shownTitle = (text) => shown(text).replace(UNSEEN, "");

/** An address, in which nothing may hide. */
export const shownAddress = (text) => shown(text).replace(UNSEEN_OR_JOINER, "\ufffd");

function picture(character) {
  const code = character.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return code === 0x7f ? "\u2421" : "\ufffd";
}

/** An element with attributes and children (elements, or texts); null and false leave one out. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A text whose `names` are set as code. */
export const prose = (text) => text.split("`").map((piece, i) => (i % 2 ? el("code", {}, piece) : piece));

/** The url, parsed, if it is one that may be followed; else null. */
export function followable(url) {
  try {
    const parsed = new URL(url);
    return parsed.protocol === "http:" || parsed.protocol === "https:" ? parsed : null;
  } catch {
    return null;
  }
}

/** Call `action` once nothing has asked for it for so many milliseconds. */
export function debounced(milliseconds, action) {
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

export const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/** Call `changed(width)` with the width of an element, in whole pixels, and again whenever it differs. */
export function onWidth(place, changed) {
  let last = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (!width || width === last) return;
    last = width;
    changed(width);
  }).observe(place);
}
