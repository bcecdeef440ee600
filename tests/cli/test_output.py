"""The forms of answers, in process."""

import csv
import io
import json
import re
import sys
import webbrowser

import pytest
import typer

from resizable_search import build_index
from resizable_search.cli.main import app
from resizable_search.errors import DocumentNotFoundError, RsearchError, UsageError
from tests.cli.conftest import Inside, Shelf, errs


@pytest.fixture
def run(shelf: Shelf, capsys, monkeypatch):
    monkeypatch.setenv("RSEARCH_HOME", str(shelf.home))

    def ask(*args: object) -> str:
        typer.main.get_command(app)([*map(str, args), "-i", "pydoc"], standalone_mode=False)
        return capsys.readouterr().out

    return ask


QUERY = ("query", "abstract syntax tree", "-k", 3)


def test_every_form_has_the_same_hits(run):
    whole = json.loads(run(*QUERY, "--json"))
    assert json.loads(run(*QUERY, "--format", "json"))["hits"] == whole["hits"]
    hits = whole["hits"]
    assert [json.loads(line) for line in run(*QUERY, "--format", "jsonl").splitlines()] == hits
    names = ["rank", "score", "id", "title", "url", "text"]
    rows = list(csv.DictReader(io.StringIO(run(*QUERY, "--format", "csv"))))
    assert [row["text"] for row in rows] == [hit["text"] for hit in hits]
    head, *lines = run(*QUERY, "--format", "tsv", "--fields", "id,score").splitlines()
    assert head == "id\tscore"
    assert [line.split("\t")[0] for line in lines] == [hit["id"] for hit in hits]
    plain = run(*QUERY, "--format", "plain").split("\n\n")
    assert [line.split(": ")[0].rstrip(":") for line in plain[0].splitlines()] == names
    table = run(*QUERY, "--fields", "rank,id,snippet", "--snippet", 60)
    assert table.splitlines()[0].split() == ["rank", "id", "snippet"]


def test_fields_and_a_least_score(run):
    hits = json.loads(run(*QUERY, "--json"))["hits"]
    least = hits[1]["score"]
    hits_above = json.loads(run(*QUERY, "--json", "--min-score", least, "--fields", "id,snippet"))["hits"]
    assert [list(hit) for hit in hits_above] == [["id", "snippet"]] * 2
    assert len(hits_above[0]["snippet"]) <= 202
    with pytest.raises(UsageError, match="unknown field 'no': choose among rank, row"):
        run(*QUERY, "--fields", "id,no")


def test_fields_on_a_terminal_are_columns_of_a_table(run, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(*QUERY, "--fields", "rank,id").splitlines()[0].split() == ["rank", "id"]


def test_a_text_that_others_have_too_is_shown_once_and_a_field_that_a_hit_lacks_is_empty(inside: Inside):
    texts = [{"text": "a note", "year": 1999}, *["word1 of a tree"] * 3, " "]
    build_index("both", texts, home=inside.home).close()
    table = inside.run("query", "tree", "--format", "table").out
    assert "+2" in table.splitlines()[1]
    assert "\n+n: n or more others with the same text\n" in table
    hits = csv.DictReader(
        io.StringIO(inside.run("query", "a note", "--format", "csv", "--fields", "id,year").out)
    )
    assert [(hit["id"], hit["year"]) for hit in hits] == [("0", "1999"), ("1", "")]
    assert re.search(
        r"^documents +4; 5 read from the corpus, 1 left out$", inside.run("info").out, re.MULTILINE
    )


def test_an_expression_narrows_a_query_down(run):
    first = json.loads(run(*QUERY, "--json"))["hits"][0]
    title = first["title"].replace("'", "''")
    others = json.loads(run(*QUERY, "--json", "--where", f"title <> '{title}'"))["hits"]
    assert len(others) == 3
    assert first["title"] not in {hit["title"] for hit in others}
    with pytest.raises(UsageError, match="names no column 'yaer'"):
        run(*QUERY, "--where", "yaer > 1990")


def test_similar_takes_an_id_and_the_forms(run):
    first = json.loads(run(*QUERY, "--json"))["hits"][0]["id"]
    answer = json.loads(run("similar", first, "-k", 4, "--json", "--dim", 64, "--rerank", 5))
    assert (answer["query"], len(answer["hits"]), answer["plan"][:6]) == (first, 4, "64:50,")
    assert first not in {hit["id"] for hit in answer["hits"]}
    with pytest.raises(DocumentNotFoundError, match="has no document with the id 'no-such-id-at-all'"):
        run("similar", "no-such-id-at-all")


def test_a_hit_is_opened_in_the_browser_if_it_is_a_page(run, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    hits = json.loads(run(*QUERY, "--json", "--open", 2))["hits"]
    assert opened == [hits[1]["url"]]
    with pytest.raises(RsearchError, match="no hit 9 to open: there are 3"):
        run(*QUERY, "--open", 9)
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    with pytest.raises(RsearchError, match="no browser"):
        run(*QUERY, "--open", 1)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "", "ftp://x", "https://x\n--y", "https://[", "-h"])
def test_nothing_else_than_pages_is_opened(url, monkeypatch):
    from resizable_search.cli.output import open_hit
    from resizable_search.search.results import Answer, Hit, Timings

    monkeypatch.setattr(webbrowser, "open", lambda url: pytest.fail("opened"))
    answer = Answer("q", "i", 1, "8", Timings(0, 0, 0), [Hit(1, 0, 1.0, "a", "t", url, "x")], [])
    with pytest.raises(RsearchError, match="only http, https and file are opened"):
        open_hit(answer.hits[0])


@pytest.mark.parametrize(
    "options",
    [
        ("--format", "xml"),
        ("--json", "--format", "csv"),
        ("--fields", "id,,url"),
        ("--fields", "id,id"),
        ("--snippet", -1),
        ("--open", 0),
        ("--min-score", "nan"),
    ],
    ids=str,
)
def test_a_form_that_makes_no_sense_is_wrong_usage(run, options):
    with pytest.raises((UsageError, typer.BadParameter)):
        run(*QUERY, *options)


def test_an_expression_that_is_refused_is_told_in_one_line(shelf: Shelf):
    hostile = "1); DROP TABLE documents; --"
    errs(shelf.run("query", "x", "-i", "pydoc", "--where", hostile), 2, "has a comment")
