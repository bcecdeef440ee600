"""Queries on the command line: what is printed, where it may go, and what it takes."""

import os
import pty
import re
import signal
import subprocess

import pytest

from tests.cli.conftest import (
    COMMAND,
    ESCAPES,
    MARKUP,
    PATIENCE,
    PYDOC_ROWS,
    Machine,
    Shelf,
    closed_address,
    errs,
)

ANSWER = ["query", "index", "k", "plan", "timings_ms", "hits"]
HIT = ["rank", "row", "score", "id", "title", "url", "text"]


def imported(err: str) -> set[str]:
    """The top-level packages among what PYTHONPROFILEIMPORTTIME says on stderr."""
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in err.splitlines() if line.count("|") == 2}


def test_json_is_one_object_with_exactly_the_promised_keys(shelf: Shelf):
    ran = shelf.run(
        "query", "chess", "tournament", "-i", "wiki100k", "--dim", 256, "--rerank", 10, "-k", 3, "--json"
    )
    assert ran.code == 0
    assert ran.err == ""
    answer = ran.json
    assert list(answer) == ANSWER
    assert list(answer["timings_ms"]) == ["embed", "scan", "rerank"]
    assert [list(hit) for hit in answer["hits"]] == [HIT] * 3
    assert answer["query"] == "chess tournament"
    assert answer["index"] == "wiki100k"
    assert answer["plan"] == "256:100,768"
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert all("chess" in hit["text"] for hit in answer["hits"])


def test_the_same_query_again_needs_no_service_and_no_client(shelf: Shelf):
    query = ("query", "sourdough pastry", "-i", "wiki100k", "--json")
    first = shelf.run(*query).json
    nobody = closed_address()
    again = shelf.run(
        *query, ATLAS_API_PATH=nobody, HF_ENDPOINT=nobody, NOMIC_API_KEY="", PYTHONPROFILEIMPORTTIME="1"
    )
    assert again.json["hits"] == first["hits"]
    assert imported(again.err) >= {"numpy", "resizable_search"}
    assert not imported(again.err) & {"nomic", "datasets", "sklearn", "numba", "pyarrow", "requests"}


def test_the_table_has_a_line_a_hit_and_says_what_was_searched(shelf: Shelf):
    ran = shelf.run("query", "abstract syntax tree", "-i", "pydoc", "--dim", 64, "-k", 4)
    head, *hits, foot = ran.out.splitlines()
    assert head.split() == ["#", "score", "title", "snippet", "url"]
    assert [line.split()[0] for line in hits] == ["1", "2", "3", "4"]
    assert all("https://docs.python.org/" in line for line in hits)
    assert foot.startswith(f"pydoc · {PYDOC_ROWS} × ")
    assert re.search(r" · plan 64 · embed [\d.]+.* · scan [\d.]+ ms$", foot)
    assert "\x1b" not in ran.out


def test_titles_and_texts_with_markup_and_escapes_are_shown_as_plain_text(shelf: Shelf):
    ran = shelf.run("query", "a heap", "-i", "wiki-odd")
    assert MARKUP in ran.out
    assert "[red]Markup[/red] of a heap." in ran.out
    assert " ".join("".join(c if c.isprintable() else " " for c in ESCAPES).split()[:2]) in ran.out
    assert not [c for c in ran.out if not c.isprintable() and c != "\n"]


def on_a_terminal(machine: Machine, *args: str, **env: str) -> str:
    """What the command prints on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [COMMAND, *args],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**machine.env, "COLUMNS": "80", "TERM": "xterm-256color", **env},
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                more = os.read(ours, 1 << 16)
            except OSError:  # how a terminal says that its other side is closed
                break
            shown += more
        os.close(ours)
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b""
    return shown.decode()


def test_on_a_terminal_titles_lead_to_their_urls_and_odd_ones_do_no_harm(shelf: Shelf):
    shown = on_a_terminal(shelf, "query", "a heap", "-i", "wiki-odd")
    assert "\x1b]8;" in shown
    assert "https://example.org/markup" in shown
    assert "http://evil" not in re.findall(r"\x1b]8;[^;]*;([^\x1b]*)", shown)
    assert "\x1b[2J" not in shown
    assert "\x9b" not in shown


def test_no_color_means_no_escape_codes(shelf: Shelf):
    assert "\x1b" not in on_a_terminal(shelf, "query", "a heap", "-i", "wiki-odd", NO_COLOR="1")


@pytest.mark.parametrize("k", [500, 200_000_000, 10**20])
def test_more_hits_than_documents_give_all_documents(shelf: Shelf, k: int):
    ran = shelf.run("query", "a heap", "-i", "wiki-odd", "-k", k, "--dim", 64, "--rerank", 2, "--json")
    assert ran.code == 0
    assert [hit["rank"] for hit in ran.json["hits"]] == [1, 2, 3, 4, 5, 6, 7]
    assert len({hit["row"] for hit in ran.json["hits"]}) == 7


def test_an_index_of_one_document_answers_and_may_be_named_by_its_folder(shelf: Shelf):
    ran = shelf.run("query", "subject named after", "-i", f"{shelf.home}/wiki-one")
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 3


def test_a_dash_answers_each_line_of_stdin_with_one_object(shelf: Shelf):
    ran = shelf.run("query", "-", "-i", "pydoc", "-k", 2, stdin="syntax tree\n\n  \narray of bytes  \n")
    assert ran.code == 0
    lines = [type(ran)(ran.args, 0, line, "").json for line in ran.out.splitlines()]
    assert [line["query"] for line in lines] == ["syntax tree", "array of bytes"]
    assert all(list(line) == ANSWER and len(line["hits"]) == 2 for line in lines)


def test_a_line_of_unknown_words_has_no_hits_is_told_and_stops_nothing(shelf: Shelf):
    asked = "\ufeffsyntax tree\n\nxyzzyq\narray of bytes\n"
    ran = shelf.run("query", "-", "-i", "pydoc", "-k", 2, stdin=asked)
    lines = [type(ran)(ran.args, 0, line, "").json for line in ran.out.splitlines()]
    assert [(line["query"], len(line["hits"])) for line in lines] == [
        ("syntax tree", 2), ("xyzzyq", 0), ("array of bytes", 2),
    ]  # fmt: skip
    assert all(list(line) == ANSWER and line["plan"] == lines[0]["plan"] for line in lines)
    assert ran.err.startswith("rsearch: line 3: no word of 'xyzzyq' occurs in pydoc")
    assert (ran.code, ran.err.count("\n")) == (1, 1)


def test_a_dash_answers_before_the_next_line_is_read(shelf: Shelf):
    with shelf.start("query", "-", "-i", "pydoc", "-k", 1) as process:
        for query in ("syntax tree", "array of bytes"):
            process.stdin.write(query + "\n")
            process.stdin.flush()
            assert f'"query": "{query}"' in process.stdout.readline()
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def test_ctrl_c_ends_a_command_that_waits_for_a_line(shelf: Shelf):
    process = shelf.start("query", "-", "-i", "wiki-one", "-k", 1)
    process.stdin.write("subject\n")
    process.stdin.flush()
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    errs(shelf.end(process), 130, "stopped")


def test_a_reader_that_goes_away_is_no_error(shelf: Shelf):
    process = shelf.start("query", "list", "-i", "pydoc", "-k", PYDOC_ROWS, "--json")
    with process:
        assert process.stdout.readline() == "{\n"
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""


def test_bytes_on_stdin_that_are_no_text_are_no_error(shelf: Shelf):
    ran = shelf.run(
        "query", "-", "-i", "wiki-one", stdin="subject é \udcff\n", PYTHONIOENCODING="utf-8:strict"
    )
    assert ran.code == 0
    assert ran.json["query"] == "subject é \udcff"


@pytest.mark.parametrize(("form", "start"), [((), "# "), (("--json",), "{")], ids=["table", "json"])
def test_an_encoding_that_lacks_characters_is_no_error(shelf: Shelf, form: tuple[str, ...], start: str):
    ran = shelf.run("query", "subject é \udcff", "-i", "wiki-one", *form, PYTHONIOENCODING="ascii:strict")
    assert ran.code == 0
    assert ran.out.startswith(start)
    assert ran.out.isascii()
    assert not form or ran.json["query"] == "subject é \udcff"


def test_a_query_without_a_known_word_says_to_try_others(shelf: Shelf):
    errs(shelf.run("query", "xyzzyq", "-i", "pydoc"), 1, "no word of 'xyzzyq' occurs in pydoc", "other words")


def test_a_long_query_without_a_known_word_is_not_told_whole(shelf: Shelf):
    ran = shelf.run("query", "xyzzyq" * 2000, "-i", "pydoc")
    errs(ran, 1, "no word of 'xyzzyq", "…' occurs in pydoc")
    assert len(ran.err) < 300


@pytest.mark.parametrize("blank", [(), ("",), (" \t\n",), ("", " ")], ids=["none", "empty", "white", "two"])
def test_a_blank_query_is_refused(shelf: Shelf, blank: tuple[str, ...]):
    errs(shelf.run("query", *blank), 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dim", 0), ("dimension 0 is not within 1 to 768",)),
        (("--dim", 769), ("dimension 769 is not within 1 to 768",)),
        (("--dim", -1), ("dimension -1 is not within 1 to 768",)),
        (("--dim", "abc"), ("--dim", "is not a whole number")),
        (("--rerank", -1), ("rerank must be 0 (none) or more, not -1",)),
        (("-k", 0), ("k must be 1 or more, not 0",)),
        (("--plan", "768", "--dim", 64), ("give either it or them",)),
        (("--no-such",), ("--no-such", "--help")),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_wrong_usage(
    shelf: Shelf, options: tuple[object, ...], words: tuple[str, ...]
):
    nobody = closed_address()
    errs(shelf.run("query", "new words", "-i", "wiki100k", *options, ATLAS_API_PATH=nobody), 2, *words)


def test_a_rerank_at_the_full_dimension_says_that_it_does_nothing(shelf: Shelf):
    rerank = ("-i", "wiki100k", "--rerank", 2)
    idle = shelf.run("query", "chess", *rerank, "--json")
    similar = shelf.run("similar", idle.json["hits"][0]["id"], *rerank, "--dim", 768)
    for ran in (idle, similar):
        assert (ran.code, "--rerank does nothing at the full dimension (768)" in ran.err) == (0, True)
    assert shelf.run("query", "chess", *rerank, "--dim", 64).err == ""


def test_an_unknown_index_is_told_with_those_there_are_and_the_nearest(shelf: Shelf):
    errs(
        shelf.run("query", "x", "--index", "pydok"),
        1,
        "no index pydok: did you mean pydoc?",
        "there are pydoc, wiki-odd, wiki-one, wiki100k",
    )


def test_a_folder_that_is_not_there_is_told(shelf: Shelf):
    errs(shelf.run("query", "x", "--index", "./nowhere"), 1, "there is no folder nowhere")


@pytest.mark.parametrize(
    "command", [("query", "x", "-i"), ("info",), ("remove", "--yes")], ids=lambda c: c[0]
)
def test_a_name_or_folder_that_no_disk_could_hold_is_not_there(shelf: Shelf, command: tuple[str, ...]):
    errs(shelf.run(*command, "a" * 300), 1, "no index aaa", "there are pydoc")
    errs(shelf.run(*command, f"./{'a' * 300}"), 1, "there is no folder aaa")


@pytest.mark.parametrize("command", [("query", "x"), ("list",), ("remove", "x")], ids=lambda c: c[0])
def test_a_home_that_no_disk_could_hold_is_told(machine: Machine, command: tuple[str, ...]):
    words = ("cannot read the folder", "--home or $RSEARCH_HOME")
    errs(machine.run(*command, "--home", f"{machine.folder}/{'a' * 300}"), 1, *words)


def test_the_folder_of_an_unknown_user_is_told(machine: Machine):
    errs(machine.run("list", RSEARCH_HOME="~nouser/x"), 2, "~nouser/x names a user that")
    errs(machine.run("list", "--home", "~nouser/x"), 2, "~nouser/x names a user that")
    errs(machine.run("query", "x", "-i", "~nouser/x"), 2, "~nouser/x names a user that")


@pytest.mark.parametrize("command", [("query", "x", "-i"), ("info",), ("remove", "-y")], ids=lambda c: c[0])
def test_an_empty_name_is_no_index(shelf: Shelf, command: tuple[str, ...]):
    errs(shelf.run(*command, ""), 2, "the name of the index is empty")


def test_wiki100k_is_meant_unless_another_index_is_named(shelf: Shelf):
    errs(shelf.run("query", "x", "--dim", 999), 2, "1 to 768")
    assert shelf.run("query", "subject", "--json", RSEARCH_INDEX="wiki-one").json["index"] == "wiki-one"


def test_without_any_index_the_command_that_builds_one_is_told(machine: Machine):
    errs(machine.run("query", "x"), 1, f"no index in {machine.home}", "rsearch build pydoc")
    assert not machine.home.exists()
