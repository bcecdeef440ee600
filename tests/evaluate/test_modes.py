"""Meaning, words and both, side by side in `eval` and `bench`."""

from dataclasses import asdict

import numpy as np
import pytest

from resizable_search.admin.overview import describe_index
from resizable_search.build.build import build_index
from resizable_search.build.delete import delete
from resizable_search.engine.plan import MODES
from resizable_search.errors import UsageError
from resizable_search.evaluate.bench import BenchOptions, run_bench, sample_queries, text_queries
from resizable_search.evaluate.plots import draw_relevance
from resizable_search.evaluate.qrels import Metrics, Qrels
from resizable_search.evaluate.relevance import evaluate
from resizable_search.evaluate.tune_mode import LEAST_QUERIES, titles_as_queries, tune_mode, without
from resizable_search.search.index import open_index
from resizable_search.search.planning import SearchOptions
from resizable_search.store.manifest import read_manifest
from resizable_search.store.tuned_plans import store_mode
from tests.support import TableEmbedder, index_of

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


@pytest.fixture
def fresh(tmp_path):
    rows = np.random.default_rng(3).standard_normal((ROWS, WIDTH)).astype(np.float32)
    with index_of(rows, tmp_path, dims=(4,)) as opened:
        yield opened


def test_a_proven_mode_is_kept_and_is_the_default(fresh, judgements):
    report = tune_mode(fresh, judgements)
    assert (report.choice.mode, report.choice.weight, report.kept) == ("lexical", 1.0, True)
    assert report.choice.gain_ci[0] > 0
    assert report.means["lexical"] == report.choice.value == 1.0
    assert (report.choice.chosen_on, report.choice.queries) == (10, 10)
    with open_index(fresh.folder, embedder=TableEmbedder(width=WIDTH)) as again:
        for index in (fresh, again):
            plans = {
                "lexical": SearchOptions(),
                "16": SearchOptions(mode="dense"),
                "16+lexical": SearchOptions(mode="hybrid"),
                "4": SearchOptions(dim=4),
                "4:100,16": SearchOptions(plan="4:100,16"),
            }
            assert {str(index.plan(options)): options for options in plans.values()} == plans
            assert str(index.plan(SearchOptions().with_plan(None))) == "16"
            assert index.query("what is 12", 1)[0].id == "a12"
            assert index.similar("a12", 1)[0].ranks is None
            assert index.scan(np.ones((1, WIDTH), np.float32), 1).ranks is None


def test_a_hybrid_default_has_its_weight(fresh, judgements):
    choice = tune_mode(fresh, judgements).choice
    kept = {**asdict(choice), "mode": "hybrid", "weight": 0.3}
    store_mode(fresh.folder, fresh.manifest.generation, kept)
    fresh.plans.read_again()
    assert str(fresh.plan(SearchOptions(dim=4))) == "4+lexical:0.3"
    assert describe_index(fresh).mode.startswith("hybrid (words 0.3) by default: nDCG@10 1.000, +")
    store_mode(fresh.folder, fresh.manifest.generation, {**kept, "mode": "other"})
    fresh.plans.read_again()
    assert str(fresh.plan(SearchOptions())) == "16"
    assert describe_index(fresh).mode == ""


def test_an_unproven_mode_takes_the_place_of_none(fresh, judgements):
    tune_mode(fresh, judgements)
    # No word of these is in the index, so words change nothing.
    silent = Qrels({q: "unheard words" for q in judgements.queries}, judgements.relevance, "made up")
    report = tune_mode(fresh, silent)
    assert (report.kept, report.not_kept) == (False, "")
    assert str(fresh.plan(SearchOptions())) == "16"


def test_a_changed_index_and_few_queries_prove_nothing(fresh, judgements):
    tune_mode(fresh, judgements)
    delete(fresh.folder, ["a1"])
    assert not read_manifest(fresh.folder).mode
    report = tune_mode(fresh, judgements)
    assert not report.kept
    assert "has changed while it was measured" in report.not_kept
    few = Qrels({"q10": "what is 10"}, {"q10": {"a10": 1}}, "made up")
    with pytest.raises(UsageError, match=f"give {LEAST_QUERIES} or more"):
        tune_mode(fresh, few)


def test_texts_lose_their_titles_and_the_titles_ask_for_them(tmp_path):
    body = "a body that is long enough to say something without any title. " * 3
    texts = [{"id": f"Tree {n}", "title": f"Tree  {n}", "text": f"# tree {n}\n{body}"} for n in range(25)]
    texts += [
        {"id": "again", "title": "Tree 3", "text": body},
        {"id": "short", "title": "Bush", "text": "Bush!"},
    ]
    texts.append({"id": "untitled", "text": f"{body} Tree 7, Trees 8."})
    with build_index("trees", texts, embedder=TableEmbedder(width=WIDTH), home=tmp_path) as trees:
        documents, qrels = titles_as_queries(trees)
    found = {document.id: document for document in documents}
    assert found.keys() == {*(f"Tree {n}" for n in range(25)), "again", "untitled"}
    assert all(document.title == "" for document in documents)
    assert found["Tree 4"].text.startswith("#\na body")
    assert found["untitled"].text.endswith("Tree 7, Trees 8.")
    assert len(qrels.queries) == 25
    assert not qrels.queries.keys() & found.keys()
    relevant = {text: qrels.relevance[query] for query, text in qrels.queries.items()}
    assert relevant["Tree 3"] == {"Tree 3": 1, "again": 1}
    with (
        build_index("bushes", texts[-3:], embedder=TableEmbedder(width=WIDTH), home=tmp_path) as bushes,
        pytest.raises(UsageError, match="has 1 title to ask for texts"),
    ):
        titles_as_queries(bushes)


def test_titles_are_taken_out_whatever_their_case_and_spaces():
    assert without("The  OLD\n man's old man, oldman", "old man") == "The 's , oldman"
