from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from resizable_search.evaluate import plot_relevance as plotting
from resizable_search.evaluate.relevance import Measured
from tests.cli.test_eval import FOUR, plan, report


def lines(made) -> dict[str, tuple[list[float], list[float]]]:
    """Labelled lines of a figure: their places across and upwards."""
    (axes,) = made.figure.axes if hasattr(made, "figure") else made.axes
    handles, labels = axes.get_legend_handles_labels()
    found = {}
    for handle, label in zip(handles, labels, strict=True):
        line = handle[0] if isinstance(handle, tuple) else handle
        found[label] = (list(map(float, line.get_xdata())), list(map(float, line.get_ydata())))
    return found


def test_every_measure_is_a_line_of_the_share_that_it_keeps():
    found = lines(plotting.draw(FOUR))
    assert found["overlap@10 with the full dimension"] == ([64, 512, 768], [0.5, 0.5, 0.5])
    for name in ("nDCG@10", "R@10", "R@100", "RR@10"):
        across, upwards = found[f"{name} (0.700 at the full dimension)"]
        assert across == [64, 512, 768]
        assert upwards == pytest.approx([0.6 / 0.7, 1.0, 1.0])
    across, upwards = found["nDCG@10, rerank ×10"]
    assert across == [64, 768]
    assert upwards == pytest.approx([0.71 / 0.7, 1.0])


def test_a_plan_that_is_more_than_a_dimension_and_a_rerank_is_a_point_of_its_own():
    rough = plan("768:bits:100,768", 0.65, -0.05, (-0.06, -0.04))
    found = lines(plotting.draw(report(*FOUR.plans, rough)))
    assert found["nDCG@10, plan 768:bits:100,768"] == ([768], [pytest.approx(0.65 / 0.7)])
    assert found["nDCG@10, rerank ×10"][0] == [64, 768]


def test_an_interval_is_as_long_as_the_difference_is_uncertain():
    ((share, down, up),) = plotting.shares([FOUR.plans[2]], "R@10", 0.7)
    assert (share, down, up) == pytest.approx((0.6 / 0.7, 0.023 / 0.7, 0.023 / 0.7))


def test_a_measure_that_is_0_has_no_share_and_one_plan_is_a_picture_too(tmp_path: Path):
    nothing = {name: Measured(0.0, 0.0, None) for name in ("nDCG@10", "R@10")}
    alone = report(replace(FOUR.plans[0], measures=nothing))
    assert list(lines(plotting.draw(alone))) == ["overlap@10 with the full dimension"]
    plotting.plot_relevance(alone, tmp_path / "one.svg")
    plotting.plot_relevance(FOUR, tmp_path / "four.png")
    assert ElementTree.parse(tmp_path / "one.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "four.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2
