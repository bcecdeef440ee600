/** The ranks of an answer beside those of the full dimension: two columns with a line for each hit. */

import { onWidth, shownTitle, svg } from "./dom.js";
import { cut, fit } from "./format.js";

export const MOST = 20; // ranks that a picture shows
const ROW = 21;
const TOP = 30;
const LEFT = 26;
const TITLE = 30; // px from a point to its title
const pen = document.createElement("canvas").getContext("2d");

/**
 * The lines of a picture: {rows, lines, labels}. `lines`: {kind, from, to, row}: ranks, null on the side where a hit is
 * not; `labels`: [rank, title, isLost] of the full answer.
 */
export function storyOf(entries, fullHits) {
  const lines = entries
    .map(({ hit, mark }) => ({
      kind: mark.kind,
      row: hit.row,
      from: mark.kind === "lost" ? null : hit.rank,
      to: mark.full,
    }))
    .filter(({ from, to }) => (from ?? 0) <= MOST && (to ?? 0) <= MOST);
  const lost = new Set(lines.filter(({ from }) => from === null).map(({ row }) => row));
  const labels = fullHits.slice(0, MOST).map((hit) => [hit.rank, shownTitle(hit.title).trim() || shownTitle(hit.id), lost.has(hit.row)]);
  const ranks = lines.flatMap(({ from, to }) => [from ?? 0, to ?? 0]);
  return { rows: Math.max(1, ...ranks), lines, labels };
}

export class Slope {
  /** `point(row, isOn)` hears over which hit the pointer is, `choose(row)` which one was clicked. */
  constructor(place, { point, choose }) {
    Object.assign(this, { place, point, choose, width: 0, story: null });
    onWidth(place, (width) => {
      this.width = width;
      this.draw();
    });
  }

  /** `names`: of the left and of the right column; `description`: the picture in words. */
  show(story, names, description) {
    Object.assign(this, { story, names, description });
    this.draw();
  }

  draw() {
    const { story, width } = this;
    if (!story || !width) return;
    const right = Math.round(Math.min(width * 0.45, 190));
    const y = (rank) => TOP + (rank - 0.5) * ROW;
    const height = TOP + story.rows * ROW + 2;
    const room = width - right - TITLE - 2;
    const { fontSize, fontFamily } = getComputedStyle(this.place);
    pen.font = `${fontSize} ${fontFamily}`;
    const text = (x, at, content, kind, anchor = "start") => svg("text", { class: kind, x, y: at + 4, "text-anchor": anchor, "aria-hidden": "true" }, content);
    const drawn = svg(
      "svg",
      { class: "slope", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": this.description },
      text(0, 8, this.names[0], "column"),
      text(right, 8, this.names[1], "column"),
    );
    for (const line of story.lines) {
      const { kind, from, to, row } = line;
      const [a, b] = [from ?? to, to ?? from];
      const group = svg(
        "g",
        { class: `line ${kind}`, "data-row": row, "aria-hidden": "true" },
        from === null ? null : text(LEFT - 8, y(from), String(from), "rank", "end"),
        to === null ? null : text(right + 8, y(to), String(to), "rank"),
        from !== null && to !== null && svg("path", { class: "wide", d: curve(LEFT, y(a), right, y(b)) }),
        from !== null && to !== null && svg("path", { class: "stroke", d: curve(LEFT, y(a), right, y(b)) }),
        from === null && svg("path", { class: "stroke", d: `M${right - 4} ${y(b)}H${right - 34}` }),
        from === null && svg("path", { class: "stroke", d: `M${right - 38} ${y(b) - 4}l8 8m0 -8l-8 8` }),
        to === null && svg("path", { class: "stroke", d: `M${LEFT + 4} ${y(a)}H${LEFT + 34}` }),
        from !== null && svg("circle", { class: "end", cx: LEFT, cy: y(from), r: 3 }),
        to !== null && svg("circle", { class: "end", cx: right, cy: y(to), r: 3 }),
      );
      const title = story.labels.find(([rank]) => rank === to)?.[1];
      if (title && room > 40) group.append(text(right + TITLE, y(to), fit(cut(title, 100), room, (each) => pen.measureText(each).width), "title"));
      group.addEventListener("pointerenter", () => this.point(row, true));
      group.addEventListener("pointerleave", () => this.point(row, false));
      group.addEventListener("click", () => this.choose(row));
      drawn.append(group);
    }
    this.place.replaceChildren(drawn);
  }
}

/** A line that leaves and arrives level. */
export function curve(x1, y1, x2, y2) {
  const middle = (x1 + x2) / 2;
  return `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
}
