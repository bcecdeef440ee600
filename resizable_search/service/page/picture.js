/** The ranks of an answer as a picture to share: drawn on a canvas, copied or saved as PNG. */

import { cut, fit } from "./format.js";
import { MOST } from "./slope.js";

const WIDTH = 1000;
const ROW = 40;
const HEAD = 190;
const FOOT = 70;
const SCALE = 2;
const [LEFT, RIGHT] = [90, 430];

/** Copy the picture, or save it where the clipboard takes none; resolves to what was done. */
export async function share(story, words) {
  const picture = new Promise((resolve) => drawn(story, words).toBlob(resolve, "image/png"));
  try {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]);
    return "Copied: paste it where pictures go.";
  } catch {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await picture);
    link.download = "ranks.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    return "Saved as ranks.png.";
  }
}

/** `words`: {title, figures, names: [left, right], foot}. Colours and fonts are the page's. */
function drawn(story, words) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const height = HEAD + Math.min(story.rows, MOST) * ROW + FOOT;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [WIDTH * SCALE, height * SCALE];
  const pen = canvas.getContext("2d");
  pen.scale(SCALE, SCALE);
  pen.fillStyle = colour("paper");
  pen.fillRect(0, 0, WIDTH, height);
  const font = getComputedStyle(document.body).fontFamily;
  const write = (text, x, y, { size = 20, weight = 400, ink = "ink", align = "left", room = WIDTH }) => {
    pen.font = `${weight} ${size}px ${font}`;
    pen.fillStyle = colour(ink);
    pen.textAlign = align;
    pen.fillText(fit(cut(text, 200), room, (each) => pen.measureText(each).width), x, y);
  };
  write(words.title, 60, 70, { size: 34, weight: 700, room: WIDTH - 120 });
  write(words.figures, 60, 110, { size: 22, ink: "soft", room: WIDTH - 120 });
  write(words.names[0], LEFT - 30, 165, { size: 20, weight: 650, ink: "accent" });
  write(words.names[1], RIGHT - 10, 165, { size: 20, weight: 650, ink: "accent" });
  const y = (rank) => HEAD + (rank - 0.5) * ROW;
  for (const { kind, from, to } of story.lines) {
    const ink = { lost: "alert", other: "second" }[kind] ?? "accent";
    pen.strokeStyle = pen.fillStyle = colour(ink);
    pen.lineWidth = 3;
    pen.setLineDash(from === null || to === null ? [6, 6] : []);
    pen.beginPath();
    if (from !== null && to !== null) {
      const middle = (LEFT + RIGHT) / 2;
      pen.moveTo(LEFT, y(from));
      pen.bezierCurveTo(middle, y(from), middle, y(to), RIGHT, y(to));
    } else {
      const [x, at, way] = from === null ? [RIGHT, y(to), -1] : [LEFT, y(from), 1];
      pen.moveTo(x, at);
      pen.lineTo(x + way * 70, at);
    }
    pen.stroke();
    pen.setLineDash([]);
    for (const [x, rank] of [[LEFT, from], [RIGHT, to]]) {
      if (rank === null) continue;
      pen.beginPath();
      pen.arc(x, y(rank), 6, 0, 2 * Math.PI);
      pen.fill();
    }
    if (from !== null) write(String(from), LEFT - 20, y(from) + 7, { ink: "soft", align: "right" });
    if (from === null) write("lost", RIGHT - 84, y(to) + 7, { ink: "alert", align: "right", weight: 650 });
  }
  for (const [rank, title, isLost] of story.labels) {
    if (rank > story.rows) continue;
    write(String(rank), RIGHT + 46, y(rank) + 7, { ink: "soft", align: "right" });
    write(title, RIGHT + 62, y(rank) + 7, { ink: isLost ? "alert" : "ink", room: WIDTH - RIGHT - 120 });
  }
  write(words.foot, 60, height - 28, { size: 17, ink: "soft", room: WIDTH - 120 });
  return canvas;
}
