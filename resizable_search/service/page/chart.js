/** Overlap against time, a point for each way to search. Points are buttons: arrows go along, Enter chooses. */

import { el, onWidth, svg } from "./dom.js";
import { median, ms, share } from "./format.js";

const EDGE = { top: 12, right: 14, bottom: 34, left: 30 };
const HEIGHT = 224;
const RADIUS = 4.5;
const LETTER = 6.4; // px, of a label

export class Chart {
  /** `choose(way)` hears which point was chosen. */
  constructor({ place, table, readout }, choose) {
    Object.assign(this, { place, table, readout, choose, points: [], width: 0 });
    onWidth(place, (width) => {
      this.width = width;
      this.draw();
    });
  }

  /**
   * Points are {way, key, dim, series: "plain" | "rerank" | "plan", label, name, ms, low, high, overlap, mean, current};
   * `mean`: {overlap, low, high} of many queries of this index, or null.
   */
  show(points, k) {
    this.points = [...points].sort((a, b) => a.ms - b.ms);
    this.k = k;
    this.draw();
    this.tabulate();
  }

  draw() {
    if (!this.width) return;
    const refocus = this.place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const { points, width } = this;
    const right = nice(longest(points.map((point) => point.ms)) || 1);
    const x = (value) => EDGE.left + (Math.min(value, right.end) / right.end) * (width - EDGE.left - EDGE.right);
    const y = (value) => HEIGHT - EDGE.bottom - value * (HEIGHT - EDGE.top - EDGE.bottom);
    const drawn = svg(
      "svg",
      { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "group", "aria-label": `Overlap@${this.k} against the time to search` },
      axes(x, y, right, width),
      svg("g", { class: "means", "aria-hidden": "true" }, ["plain", "rerank"].flatMap((series) => means(points.filter((each) => each.series === series), x, y))),
      svg("g", { "aria-hidden": "true" }, points.map((point) => svg("path", { class: "whisker", d: `M${x(point.low)} ${y(point.overlap) - 3}v6m0 -3H${x(point.high)}m0 -3v6` }))),
      frontier(points, x, y),
    );
    const places = points.map((point) => [x(point.ms), y(point.overlap)]);
    const labels = placed(points, places, width);
    this.nodes = points.map((point, i) => this.node(point, places[i], labels[i], i));
    drawn.append(...[...this.nodes].sort((a, b) => this.isCurrent(a) - this.isCurrent(b))); // the current one on top
    this.place.replaceChildren(drawn);
    this.rove(Math.max(0, points.findIndex((point) => (refocus ? point.key === refocus : point.current))), Boolean(refocus));
    this.tell(null);
  }

  node(point, [cx, cy], label, i) {
    const shape =
      point.series === "plain"
        ? svg("circle", { class: "dot", cx, cy, r: RADIUS })
        : svg("rect", { class: "dot", x: cx - RADIUS, y: cy - RADIUS, width: 2 * RADIUS, height: 2 * RADIUS, rx: 1, transform: `rotate(45 ${cx} ${cy})` });
    const node = svg(
      "g",
      {
        class: `point ${point.series}${point.current ? " current" : ""}`,
        role: "button",
        tabindex: "-1",
        "aria-label": this.words(point),
        "aria-pressed": String(point.current),
        "data-key": point.key,
      },
      svg("circle", { class: "reach", cx, cy, r: 12 }),
      point.current && svg("circle", { class: "ring", cx, cy, r: RADIUS + 4.5 }),
      shape,
      label && svg("text", { class: "label", x: label.x, y: label.y, "text-anchor": label.anchor }, point.label),
    );
    node.addEventListener("click", () => this.choose(point.way));
    node.addEventListener("keydown", (event) => this.keyed(event, i));
    for (const [name, shown] of [["pointerenter", point], ["focus", point], ["pointerleave", null], ["blur", null]]) {
      node.addEventListener(name, () => this.tell(shown));
    }
    return node;
  }

  words(point) {
    const mean = point.mean ? `; ${interval(point.mean)} over many queries` : "";
    return `${point.name}: overlap ${share(point.overlap)}, ${ms(point.ms)} ms (${ms(point.low)} to ${ms(point.high)} ms)${mean}`;
  }

  /** Say what a point is, or the current one, below the picture. */
  tell(point) {
    const shown = point ?? this.points.find((each) => each.current);
    this.readout.textContent = shown ? this.words(shown) : "";
  }

  isCurrent(node) {
    return this.points[this.nodes.indexOf(node)].current;
  }

  keyed(event, i) {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step) this.rove((i + step + this.points.length) % this.points.length, true);
    else if (event.key === "Home") this.rove(0, true);
    else if (event.key === "End") this.rove(this.points.length - 1, true);
    else if (event.key === "Enter" || event.key === " ") this.choose(this.points[i].way);
    else return;
    event.preventDefault();
  }

  /** Only one point is on the way of the tab key. */
  rove(i, focus) {
    this.nodes.forEach((node, j) => node.setAttribute("tabindex", i === j ? "0" : "-1"));
    if (focus) this.nodes[i]?.focus();
  }

  tabulate() {
    const hasMeans = this.points.some((point) => point.mean);
    const names = ["search", "ms", `overlap@${this.k}`, ...(hasMeans ? ["many queries"] : [])];
    const head = names.map((text) => el("th", { scope: "col" }, text));
    const rows = this.points.map((point) =>
      el(
        "tr",
        { class: point.current ? "current" : null, "aria-current": point.current ? "true" : null },
        el("th", { scope: "row" }, point.name),
        el("td", {}, ms(point.ms)),
        el("td", {}, share(point.overlap)),
        hasMeans && el("td", {}, point.mean ? interval(point.mean) : "–"),
      ),
    );
    const caption = el("caption", { class: "unseen" }, `Overlap@${this.k} and time of every way to search`);
    this.table.replaceChildren(el("table", {}, caption, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
  }
}

const interval = ({ overlap, low, high }) => `${overlap.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;

/** The time that the axis must have room for; a single very slow one stands at its end. */
function longest(times) {
  return times.length ? Math.min(Math.max(...times), 3 * median(times)) : 0;
}

/** An end and a step for an axis from 0 that has three to six ticks. */
function nice(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  return { step, end: Math.ceil((most * 1.02) / step) * step };
}

function axes(x, y, right, width) {
  const parts = [];
  for (let i = 0; i <= 5; i += 1) {
    const at = y(i / 5);
    parts.push(svg("line", { class: "grid", x1: x(0), x2: x(right.end), y1: at, y2: at }));
    parts.push(svg("text", { class: "axis", x: EDGE.left - 7, y: at + 4, "text-anchor": "end" }, (i / 5).toFixed(1)));
  }
  for (let value = 0; value <= right.end * 1.001; value += right.step) {
    const digits = Math.max(0, -Math.floor(Math.log10(right.step) + 1e-9) + (/2\.?5/.test(String(right.step)) ? 1 : 0));
    parts.push(svg("text", { class: "axis", x: x(value), y: HEIGHT - EDGE.bottom + 16, "text-anchor": "middle" }, value ? value.toFixed(digits) : "0"));
  }
  parts.push(svg("text", { class: "axis", x: width - EDGE.right, y: HEIGHT - 4, "text-anchor": "end" }, "ms"));
  parts.push(svg("text", { class: "axis", x: EDGE.left - 24, y: HEIGHT - 4 }, "overlap ↑"));
  parts.push(svg("text", { class: "better", x: EDGE.left + 6, y: EDGE.top + 14 }, "↖ better"));
  return svg("g", { "aria-hidden": "true" }, parts);
}

/** The points that no other one beats in both, joined. */
function frontier(points, x, y) {
  let most = -1;
  const best = points.filter((point) => {
    if (point.overlap <= most) return false;
    most = point.overlap;
    return true;
  });
  return best.length > 1 && svg("path", { class: "frontier", "aria-hidden": "true", d: path(best.map((point) => [x(point.ms), y(point.overlap)])) });
}

/** What many queries of this index keep, at the times of this one. */
function means(unordered, x, y) {
  const points = unordered.filter((point) => point.mean).sort((a, b) => a.dim - b.dim);
  const bars = points.map(({ series, ms: time, mean }) => svg("path", { class: `interval ${series}`, d: `M${x(time)} ${y(mean.low) + 1}V${Math.min(y(mean.high), y(mean.low) - 3)}` }));
  const line = points.length > 1 && svg("path", { class: `mean ${points[0].series}`, d: path(points.map(({ ms: time, mean }) => [x(time), y(mean.overlap)])) });
  return [line, ...bars].filter(Boolean);
}

const path = (places) => places.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** A place for each label where it covers no point and no other label, the current one's first; else null. */
function placed(points, places, width) {
  const taken = [box(EDGE.left + 32, EDGE.top + 10, 64, 14), ...places.map(([x, y]) => box(x, y, 2 * RADIUS + 2, 2 * RADIUS + 2))];
  const order = points.map((_, i) => i).sort((a, b) => points[b].current - points[a].current);
  const labels = points.map(() => null);
  for (const i of order) {
    const [x, y] = places[i];
    const wide = points[i].label.length * LETTER;
    const spots = [12, 20].flatMap((far) => [
      [x, y + far + 2, "middle"], [x, y - far + 1, "middle"], [x + far - 2, y, "start"], [x - far + 2, y, "end"],
      [x + far - 4, y + far, "start"], [x - far + 4, y + far, "end"], [x + far - 4, y - far + 4, "start"], [x - far + 4, y - far + 4, "end"],
    ]);
    const boxes = spots.map(([at, middle, anchor]) => box({ start: at + wide / 2, end: at - wide / 2, middle: at }[anchor], middle, wide, 11));
    const inside = (each) => each.left > 0 && each.right < width && each.top > 0 && each.bottom < HEIGHT - EDGE.bottom + 4;
    const free = boxes.findIndex((each) => inside(each) && !taken.some((other) => meets(each, other)));
    if (free < 0 && !points[i].current) continue;
    const chosen = Math.max(0, free);
    taken.push(boxes[chosen]);
    labels[i] = { x: spots[chosen][0], y: spots[chosen][1] + 4, anchor: spots[chosen][2] };
  }
  return labels;
}

const box = (x, y, width, height) => ({ left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 });

const meets = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
