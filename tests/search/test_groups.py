"""Of each document the best chunk, and as many documents as there are."""

import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.engine.base import Top
from resizable_search.engine.plan import Plan
from resizable_search.search.index import open_index
from resizable_search.search.results import SearchOptions, best_of_each_document
from resizable_search.store.documents import StoredDocument
from resizable_search.store.layout import Home
from tests.support import ListCorpus, TableEmbedder

WIDTH = 32


def stored(row: int, document: str | None) -> StoredDocument:
    metadata = {} if document is None else {"document": document, "chunk": row}
    return StoredDocument(row, f"row {row}", "", "", metadata, "")


def grouped(owners: list[str | None], k: int) -> tuple[list[int], list[int]]:
    """The rows found among rows that rank in their order, and how deep each search went."""
    depths = []

    def search(n: int) -> tuple[Top, None]:
        depths.append(n)
        rows = np.arange(min(n, len(owners)))[None]
        return Top(-rows.astype(np.float32), rows), None

    scored, _ = best_of_each_document(
        search, lambda rows: [stored(r, owners[r]) for r in rows], k, len(owners)
    )
    assert [score for score, _ in scored] == [-d.row for _, d in scored]
    return [d.row for _, d in scored], depths


def test_the_best_of_each_document_comes_in_their_order():
    assert grouped(["a", "b", "a", "c", "b"], 3) == ([0, 1, 3], [5])


def test_the_search_goes_deeper_until_there_are_k():
    owners: list[str | None] = ["a"] * 500 + ["b", "a", "c", "d"]
    assert grouped(owners, 3) == ([0, 500, 502], [12, 48, 192, 504])
    assert grouped(owners, 10) == ([0, 500, 502, 503], [40, 160, 504])


def test_rows_that_name_no_document_are_by_themselves():
    assert grouped([None, "a", None, "a"], 4)[0] == [0, 1, 2]


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


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 150), ({"dim": 8, "rerank": 3}, 150), ({"plan": "32:bits:60,32:int8:30,32"}, 30)],
    ids=str,
)
def test_k_documents_come_back_where_there_are_k(index, options: dict, most: int):
    for k in (3, 10, most):
        hits = index.search(["near"], SearchOptions(k, group=True, **options))[0].hits
        assert len(hits) == min(k, 110)
        assert len({hit.metadata["document"] for hit in hits}) == len(hits)
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_the_best_chunk_of_each_is_the_one_of_the_whole_ranking(index):
    best: dict[str, int] = {}
    for hit in index.query("near", k=300):
        best.setdefault(hit.title, hit.row)
    hits = index.search(["near"], SearchOptions(30, group=True))[0].hits
    assert [(hit.title, hit.row) for hit in hits] == list(best.items())[:30]


def test_more_hits_than_rows_are_all_the_documents(index):
    for k in (300, 10**20):
        assert len(index.search(["near"], SearchOptions(k, dim=8, rerank=3, group=True))[0].hits) == 110


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
