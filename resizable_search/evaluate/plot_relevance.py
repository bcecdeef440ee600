"""What truncation costs in relevance, as a picture: the share of each measure that a dimension keeps."""

import warnings
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from resizable_search.evaluate.plots import BEST, FAINT, INK, OTHER, SIZE, check_target, prepare, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from resizable_search.evaluate.relevance import EvaluatedPlan, EvaluationReport

COLOURS = (BEST, "#c2571a", "#2f8f5b", "#8a4fa3", "#b0892a", "#3aa0b5")
"""Of the measures, in their order."""

MARKS = ("s", "D", "^", "v", "P", "X")
"""Of the reranks, in theirs."""


def plot_relevance(report: "EvaluationReport", path: Path) -> None:
    """Draw a report into an SVG or PNG file, replacing it whole. Raises as `check_target`."""
    check_target(path)
    save(draw(report), path)


def draw(report: "EvaluationReport") -> "Figure":
    """The figure: dimensions across, the share of the full dimension's value upwards.

    Every measure has a line, the overlap a dashed one, and of the first measure each rerank a line, too;
    other plans are points at the dimension that they scan.
    """
    prepare()
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False, "font.size": 10.5}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may hold letters that matplotlib's font lacks
        figure = Figure(SIZE, facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _lines(axes, report)
        _frame(axes, report)
    return figure


def shares(plans: "Sequence[EvaluatedPlan]", name: str, full: float) -> list[tuple[float, float, float]]:
    """Of each plan the share of `full` that a measure keeps, and how far its interval goes down and up."""
    found = []
    for plan in plans:
        m = plan.measures[name]
        low, high = m.difference_ci or (m.difference, m.difference)
        found.append(
            (m.mean / full, max(0.0, m.difference - low) / full, max(0.0, high - m.difference) / full)
        )
    return found


def _lines(axes: "Axes", report: "EvaluationReport") -> None:
    full_plan = report.plans[0]
    ways = [(_rerank_alone(plan, report), plan) for plan in report.plans]
    plain = _by_dim([plan for way, plan in ways if way == 0])
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
        _line(axes, plain, name, full, COLOURS[number % len(COLOURS)])
    for name, full in drawn[:1]:
        _line(axes, plain, name, full, BEST, first=True)
        reranks = sorted({way for way, _ in ways if way})
        others = [plan for way, plan in ways if way is None]
        for rerank, mark in zip(reranks, cycle(MARKS), strict=False):
            some = _by_dim([full_plan, *(plan for way, plan in ways if way == rerank)])
            _line(axes, some, name, full, BEST, mark, words=f"{name}, rerank ×{rerank}")
        for plan, mark in zip(others, cycle(MARKS[len(reranks) % len(MARKS) :] + MARKS), strict=False):
            _line(axes, [plan], name, full, INK, mark, words=f"{name}, plan {plan.plan}")


def _rerank_alone(plan: "EvaluatedPlan", report: "EvaluationReport") -> int | None:
    """The rerank of a plan that a dimension and a rerank say whole; None of any other."""
    said = (str(plan.dim), f"{plan.dim}:{(plan.rerank or 0) * report.k},{report.full_dim}")
    return plan.rerank if plan.plan in said else None


def _line(
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
    """A line, dotted and with hollow marks if it has `words`; the first measure alone has intervals."""
    kept = shares(plans, name, full)
    axes.errorbar(
        [plan.dim for plan in plans],
        [share for share, _, _ in kept],
        yerr=[[down for _, down, _ in kept], [up for _, _, up in kept]] if first or words else None,
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


def _frame(axes: "Axes", report: "EvaluationReport") -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    dims = sorted({plan.dim for plan in report.plans})
    axes.set_xscale("log", base=2)
    axes.set_xlim(dims[0] / 1.15, dims[-1] * 1.15)
    axes.xaxis.set_major_locator(FixedLocator(_apart(dims)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    axes.axhline(1.0, color=FAINT, linewidth=1.4, zorder=0)
    axes.grid(color=FAINT, linewidth=0.7, zorder=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(OTHER)
    axes.set_xlabel("dimension of the scan", color=INK)
    first = next(iter(report.plans[0].measures))
    axes.set_ylabel(f"share of the full dimension's value ({first} with 95 % interval)", color=INK)
    asked = f"{report.queries.count:,} judged quer{'y' if report.queries.count == 1 else 'ies'}"
    axes.set_title(
        f"{report.index} · {report.rows:,} × {report.full_dim} · k {report.k} · {asked}",
        loc="left",
        color=INK,
        fontsize=12,
    )
    axes.legend(loc="best", frameon=False, fontsize=9.5)


def _by_dim(plans: "Sequence[EvaluatedPlan]") -> "list[EvaluatedPlan]":
    return sorted(plans, key=lambda plan: plan.dim)


def _apart(dims: Sequence[int]) -> list[int]:
    """The dimensions whose names have room beside each other, from the largest down."""
    kept: list[int] = []
    for dim in sorted(dims, reverse=True):
        if not kept or kept[-1] / dim >= (dims[-1] / dims[0]) ** 0.04:
            kept.append(dim)
    return kept
