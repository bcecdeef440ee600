"""Of each document the best chunk, and as many documents as there are."""

from dataclasses import replace

import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.engine.plan import Plan
from resizable_search.search.index import open_index
from resizable_search.search.planning import SearchOptions
from resizable_search.search.results import ScoredDocument, best_of_each
from resizable_search.store.documents import StoredDocument
from resizable_search.store.layout import Home
from tests.support import ListCorpus, TableEmbedder

WIDTH = 32


def grouped(rows: list[tuple[str | None, str]], k: int) -> list[tuple[int, int]]:
    """The row and copies of each hit, of rows with a document and a text that rank in their order."""
    scored = [
        ScoredDocument(
            -float(row), StoredDocument(row, f"row {row}", "", "", {"document": name} if name else {}, text)
        )
        for row, (name, text) in enumerate(rows)
    ]
    best = best_of_each(scored, k)
    assert [one.score for one in best] == [-one.document.row for one in best]
    return [(one.document.row, one.copies) for one in best]


def test_the_best_of_each_document_comes_in_their_order():
    rows = [(name, f"{name} {row}") for row, name in enumerate("abacb")]
    assert grouped(rows, 3) == [(0, 0), (1, 0), (3, 0)]


def test_rows_that_name_no_document_are_by_themselves():
    assert grouped([(None, "x"), ("a", "y"), (None, "z"), ("a", "u")], 4) == [(0, 0), (1, 0), (2, 0)]


def test_equal_texts_are_one_hit_that_counts_the_documents_of_the_others():
    rows = [("a", "x"), ("b", "x"), ("a", "x"), ("b", "y"), ("c", "z"), ("d", "x"), ("e", "z"), ("f", "w")]
    assert grouped(rows, 2) == [(0, 2), (4, 1)]


def test_documents_without_a_text_are_no_copies_of_each_other():
    assert grouped([(None, ""), (None, "")], 2) == [(0, 0), (1, 0)]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """300 chunks: 20 of each of ten documents near the query, then 100 documents of one far away."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, WIDTH)).astype(np.float32)
    rows[:200] += 40 * np.eye(WIDTH, dtype=np.float32)[0]
    owners = [f"near{i % 10}" for i in range(200)] + [f"far{i}" for i in range(100)]
    documents = [
        Document(f"{owner}#c{i}", owner, "", f"text {i}", {"document": owner, "chunk": i, "line": i})
        for i, owner in enumerate(owners)
    ]
    table = {d.text: row for d, row in zip(documents, rows, strict=True)}
    home = tmp_path_factory.mktemp("home")
    build(
        ListCorpus(documents),
        TableEmbedder(width=WIDTH, table=table),
        Home(home),
        BuildOptions("made", dims=(8,)),
    )
    query = TableEmbedder(width=WIDTH, table={"near": np.eye(WIDTH, dtype=np.float32)[0]})
    with open_index("made", home=home, embedder=query) as opened:
        yield opened


@pytest.mark.parametrize("most_read", [20, 1000])
@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 150), ({"dim": 8, "rerank": 3}, 150), ({"plan": "32:bits:60,32:int8:30,32"}, 30)],
    ids=str,
)
def test_k_documents_come_back_where_there_are_k(
    index, monkeypatch, options: dict, most: int, most_read: int
):
    monkeypatch.setattr("resizable_search.search.index.MOST_READ", most_read)
    for k in (3, 10, most):
        hits = index.search(["near"], SearchOptions(k, group=True, **options))[0].hits
        assert len(hits) == min(k, 110)
        assert len({hit.metadata["document"] for hit in hits}) == len(hits)
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_the_best_chunk_of_each_is_the_one_of_the_whole_ranking(index):
    best: dict[str, int] = {}
    for hit in index.query("near", k=300, group=False):
        best.setdefault(hit.title, hit.row)
    hits = index.search(["near"], SearchOptions(30, group=True))[0].hits
    assert [(hit.title, hit.row) for hit in hits] == list(best.items())[:30]


def test_more_hits_than_rows_are_all_the_documents(index):
    for k in (300, 10**20):
        assert len(index.search(["near"], SearchOptions(k, dim=8, rerank=3, group=True))[0].hits) == 110


def test_fewer_hits_are_the_first_of_more_where_texts_are_cut_into_chunks(index, monkeypatch):
    monkeypatch.setattr(index, "manifest", replace(index.manifest, corpus={"kind": "files", "chunk": "9t"}))
    hits = [hit.row for hit in index.query("near", k=10, dim=8, rerank=1)]
    assert [hit.row for hit in index.query("near", k=3, dim=8, rerank=1)] == hits[:3]


def test_equal_texts_are_shown_once_and_the_search_goes_deeper_for_others(tmp_path):
    texts = ["same"] * 30 + [f"other {i}" for i in range(30)]
    documents = [Document(f"d{i}", "", "", text) for i, text in enumerate(texts)]
    table = {"same": np.eye(WIDTH, dtype=np.float32)[0]}
    embedder = TableEmbedder(width=WIDTH, table=table)
    build(ListCorpus(documents), embedder, Home(tmp_path), BuildOptions("made"))
    with open_index("made", home=tmp_path, embedder=embedder) as opened:
        hits = opened.query("same", k=3)
        assert [(hit.row, hit.copies) for hit in hits] == [(0, 29), (hits[1].row, 0), (hits[2].row, 0)]
        assert [hit.row for hit in opened.query("same", k=3, group=False)] == [0, 1, 2]
        answers = opened.search(["same", "other 3"], SearchOptions(40, where="id < 'd29'"))
        assert [[hit.text for hit in answer.hits].count("same") for answer in answers] == [1, 1]


def test_hits_carry_their_metadata(index):
    hit = index.query("near", k=1)[0]
    assert hit.metadata == {"document": hit.title, "chunk": hit.row, "line": hit.row}


@pytest.mark.parametrize(
    ("plan", "deeper"),
    [
        ("64:100,768", "64:400,768"),
        ("768", "768"),
        ("64:bits:15,64:int8:10,768", "64:bits:60,64:int8:40,768"),
    ],
)
def test_a_plan_for_more_hits_keeps_as_much_more(plan: str, deeper: str):
    assert str(Plan.parse(plan).deepened(10, 40).check(40, 768)) == deeper
    assert Plan.parse(plan).deepened(10, 10) == Plan.parse(plan)
