import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.cli.output import OutputOptions, print_answer
from resizable_search.engine import vectors
from resizable_search.engine.base import NO_ROW
from resizable_search.engine.numba_engine import NumbaEngine
from resizable_search.engine.numpy_engine import NumpyEngine
from resizable_search.engine.plan import Plan, Stage
from resizable_search.errors import (
    EmbedderMismatchError,
    IndexBusyError,
    IndexFormatError,
    IndexNotFoundError,
    QueryError,
    UsageError,
)
from resizable_search.search import index as opened
from resizable_search.search.index import open_index
from resizable_search.search.planning import SearchOptions
from resizable_search.search.results import Timings, fields
from resizable_search.specs import EmbedderSpec
from resizable_search.store.layout import Home
from tests.support import ListCorpus, TableEmbedder, articles, index_of, oracle

FULL = 96
DIMS = (16, 64, FULL)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Raw vectors with duplicates and near ties among them."""
    rng = np.random.default_rng(0)
    made = rng.standard_normal((400, FULL)).astype(np.float32)
    made[100:150] = made[:50]
    made[150:170] = made[0] * (1 + rng.standard_normal((20, 1)).astype(np.float32) * np.float32(1e-6))
    return made


@pytest.fixture(scope="module")
def index(rows, tmp_path_factory):
    with index_of(rows, tmp_path_factory.mktemp("home"), dims=DIMS) as opened:
        yield opened


def defined(index, query, dim, k, among=None):
    """The oracle's answer at a dimension, over what is stored."""
    width = min(d for d in index.dims if d >= dim)
    stored = np.load(index.folder / f"{width}.npy")
    meant = stored if width == dim else vectors.truncate(stored, dim)
    cut = vectors.truncate(np.asarray(query, np.float32)[None], dim)[0]
    if among is None:
        return oracle(meant, cut, k)
    scores, expected_rows = oracle(meant[among], cut, k)
    return scores, among[expected_rows]


@pytest.mark.parametrize("dim", [1, 16, 40, 64, 95, FULL])
@pytest.mark.parametrize("k", [1, 10, 100, 400, 500])
def test_a_scan_is_the_defined_answer_at_any_dimension(index, rows, dim, k):
    queries = rows[[0, 7]] + np.float32(0.05)
    top = index.scan(queries, k=k, dim=dim)
    assert top.scores.shape == top.rows.shape == (2, k)
    for i, query in enumerate(queries):
        scores, expected_rows = defined(index, query, dim, k)
        np.testing.assert_array_equal(top.rows[i, : len(expected_rows)], expected_rows)
        np.testing.assert_array_equal(top.scores[i, : len(expected_rows)], scores)
        assert (top.rows[i, len(expected_rows) :] == NO_ROW).all()


@pytest.mark.parametrize("k", [1001, 200_000_000, 10**20])
def test_what_is_allocated_is_bounded_by_the_rows(index, rows, k):
    """However many hits are wanted, by whatever way."""
    tracemalloc.start()
    for options in ({}, {"dim": 16, "rerank": 10}, {"plan": Plan((Stage(16, 2 * k, "bits"), Stage(96)))}):
        top = index.scan(rows[:2], k=k, **options)
        assert top.rows.shape == (2, 1000)
        assert sorted(top.rows[0, :400].tolist()) == list(range(400))
        assert (top.rows[:, 400:] == NO_ROW).all()
    assert (index.scan(rows[:1], k=k, where="id = 'a7'").rows[0] != NO_ROW).sum() == 1
    assert len(index.query("text 7 of a", k=k)) == 400
    assert len(index.similar("a7", k=k)) == 399
    assert index.search(["text 7 of a"], SearchOptions(k))[0].k == k
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_a_rerank_scores_the_candidates_at_the_full_dimension(index, rows):
    query = rows[3] + np.float32(0.3)
    for k in (1, 5, 12):  # for fewer than ten hits there are as many candidates as for ten
        _, candidates = defined(index, query, 16, 5 * max(k, 10))
        scores, expected_rows = defined(index, query, FULL, k, np.sort(candidates))
        top = index.scan(query[None], k=k, dim=16, rerank=5)
        np.testing.assert_array_equal(top.rows[0], expected_rows)
        np.testing.assert_array_equal(top.scores[0], scores)


def test_a_plan_may_have_more_stages(index, rows):
    query = rows[9] + np.float32(0.3)
    _, first = defined(index, query, 16, 80)
    _, second = defined(index, query, 64, 30, np.sort(first))
    _, third = defined(index, query, FULL, 10, np.sort(second))
    assert index.scan(query[None], k=10, plan="16:80,64:float32:30,96").rows[0].tolist() == third.tolist()


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("dim", [64, 40, FULL])
def test_the_second_query_of_a_plan_is_one_call_with_the_same_answer(rows, tmp_path, monkeypatch, dim):
    index_of(rows, tmp_path, dims=DIMS).close()
    with open_index("made", home=tmp_path, engine="numba") as index:
        plan = Plan.parse(f"{dim}:1bit:50,{FULL}")
        query = rows[3:4] + np.float32(0.1)
        first, stages = index.run(query, plan, 10)
        for stage in ("scan", "rescore", "truncate"):
            monkeypatch.delattr(NumbaEngine, stage)
        again, same_stages = index.run(query, plan, 10)
    np.testing.assert_array_equal(again.rows, first.rows)
    np.testing.assert_array_equal(again.scores, first.scores)
    for one, other in zip(stages, same_stages, strict=True):
        assert replace(one, seconds=0, prepare_seconds=0) == replace(other, seconds=0, prepare_seconds=0)
        assert other.seconds > 0


def test_a_rerank_of_everything_is_the_full_answer(index, rows):
    queries = rows[:3] + np.float32(0.1)
    whole = index.scan(queries, k=10)
    reranked = index.scan(queries, k=10, dim=16, rerank=40)
    np.testing.assert_array_equal(whole.rows, reranked.rows)
    np.testing.assert_array_equal(whole.scores, reranked.scores)


def test_queries_of_any_scale_and_float_type_give_the_same(index, rows):
    query = rows[5:6]
    plain = index.scan(query, k=5, dim=64)
    np.testing.assert_array_equal(index.scan(query.astype(np.float64), k=5, dim=64).rows, plain.rows)
    np.testing.assert_array_equal(index.scan(query * np.float32(512), k=5, dim=64).scores, plain.scores)


def test_queries_near_the_ends_of_the_range_are_answered_and_endless_ones_refused(index, rows):
    plain = index.scan(rows[5:6], k=5, dim=64)
    large = rows[5:6] * np.float32(2.0**125 / np.abs(rows[5]).max())
    np.testing.assert_array_equal(index.scan(large, k=5, dim=64).rows, plain.rows)
    for scale in (1e-200, 1e200):
        far = rows[5:6].astype(np.float64) * scale
        np.testing.assert_array_equal(index.scan(far, k=5, dim=64).rows, plain.rows)
    with pytest.raises(UsageError, match="infinity"):
        index.scan(np.full((1, FULL), np.inf))


def test_neither_the_query_nor_the_stored_rows_are_written(index, rows):
    query = rows[5:6].copy()
    before = query.copy()
    index.scan(query, k=5, dim=16, rerank=3)
    np.testing.assert_array_equal(query, before)
    stored = index._reader.parts[0].arrays[FULL]
    assert not stored.flags.writeable


@pytest.mark.parametrize("bad", [np.zeros((1, FULL - 1)), np.zeros((1, 1, FULL)), np.full((1, FULL), np.nan)])
def test_query_vectors_of_another_shape_or_not_finite_are_refused(index, bad):
    with pytest.raises(UsageError):
        index.scan(bad)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(index, rows, engine, bad):
    query = rows[:3].copy()
    query[1, FULL - 1] = bad
    with (
        open_index(index.folder, engine=engine) as opened,
        pytest.raises(UsageError, match="NaN or infinity"),
    ):
        opened.scan(query, dim=16)


def test_a_plan_beside_a_dimension_is_refused(index, rows):
    with pytest.raises(UsageError, match="either"):
        index.scan(rows[:1], dim=16, plan="96")


def test_skipped_rows_are_left_out_as_if_not_there(index, rows):
    queries = index.vectors([0, 7])
    own = np.array([0, 7])
    top, _ = index.run(queries, Plan.of(None, 0, 10, FULL), 10, own)
    for i in range(2):
        _, expected_rows = defined(index, queries[i], FULL, 11)
        assert top.rows[i].tolist() == [row for row in expected_rows if row != own[i]][:10]


def test_hits_carry_their_documents(index):
    hits = index.query("text 7 of a", k=3)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert len(index.query("text 7 of a", k=1000)) == 400
    document = index.documents([7])[0]
    assert (document.id, document.title, document.url, document.text) == (
        "a7", "Title 7", "https://example.org/a7", "text 7 of a",
    )  # fmt: skip


@pytest.mark.parametrize("row", [-2, 400, 10**6, 10**30], ids=str)
def test_rows_that_there_are_not_are_refused(index, row):
    with pytest.raises(UsageError, match=f"row {row} is not within 0 to 399"):
        index.documents([7, row])
    with pytest.raises(UsageError, match=f"row {row} is not within 0 to 399"):
        index.vectors([7, row])


def test_no_row_has_no_vector_and_is_passed_over_among_documents(index):
    assert [document.id for document in index.documents([NO_ROW, 7])] == ["a7"]
    with pytest.raises(UsageError, match="row -1"):
        index.vectors([NO_ROW])
    assert index.vectors([]).shape == (0, FULL)
    assert index.documents([]) == []


def test_a_closed_index_says_that_it_is_closed(rows, tmp_path):
    opened = index_of(rows[:20], tmp_path)
    opened.close()
    with pytest.raises(UsageError, match="made is closed: open it again"):
        opened.query("text 7 of a")


@pytest.mark.parametrize("trait", ["remote", "loads_slowly"])
def test_a_query_of_a_service_or_a_slow_model_is_embedded_once_and_then_cached(rows, tmp_path, trait):
    with index_of(rows[:20], tmp_path) as first:
        embedder = first._embedder.embedder
        setattr(embedder, trait, True)
        first.query("a new question")
        first.query("a new question")
        assert embedder.asked == ["a new question"]
    fresh = TableEmbedder(width=FULL)
    setattr(fresh, trait, True)
    with open_index("made", home=tmp_path, embedder=fresh) as second:
        second.query("a new question")
        assert fresh.asked == []
        assert second.cached_queries(["a new question"]).shape == (1, FULL)
        assert second.cached_queries(["a new question", "another"]) is None
        second.query("another")
        assert fresh.asked == ["another"]
    assert b"question" not in (tmp_path / ".state/queries.sqlite").read_bytes()


def test_a_query_that_is_embedded_on_this_machine_is_not_cached(rows, tmp_path):
    with index_of(rows[:20], tmp_path) as index:
        for _ in range(2):
            index.query("a new question")
        assert index._embedder.embedder.asked == ["a new question"] * 2
        assert index.cached_queries(["a new question"]) is None
    assert not (tmp_path / ".state/queries.sqlite").exists()


def test_one_text_is_not_a_list_of_texts(index):
    with pytest.raises(UsageError, match="put it into a list"):
        index.embed_queries("walk")


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_a_blank_query_is_refused(index, text):
    with pytest.raises(UsageError, match="blank"):
        index.query(text)


def test_a_query_without_a_direction_says_so(rows, tmp_path):
    with index_of(rows[:5], tmp_path) as opened:
        opened._embedder.embedder.table["nothing"] = np.zeros(FULL, np.float32)
        with pytest.raises(QueryError, match="no word of 'nothing'"):
            opened.query("nothing")


@pytest.mark.parametrize(
    "other", [{"model": "other-model"}, {"width": 64}, {"centred": True}], ids=lambda o: next(iter(o))
)
def test_an_embedder_of_another_space_is_refused_by_name(index, other):
    stranger = TableEmbedder(**{"width": FULL, **other})
    with pytest.raises(EmbedderMismatchError, match="table"):
        open_index(index.folder, home=index.folder.parent, embedder=stranger)


def test_a_centred_index_centres_its_queries(rows, tmp_path):
    documents = articles(40)
    table = {d.text: row + 2 for d, row in zip(documents, rows, strict=False)}
    embedder = TableEmbedder(width=FULL, table=table, centred=True)
    build(ListCorpus(documents), embedder, Home(tmp_path), BuildOptions("c", dims=DIMS))
    with open_index("c", home=tmp_path, embedder=embedder) as opened:
        full = np.load(opened.folder / f"{FULL}.npy")
        np.testing.assert_allclose(full.mean(axis=1), 0, atol=1e-7)
        shifted = opened.scan(rows[:1] + np.float32(5), k=5, dim=16)
        plain = opened.scan(rows[:1], k=5, dim=16)
        np.testing.assert_array_equal(shifted.rows, plain.rows)
        assert shifted.rows[0, 0] == 0


def test_an_index_that_is_not_there_names_what_is(index):
    home = index.folder.parent
    with pytest.raises(IndexNotFoundError, match="did you mean made"):
        open_index("mode", home=home)
    with pytest.raises(IndexNotFoundError, match="build one with `build pydoc home="):
        open_index("made", home=home / "elsewhere")
    with pytest.raises(IndexNotFoundError, match="no folder"):
        open_index(home / "nothing", home=home)


def test_the_fingerprint_tells_embedders_apart_and_survives_json():
    spec = EmbedderSpec("nomic", "m", 768, "search_document", "search_query", True, "", {"seed": 1})
    assert EmbedderSpec.from_json(spec.to_json()) == spec
    assert EmbedderSpec.from_json(spec.to_json()).fingerprint == spec.fingerprint
    local = EmbedderSpec("nomic-local", "m", 768, "search_document", "search_query", True, "", {"seed": 1})
    assert local.fingerprint != spec.fingerprint
    assert local.space == spec.space


def test_many_threads_share_one_index(index, rows):
    from concurrent.futures import ThreadPoolExecutor

    expected = [index.scan(rows[i : i + 1], k=10, dim=40, rerank=2) for i in range(16)]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda i: index.scan(rows[i % 16][None], k=10, dim=40, rerank=2), range(160)))
    for i, top in enumerate(results):
        np.testing.assert_array_equal(top.rows, expected[i % 16].rows)
        np.testing.assert_array_equal(top.scores, expected[i % 16].scores)


def test_documents_are_read_from_many_threads(index):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: index.documents([i % 400])[0].id, range(800)))
    assert results == [f"a{i % 400}" for i in range(800)]


def test_of_dimensions_that_are_not_stored_the_few_last_used_are_kept(rows, tmp_path):
    with index_of(rows[:20], tmp_path) as index:
        stored = set(index.dims)
        others = [dim for dim in range(1, FULL) if dim not in stored][:9]
        for dim in others:
            index.scan(rows[:1], dim=dim)
        index.scan(rows[:1], dim=others[-4])
        index.scan(rows[:1], dim=others[0])
        for dim in (others[0], others[-1], others[-2]):
            index.scan(rows[:1], dim=dim)
        cached = index._executor._cut_parts.cache_info()
        assert (cached.hits, cached.misses, cached.currsize) == (4, 10, 4)


def test_deriving_a_dimension_is_a_stage_of_its_own_and_no_part_of_the_scan(rows, tmp_path, monkeypatch):
    clock, norms = [0.0], vectors.norms

    def slow(rows: np.ndarray) -> np.ndarray:
        clock[0] += 5
        return norms(rows)

    with index_of(rows[:20], tmp_path, dims=(64, FULL)) as index:

        def timings(dim: int) -> Timings:
            return index.search_vectors(["a"], rows[:1], SearchOptions(dim=dim))[0].timings_ms

        monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
        assert timings(64).prepare == 0
        monkeypatch.setattr(vectors, "norms", slow)
        first, again = timings(50), timings(50)
        assert (first.prepare, again.prepare) == (5000, 0)
        assert first.scan == again.scan
        answer = index.search_vectors(["a"], rows[:1], SearchOptions(dim=51))[0]
        assert list(fields(answer)["timings_ms"]) == ["embed", "scan", "rerank", "prepare"]


def test_an_index_that_is_replaced_between_the_opening_of_its_files_is_opened_anew(tmp_path, monkeypatch):
    def made(count: int) -> None:
        options = BuildOptions("made", restart=True)
        build(ListCorpus(articles(count)), TableEmbedder(), Home(tmp_path), options)

    def replaced(reader):
        if reader.manifest.rows == 20:
            made(30)
            raise IndexFormatError("documents.sqlite is missing")
        return conditions(reader)

    made(20)
    conditions = opened.Filter
    monkeypatch.setattr(opened, "Filter", replaced)
    with open_index("made", home=tmp_path, embedder=TableEmbedder()) as index:
        assert index.rows == 30


def test_an_index_that_is_replaced_again_and_again_is_not_opened_by_halves(tmp_path, monkeypatch):
    index_of(np.eye(8, 16, dtype=np.float32), tmp_path).close()
    monkeypatch.setattr("resizable_search.store.reader.IndexReader.has_moved_on", lambda _: True)
    with pytest.raises(IndexBusyError, match="^made is replaced again and again: try again later$"):
        open_index("made", home=tmp_path, embedder=TableEmbedder(width=16))


def test_an_index_says_what_it_is(tmp_path):
    with index_of(np.eye(8, 16, dtype=np.float32), tmp_path, dims=(4,)) as index:
        folder = tmp_path / "made"
        assert str(index) == f"<Index made: 8 documents at 4, 16 dimensions by table, open, in {folder}>"
    assert ", closed, in " in repr(index)


def test_parts_that_an_engine_leaves_out_are_named_once(tmp_path, capsys):
    class Lossy(NumpyEngine):
        def scan(self, *scan):
            return replace(super().scan(*scan), missing=("part 2 cannot be scanned: gone",))

        def rescore(self, *scan):
            return replace(super().rescore(*scan), missing=("part 2 cannot be scanned: gone", "part 3: too"))

    index_of(np.eye(8, 16, dtype=np.float32), tmp_path, dims=(4,)).close()
    embedder = TableEmbedder(width=16)
    with open_index("made", home=tmp_path, embedder=embedder, engine=lambda reader: Lossy()) as index:
        lost = ["part 2 cannot be scanned: gone", "part 3: too"]
        assert index.scan(np.ones(16), dim=4).missing == lost[:1]
        assert index.scan(np.ones(16), dim=4, rerank=2).missing == lost
        (answer,) = index.search(["a"], SearchOptions(dim=4, rerank=2))
        assert fields(answer)["missing"] == answer.missing == lost
        print_answer(answer, index, OutputOptions("jsonl"))
    assert "this answer of made lacks documents: part 3: too" in capsys.readouterr().err
