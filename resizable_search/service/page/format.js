/** Figures as people read them. */

const whole = new Intl.NumberFormat("en");

export const count = (n) => whole.format(n);

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** Milliseconds with two or three figures that mean something. */
export function ms(value) {
  if (value >= 100) return whole.format(Math.round(value));
  return value.toFixed(value >= 10 ? 1 : value >= 0.1 ? 2 : 3);
}

/** Bytes in decimal units, as the command line tells them. */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 9.95 ? value.toFixed(1) : Math.round(value)}\u00a0${units[unit]}`;
}

/** How many times one time goes into another: "3.2×". */
export function times(ratio) {
  return `${ratio >= 9.95 ? whole.format(Math.round(ratio)) : ratio.toFixed(1)}×`;
}

/** The beginning of a text that is at most so wide by `measure(text)`, with an ellipsis if it is cut. */
export function fit(text, room, measure) {
  let fitted = text;
  for (let length = text.length - 1; length > 3 && measure(fitted) > room; length -= 1) fitted = cut(text, length);
  return fitted;
}

/** The text, or its beginning with an ellipsis; no character is cut in two. */
export function cut(text, length) {
  return text.length > length ? `${text.slice(0, length).replace(/[\ud800-\udbff]$/, "")}…` : text;
}

export const share = (value) => value.toFixed(value === 1 || value === 0 ? 1 : 2);

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
