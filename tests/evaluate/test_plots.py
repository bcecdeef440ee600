import os
import sys
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from resizable_search.errors import RsearchError, StorageError, UsageError
from resizable_search.evaluate import plots as plotting
from resizable_search.evaluate.bench import BenchReport, Measurement, QueryInfo
from resizable_search.evaluate.relevance import MetricValue
from tests.cli.test_eval import FOUR, plan, report

TWELVE = {
    "768": (150, 1.0),
    "512": (210, 0.929),
    "256": (370, 0.788),
    "128": (690, 0.62),
    "64": (1200, 0.43),
    "256:100,768": (350, 0.991),
    "128:100,768": (640, 0.93),
    "64:100,768": (1050, 0.76),
    "768:bits:100,768": (900, 0.992),
    "768:bits:400,768:int8:30,768": (860, 0.998),
    "768:int8:100,768": (160, 1.0),
    "256:bits:100,768": (1500, 0.86),
}


def measured(plan: str, runs: float, overlap: float, batch: int = 1) -> Measurement:
    return Measurement(
        dim=768,
        rerank=None,
        plan=plan,
        batch=batch,
        threads=2,
        engine="numpy",
        seconds_per_run=1 / runs,
        best_seconds_per_run=0.99 / runs,
        worst_seconds_per_run=1.01 / runs,
        runs_per_second=runs,
        loops=10,
        repeats=5,
        calls=200,
        p50_ms=1.0,
        p95_ms=1.5,
        p99_ms=2.0,
        speedup=1.0,
        bytes_per_run=1000,
        overlap=overlap,
        overlap_ci=(max(0, overlap - 0.01), min(1, overlap + 0.01)),
    )


def reported(*measurements: Measurement, name: str = "wiki100k") -> BenchReport:
    return BenchReport(
        index=name,
        rows=100_000,
        full_dim=768,
        k=10,
        queries=QueryInfo(200, "own rows", 0, 0.0),
        threads=2,
        engine="numpy",
        cache="warm",
        cold_stayed=None,
        measurements=list(measurements),
    )


def of_twelve(count: int = 12) -> BenchReport:
    return reported(*(measured(plan, *point) for plan, point in list(TWELVE.items())[:count]))


def test_the_front_is_what_nothing_beats():
    front = plotting.pareto_front(of_twelve().measurements)
    assert [m.plan for m in front] == [
        "768:int8:100,768",
        "768:bits:400,768:int8:30,768",
        "768:bits:100,768",
        "256:bits:100,768",
    ]
    same = [measured("768", 100, 1.0), measured("512", 100, 0.9), measured("256", 100, 1.0)]
    assert [m.plan for m in plotting.pareto_front(same)] == ["768"]


def test_a_label_tells_batches_and_threads_only_where_they_differ():
    one, many = measured("768", 100, 1.0), measured("768", 1000, 1.0, batch=1000)
    assert plotting.label(one, reported(one)) == "768"
    assert [plotting.label(m, reported(one, many)) for m in (one, many)] == [
        "768 · batch 1",
        "768 · batch 1,000",
    ]
    alone = replace(one, threads=1)
    assert [plotting.label(m, reported(one, alone)) for m in (one, alone)] == [
        "768 · 2 threads",
        "768 · 1 thread",
    ]


@pytest.mark.parametrize("count", [1, 2, 12])
def test_no_label_covers_another_or_is_cut_off(count):
    figure = plotting.draw(of_twelve(count))
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == set(list(TWELVE)[:count])
    boxes = [text.get_window_extent() for text in axes.texts]
    for a, b in combinations(boxes, 2):
        assert not a.overlaps(b)
    for box in boxes:
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        for m in of_twelve(count).measurements:
            assert not box.contains(*axes.transData.transform((m.runs_per_second, m.overlap)))
    assert (
        axes.get_title(loc="left")
        == "wiki100k · 100,000 × 768 · k 10 · 200 of its own rows as queries · 2 threads · warm"
    )
    assert figure.get_facecolor() == (1, 1, 1, 1)


@pytest.mark.parametrize("speeds", [(100, 101), (100, 190), (100, 900), (0.01, 50_000)])
def test_an_axis_has_round_numbers(speeds):
    low, high = speeds
    figure = plotting.draw(reported(measured("768", low, 1.0), measured("256", high, 0.9)))
    left, right = figure.axes[0].get_xlim()
    assert left < low < high < right
    ticks = figure.axes[0].get_xticks().tolist()
    assert 3 <= len(ticks) <= 10
    assert all(a < b for a, b in pairwise(ticks))


def test_a_picture_is_written_whole_in_the_form_of_its_suffix(tmp_path: Path):
    odd = of_twelve(2)
    plotting.save(plotting.draw(odd), tmp_path / "bench.svg")
    plotting.save(plotting.draw(reported(*odd.measurements, name="a$b_名前$")), tmp_path / "bench.PNG")
    assert ElementTree.parse(tmp_path / "bench.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "bench.PNG").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["bench.pdf", "bench", "folder.svg", "nowhere/bench.svg"])
def test_a_file_that_cannot_be_drawn_is_refused(tmp_path: Path, name: str):
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(UsageError, match="`plot`"):
        plotting.check_picture(tmp_path / name)


def test_a_disk_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="No space left"):
        plotting.save(plotting.draw(of_twelve(2)), tmp_path / "bench.svg")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RsearchError, match=r"pip install .*\[plot\]"):
        plotting.check_picture(tmp_path / "bench.svg")


def lines(made) -> dict[str, tuple[list[float], list[float]]]:
    """Labelled lines of a figure: their places across and upwards."""
    (axes,) = made.figure.axes if hasattr(made, "figure") else made.axes
    handles, labels = axes.get_legend_handles_labels()
    drawn = {}
    for handle, label in zip(handles, labels, strict=True):
        line = handle[0] if isinstance(handle, tuple) else handle
        drawn[label] = (list(map(float, line.get_xdata())), list(map(float, line.get_ydata())))
    return drawn


def test_every_measure_is_a_line_of_the_share_that_it_keeps():
    drawn = lines(plotting.draw_relevance(FOUR))
    assert drawn["overlap@10 with the full dimension"] == ([64, 512, 768], [0.5, 0.5, 0.5])
    for name in ("nDCG@10", "R@10", "R@100", "RR@10"):
        across, upwards = drawn[f"{name} (0.700 at the full dimension)"]
        assert across == [64, 512, 768]
        assert upwards == pytest.approx([0.6 / 0.7, 1.0, 1.0])
    across, upwards = drawn["nDCG@10, rerank ×10"]
    assert across == [64, 768]
    assert upwards == pytest.approx([0.71 / 0.7, 1.0])


def test_a_plan_that_is_more_than_a_dimension_and_a_rerank_is_a_point_of_its_own():
    rough = plan("768:bits:100,768", 0.65, -0.05, (-0.06, -0.04))
    drawn = lines(plotting.draw_relevance(report(*FOUR.plans, rough)))
    assert drawn["nDCG@10, plan 768:bits:100,768"] == ([768], [pytest.approx(0.65 / 0.7)])
    assert drawn["nDCG@10, rerank ×10"][0] == [64, 768]


def test_an_interval_is_as_long_as_the_difference_is_uncertain():
    ((share, down, up),) = plotting.shares([FOUR.plans[2]], "R@10", 0.7)
    assert (share, down, up) == pytest.approx((0.6 / 0.7, 0.023 / 0.7, 0.023 / 0.7))


def test_a_measure_that_is_0_has_no_share_and_one_plan_is_a_picture_too(tmp_path: Path):
    nothing = {name: MetricValue(0.0, 0.0, None) for name in ("nDCG@10", "R@10")}
    alone = report(replace(FOUR.plans[0], measures=nothing))
    assert list(lines(plotting.draw_relevance(alone))) == ["overlap@10 with the full dimension"]
    plotting.save(plotting.draw_relevance(alone), tmp_path / "one.svg")
    plotting.save(plotting.draw_relevance(FOUR), tmp_path / "four.png")
    assert ElementTree.parse(tmp_path / "one.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "four.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2
