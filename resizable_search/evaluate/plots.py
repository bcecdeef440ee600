"""Overlap against throughput as a picture: every measured way a labelled point, the best of them joined.

Where labels go: beside their points, covering neither each other nor a point. Lengths are pixels.
"""

import itertools
import logging
import math
import os
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from resizable_search.errors import RsearchError, StorageError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from resizable_search.evaluate.bench import BenchReport, Measurement


Point = tuple[float, float]
Segment = tuple[Point, Point]

DISTANCES = (9, 13, 20, 30, 42, 56, 74, 96, 120, 150)
DIRECTIONS = tuple((math.cos(turn * math.pi / 8), math.sin(turn * math.pi / 8)) for turn in range(16))
REACH = 6.0
"""How far a point's mark reaches from its middle."""

SWEEPS = 4
"""How often every label may look for a better place, the others being where they are."""

NEAR = 18.0
"""A label nearer than this to its point needs no line to it."""


class Box:
    """A rectangle by its lower left corner and its size."""

    def __init__(self, x: float, y: float, width: float, height: float) -> None:
        self.x, self.y, self.width, self.height = x, y, width, height

    def common(self, other: "Box", gap: float = 3.0) -> float:
        """The area that two rectangles have in common, each with half of the gap around it."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x) + gap
        along = min(self.y + self.height, other.y + other.height) - max(self.y, other.y) + gap
        return max(0.0, across) * max(0.0, along)

    def within(self, other: "Box") -> bool:
        """Whether it lies in the other whole."""
        return (
            other.x <= self.x
            and other.y <= self.y
            and self.x + self.width <= other.x + other.width
            and self.y + self.height <= other.y + other.height
        )

    def nearest(self, point: Point) -> Point:
        """The place in it that is nearest to a point."""
        return (
            min(max(point[0], self.x), self.x + self.width),
            min(max(point[1], self.y), self.y + self.height),
        )

    def length_of(self, line: Segment) -> float:
        """How much of a line lies in it, roughly."""
        (x1, y1), (x2, y2) = line
        whole = math.dist(*line)
        steps = max(2, int(whole / 4))
        inside = 0
        for i in range(steps + 1):
            x, y = x1 + (x2 - x1) * i / steps, y1 + (y2 - y1) * i / steps
            inside += self.x <= x <= self.x + self.width and self.y <= y <= self.y + self.height
        return whole * inside / (steps + 1)


def placed(
    points: Sequence[Point], sizes: Sequence[Point], lines: Sequence[Segment], bounds: Box
) -> list[Box]:
    """A box of the size asked for each point, in their order, within the bounds as far as they have room.

    `lines` are better not covered; other points and boxes must not be. Earlier points choose first.
    """
    marks = [Box(x - REACH, y - REACH, 2 * REACH, 2 * REACH) for x, y in points]
    found: list[Box] = []
    for sweep, i in itertools.product(range(SWEEPS), range(len(points))):
        others = [box for j, box in enumerate(found) if j != i]
        leaders = [
            (points[j], box.nearest(points[j]))
            for j, box in enumerate(found)
            if j != i and math.dist(points[j], box.nearest(points[j])) > NEAR
        ]
        boxes = _around(points[i], sizes[i])
        costs = [_cost(box, points[i], marks, others, lines, leaders, bounds) for box in boxes]
        best = boxes[costs.index(min(costs))]
        if sweep:
            found[i] = best
        else:
            found.append(best)
    return found


def _around(point: Point, size: Point) -> list[Box]:
    (x, y), (width, height) = point, size
    boxes = []
    for far, (right, up) in itertools.product(DISTANCES, DIRECTIONS):
        middle_x = x + right * (far + width / 2)
        middle_y = y + up * (far + height / 2)
        boxes.append(Box(middle_x - width / 2, middle_y - height / 2, width, height))
    return boxes


def _cost(
    box: Box,
    point: Point,
    marks: Sequence[Box],
    others: Sequence[Box],
    lines: Sequence[Segment],
    leaders: Sequence[Segment],
    bounds: Box,
) -> float:
    """How bad a place is: what it covers weighs most, then how far off it is."""
    cost = 0.0 if box.within(bounds) else 1e6
    cost += sum(20 * box.common(other) for other in others)
    cost += sum(20 * box.common(mark, 0) for mark in marks)
    cost += sum(3 * box.length_of(line) for line in lines)
    cost += sum(40 * box.length_of(line) for line in leaders)
    end = box.nearest(point)
    away = math.dist(point, end)
    if away > NEAR:
        own = (point, end)
        cost += 10
        cost += sum(40 * other.length_of(own) for other in others)
        cost += sum(20 * mark.length_of(own) for mark in marks if math.dist(point, _middle(mark)) > 1)
        cost += sum(60 for leader in leaders if _cross(own, leader))
    return cost + away


def _middle(box: Box) -> Point:
    return box.x + box.width / 2, box.y + box.height / 2


def _cross(a: Segment, b: Segment) -> bool:
    def side(line: Segment, p: Point) -> bool:
        (x1, y1), (x2, y2) = line
        return (x2 - x1) * (p[1] - y1) > (y2 - y1) * (p[0] - x1)

    return side(a, b[0]) != side(a, b[1]) and side(b, a[0]) != side(b, a[1])


SUFFIXES = (".svg", ".png")

BEST, OTHER, INK, FAINT = "#0b62a4", "#8a9099", "#22262b", "#d9dce1"

SIZE = (10.0, 6.2)
"""Inches."""

DOTS = 160
"""Dots an inch of a PNG."""


def check_target(path: Path) -> None:
    """See that a picture can be drawn into this file. Raises UsageError, or RsearchError with its remedy."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--plot draws {' or '.join(SUFFIXES)}, not {path.name!r}: name a file that ends so")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"--plot: there is no folder {folder}: make it, or name a file in another")
    if path.is_dir():
        raise UsageError(f"--plot: {path} is a folder: name a file")
    if not os.access(folder, os.W_OK):
        raise StorageError(f"cannot write to {folder}: name a file elsewhere with --plot")
    try:
        prepare()
    except ImportError:
        raise RsearchError(
            'matplotlib is not installed: `pip install "resizable_search[plot]"`, or measure without --plot'
        ) from None


def plot(report: "BenchReport", path: Path) -> None:
    """Draw a report into an SVG or PNG file, replacing it as a whole. Raises as `check_target`."""
    check_target(path)
    save(draw(report), path)


def save(figure: "Figure", path: Path) -> None:
    """Write a figure into an SVG or PNG file, replacing it as a whole. Raises StorageError."""
    half_made = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name may hold letters that matplotlib's font lacks
            figure.savefig(half_made, dpi=DOTS)
        half_made.replace(path)
    except OSError as error:
        raise StorageError(
            f"cannot write {path} ({error.strerror}): name a file elsewhere with --plot"
        ) from None
    finally:
        half_made.unlink(missing_ok=True)


def draw(report: "BenchReport") -> "Figure":
    """The figure, without a window or any state of pyplot's."""
    prepare()
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # `parse_math`: a dollar in a name is one.
    with rc_context({"text.parse_math": False, "font.size": 10.5}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(SIZE, facecolor="white", layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        front = pareto_front(report.measurements)
        _points(axes, report, front)
        _frame(axes, report)
        canvas.draw()  # type: ignore[no-untyped-call]  # so that places of points and sizes of texts are known
        _label(axes, report, front)
    return figure


def pareto_front(measured: Sequence["Measurement"]) -> list["Measurement"]:
    """Those than which nothing measured is both faster and nearer to the full scan; the fastest last."""
    front: list[Measurement] = []
    for m in sorted(measured, key=lambda m: (-m.runs_per_second, -m.overlap)):
        if not front or m.overlap > front[-1].overlap:
            front.append(m)
    return front[::-1]


def label(m: "Measurement", report: "BenchReport") -> str:
    """What a point is called: its plan, and its batch and threads if these differ within the report."""
    words = [m.plan]
    if any(other.batch != m.batch for other in report.measurements):
        words.append(f"batch {m.batch:,}")
    if any(other.threads != m.threads for other in report.measurements):
        words.append(f"{m.threads} thread{'s' if m.threads > 1 else ''}")
    return " · ".join(words)


def prepare() -> None:
    """Load matplotlib, and have it keep to itself that it looks for fonts."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib.figure  # noqa: F401  # that it can be imported is what is asked


def _points(axes: "Axes", report: "BenchReport", front: Sequence["Measurement"]) -> None:
    axes.set_xscale("log")
    best = {id(m) for m in front}
    axes.plot(
        [m.runs_per_second for m in front],
        [m.overlap for m in front],
        color=BEST,
        linewidth=1.4,
        alpha=0.6,
        zorder=2,
        marker="o",
        markersize=7,
        label="Pareto front: nothing measured is both faster and nearer to the full dimension",
    )
    for m in report.measurements:
        colour = BEST if id(m) in best else OTHER
        if m.overlap_ci is not None:
            axes.plot([m.runs_per_second] * 2, m.overlap_ci, color=colour, linewidth=1, alpha=0.5, zorder=3)
        axes.plot(
            [m.runs_per_second],
            [m.overlap],
            marker="o",
            markersize=7,
            markerfacecolor=colour if id(m) in best else "white",
            markeredgecolor=colour,
            markeredgewidth=1.4,
            zorder=4,
        )


def _frame(axes: "Axes", report: "BenchReport") -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    speeds = [m.runs_per_second for m in report.measurements]
    lowest = min((m.overlap_ci or (m.overlap,))[0] for m in report.measurements)
    spread = max(max(speeds) / min(speeds), 1.5)
    left, right = min(speeds) / spread**0.14, max(speeds) * spread**0.14
    axes.set_xlim(left, right)
    height = max(1.0 - lowest, 0.02)
    axes.set_ylim(lowest - 0.12 * height, 1.0 + 0.14 * height)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(left, right)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    # The overlap ends at 1, though the picture leaves room for labels above it.
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in axes.get_yticks() if tick <= 1.0 + 1e-9]))
    axes.grid(color=FAINT, linewidth=0.7, zorder=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    many = any(m.batch > 1 for m in report.measurements)
    axes.set_xlabel(f"{'queries' if many else 'runs'} per second (log scale)", color=INK)
    interval = ", with its 95 % interval" if report.measurements[0].overlap_ci else ""
    axes.set_ylabel(f"overlap@{report.k} with the full dimension{interval}", color=INK)
    axes.set_title(_title(report), color=INK, loc="left", fontsize=12)
    # Below the picture, where no point can be.
    axes.legend(loc="upper left", bbox_to_anchor=(-0.01, -0.1), frameon=False, fontsize=9.5)


def _title(report: "BenchReport") -> str:
    counts = list(dict.fromkeys(m.threads for m in report.measurements))
    threads = ", ".join(map(str, counts)) + (" thread" if counts == [1] else " threads")
    name = report.index if len(report.index) <= 40 else f"{report.index[:39]}…"
    return f"{name} · {report.rows:,} × {report.full_dim} · k {report.k} · {threads} · {report.cache}"


def _ticks(left: float, right: float) -> list[float]:
    """Round numbers within a log axis, some four to ten of them."""
    from matplotlib.ticker import MaxNLocator

    if right < 3 * left:  # so little of it is nearly linear
        values = MaxNLocator(6).tick_values(left, right)
        return [float(tick) for tick in values if left <= tick <= right]
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        found = [s * 10.0**e for e in range(-6, 12) for s in steps if left <= s * 10.0**e <= right]
        if len(found) >= 4:
            break
    return found[:: -(-len(found) // 10)]


def _label(axes: "Axes", report: "BenchReport", front: Sequence["Measurement"]) -> None:
    """Put each point's label where there is room for it, the front's first; one far off gets a line."""
    best = {id(m) for m in front}
    measured = sorted(report.measurements, key=lambda m: (id(m) not in best, m.runs_per_second))
    texts = [
        axes.annotate(
            label(m, report),
            (m.runs_per_second, m.overlap),
            textcoords="offset pixels",
            color=INK if id(m) in best else "#5d646d",
            fontsize=9.5,
            annotation_clip=False,
            in_layout=False,
            zorder=6,
        )
        for m in measured
    ]
    points = [_pixels(axes, m.runs_per_second, m.overlap) for m in measured]
    extents = [text.get_window_extent() for text in texts]
    lines = [
        (_pixels(axes, a.runs_per_second, a.overlap), _pixels(axes, b.runs_per_second, b.overlap))
        for a, b in pairwise(front)
    ]
    lines += [
        (_pixels(axes, m.runs_per_second, m.overlap_ci[0]), _pixels(axes, m.runs_per_second, m.overlap_ci[1]))
        for m in measured
        if m.overlap_ci is not None
    ]
    frame = axes.bbox
    bounds = Box(frame.x0 + 4, frame.y0 + 4, frame.width - 8, frame.height - 4)
    boxes = placed(points, [(extent.width, extent.height) for extent in extents], lines, bounds)
    dots = 72 / axes.figure.dpi  # an offset in points survives another resolution, one in pixels does not
    for text, point, box in zip(texts, points, boxes, strict=True):
        text.set_position(((box.x - point[0]) * dots, (box.y - point[1]) * dots))
        text.anncoords = "offset points"
        text.set_verticalalignment("bottom")
        end = box.nearest(point)
        if math.dist(point, end) > NEAR:
            ends = axes.transData.inverted().transform([point, end])
            axes.plot(ends[:, 0], ends[:, 1], color=OTHER, linewidth=0.7, zorder=1)


def _pixels(axes: "Axes", x: float, y: float) -> tuple[float, float]:
    across, up = axes.transData.transform((x, y))
    return float(across), float(up)
