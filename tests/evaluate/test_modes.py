"""Meaning, words and both, side by side in `eval` and `bench`."""

import numpy as np
import pytest

from resizable_search.engine.plan import MODES
from resizable_search.errors import UsageError
from resizable_search.evaluate.bench import BenchOptions, run_bench, sample_queries, text_queries
from resizable_search.evaluate.plots import draw_relevance
from resizable_search.evaluate.qrels import Metrics, Qrels
from resizable_search.evaluate.relevance import evaluate
from tests.support import index_of

WIDTH, ROWS = 16, 40


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    rows = np.random.default_rng(3).standard_normal((ROWS, WIDTH)).astype(np.float32)
    with index_of(rows, tmp_path_factory.mktemp("home"), dims=(4,)) as opened:
        yield opened


@pytest.fixture(scope="module")
def judgements():
    """Each query has the word of one document; its vector says nothing."""
    queries = {f"q{n}": f"what is {n}" for n in range(10, 30)}
    return Qrels(queries, {f"q{n}": {f"a{n}": 1} for n in range(10, 30)}, "made up")


def test_all_modes_are_evaluated_at_each_dimension(index, judgements):
    options = BenchOptions(dims=(16, 4), modes=MODES, plans=("4:20,16+lexical:0.9",))
    report = evaluate(index, judgements, options, Metrics.parse("nDCG@10")).report
    assert [plan.plan for plan in report.plans] == [
        "16", "lexical", "16+lexical", "4", "4+lexical", "4:20,16+lexical:0.9",
    ]  # fmt: skip
    assert [plan.dim for plan in report.plans] == [16, 16, 16, 4, 4, 4]
    values = {plan.plan: plan.measures["nDCG@10"] for plan in report.plans}
    assert values["lexical"].mean == 1.0
    assert values["16"].mean < values["16+lexical"].mean
    assert values["lexical"].is_certain
    assert values["lexical"].difference == pytest.approx(1 - values["16"].mean)
    assert {plan.rerank for plan in report.plans[1:3]} == {None}
    assert draw_relevance(report)


def test_one_mode_is_compared_with_itself_at_the_full_dimension(index, judgements):
    report = evaluate(index, judgements, BenchOptions(modes=("hybrid",)), Metrics.parse("nDCG@10")).report
    assert [plan.plan for plan in report.plans] == ["16+lexical", "4+lexical"]
    assert report.plans[0].overlap == 1.0


def test_bench_measures_modes_by_texts_alone(index, judgements):
    options = BenchOptions(dims=(16,), modes=MODES, batches=(1, 3))
    asked = text_queries(index, list(judgements.queries.values()), "made up")
    measured = run_bench(index, asked, options).measurements
    assert [m.plan for m in measured] == ["16", "lexical", "16+lexical"] * 2
    assert asked.take(slice(2)).texts == ("what is 10", "what is 11")
    with pytest.raises(UsageError, match="counts words: give `queries`"):
        run_bench(index, sample_queries(index, 5), options)
