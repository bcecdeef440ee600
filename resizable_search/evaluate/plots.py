"""Pictures: overlap against throughput (`bench`), and the relevance that each dimension keeps (`eval`)."""

import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resizable_search.environment import needs
from resizable_search.errors import StorageError, UsageError
from resizable_search.system import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from resizable_search.evaluate.bench import BenchReport, Measurement
    from resizable_search.evaluate.relevance import EvaluatedPlan, EvaluationReport

SUFFIXES = (".svg", ".png")

BEST, OTHER = "#0b62a4", "#8a9099"

DPI = 160  # dots per inch of a PNG

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells its search for fonts


def check_target(path: Path, option: str, *, is_folder: bool = False) -> None:
    """Check that a file or folder named by an option can be written. Raises UsageError and StorageError."""
    parent = path.absolute().parent
    if not parent.is_dir():
        raise UsageError(f"`{option}`: there is no folder {parent}: make it, or name another")
    if path.exists() and path.is_dir() != is_folder:
        raise UsageError(f"`{option}`: {path} is {'not a' if is_folder else 'a'} folder: name another")
    target = path if is_folder and path.exists() else parent
    if not os.access(target, os.W_OK):
        raise StorageError(f"cannot write to {target}: name another with `{option}`")


def write_target(path: Path, content: bytes, option: str) -> None:
    """Write a file named by an option in one step, and make its folder. Raises StorageError."""
    try:
        path.parent.mkdir(exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise StorageError(f"cannot write {path} ({error.strerror}): name another with `{option}`") from None


def check_picture(path: Path) -> None:
    """Check that a picture can be drawn into this file. Raises UsageError, StorageError and RsearchError."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"`plot` draws {' or '.join(SUFFIXES)}, not {path.name!r}: name such a file")
    check_target(path, "plot")
    with needs("plot"):
        import matplotlib.figure  # noqa: F401  # only whether they can be imported
        import textalloc  # noqa: F401  # as above


def save(figure: "Figure", path: Path) -> None:
    """Write a figure into an SVG or PNG file. Raises StorageError."""
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(picture, format=path.suffix[1:].lower(), dpi=DPI)
    write_target(path, picture.getvalue(), "plot")


def draw(report: "BenchReport") -> "Figure":
    """Runs per second across, overlap upwards: a labelled point a measurement, the best ones joined."""
    import textalloc
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    measured, front = report.measurements, pareto_front(report.measurements)
    across, upwards = [m.runs_per_second for m in measured], [m.overlap for m in measured]
    lines = [([m.runs_per_second] * 2, list(m.overlap_ci)) for m in measured if m.overlap_ci]
    with _drawing() as (figure, axes):
        for xs, ys in lines:
            axes.plot(xs, ys, color=OTHER, linewidth=1)
        axes.plot(across, upwards, "o", color=OTHER)
        lines.append(([m.runs_per_second for m in front], [m.overlap for m in front]))
        words = "Pareto front: nothing measured is both faster and nearer to the full dimension"
        axes.plot(*lines[-1], "o-", color=BEST, label=words)
        axes.set_xscale("log")
        axes.margins(0.14)  # room for labels
        left, right = axes.get_xlim()
        axes.minorticks_off()
        steps = (1, 2, 5) if right < 1000 * left else (1,)
        axes.xaxis.set_major_locator(MaxNLocator(6) if right < 10 * left else LogLocator(subs=steps))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        many = any(m.batch > 1 for m in measured)
        axes.set_xlabel(f"{'queries' if many else 'runs'} per second (log scale)")
        interval = ", with its 95 % interval" if measured[0].overlap_ci else ""
        axes.set_ylabel(f"overlap@{report.k} with the full dimension{interval}")
        axes.set_title(report.title, wrap=True)
        axes.legend(loc="upper left", bbox_to_anchor=(-0.01, -0.1))  # below the picture
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # labels are placed in the fixed layout
        textalloc.allocate(  # puts labels where they cover no point, line or other label
            axes,
            across,
            upwards,
            [label(m, report) for m in measured],
            x_scatter=across,
            y_scatter=upwards,
            x_lines=[xs for xs, _ in lines],
            y_lines=[ys for _, ys in lines],
            textsize=9.5,
            linecolor=OTHER,
            max_distance=0.4,
            draw_all=True,
            avoid_label_lines_overlap=True,
            zorder=6,
        )
    return figure


def draw_relevance(report: "EvaluationReport") -> "Figure":
    """Dimensions across, the share of the full dimension's value upwards.

    Every metric has a line, the overlap a dashed one. The first metric has a line for each rerank too;
    other plans are points at the dimension that they scan.
    """
    from matplotlib.ticker import PercentFormatter

    full_plan = report.plans[0]
    by_dim = sorted(report.plans, key=lambda plan: plan.dim)
    # None: more than a dimension and a rerank.
    reranks = {plan.plan: None if any(map(str.isalpha, plan.plan)) else plan.rerank for plan in by_dim}
    plain = [plan for plan in by_dim if reranks[plan.plan] == 0]
    first = next(iter(full_plan.measures))
    values = {name: m.mean for name, m in full_plan.measures.items() if m.mean > 0}
    with _drawing() as (figure, axes):

        def draw_line(line: "Sequence[EvaluatedPlan]", name: str, what: str, style: str) -> None:
            points = shares(line, name, values[name])
            reach = [[down for _, down, _ in points], [up for _, _, up in points]]
            axes.errorbar(
                [plan.dim for plan in line],
                [share for share, _, _ in points],
                yerr=reach if name == first else None,
                fmt=style,
                capsize=3,
                label=f"{name}{what}",
            )

        axes.plot(
            [plan.dim for plan in plain],
            [plan.overlap for plan in plain],
            "o--",
            color=OTHER,
            label=f"overlap@{report.k} with the full dimension",
        )
        for name, full in values.items():
            draw_line(plain, name, f" ({full:.3f} at the full dimension)", "o-")
        if first in values:
            for factor in sorted({rerank for rerank in reranks.values() if rerank}):
                line = [plan for plan in by_dim if plan is full_plan or reranks[plan.plan] == factor]
                draw_line(line, first, f", rerank ×{factor}", "s:")
            for plan in report.plans:
                if reranks[plan.plan] is None:
                    draw_line([plan], first, f", plan {plan.plan}", "D")
        dims = sorted({plan.dim for plan in report.plans}, reverse=True)
        axes.set_xscale("log", base=2)
        axes.minorticks_off()
        shown = dims[:: -(-len(dims) // 12)]
        axes.set_xticks(shown, list(map(str, shown)))
        axes.set_xlim(dims[-1] / 1.15, dims[0] * 1.15)
        axes.set_xlabel("dimension of the scan")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylabel(f"share of the full dimension's value ({first} with 95 % interval)")
        axes.set_title(report.title, wrap=True)
        axes.legend()
    return figure


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


@contextmanager
def _drawing() -> "Iterator[tuple[Figure, Axes]]":
    """A figure without a window or any state of pyplot's, in our style."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "figure.figsize": (10.0, 6.2),
        "grid.color": "#d9dce1",
        "legend.frameon": False,
        "text.parse_math": False,  # a dollar sign in a name is just that
    }
    with rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name may hold letters that matplotlib's font lacks
        figure = Figure(facecolor="white", layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.add_subplot()
