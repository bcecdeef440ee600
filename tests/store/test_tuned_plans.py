"""Tuned plans in the manifest: kept without disturbing anything, and refused in one line when damaged."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.errors import IndexBusyError, IndexFormatError, RsearchError, StorageError, UsageError
from resizable_search.search.index import open_index
from resizable_search.search.planning import SearchOptions
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import read_manifest
from resizable_search.store.tuned_plans import (
    Candidate,
    Curve,
    CurvePoint,
    StoredPlans,
    TunedPlan,
    plan_key,
    read_curve,
    store_curve,
    store_plan,
    tune_command,
)
from resizable_search.system import build_lock
from tests.support import ListCorpus, TableEmbedder, articles, delete_rows

TUNED = TunedPlan(
    "64:bits:40,96", 10, 0.99, 0.998, (0.991, 1.0), 0.4, 840, 840, "own rows", 0, "numpy", 2,
    "2026-01-01T00:00:00+00:00", "0.1.0", (Candidate("64:bits:40,96", 0.997, 0.4), Candidate("96", 1.0, 1.0)),
)  # fmt: skip


def built(home, limit):
    corpus, embedder = ListCorpus(articles(95)), TableEmbedder()
    build(corpus, embedder, Home(home), BuildOptions("made", limit, dims=(16,)))


@pytest.fixture
def home(tmp_path):
    built(tmp_path, 60)
    return tmp_path


def opened(home):
    return open_index("made", home=home, embedder=TableEmbedder())


def test_keeping_a_plan_alters_the_plans_and_the_date_alone(home):
    folder = home / "made"
    before = read_manifest(folder)
    store_plan(folder, before.generation, TUNED)
    after = read_manifest(folder)
    assert replace(after, plans={}, changed="") == replace(before, changed="")
    assert StoredPlans(folder, after).get(10, 0.99) == TUNED
    better = replace(TUNED, ms=0.3)
    other = replace(TUNED, k=5)
    for plan in (better, other):
        store_plan(folder, before.generation, plan)
    with opened(home) as index:
        assert index.plans.all() == [other, better]
        assert index.plans.get(10, 0.99) == better
        assert index.plans.get(10, 0.9) is None


def test_an_open_index_learns_of_the_plan_and_gives_the_same_answers(home):
    query = np.ones((1, 96), np.float32)
    with opened(home) as index:
        with pytest.raises(UsageError, match="tune index=made recall=0.99"):
            index.scan(query, recall=0.99)
        before = index.scan(query, plan=TUNED.plan)
        store_plan(home / "made", index.manifest.generation, TUNED)
        assert index.plan(SearchOptions(10, recall=0.99)).stages[0].precision == "bits"
        np.testing.assert_array_equal(index.scan(query, recall=0.99).rows, before.rows)
        with pytest.raises(UsageError, match="at k 5"):
            index.scan(query, k=5, recall=0.99)


def test_plans_go_when_rows_come_or_go(home):
    store_plan(home / "made", 1, TUNED)
    built(home, 60)
    assert list(read_manifest(home / "made").plans) == ["10:0.99"]
    built(home, 80)
    assert read_manifest(home / "made").plans == {}
    store_plan(home / "made", 2, TUNED)
    with opened(home) as index:
        delete_rows(home / "made", [3])
        assert index.plans.get(10, 0.99) == TUNED  # it still holds the rows that were measured
    with opened(home) as index:
        assert index.plans.get(10, 0.99) is None


def test_an_extension_that_was_begun_goes_on(home):
    corpus = ListCorpus(articles(95), break_at=85)
    with pytest.raises(ConnectionError):
        build(corpus, TableEmbedder(), Home(home), BuildOptions("made", 95, dims=(16,)))
    assert Home(home).unfinished() == ["made"]
    store_plan(home / "made", 1, TUNED)
    built(home, 95)
    assert read_manifest(home / "made").rows == 95


def test_a_plan_of_another_generation_is_not_kept(home):
    delete_rows(home / "made", [3])
    with pytest.raises(RsearchError, match="has changed while it was measured"):
        store_plan(home / "made", 1, TUNED)


def test_a_busy_or_read_only_home_is_told(home):
    with build_lock(Home(home).state("made") / NAMES.lock, "made"), pytest.raises(IndexBusyError):
        store_plan(home / "made", 1, TUNED)
    state = Home(home).state("made")
    for path in state.iterdir():
        path.unlink()
    state.rmdir()
    state.write_text("")
    with pytest.raises(StorageError):
        store_plan(home / "made", 1, TUNED)


GOOD = {**asdict(TUNED)}


@pytest.mark.parametrize(
    "bad",
    [
        {"plan": "64:100,96"},
        "64:100,96",
        None,
        {**GOOD, "plan": "64:nonsense:3"},
        {**GOOD, "plan": "64:bits:40,768"},
        {**GOOD, "plan": "96:bits"},
        {**GOOD, "k": "many"},
        {**GOOD, "k": 3},
        {**GOOD, "k": 0},
        {**GOOD, "recall": 7},
        {**GOOD, "ms": []},
        {**GOOD, "overlap_ci": [1]},
        {**GOOD, "candidates": 3},
        {**GOOD, "candidates": [{}]},
        {**GOOD, "seed": "x"},
    ],
    ids=repr,
)
def test_a_damaged_plan_is_told_in_one_line_and_the_index_serves_on(home, bad):
    folder = home / "made"
    manifest = read_manifest(folder)
    replace(manifest, plans={"10:0.99": bad}).write(folder)
    query = np.ones((1, 96), np.float32)
    with opened(home) as index:
        with pytest.raises(IndexFormatError, match="tune index=made recall=0.99") as error:
            index.scan(query, recall=0.99)
        assert "\n" not in str(error.value)
        with pytest.raises(IndexFormatError):
            index.plans.all()
        assert index.scan(query).rows.shape == (1, 10)
    store_plan(folder, 1, TUNED)
    with opened(home) as index:
        assert index.plans.get(10, 0.99) == TUNED


def test_a_strange_key_is_told(home):
    folder = home / "made"
    replace(read_manifest(folder), plans={"whatever": GOOD}).write(folder)
    with opened(home) as index, pytest.raises(IndexFormatError, match="it is for 10:0.99"):
        index.plans.all()


def test_keys_and_commands():
    assert plan_key(10, 0.99) == "10:0.99"
    assert plan_key(3, 1.0) == "3:1"
    assert tune_command("made", "5:0.9") == "tune index=made recall=0.9 k=5"


def test_a_curve_stays_until_the_index_changes_and_gathers_what_is_measured_alike(home):
    folder = home / "made"
    manifest = read_manifest(folder)

    def point(dim: int, overlap: float) -> CurvePoint:
        return CurvePoint(dim, 0, overlap, (overlap - 0.1, overlap), 0.5, 200)

    def curve(*points: CurvePoint, k: int = 10) -> Curve:
        return Curve(k, "own rows", "2026-01-01", points)

    assert read_curve(folder, manifest) is None
    store_curve(folder, manifest, curve(point(64, 0.7), point(16, 0.5)))
    store_curve(folder, manifest, curve(point(32, 0.6), point(64, 0.8)))
    assert read_curve(folder, manifest) == curve(point(16, 0.5), point(32, 0.6), point(64, 0.8))
    store_plan(folder, manifest.generation, TUNED)
    assert read_curve(folder, read_manifest(folder)) is not None
    store_curve(folder, manifest, curve(point(8, 0.3), k=5))
    assert read_curve(folder, manifest) == curve(point(8, 0.3), k=5)
    built(home, 95)
    assert read_curve(folder, read_manifest(folder)) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"of": [1]}', "[" * 100_000])
def test_a_damaged_curve_is_none(home, content):
    path = Home(home).state("made") / NAMES.curve
    path.write_text(content)
    manifest = read_manifest(home / "made")
    assert read_curve(home / "made", manifest) is None
    path.write_text(json.dumps({"of": [manifest.generation], "k": 10}))
    assert read_curve(home / "made", manifest) is None
