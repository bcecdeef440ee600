"""Pictures: overlap against throughput (`bench`), and the relevance that each dimension keeps (`eval`)."""

import io
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from resizable_search.errors import RsearchError, StorageError, UsageError
from resizable_search.system import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from resizable_search.evaluate.bench import BenchReport, Measurement
    from resizable_search.evaluate.relevance import EvaluatedPlan, EvaluationReport

SUFFIXES = (".svg", ".png")

BEST, OTHER, INK, FAINT = "#0b62a4", "#8a9099", "#22262b", "#d9dce1"

COLOURS = (BEST, "#c2571a", "#2f8f5b", "#8a4fa3", "#b0892a", "#3aa0b5")
"""Colours of the metrics, in their order."""

MARKS = ("s", "D", "^", "v", "P", "X")
"""Marks of the reranks, in theirs."""

SIZE = (10.0, 6.2)
"""Inches."""

DPI = 160
"""Dots per inch of a PNG."""


def check_target(path: Path) -> None:
    """Check that a picture can be drawn into this file. Raises UsageError, StorageError and RsearchError."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"`plot` draws {' or '.join(SUFFIXES)}, not {path.name!r}: name such a file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"`plot`: there is no folder {folder}: make it, or name a file in another")
    if path.is_dir():
        raise UsageError(f"`plot`: {path} is a folder: name a file")
    if not os.access(folder, os.W_OK):
        raise StorageError(f"cannot write to {folder}: name a file in another folder")
    try:
        _load_matplotlib()
    except ImportError as error:
        raise RsearchError(f'{error.name} is not installed: `pip install "resizable_search[plot]"`') from None


def save(figure: "Figure", path: Path) -> None:
    """Write a figure into an SVG or PNG file, in one step. Raises StorageError."""
    picture = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            figure.savefig(picture, format=path.suffix[1:].lower(), dpi=DPI)
        replace_file(path, picture.getvalue())
    except OSError as error:
        raise StorageError(f"cannot write {path} ({error.strerror}): name a file in another folder") from None


def draw(report: "BenchReport") -> "Figure":
    """Runs per second across, overlap upwards: a labelled point a measurement, the best ones joined."""
    front = pareto_front(report.measurements)

    def fill(axes: "Axes") -> None:
        _draw_points(axes, report, front)
        _set_bench_axes(axes, report)

    return _figure(fill, lambda axes: _label_points(axes, report, front))


def draw_relevance(report: "EvaluationReport") -> "Figure":
    """Dimensions across, the share of the full dimension's value upwards.

    Every metric has a line, the overlap a dashed one. The first metric has a line for each rerank too;
    other plans are points at the dimension that they scan.
    """

    def fill(axes: "Axes") -> None:
        _draw_relevance_lines(axes, report)
        _set_relevance_axes(axes, report)

    return _figure(fill)


def pareto_front(measured: Sequence["Measurement"]) -> list["Measurement"]:
    """The measurements that no other one beats in both speed and overlap; the fastest last."""
    front: list[Measurement] = []
    for m in sorted(measured, key=lambda m: (-m.runs_per_second, -m.overlap)):
        if not front or m.overlap > front[-1].overlap:
            front.append(m)
    return front[::-1]


def label(m: "Measurement", report: "BenchReport") -> str:
    """The plan of a point, with its batch and threads if these differ within the report."""
    words = [m.plan]
    if any(other.batch != m.batch for other in report.measurements):
        words.append(f"batch {m.batch:,}")
    if any(other.threads != m.threads for other in report.measurements):
        words.append(f"{m.threads} thread{'s' if m.threads > 1 else ''}")
    return " · ".join(words)


def shares(plans: "Sequence[EvaluatedPlan]", name: str, full: float) -> list[tuple[float, float, float]]:
    """For each plan the share of `full` that a metric keeps, and its interval's reach down and up."""
    points = []
    for plan in plans:
        m = plan.measures[name]
        low, high = m.difference_ci or (m.difference, m.difference)
        down, up = max(0.0, m.difference - low), max(0.0, high - m.difference)
        points.append((m.mean / full, down / full, up / full))
    return points


def _load_matplotlib() -> None:
    """Raise ImportError if the extra is missing; keep matplotlib from logging its search for fonts."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib.figure  # noqa: F401  # only whether they can be imported
    import textalloc  # noqa: F401


def _figure(fill: Callable[["Axes"], None], label: Callable[["Axes"], None] | None = None) -> "Figure":
    """A figure without a window or any state of pyplot's; `label` is called once the layout is fixed."""
    _load_matplotlib()
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # `parse_math`: a dollar sign in a name is just that.
    with rc_context({"text.parse_math": False, "font.size": 10.5}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may hold letters that matplotlib's font lacks
        figure = Figure(SIZE, facecolor="white", layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        fill(axes)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.grid(color=FAINT, linewidth=0.7, zorder=0)
        if label is not None:
            canvas.draw()  # type: ignore[no-untyped-call]
            figure.set_layout_engine("none")
            label(axes)
    return figure


def _draw_points(axes: "Axes", report: "BenchReport", front: Sequence["Measurement"]) -> None:
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


def _label_points(axes: "Axes", report: "BenchReport", front: Sequence["Measurement"]) -> None:
    """Put labels where they cover no point, line or other label."""
    import textalloc

    measured = report.measurements
    across, upwards = [m.runs_per_second for m in measured], [m.overlap for m in measured]
    lines = [((a.runs_per_second, b.runs_per_second), (a.overlap, b.overlap)) for a, b in pairwise(front)]
    lines += [((m.runs_per_second, m.runs_per_second), m.overlap_ci) for m in measured if m.overlap_ci]
    textalloc.allocate(
        axes,
        across,
        upwards,
        [label(m, report) for m in measured],
        x_scatter=across,
        y_scatter=upwards,
        x_lines=[list(xs) for xs, _ in lines],
        y_lines=[list(ys) for _, ys in lines],
        textsize=9.5,
        textcolor="#5d646d",
        linecolor=OTHER,
        linewidth=0.7,
        max_distance=0.4,
        draw_all=True,
        avoid_label_lines_overlap=True,
        zorder=6,
    )
    best = {label(m, report) for m in front}
    for text in axes.texts:
        if text.get_text() in best:
            text.set_color(INK)


def _set_bench_axes(axes: "Axes", report: "BenchReport") -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    measured = report.measurements
    speeds = [m.runs_per_second for m in measured]
    lowest = min((m.overlap_ci or (m.overlap,))[0] for m in measured)
    spread = max(max(speeds) / min(speeds), 1.5)
    left, right = min(speeds) / spread**0.14, max(speeds) * spread**0.14
    axes.set_xlim(left, right)
    height = max(1.0 - lowest, 0.02)
    axes.set_ylim(lowest - 0.12 * height, 1.0 + 0.14 * height)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(left, right)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    # The overlap ends at 1, though there is room for labels above it.
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in axes.get_yticks() if tick <= 1.0 + 1e-9]))
    many = any(m.batch > 1 for m in measured)
    axes.set_xlabel(f"{'queries' if many else 'runs'} per second (log scale)", color=INK)
    interval = ", with its 95 % interval" if measured[0].overlap_ci else ""
    axes.set_ylabel(f"overlap@{report.k} with the full dimension{interval}", color=INK)
    counts = list(dict.fromkeys(m.threads for m in measured))
    threads = ", ".join(map(str, counts)) + (" thread" if counts == [1] else " threads")
    name = report.index if len(report.index) <= 40 else f"{report.index[:39]}…"
    title = f"{name} · {report.rows:,} × {report.full_dim} · k {report.k} · {threads} · {report.cache}"
    axes.set_title(title, color=INK, loc="left", fontsize=12)
    # Below the picture, where no point can be.
    axes.legend(loc="upper left", bbox_to_anchor=(-0.01, -0.1), frameon=False, fontsize=9.5)


def _ticks(left: float, right: float) -> list[float]:
    """Four to ten round numbers within a log axis, or about so many."""
    from matplotlib.ticker import MaxNLocator

    if right < 3 * left:  # nearly linear
        values = MaxNLocator(6).tick_values(left, right)
        return [float(tick) for tick in values if left <= tick <= right]
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [s * 10.0**e for e in range(-6, 12) for s in steps if left <= s * 10.0**e <= right]
        if len(ticks) >= 4:
            break
    return ticks[:: -(-len(ticks) // 10)]


def _draw_relevance_lines(axes: "Axes", report: "EvaluationReport") -> None:
    full_plan = report.plans[0]
    reranks = [_rerank_alone(plan, report) for plan in report.plans]
    plain = _by_dim([plan for plan, rerank in zip(report.plans, reranks, strict=True) if rerank == 0])
    axes.plot(
        [plan.dim for plan in plain],
        [plan.overlap for plan in plain],
        color=OTHER,
        linestyle="--",
        marker="o",
        markersize=5,
        label=f"overlap@{report.k} with the full dimension",
    )
    drawn = [(name, m.mean) for name, m in full_plan.measures.items() if m.mean > 0]
    for number, (name, full) in enumerate(drawn[1:], 1):
        _draw_line(axes, plain, name, full, COLOURS[number % len(COLOURS)])
    if not drawn:
        return
    name, full = drawn[0]
    _draw_line(axes, plain, name, full, BEST, first=True)
    marks = cycle(MARKS)
    for factor in sorted({rerank for rerank in reranks if rerank}):
        with_it = [plan for plan, own in zip(report.plans, reranks, strict=True) if own == factor]
        words = f"{name}, rerank ×{factor}"
        _draw_line(axes, _by_dim([full_plan, *with_it]), name, full, BEST, next(marks), words=words)
    for plan, rerank in zip(report.plans, reranks, strict=True):
        if rerank is None:
            _draw_line(axes, [plan], name, full, INK, next(marks), words=f"{name}, plan {plan.plan}")


def _rerank_alone(plan: "EvaluatedPlan", report: "EvaluationReport") -> int | None:
    """The rerank of a plan that is just a dimension and a rerank; None for any other."""
    simple = (str(plan.dim), f"{plan.dim}:{(plan.rerank or 0) * report.k},{report.full_dim}")
    return plan.rerank if plan.plan in simple else None


def _draw_line(
    axes: "Axes",
    plans: "Sequence[EvaluatedPlan]",
    name: str,
    full: float,
    colour: str,
    mark: str = "o",
    *,
    first: bool = False,
    words: str = "",
) -> None:
    """A line of a metric; dotted with hollow marks if it has `words`. The first metric has intervals."""
    points = shares(plans, name, full)
    axes.errorbar(
        [plan.dim for plan in plans],
        [share for share, _, _ in points],
        yerr=[[down for _, down, _ in points], [up for _, _, up in points]] if first or words else None,
        color=colour,
        linewidth=2.2 if first else 1.2,
        linestyle=":" if words else "-",
        marker=mark,
        markersize=7 if first or words else 5,
        markerfacecolor="white" if words else colour,
        elinewidth=1,
        capsize=3,
        label=words or f"{name} ({full:.3f} at the full dimension)",
        zorder=4 if first or words else 3,
    )


def _set_relevance_axes(axes: "Axes", report: "EvaluationReport") -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    dims = sorted({plan.dim for plan in report.plans})
    axes.set_xscale("log", base=2)
    axes.set_xlim(dims[0] / 1.15, dims[-1] * 1.15)
    axes.xaxis.set_major_locator(FixedLocator(_apart(dims)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    axes.axhline(1.0, color=FAINT, linewidth=1.4, zorder=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(OTHER)
    axes.set_xlabel("dimension of the scan", color=INK)
    first = next(iter(report.plans[0].measures))
    axes.set_ylabel(f"share of the full dimension's value ({first} with 95 % interval)", color=INK)
    asked = f"{report.queries.count:,} judged quer{'y' if report.queries.count == 1 else 'ies'}"
    title = f"{report.index} · {report.rows:,} × {report.full_dim} · k {report.k} · {asked}"
    axes.set_title(title, color=INK, loc="left", fontsize=12)
    axes.legend(loc="best", frameon=False, fontsize=9.5)


def _by_dim(plans: "Sequence[EvaluatedPlan]") -> "list[EvaluatedPlan]":
    return sorted(plans, key=lambda plan: plan.dim)


def _apart(dims: Sequence[int]) -> list[int]:
    """The dimensions whose labels have room beside each other, from the largest down."""
    apart: list[int] = []
    for dim in sorted(dims, reverse=True):
        if not apart or apart[-1] / dim >= (dims[-1] / dims[0]) ** 0.04:
            apart.append(dim)
    return apart
