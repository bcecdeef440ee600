import json

import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.engine.plan import Plan
from resizable_search.errors import EmbedderError, UsageError
from resizable_search.evaluate import tune as tune_module
from resizable_search.evaluate.bench import text_queries
from resizable_search.evaluate.plan_space import MeasuredPlans
from resizable_search.evaluate.tune import own_queries, sample_size, tune
from resizable_search.progress import SILENT
from resizable_search.search.index import open_index
from resizable_search.search.planning import SearchOptions
from resizable_search.store.layout import Home
from resizable_search.store.manifest import read_manifest
from tests.support import ListCorpus, TableEmbedder, delete_rows, index_of

FULL = 96


def resizable(n, width=FULL, seed=0):
    """Rows around a hundred centres, with the more energy the lower the dimension."""
    rng = np.random.default_rng(seed)
    energy = np.linspace(2, 0.5, width, dtype=np.float32)
    centres = rng.standard_normal((100, width))
    return ((centres[rng.integers(0, 100, n)] + rng.standard_normal((n, width))) * energy).astype(np.float32)


@pytest.fixture
def index(tmp_path):
    with index_of(resizable(1600), tmp_path, dims=(16, 64, FULL)) as made:
        folder = made.folder
    with open_index(folder, home=tmp_path, embedder=TableEmbedder(width=FULL, remote=True)) as opened:
        yield opened


@pytest.fixture
def by_bytes(monkeypatch):
    """Plans take as long as they read: what is chosen does not depend on the machine."""

    def ask(self, plan, i):
        runs = self.index.run(self.queries.vectors[i : i + 1], plan, self.k)[1]
        return sum(run.read for run in runs) / 1e6, runs[0].engine

    monkeypatch.setattr(tune_module, "ROUNDS", 3)
    monkeypatch.setattr(MeasuredPlans, "_ask", ask)


def test_the_fastest_proven_plan_is_chosen_and_kept_with_its_evidence(index, by_bytes):
    report = tune(index, 0.9, seed=3)
    tuned = report.tuned
    assert (report.remark, report.not_kept) == ("", "")
    assert tuned.plan != str(FULL)
    exact = next(c for c in tuned.candidates if c.plan == str(FULL))
    assert (exact.overlap, tuned.ms < exact.ms) == (1.0, True)
    assert tuned.overlap_ci[0] >= 0.9
    assert tuned.overlap_ci[0] <= tuned.overlap <= tuned.overlap_ci[1]
    assert (tuned.queries, tuned.chosen_on, tuned.source, tuned.seed) == (800, 800, "own rows", 3)
    assert [c.ms for c in tuned.candidates] == sorted(c.ms for c in tuned.candidates)
    assert tuned.plan in [c.plan for c in tuned.candidates]
    stored = read_manifest(index.folder).plans["10:0.9"]
    assert json.loads(json.dumps(stored))["plan"] == tuned.plan
    assert index.plans.get(10, 0.9) == tuned
    # New queries find as much of what float64 finds.
    asked = resizable(2000)[:400]
    rows = index.vectors(np.arange(1600)).astype(np.float64)
    true = np.argsort(-(asked @ rows.T), axis=1)[:, :10]
    found = index.scan(asked, plan=tuned.plan).rows
    assert np.mean([np.isin(*pair).mean() for pair in zip(true, found, strict=True)]) >= 0.9


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("first", ["64:1bit", "96:1bit", "64:int8"])
def test_every_engine_ranks_the_rows_of_a_first_stage(index, first):
    queries, ranks = own_queries(index, 200, False, 0, SILENT), []
    for engine in ("numba", "numpy"):
        with open_index(index.folder, engine=engine) as opened:
            measured = MeasuredPlans(opened, queries, 10)
            measured.answer(SILENT)
            ranks.append(measured.ranks(Plan.parse(first), 100))
    np.testing.assert_array_equal(*ranks)
    assert ranks[0][:, 0].mean() < ranks[0][:, 9].mean()  # the better the row, the earlier it comes


def test_noise_makes_no_plan_slower_than_one_that_keeps_more():
    plans = list(map(Plan.parse, ("64:1bit:100,96", "64:1bit:200,96", "96:1bit:50,96")))
    ms = dict(zip(plans, (0.5, 0.4, 0.3), strict=True))
    costs = [tune_module._cost(plan, ms, plans) for plan in plans]
    assert costs == [(0.4, 100), (0.4, 200), (0.3, 50)]


def test_the_same_seed_chooses_the_same_plan(index, by_bytes):
    first, second = tune(index, 0.9, seed=3).tuned, tune(index, 0.9, seed=3).tuned
    assert (first.plan, first.overlap, first.overlap_ci) == (second.plan, second.overlap, second.overlap_ci)


def test_a_higher_target_takes_more(index, by_bytes):
    plain, most = tune(index, 0.5).tuned, tune(index, 0.95).tuned
    assert plain.ms < most.ms
    assert plain.overlap < most.overlap


@pytest.mark.parametrize("k", [1, 25])
def test_any_k_has_plans_of_its_own(index, by_bytes, k):
    tuned = tune(index, 0.9, k).tuned
    Plan.parse(tuned.plan).check(k, FULL)
    assert tuned.key == f"{k}:0.9"
    assert tuned.overlap_ci[0] >= 0.9


def test_a_target_of_one_is_the_exact_scan(index):
    report = tune(index, 1.0)
    assert report.tuned.plan == str(FULL)
    assert report.tuned.overlap_ci == (1.0, 1.0)
    assert "certain" in report.remark
    assert index.plan(SearchOptions(recall=1.0)) == Plan.parse(str(FULL))


def test_a_target_that_the_queries_cannot_prove_is_the_exact_scan_and_the_best_is_told(index, by_bytes):
    report = tune(index, 0.99, sample=60)
    assert report.tuned.plan == str(FULL)
    assert "30 queries prove no more than 0.8" in report.remark
    assert "the best other plan is " in report.remark


def test_what_is_chosen_by_luck_is_not_confirmed(index, by_bytes, monkeypatch):
    """Where the queries that confirm are answered worse, the next plan has to do, or the exact one."""
    real = MeasuredPlans.shares
    monkeypatch.setattr(
        MeasuredPlans,
        "shares",
        lambda self, plan: np.minimum(real(self, plan), 0.6) if len(self) > 100 else 1.0,
    )
    report = tune(index, 0.9)
    assert report.tuned.plan == str(FULL)
    assert "no other plan is proven to reach 0.9: the best is " in report.remark


@pytest.mark.parametrize("width", [1, 40, 70])
def test_an_index_of_any_width_has_a_plan(tmp_path, width):
    with index_of(resizable(600, width), tmp_path, dims=(width,)) as opened:
        report = tune(opened, 0.8, 3)
        Plan.parse(report.tuned.plan).check(3, width)


@pytest.mark.parametrize("n", [1, 2, 5, 30, 60])
def test_few_rows_are_scanned_exactly(tmp_path, n):
    with index_of(resizable(n), tmp_path, dims=(16,)) as opened:
        report = tune(opened, 0.99)
        assert report.tuned.plan == str(FULL)
        assert report.remark
        assert opened.scan(resizable(1), recall=0.99).rows.shape == (1, 10)


def test_queries_of_a_file_are_used_instead_of_rows(index, by_bytes):
    asked = text_queries(index, [f"question {i} of {i % 7}" for i in range(600)], "questions.txt")
    tuned = tune(index, 0.5, queries=asked).tuned
    assert (tuned.source, tuned.seed, tuned.queries, tuned.chosen_on) == ("questions.txt", None, 300, 300)


class Noted:
    """A progress that keeps its notes."""

    def __init__(self):
        self.notes = []

    def stage(self, name, total, unit):
        pass

    def advance(self, amount):
        pass

    def note(self, message):
        self.notes.append(message)


def test_half_of_the_queries_are_titles_where_that_costs_nothing(tmp_path, by_bytes):
    with index_of(resizable(1600), tmp_path, dims=(16, 64, FULL)) as opened:
        opened._embedder.embedder.table["Title 7"] = np.zeros(FULL, np.float32)  # no known word
        asked = own_queries(opened, 3200, None, 0, SILENT)
        assert asked.source == "own titles and rows"
        assert (asked.own_rows == -1).sum() == 1599
        assert sorted(asked.own_rows[1599:]) == list(range(1600))
        tuned = tune(opened, 0.5).tuned
        assert (tuned.source, tuned.seed, tuned.queries, tuned.chosen_on) == (asked.source, 0, 2000, 1000)
        assert read_manifest(opened.folder).plans["10:0.5"]["source"] == asked.source
        assert own_queries(opened, 100, False, 0, SILENT).source == "own rows"


def test_titles_that_cost_are_embedded_only_if_asked_for_and_the_cost_is_told(index):
    embedder, progress = index._embedder.embedder, Noted()
    assert own_queries(index, 100, None, 0, progress).source == "own rows"
    assert (embedder.asked, progress.notes) == ([], [])
    asked = own_queries(index, 100, True, 0, progress)
    characters = sum(map(len, embedder.asked))
    assert (len(embedder.asked), len(asked.vectors), asked.source) == (50, 100, "own titles and rows")
    assert progress.notes == [f"50 titles, {characters} characters, are embedded by table"]


def test_titles_that_cannot_be_embedded_leave_the_rows(tmp_path):
    def fail(texts):
        raise EmbedderError("no model here")

    progress = Noted()
    with index_of(resizable(100), tmp_path) as opened:
        opened._embedder.embedder.before = fail
        assert own_queries(opened, 20, None, 0, progress).source == "own rows"
        assert progress.notes == ["no title is a query here: no model here"]
        with pytest.raises(EmbedderError, match="no model here"):
            own_queries(opened, 20, True, 0, progress)


def test_an_embedder_that_is_not_installed_leaves_the_rows(tmp_path, index):
    with open_index(index.folder, home=tmp_path) as opened:
        assert own_queries(opened, 20, None, 0, SILENT).source == "own rows"


def test_an_index_without_titles_is_tuned_on_its_rows(tmp_path):
    home, texts = Home(tmp_path), [Document(str(i), "", "", f"text {i}") for i in range(30)]
    build(ListCorpus(texts), TableEmbedder(), home, BuildOptions("plain"))
    with open_index("plain", home=tmp_path, embedder=TableEmbedder()) as opened:
        assert own_queries(opened, 20, None, 0, SILENT).source == "own rows"


def test_a_plan_that_cannot_be_kept_is_still_told(index, by_bytes):
    state = index.folder.parent / ".state/made"
    for path in state.iterdir():
        path.unlink()
    state.rmdir()
    state.write_text("")
    report = tune(index, 0.9)
    assert "cannot write to" in report.not_kept
    assert report.tuned.plan
    assert index.plans.get(10, 0.9) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recall": 0.0}, "above 0"),
        ({"recall": 2.0}, "above 0"),
        ({"k": 0}, "k must"),
        ({"sample": 1}, "2 or"),
    ],
    ids=repr,
)
def test_an_option_that_makes_no_sense_is_wrong_usage(index, options, words):
    with pytest.raises(UsageError, match=words):
        tune(index, **{"recall": 0.9, **options})


def test_an_index_whose_documents_are_all_deleted_is_not_tuned(tmp_path):
    index_of(resizable(3), tmp_path).close()
    delete_rows(tmp_path / "made", [0, 1, 2])
    problem = pytest.raises(UsageError, match="^made has no documents to tune on: build it again$")
    with open_index("made", home=tmp_path, embedder=TableEmbedder()) as empty, problem:
        tune(empty, 0.9)


def test_a_sample_is_as_large_as_the_target_takes():
    assert sample_size(0.99) == 5000
    assert sample_size(0.5) == 3000
    assert sample_size(0.9999) == 10_000
    assert 9000 <= sample_size(0.999) <= 10_000
