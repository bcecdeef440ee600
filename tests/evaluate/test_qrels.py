import gzip
import json
import re

import pytest

from resizable_search.errors import CorpusError, UsageError
from resizable_search.evaluate.qrels import read_qrels, read_qrels_folder, read_queries

BEIR = "query-id\tcorpus-id\tscore\nq1\td 1\t2\nq1\td2\t0\n\nq2\td1\t1\n"


def lines(*values) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


@pytest.fixture
def file(tmp_path):
    def write(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(
            content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
        )
        return path

    return write


def test_beirs_and_trecs_judgements_are_read(file):
    assert read_qrels(file("test.tsv", BEIR)) == {"q1": {"d 1": 2, "d2": 0}, "q2": {"d1": 1}}
    assert read_qrels(file("no header.tsv", "q1\td1\t1.0\n")) == {"q1": {"d1": 1}}
    trec = file("qrels.txt", "301 0 FT-1 1\n301 0 FT-2 -1\r\n302\t0\tFT-1\t2\n")
    assert read_qrels(trec) == {"301": {"FT-1": 1, "FT-2": -1}, "302": {"FT-1": 2}}
    assert read_qrels(file("test.tsv.gz", gzip.compress(BEIR.encode()))) == read_qrels(file("test.tsv", BEIR))


def test_a_judgement_that_is_given_twice_counts_once_if_both_agree(file):
    assert read_qrels(file("a.tsv", "q\td\t1\nq\td\t1\n")) == {"q": {"d": 1}}
    with pytest.raises(CorpusError, match="a.tsv, line 2: it judges 'd' for 'q' twice, differently"):
        read_qrels(file("a.tsv", "q\td\t1\nq\td\t0\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q\td\t1\nq\td2\thigh\n", "line 2: it has 'high' for a grade"),
        ("query-id\tcorpus-id\tscore\nquery-id\tcorpus-id\tscore\n", "line 2: it has 'score' for a grade"),
        ("q\td\t0.5\n", "line 1: it has '0.5' for a grade"),
        ("q\td\tnan\nq\td\t1\nq\td\t1e400\n", "line 3: it has '1e400'"),
        ("q d\n", "line 1: it has 2 columns"),
        ("q\td\t1\nq 0 d 1 2\n", "line 2: it has 5 columns"),
        ("\td\t1\n", "line 1: it has no id"),
        ("", "has no judgements"),
        ("query-id\tcorpus-id\tscore\n", "has no judgements"),
    ],
)
def test_a_line_that_is_no_judgement_is_told_by_its_number(file, content, message):
    with pytest.raises(CorpusError, match=re.escape(message)):
        read_qrels(file("qrels.tsv", content))


def test_queries_are_json_lines_or_ids_and_texts(file):
    expected = {"1": "tree data", "b": "chess\tgambit"}
    jsonl = lines({"_id": 1, "text": " tree data "}, {"_id": "b", "text": "chess\tgambit", "metadata": {}})
    assert read_queries(file("queries.jsonl", jsonl)) == expected
    assert read_queries(file("queries.json", "\n" + jsonl)) == expected
    assert read_queries(file("queries.tsv", "1\ttree data\nb\tchess\tgambit\n")) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", lines({"_id": "a", "text": "x"}) + "{\n", "line 2: it cannot be read (it is not JSON"),
        ("q.jsonl", lines({"id": "a", "text": "x"}), "line 1: it has no _id and text"),
        ("q.jsonl", lines({"_id": "a", "text": None}), "line 1: it has no _id and text"),
        ("q.jsonl", lines({"_id": " ", "text": "x"}), "line 1: it has no id"),
        ("q.jsonl", lines(*[{"_id": "a", "text": "x"}] * 2), "line 2: it repeats the id 'a'"),
        ("q.tsv", "a\tx\na tree\n", "line 2: it has no tab"),
        ("q.tsv", "a\tx\na\ty\n", "line 2: it repeats the id 'a'"),
        ("q.tsv", "\n", "has no query"),
    ],
)
def test_a_line_that_is_no_query_is_told_by_its_number(file, name, content, message):
    with pytest.raises(CorpusError, match=re.escape(message)):
        read_queries(file(name, content))


def test_only_queries_that_are_judged_are_kept(file):
    queries = file("queries.tsv", "q3\tthree\nq2\ttwo\nq1\t\n")
    judged = read_qrels_folder(queries, file("test.tsv", BEIR + "q0\td9\t0\n"))
    assert dict(judged.queries) == {"q2": "two", "q1": ""}
    assert list(judged.relevance) == ["q2", "q1"]
    assert judged.documents == {"d1", "d2", "d 1"}
    assert (judged.unasked, judged.hopeless) == (("q0",), [])
    with pytest.raises(CorpusError, match="judges no query of .*: the first ids are 'q1' and 'x'"):
        read_qrels_folder(file("other.tsv", "x\ty\n"), file("test.tsv", BEIR))


def test_a_file_that_is_not_there_or_cannot_be_unpacked_is_told(file, tmp_path):
    queries, qrels = file("queries.tsv", "q1\tone\n"), file("test.tsv", BEIR)
    with pytest.raises(UsageError, match=r"nothing.tsv does not exist: .* `qrels`"):
        read_qrels_folder(queries, tmp_path / "nothing.tsv")
    with pytest.raises(UsageError, match="is not a file: .* `queries`"):
        read_qrels_folder(tmp_path, qrels)
    with pytest.raises(CorpusError, match=r"broken.tsv.gz: it cannot be read \(Not a gzipped file"):
        read_qrels_folder(queries, file("broken.tsv.gz", "no"))


def test_files_of_another_encoding_are_read_by_the_one_that_is_given(file):
    queries = file("queries.tsv", "q1\tдерево\n".encode("koi8-r"))
    judged = read_qrels_folder(queries, file("test.tsv", BEIR), "koi8-r")
    assert judged.queries == {"q1": "дерево"}
    with pytest.raises(UsageError, match="'klingon' is unknown"):
        read_qrels_folder(queries, file("test.tsv", BEIR), "klingon")
