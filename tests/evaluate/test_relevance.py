import math

import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.delete import delete
from resizable_search.build.workspace import BuildOptions
from resizable_search.cli.render_evaluate import eval_footer
from resizable_search.corpora.files import FilesCorpus
from resizable_search.engine.base import NO_ROW, Top
from resizable_search.engine.vectors import truncate
from resizable_search.errors import RsearchError, UsageError
from resizable_search.evaluate.bench import BenchOptions
from resizable_search.evaluate.qrels import Metrics, Qrels
from resizable_search.evaluate.relevance import DocumentGroups, evaluate
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from tests.judging import by_definition
from tests.support import TableEmbedder, articles, index_of, oracle

WIDTH, ROWS, ASKED = 32, 80, 12
NAMES = ("nDCG@10", "R@10", "R@30", "RR@10", "AP")
METRICS = Metrics.parse(NAMES)
OPTIONS = BenchOptions(dims=(32, 4), reranks=(2,), plans=("32:bits:25,32",))


@pytest.fixture(scope="module")
def rows():
    made = np.random.default_rng(5).standard_normal((ROWS, WIDTH)).astype(np.float32)
    made[40:50] = made[41]  # equal rows, which rank by their numbers
    return made


@pytest.fixture(scope="module")
def index(rows, tmp_path_factory):
    with index_of(rows, tmp_path_factory.mktemp("home"), dims=(4,)) as opened:
        yield opened


@pytest.fixture(scope="module")
def judgements(rows):
    """Each query is near one row; some documents are judged that the index lacks."""
    rng = np.random.default_rng(6)
    queries, relevance = {}, {}
    for number in range(ASKED):
        query = f"q{number}"
        queries[query] = f"text {number * 6 + 1} of a"  # the text of that row, whose vector is its own
        relevance[query] = {f"a{row}": int(rng.integers(0, 4)) for row in rng.choice(ROWS, 15, replace=False)}
        relevance[query][f"a{number * 6 + 1}"] = 3
        relevance[query][f"absent{number}"] = 1
    relevance["q3"] = {"a7": 0}
    return Qrels(queries, relevance, "made up", ("unknown",))


@pytest.fixture(scope="module")
def evaluation(index, judgements, rows):
    table = {article.text: row for article, row in zip(articles(ROWS), rows, strict=True)}
    index._embedder.embedder.table.update(table)
    return evaluate(index, judgements, OPTIONS, METRICS)


def ranking(rows, query, dim, k):
    cut = truncate(rows, dim), truncate(query[None], dim)[0]
    return [f"a{row}" for row in oracle(*cut, k)[1]]


def test_each_plan_is_judged_by_what_the_definition_of_its_search_finds(evaluation, judgements, rows):
    """Scan and rerank as docs/format.md defines them, measures as their authors do, both in plain Python."""
    assert [plan.plan for plan in evaluation.report.plans] == ["32", "4", "4:20,32", "32:bits:25,32"]
    for number, dim in ((0, 32), (1, 4)):
        for query, id_ in enumerate(judgements.queries):
            ids = ranking(rows, rows[query * 6 + 1], dim, ROWS)
            expected = [by_definition(name, judgements.relevance[id_], ids) for name in NAMES]
            np.testing.assert_allclose(evaluation.values[number, query], expected, atol=1e-12)
    for query, id_ in enumerate(judgements.queries):
        candidates = ranking(rows, rows[query * 6 + 1], 4, 20)
        ids = [each for each in ranking(rows, rows[query * 6 + 1], 32, ROWS) if each in candidates]
        expected = [by_definition(name, judgements.relevance[id_], ids) for name in NAMES]
        np.testing.assert_allclose(evaluation.values[2, query], expected, atol=1e-12)


def test_means_and_differences_are_those_of_the_queries(evaluation):
    for number, plan in enumerate(evaluation.report.plans):
        for column, name in enumerate(NAMES):
            measured, values = plan.measures[name], evaluation.values[:, :, column]
            assert measured.mean == pytest.approx(values[number].mean())
            assert measured.difference == pytest.approx(values[number].mean() - values[0].mean())
            if number:
                low, high = measured.difference_ci
                assert low <= measured.difference <= high
                assert measured.is_certain == (low > 0 or high < 0)
    full = evaluation.report.plans[0]
    assert {m.difference_ci for m in full.measures.values()} == {None}
    assert full.overlap == 1


def test_a_plan_gives_as_many_hits_as_it_keeps(evaluation):
    assert [plan.depth for plan in evaluation.report.plans] == [1000, 1000, 20, 25]
    assert [(plan.dim, plan.rerank) for plan in evaluation.report.plans] == [
        (32, 0),
        (4, 0),
        (4, 2),
        (32, None),
    ]


def test_what_is_missing_is_told_and_is_not_found(evaluation, judgements):
    report = evaluation.report
    assert (report.documents.count, report.documents.absent) == (len(judgements.documents), ASKED - 1)
    assert (report.queries.count, report.queries.hopeless) == (ASKED, ["q3"])
    assert (report.queries.unasked, report.queries.silent) == (["unknown"], [])
    assert (evaluation.values[:, 3] == 0).all()
    assert (evaluation.values[0, :3, 1] < 1).all()  # one relevant document of each is nowhere


def test_a_query_that_says_nothing_finds_nothing(index, judgements):
    asked = Qrels({**judgements.queries, "q5": " ", "q6": "mute"}, judgements.relevance)
    index._embedder.embedder.table["mute"] = np.zeros(WIDTH, np.float32)
    evaluation = evaluate(index, asked, OPTIONS, METRICS)
    assert evaluation.report.queries.silent == ["q5", "q6"]
    assert (evaluation.values[:, 5:7] == 0).all()
    assert not any(query in ("q5", "q6") for query, *_ in evaluation.run_of(index, 0))
    with pytest.raises(UsageError, match="no query has a word"):
        evaluate(index, Qrels({"q": "mute"}, {"q": {"a1": 1}}), OPTIONS, METRICS)


def test_one_query_has_no_interval(index):
    evaluation = evaluate(index, Qrels({"q": "text 1 of a"}, {"q": {"a1": 1}}), OPTIONS, METRICS)
    for plan in evaluation.report.plans:
        assert plan.overlap_ci is None
        assert {m.difference_ci for m in plan.measures.values()} == {None}


def test_a_run_has_falling_scores_in_the_order_of_the_hits(evaluation, index, rows):
    run = list(evaluation.run_of(index, 0))
    first = [(id_, rank) for query, id_, rank, _ in run if query == "q0"]
    assert first == [(id_, rank) for rank, id_ in enumerate(ranking(rows, rows[1], 32, ROWS), 1)]
    scores = [score for query, _, _, score in run if query == "q7"]  # of row 43, which has nine like it
    assert len(scores) == ROWS
    assert all(a > b for a, b in zip(scores, scores[1:], strict=False))
    assert math.isclose(scores[0], scores[9], abs_tol=1e-5)
    assert len([query for query, *_ in evaluation.run_of(index, 2) if query == "q7"]) == 20


def test_per_query_values_are_told_query_by_query(evaluation):
    lines = list(evaluation.per_query())
    assert len(lines) == ASKED * 4
    assert lines[4][:2] == ("q1", "32")
    assert lines[5] == ("q1", "4", evaluation.values[1, 1].tolist())


def test_judgements_of_another_index_are_refused(index):
    with pytest.raises(RsearchError, match="made has none of the 1 document that .* such as 'x'"):
        evaluate(index, Qrels({"q": "text 1 of a"}, {"q": {"x": 1}}), OPTIONS, METRICS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be 1 to"),
        ({"k": 10_001}, "k must be 1 to"),
        ({"plans": ("x",)}, "plan 'x'"),
        ({"dims": (33,)}, "dimension 33"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_embedded(index, judgements, options, message):
    asked = len(index._embedder.embedder.asked)
    with pytest.raises(UsageError, match=message):
        evaluate(index, judgements, BenchOptions(**options))
    with pytest.raises(UsageError, match="`seed`"):
        evaluate(index, judgements, seed=-1)
    assert len(index._embedder.embedder.asked) == asked


@pytest.mark.parametrize("plan", ["32", "8", "8:40,32"])
def test_an_index_of_chunks_is_judged_by_the_documents_that_they_were_cut_from(tmp_path, plan):
    """The best chunk of each document, however many of one come first, and no deleted one."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(12):
        count = 25 if number == 5 else 1 + number % 4
        text = "\n\n".join(f"{number:02d} {part:02d} paragraph of a note." for part in range(count))
        (folder / f"{number}.txt").write_text(text)
    embedder = TableEmbedder(width=32)
    corpus = FilesCorpus([folder], chunk="30c")
    build(corpus, embedder, Home(tmp_path / "home"), BuildOptions("notes", dims=(8,)))
    delete(tmp_path / "home" / "notes", ["3.txt#c1", "4.txt#c1"])
    queries = {f"q{number}": f"05 {number:02d} paragraph of a note." for number in (0, 7, 21)}
    relevance = {query: {f"{number}.txt": number % 3 for number in range(12)} for query in queries}
    options = BenchOptions(dims=(32,), plans=() if plan == "32" else (plan,))
    with open_index(tmp_path / "home" / "notes", embedder=TableEmbedder(width=32)) as index:
        evaluation = evaluate(index, Qrels(queries, relevance, "made up", ()), options, METRICS)
        stages = [int(stage.partition(":")[0]) for stage in plan.split(",")]
        live, names = index.live_rows(), index.document_names()
        rows = index.vectors(live)
        for i, (query, text) in enumerate(queries.items()):
            vector = embedder.vector(text)
            order = oracle(truncate(rows, stages[0]), truncate(vector[None], stages[0])[0], len(live))[1]
            if len(stages) > 1:  # deepened until there are as many documents as it keeps chunks for
                again = truncate(rows, 32) @ truncate(vector[None], 32)[0]
                order = sorted(order, key=lambda row: -again[row])
            ranked = list(dict.fromkeys(names[live[row]] for row in order))
            number = len(evaluation.report.plans) - 1
            run = [id_ for q, id_, *_ in evaluation.run_of(index, number) if q == query]
            assert run == ranked
            expected = [by_definition(name, relevance[query], ranked) for name in NAMES]
            np.testing.assert_allclose(evaluation.values[number, i], expected, atol=1e-12)
    assert evaluation.report.by_chunk
    assert evaluation.report.documents.absent == 1
    assert "the index holds chunks: each document counts by its best chunk" in eval_footer(evaluation.report)


@pytest.mark.parametrize("plan", ["32", "4:20,32", "32:bits:25,32"])
def test_a_query_that_is_a_document_does_not_find_itself(index, rows, plan):
    """As in BEIR's evaluation of ArguAna: the best hit of each query would be its own text."""
    texts = {article.id: article.text for article in articles(ROWS)}
    index._embedder.embedder.table.update(dict(zip(texts.values(), rows, strict=True)))
    queries = {"a7": texts["a7"], "q1": texts["a13"], "a60": texts["a60"]}
    relevance = {
        query: {ranking(rows, rows[row], 32, 3)[1]: 1}
        for query, row in zip(queries, (7, 13, 60), strict=True)
    }
    evaluation = evaluate(
        index, Qrels(queries, relevance), BenchOptions(k=5, dims=(32,), plans=(plan,)), METRICS
    )
    assert evaluation.report.queries.documents == ["a7", "a60"]
    for number in range(len(evaluation.report.plans)):
        run = list(evaluation.run_of(index, number))
        assert not [query for query, id_, *_ in run if query == id_]
        assert [id_ for query, id_, rank, _ in run if query == "q1" and rank == 1] == ["a13"]
    first = {
        query: values[NAMES.index("RR@10")] for query, by, values in evaluation.per_query() if by == "32"
    }
    assert (first["a7"], first["q1"], first["a60"]) == (1.0, 0.5, 1.0)


def test_a_chunked_document_does_not_find_itself_either(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text("\n\n".join(f"{number} {part} paragraph." for part in range(4)))
    embedder = TableEmbedder(width=32)
    build(
        FilesCorpus([folder], chunk="15c"),
        embedder,
        Home(tmp_path / "home"),
        BuildOptions("notes", dims=(8,)),
    )
    queries = {"2.txt": "2 1 paragraph.", "other": "3 1 paragraph."}
    relevance = {"2.txt": {"5.txt": 1}, "other": {"3.txt": 1}}
    with open_index(tmp_path / "home" / "notes", embedder=TableEmbedder(width=32)) as index:
        evaluation = evaluate(index, Qrels(queries, relevance), BenchOptions(k=6), METRICS)
        run = [(query, id_) for query, id_, *_ in evaluation.run_of(index, 0)]
    assert len(run) == 11
    assert ("2.txt", "2.txt") not in run
    assert ("other", "3.txt") in run


def test_rows_are_grouped_by_their_documents_however_deep_the_search_must_go():
    names = ["long"] * 30 + ["gone", "short", "last"]
    live_rows = np.delete(np.arange(33), 30)
    asked = []

    def search(depth: int) -> Top:
        asked.append(depth)
        rows = live_rows[None, :depth]
        return Top((1 - rows / 100).astype(np.float32), rows)

    groups = DocumentGroups(names, live_rows)
    best = groups.best(search, 2)
    assert asked == [8, 32]
    assert [groups.names[row] for row in best.rows[0].tolist()] == ["long", "short"]
    np.testing.assert_allclose(best.scores, [[1.0, 0.69]])
    assert groups.best(search, 5).rows[0].tolist() == [0, 31, 32, NO_ROW, NO_ROW]
