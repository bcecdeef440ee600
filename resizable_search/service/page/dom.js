/**
 * Elements. What an index holds was written by anybody, so text only ever becomes text here: nothing on
 * this page is parsed as HTML, and a url becomes a link only if it is plain http or https.
 */

const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f]/g;

export const byId = (id) => document.getElementById(id);

/** Control characters as the pictures that Unicode has of them, so that they are seen and do nothing. */
export function shown(text) {
  return String(text ?? "").replace(CONTROLS, (c) => (c === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + c.charCodeAt(0))));
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
