"""Expressions of users: what they choose, and that nothing else passes."""

import shutil
import sqlite3
import threading
from contextlib import closing

import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.engine import vectors
from resizable_search.engine.base import NO_ROW
from resizable_search.engine.vectors import Tier, quantise, quantise_queries
from resizable_search.errors import DocumentNotFoundError, IndexFormatError, RsearchError, UsageError
from resizable_search.search.index import open_index
from resizable_search.search.planning import SearchOptions
from resizable_search.store import filter as selection
from resizable_search.store.filter import MOST_KEPT, MOST_KEYS, Filter
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.reader import IndexReader
from resizable_search.store.sql_authorizer import SqlAuthorizer
from tests.support import ListCorpus, TableEmbedder, delete_rows, one_bit_scores, oracle

ODD = "odd \"k'ey"
GONE = [3, 64, 65, 211]
DIMS = (16, 64, 96)


def document(i: int) -> Document:
    metadata = {"year": 1980 + i % 40, "lang": "en", ODD: i, "é": i / 2, "good": i % 2 == 0}
    if i % 7:
        metadata["rare"] = f"x{i}"
    return Document(f"a{i}", f"{'BC'[i % 2]}itle {i % 90}", f"https://example.org/{i}", f"text {i}", metadata)


DOCUMENTS = [document(i) for i in range(300)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An index of two parts, with duplicates among its rows and deleted ones."""
    folder = tmp_path_factory.mktemp("home")
    rows = np.random.default_rng(0).standard_normal((300, 96)).astype(np.float32)
    rows[150:200] = rows[:50]
    table = {document.text: row for document, row in zip(DOCUMENTS, rows, strict=True)}
    for limit in (210, 300):
        options = BuildOptions("made", limit, dims=DIMS)
        build(ListCorpus(DOCUMENTS), TableEmbedder(table=table), Home(folder), options)
    delete_rows(folder / "made", GONE)
    return folder


@pytest.fixture(scope="module", params=["numpy", "numba"])
def index(home, request):
    if request.param == "numba":
        from resizable_search.engine.kernel_cache import compile_kernels

        compile_kernels()
    with open_index("made", home=home, embedder=TableEmbedder(), engine=request.param) as opened:
        yield opened


@pytest.fixture
def conditions(home):
    reader = IndexReader(home / "made")
    made = Filter(reader)
    yield made
    made.close()
    reader.close()


def chosen(conditions: Filter, expression: str) -> list[int]:
    masks = conditions.select(expression).allowed
    return np.flatnonzero(np.concatenate(masks)).tolist()


def rows_where(true) -> list[int]:
    return [i for i, document in enumerate(DOCUMENTS) if true(i, document.metadata) and i not in GONE]


@pytest.mark.parametrize(
    ("expression", "true"),
    [
        ("title GLOB 'B*' AND year > 1990", lambda i, m: i % 2 == 0 and m["year"] > 1990),
        ("YEAR = 1999", lambda i, m: m["year"] == 1999),
        ('"odd ""k\'ey" < 70', lambda i, m: i < 70),
        ("é >= 100.5 AND [good]", lambda i, m: i >= 201 and m["good"]),
        ("rare IS NULL", lambda i, m: i % 7 == 0),
        ("NOT (rare LIKE 'x1%')", lambda i, m: i % 7 and not str(i).startswith("1")),
        ("metadata ->> 'year' BETWEEN 1985 AND 1986", lambda i, m: m["year"] in (1985, 1986)),
        ("id IN ('a1', 'a3', 'a250')", lambda i, m: i in (1, 3, 250)),
        ("title = 'Bitle 2'", lambda i, m: i % 90 == 2),
        ("lower(title) LIKE '%;--''' OR url LIKE '%/299'", lambda i, m: i == 299),
        ("1", lambda i, m: True),
        ("0", lambda i, m: False),
        ("year IS NULL", lambda i, m: False),
        ("(" * 60 + "1" + ")" * 60, lambda i, m: True),
    ],
)
def test_an_expression_is_true_of_these_rows(conditions, expression, true):
    assert chosen(conditions, expression) == rows_where(true)


@pytest.mark.parametrize(
    "hostile",
    [
        "1); DROP TABLE documents; --",
        "1); DROP TABLE documents; SELECT (1",
        "1) UNION SELECT row FROM texts WHERE (1",
        "1 UNION SELECT 1",
        "(SELECT 1 UNION SELECT 2)",
        "(SELECT count(*) FROM sqlite_master) > 0",
        "(SELECT name FROM sqlite_master) IS NOT NULL",
        "id IN (SELECT text FROM texts)",
        "id IN texts",
        "id IN (SELECT id FROM found)",
        "EXISTS (SELECT 1)",
        "EXISTS (WITH found AS (SELECT text FROM texts) SELECT text FROM found)",
        "EXISTS (WITH documents AS (SELECT text FROM texts) SELECT text FROM documents)",
        "(WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n) > 1",
        "(VALUES (1))",
        "id IN (SELECT value FROM json_each('[1]'))",
        "id IN pragma_table_info('documents')",
        "ATTACH 'x' AS y",
        "PRAGMA writable_schema = 1",
        "VACUUM INTO 'x'",
        "load_extension('x')",
        "randomblob(1000000000) > 1",
        "zeroblob(1000000000) > 1",
        "random() > 1",
        "fts3_tokenizer('x')",
        "value_of_key(metadata, 'year') > 1",
        "count(*) > 1",
        "row_number() OVER () > 1",
        "title MATCH 'x'",
        "rowid > 3",
        "texts.text = 'x'",
        "year > ?",
        "year > :name",
        "year > $name",
        "1 -- a comment",
        "1 /* a comment */",
        "/* 1",
        "((1)",
        "(1))",
        ")(",
        "title = 'open",
        'title = "open',
        "[title = 1",
        "'a' || ';' ;",
        "1, 2",
        "1 LIMIT 1",
        "1 ORDER BY 1",
        "a\0b",
        "1\0",
        "\udcff = 1",
        "",
        " \n",
        "(" * 5000 + "1" + ")" * 5000,
        "(" * 81 + "1" + ")" * 81,
        "NOT " * 2000 + "1",
        " OR ".join(["year = 1"] * 5000),
        "-" * 9999 + "1",
        "- " * 4900 + "1",
    ],
    ids=lambda text: repr(text[:40]),
)
def test_nothing_but_an_expression_passes(conditions, home, hostile):
    files = {path: path.read_bytes() for path in (home / "made").rglob("*.sqlite")}
    with pytest.raises(UsageError) as error:
        conditions.select(hostile)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    assert {path: path.read_bytes() for path in (home / "made").rglob("*.sqlite")} == files
    assert chosen(conditions, "year = 1999") == rows_where(lambda i, m: m["year"] == 1999)


@pytest.mark.parametrize("expression", ["yaer > 1990", '"yaer" > 1990', "`yaer` > 1", "[yaer] > 1"])
def test_an_unknown_column_is_told_with_those_there_are(conditions, expression):
    with pytest.raises(UsageError, match="no column 'yaer': did you mean year.* id, title, url, good, lang"):
        conditions.select(expression)


def test_a_text_in_the_wrong_quotation_marks_is_not_taken_for_one(conditions):
    with pytest.raises(UsageError, match="names no column 'Bitle 2'"):
        conditions.select('title = "Bitle 2"')


def test_an_expression_that_runs_away_is_ended(home):
    reader = IndexReader(home / "made")
    conditions = Filter(reader, seconds=0.0)
    slow = " OR ".join(["length(hex(title)) > 99"] * 50)
    with pytest.raises(RsearchError, match="took longer than 0 s and was ended") as error:
        conditions.select(slow)
    assert not isinstance(error.value, UsageError)
    conditions.close()
    reader.close()


def test_ctrl_c_ends_an_expression(home, monkeypatch):
    reader = IndexReader(home / "made")
    conditions = Filter(reader)

    def interrupted(guard):
        raise KeyboardInterrupt

    monkeypatch.setattr("resizable_search.store.sql_authorizer.SqlAuthorizer._is_over", interrupted)
    with pytest.raises(KeyboardInterrupt):
        conditions.select("year > 1990")
    conditions.close()
    reader.close()


def test_a_text_of_any_length_is_not_made(conditions):
    with pytest.raises(UsageError, match=r"calls printf\(\), which is not allowed"):
        conditions.select("length(printf('%.*c', 1000000000, 'x')) > 2000000")


@pytest.mark.parametrize("name", ["trim", "ltrim", "rtrim"])
def test_trimming_is_sqlites_own_in_less_time(conditions, name):
    values = ["''", "'aab'", "'abcba'", "'aa'", "'é é'", "NULL", "12", "1.50", "x'6162'", "1 + 1"]
    with closing(sqlite3.connect(":memory:")) as plain:
        for text in values:
            for cut in values:
                (own,) = plain.execute(f"SELECT {name}({text}, {cut})").fetchone()
                trimmed = "NULL" if own is None else "'" + own.replace("'", "''") + "'"
                same = f"{name}({text}, {cut}) IS {trimmed}"
                assert chosen(conditions, same) == rows_where(lambda i, m: True)
    # Of SQLite's own functions this one call would take a minute, in which nothing looks at the clock.
    many = "replace(replace('aaaaaaaaaa', 'a', 'aaaaaaaaaa'), 'a', '" + "a" * 1_000 + "')"
    other = "replace(replace('bbbbbbbbbb', 'b', 'bbbbbbbbbb'), 'b', '" + "b" * 1_000 + "')"
    assert chosen(conditions, f"length({name}({many}, {other} || 'a')) = 0") == rows_where(lambda i, m: True)


def test_the_time_that_an_expression_has_is_that_of_all_parts(home, monkeypatch):
    reader = IndexReader(home / "made")
    conditions = Filter(reader, seconds=30.0)
    ends = []
    monkeypatch.setattr(
        "resizable_search.store.filter.SqlAuthorizer",
        lambda view, until: ends.append(until) or SqlAuthorizer(view, until),
    )
    conditions.select("year > 1990")
    assert len(ends) == len(reader.parts)
    assert len(set(ends)) == 1
    conditions.close()
    reader.close()


def test_the_last_few_expressions_are_kept_unless_they_ask_the_time(conditions):
    first = conditions.select("year = 1990")
    assert conditions.select("year = 1990") is first
    for year in range(MOST_KEPT):
        conditions.select(f"year = {year}")
    assert conditions.select("year = 1990") is not first
    assert conditions.select("year < date('now')") is not conditions.select("year < date('now')")


def test_more_keys_than_sqlite_has_columns_for_are_refused_and_a_huge_number_is_compared(tmp_path):
    keys = [f"k{number}" for number in range(MOST_KEYS + 1)]
    wide = [Document("a", "", "", "one", dict.fromkeys(keys, 1)), Document("b", "", "", "two", {ODD: 10**30})]
    build(ListCorpus(wide), TableEmbedder(), Home(tmp_path), BuildOptions("wide", dims=(16,)))
    with closing(IndexReader(tmp_path / "wide")) as reader, closing(Filter(reader)) as made:
        with pytest.raises(UsageError, match=r"may name 1,001 metadata keys: 1,000 are allowed$"):
            made.select("+".join(keys))
        assert chosen(made, "k7 = 1") == [0]
        assert chosen(made, '"odd ""k\'ey" > 1e29') == [1]


def test_documents_that_are_overwritten_are_damage_and_no_mistake_of_the_expression(home, tmp_path):
    folder = shutil.copytree(home / "made", tmp_path / "made")
    path = folder / NAMES.documents
    with closing(IndexReader(folder)) as reader, closing(Filter(reader)) as made:
        path.write_bytes(path.read_bytes()[:100] + b"\xff" * (path.stat().st_size - 100))
        with pytest.raises(IndexFormatError, match=r"^\S+documents.sqlite .*`restart`"):
            made.select("year = 1999")


def test_the_documents_stay_writable_by_nobody(conditions):
    connection = conditions._connections[0][0]
    conditions.select("year = 1990")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM documents")


PLANS = ["96", "40", "96:1bit:60,96", "40:int8:50,64:float32:30,96"]


@pytest.mark.parametrize("few", [0.0, 1.0], ids=["by a scan", "one by one"])
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("expression", ["title GLOB 'B*'", "year = 1999", "0"])
def test_a_search_finds_the_best_of_the_rows_that_match(home, index, monkeypatch, few, plan, expression):
    """Every plan over a selection gives what it gives over an index that has those rows alone."""
    monkeypatch.setattr(selection, "FEW", few)
    index._filter._cached.clear()
    rng = np.random.default_rng(5)
    queries = rng.standard_normal((3, 96)).astype(np.float32)
    queries[0] = index.vectors([7])[0]
    k = 10
    matching = np.flatnonzero(np.concatenate(index._filter.select(expression).allowed))
    top = index.scan(queries, k=k, plan=plan, where=expression)
    one = index.scan(queries[1:2], k=k, plan=plan, where=expression)
    np.testing.assert_array_equal(one.rows[0], top.rows[1])
    parsed = index.plan(SearchOptions(k, plan=plan))
    for i, query in enumerate(queries):
        among = matching
        for stage, keep in zip(parsed.stages, parsed.keeps(k), strict=True):
            scores, among = best_among(index, query, stage, keep, np.sort(among))
        assert top.rows[i, : len(among)].tolist() == among.tolist()
        np.testing.assert_array_equal(top.scores[i, : len(among)], scores)
        assert (top.rows[i, len(among) :] == NO_ROW).all()


def best_among(index, query, stage, keep, among):
    """What a stage keeps of these rows, by the definition of its precision."""
    full = index.vectors(among)
    if stage.precision == "1bit":
        mean = np.load(index.folder / "tiers" / "96.mean.npy")
        scores = one_bit_scores(full, mean, vectors.truncate(query[None], stage.dim)[0])
    elif stage.precision == "int8":
        width = min(d for d in index.dims if d >= stage.dim)
        stored = vectors.truncate(full, width)
        tier = Tier(*quantise(stored))
        tier = tier if width == stage.dim else tier.cut(stored, stage.dim)
        codes, units = quantise_queries(vectors.truncate(query[None], stage.dim))
        sums = tier.codes[:, : stage.dim].astype(np.int64) @ codes[0, : stage.dim].astype(np.int64)
        scores = (sums * tier.steps.astype(np.float64) * units[0]).astype(np.float32)
    else:
        width = min(d for d in index.dims if d >= stage.dim)
        stored = vectors.truncate(vectors.truncate(full, width), stage.dim)
        scores, best = oracle(stored, vectors.truncate(query[None], stage.dim)[0], keep)
        return scores, among[best]
    order = np.lexsort((among, -scores))[:keep]
    return scores[order], among[order]


def test_similar_documents_leave_out_the_document_itself_and_keep_to_the_expression(index):
    hits = index.similar("a7", k=5)
    top = index.scan(index.vectors([7]), k=6).rows[0].tolist()
    assert [hit.row for hit in hits] == [row for row in top if row != 7][:5]
    assert hits[0].id == "a157"
    assert hits[0].metadata["year"] == 1980 + 157 % 40
    hits = index.similar("a7", k=5, where="year = 1987", rerank=2, dim=16)
    assert hits
    assert {hit.metadata["year"] for hit in hits} == {1987}
    assert "a7" not in {hit.id for hit in hits}


@pytest.mark.parametrize("id_", ["a7777", "a3", "\udcffzz"])
def test_an_unknown_id_is_told_with_what_shows_ids(index, id_):
    with pytest.raises(DocumentNotFoundError, match="made has no document with the id .*`query format=tsv`"):
        index.similar(id_)


def test_a_closed_index_answers_no_expression(home):
    opened = open_index("made", home=home, embedder=TableEmbedder())
    opened.close()
    for ask in (lambda: opened.similar("a7"), lambda: opened.check_where("1"), opened.columns):
        with pytest.raises(UsageError, match="made is closed"):
            ask()


def test_columns_are_read_under_the_lock_of_expressions(home):
    """The authorizer of an expression on another thread would refuse their statement."""
    with closing(IndexReader(home / "made")) as reader, closing(Filter(reader)) as conditions:
        with conditions._lock:
            thread = threading.Thread(target=lambda: conditions.columns)
            thread.start()
            thread.join(0.2)
            assert thread.is_alive()
        thread.join(30)
        assert "year" in conditions.columns
