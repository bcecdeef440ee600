/** Overlap against time, a point for each way to search. Points are buttons: arrows go along, Enter chooses. */

import { el, svg } from "./dom.js";
import { ms, share } from "./format.js";

const EDGE = { top: 14, right: 16, bottom: 34, left: 34 };
const HEIGHT = 216;
const RADIUS = 4.5;
const LETTER = 6.4; // px, of a label

export class Chart {
  /** `choose(way)` hears which point was chosen. */
  constructor(place, table, choose) {
    this.place = place;
    this.table = table;
    this.choose = choose;
    this.points = [];
    this.focused = 0;
    this.width = 0;
    new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width && width !== this.width) {
        this.width = width;
        this.draw();
      }
    }).observe(place);
  }

  /** Points are {way, key, dim, series: "plain" | "rerank" | "plan", label, name, ms, overlap, current}. */
  show(points, { k, rerank }) {
    this.points = [...points].sort((a, b) => a.ms - b.ms);
    Object.assign(this, { k, rerank });
    this.draw();
    this.tabulate();
  }

  draw() {
    if (!this.width) return;
    const refocus = this.place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const { points, width } = this;
    const right = nice(Math.max(...points.map((point) => point.ms), 0) || 1);
    const low = Math.min(0.8, ...points.map((point) => Math.floor(point.overlap * 5 - 1e-9) / 5));
    const bottom = Math.max(0, low);
    const x = (value) => EDGE.left + (value / right.end) * (width - EDGE.left - EDGE.right);
    const y = (value) => HEIGHT - EDGE.bottom - ((value - bottom) / (1 - bottom)) * (HEIGHT - EDGE.top - EDGE.bottom);
    const drawn = svg(
      "svg",
      { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "group", "aria-label": `Overlap@${this.k} against scan time` },
      axes(x, y, right, bottom, width),
      ["plain", "rerank"].map((series) => curve(points.filter((point) => point.series === series), x, y)),
    );
    const places = points.map((point) => [x(point.ms), y(point.overlap)]);
    const labels = placed(points, places, width);
    this.nodes = points.map((point, i) => this.node(point, places[i], labels[i], i));
    drawn.append(...[...this.nodes].sort((a, b) => this.isCurrent(a) - this.isCurrent(b))); // the current one on top
    this.place.replaceChildren(drawn);
    this.rove(Math.max(0, points.findIndex((point) => (refocus ? point.key === refocus : point.current))), Boolean(refocus));
  }

  node(point, [cx, cy], label, i) {
    const told = `${point.name}: overlap ${share(point.overlap)}, ${ms(point.ms)} ms`;
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
        "aria-label": told + (point.current ? ", chosen" : ""),
        "aria-pressed": String(point.current),
        "data-key": point.key,
      },
      svg("title", {}, told),
      svg("circle", { class: "reach", cx, cy, r: 12 }),
      point.current && svg("circle", { class: "ring", cx, cy, r: RADIUS + 4.5 }),
      shape,
      svg("text", { class: "label", x: label.x, y: label.y, "text-anchor": label.anchor }, point.label),
    );
    node.addEventListener("click", () => this.choose(point.way));
    node.addEventListener("keydown", (event) => this.keyed(event, i));
    return node;
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
    const head = ["", "scan, ms", `overlap@${this.k}`].map((text) => el("th", { scope: "col" }, text));
    const rows = this.points.map((point) =>
      el(
        "tr",
        { class: point.current ? "current" : null, "aria-current": point.current ? "true" : null },
        el("th", { scope: "row" }, point.name),
        el("td", {}, ms(point.ms)),
        el("td", {}, share(point.overlap)),
      ),
    );
    const caption = el("caption", { class: "unseen" }, `Overlap@${this.k} and scan time by dimension`);
    this.table.replaceChildren(el("table", {}, caption, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows)));
  }
}

/** An end and a step for an axis from 0 that has three to six ticks. */
function nice(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  return { step, end: Math.ceil((most * 1.02) / step) * step };
}

function axes(x, y, right, bottom, width) {
  const parts = [];
  for (let i = Math.round(bottom * 5); i <= 5; i += 1) {
    const at = y(i / 5);
    parts.push(svg("line", { class: "grid", x1: x(0), x2: x(right.end), y1: at, y2: at }));
    parts.push(svg("text", { class: "axis", x: EDGE.left - 7, y: at + 4, "text-anchor": "end" }, (i / 5).toFixed(1)));
  }
  for (let value = 0; value <= right.end * 1.001; value += right.step) {
    const digits = Math.max(0, -Math.floor(Math.log10(right.step) + 1e-9) + (/2\.?5/.test(String(right.step)) ? 1 : 0));
    parts.push(svg("text", { class: "axis", x: x(value), y: HEIGHT - EDGE.bottom + 16, "text-anchor": "middle" }, value ? value.toFixed(digits) : "0"));
  }
  parts.push(svg("text", { class: "axis unit", x: width - EDGE.right, y: HEIGHT - 4, "text-anchor": "end" }, "ms to scan and rerank"));
  return svg("g", { "aria-hidden": "true" }, parts);
}

/** The points in the order of their dimensions, joined. */
function curve(unordered, x, y) {
  const points = [...unordered].sort((a, b) => a.dim - b.dim);
  const path = points.map((point, i) => `${i ? "L" : "M"}${x(point.ms).toFixed(1)} ${y(point.overlap).toFixed(1)}`).join("");
  return points.length > 1 ? svg("path", { class: `curve ${points[0].series}`, d: path }) : null;
}

/** A place for each label where it covers no point and no other label, the current one's first. */
function placed(points, places, width) {
  const taken = places.map(([x, y]) => box(x, y, 2 * RADIUS + 2, 2 * RADIUS + 2));
  const order = points.map((_, i) => i).sort((a, b) => points[b].current - points[a].current);
  const labels = [];
  for (const i of order) {
    const [x, y] = places[i];
    const wide = points[i].label.length * LETTER;
    const spots = [12, 20, 30].flatMap((far) => [
      [x, y - far + 1, "middle"], [x, y + far + 2, "middle"], [x + far - 2, y, "start"], [x - far + 2, y, "end"],
      [x + far - 4, y - far + 4, "start"], [x - far + 4, y - far + 4, "end"], [x + far - 4, y + far, "start"], [x - far + 4, y + far, "end"],
    ]);
    const boxes = spots.map(([at, middle, anchor]) => box({ start: at + wide / 2, end: at - wide / 2, middle: at }[anchor], middle, wide, 11));
    const inside = (each) => each.left > 0 && each.right < width && each.top > 0 && each.bottom < HEIGHT - EDGE.bottom + 4;
    const free = boxes.findIndex((each) => inside(each) && !taken.some((other) => meets(each, other)));
    const chosen = Math.max(0, free);
    taken.push(boxes[chosen]);
    labels[i] = { x: spots[chosen][0], y: spots[chosen][1] + 4, anchor: spots[chosen][2] };
  }
  return labels;
}

const box = (x, y, width, height) => ({ left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 });

const meets = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
