"""Cards and tables: what stays on a narrow terminal, and what they look like in a pipe."""

import io
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from unittest import mock

import pytest
from rich.cells import cell_len

from resizable_search.admin.overview import OverviewEntry
from resizable_search.cli import indexes, render_evaluate, tables
from resizable_search.cli.output import OutputOptions, above_min_score
from resizable_search.evaluate.bench import BenchReport, Measurement, QueryInfo
from resizable_search.search.results import Answer, Hit, Timings
from resizable_search.text import rarity
from tests.cli.conftest import COMMAND, PATIENCE, Shelf

HITS = [Hit(i, i, -0.1234 if i == 9 else 0.7, "id", "A long title", "", "words " * 30) for i in range(1, 11)]
ANSWER = Answer("words", "made", 10, "768", Timings(1, 1, 0), HITS, [])
MEASURED = [
    Measurement(
        *(dim, rerank, plan, 1, 2, "numpy", 0.01, 0.01, 0.01, 100.0, 1, 5, 100),
        *(10.0, 11.0, 12.0, 1.0, 1000, 0.9, (0.8, 1.0)),
    )
    for dim, rerank, plan in ((768, 0, "768"), (256, 10, "256:100,768"))
]
REPORT = BenchReport("made", 1000, 768, 10, QueryInfo(5, "", 0, 0.0), 2, "numpy", "warm", None, MEASURED)
ENTRIES = [
    OverviewEntry("wiki100k" * 8, "ready", 1_234_567, (64, 768), "nomic-embed-text-v1.5", bytes=10**9),
    OverviewEntry("b", "unfinished"),
]


NOTE = Hit(
    1, 7, 0.30512, "readline.md#c9", "Readline", "file:///notes/api/readline.md",
    "### Read a file\n\n```js\nA common case is reading a file one line at a time. " + "Much more. " * 40,
    {"path": "api/readline.md", "line": 1173, "heading": "Readline › Examples of events › Read a file"}, 2,
)  # fmt: skip


@contextmanager
def terminal(width: int, **variables: str) -> Iterator[io.StringIO]:
    """What is printed in there is printed on a terminal of this width."""
    variables = {"NO_COLOR": "1", **variables, "FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(width)}
    with mock.patch.dict(os.environ, variables), redirect_stdout(io.StringIO()) as out:
        yield out


def shown(table: Callable[[], Sequence[tables.Column]], width: int) -> list[str]:
    with terminal(width) as out:
        tables.show_table(table())
    return out.getvalue().splitlines()


def hits_table(hits: list[Hit], width: int, *names: str) -> list[str]:
    records = [{name: str(getattr(hit, name, hit.text[:300])) for name in names} for hit in hits]
    return shown(lambda: tables.hits_table(hits, {"word": 1}, records if names else ()), width)


def card(hit: Hit, width: int, *words: str, length: int = 0) -> list[str]:
    return tables.card(hit, 3, dict.fromkeys(words, 1), width, length)


def test_a_card_has_title_headings_place_and_score_and_two_lines_that_answer():
    assert card(NOTE, 80, "lin") == [
        "1  Readline › Examples of events › Read a file       api/readline.md:1173  0.305",
        "   A common case is reading a file one line at a time. Much more. Much more.",
        "   Much more. Much more. Much more. Much more. Much more. Much more. Much…",
        "   2 or more others with the same text",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 110])
def test_a_card_keeps_rank_place_and_score_and_is_never_wider_than_the_terminal(width: int):
    odd = replace(
        NOTE, title="広い文字" * 40, text="広い文字のテキスト " * 90, metadata={"path": "x/" * 90 + "end.md"}
    )
    for hit in (NOTE, odd, replace(NOTE, title="", url="", text="", metadata={}, copies=0)):
        lines = card(hit, width, "word")
        assert lines[0].startswith("1  ")
        assert lines[0].endswith("  0.305")
        assert max(map(cell_len, lines)) <= width
        assert cell_len(lines[0]) == width
    assert "73  0.305" in card(NOTE, width)[0]
    assert card(NOTE, 70)[0] == "1  Readline › … › Read a file              api/readline.md:1173  0.305"


def test_a_passage_of_so_many_characters_is_shown_whole():
    assert len(card(NOTE, 60, "line", length=400)) > 8


@pytest.mark.parametrize(
    ("hit", "head"),
    [
        ({"title": "notes.txt", "metadata": {"path": "a/notes.txt", "line": 3}}, "1  a/notes.txt:3"),
        (
            {"title": "Tree", "metadata": {}, "url": "https://example.org/wiki/Tree"},
            "1  Tree example.org/wiki/Tree",
        ),
        (
            {"title": "", "metadata": {}, "url": "https://example.org/a#b"},
            "1  readline.md#c9 example.org/a#b",
        ),
        ({"title": "T", "metadata": {"heading": "H › I"}, "url": ""}, "1  T › H › I readline.md#c9"),
        ({"title": "T", "metadata": {"heading": "T"}, "url": "about:x"}, "1  T about:x"),
    ],
    ids=str,
)
def test_the_head_of_a_card_says_nothing_twice(hit: dict[str, object], head: str):
    assert card(replace(NOTE, **hit), 60)[0].split() == [*head.split(), "0.305"]


def test_words_of_the_query_are_marked_but_no_stop_words():
    weights = rarity("how to read a file", [NOTE.text])
    with terminal(60, NO_COLOR=""):
        _, passage, *_ = tables.card(NOTE, 1, weights, 60)
    assert re.findall(r"\x1b\[1;33m(.*?)\x1b\[0m", passage) == ["reading", "file"]


def test_cards_and_tables_show_no_hit_that_is_not_above_zero():
    hits = [replace(NOTE, score=score) for score in (0.1, 0.0, -0.1)]
    answer = replace(ANSWER, hits=hits)
    for form, count in (("cards", 1), ("table", 1), ("json", 3), ("csv", 3)):
        assert len(above_min_score(answer, OutputOptions(form)).hits) == count
        assert len(above_min_score(answer, OutputOptions(form, min_score=-1.0)).hits) == 3


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize(
    "names", [(), ("rank", "score", "id", "title", "url", "snippet")], ids=["usual", "named"]
)
def test_the_snippet_of_a_table_has_most_of_the_room(width: int, names: tuple[str, ...]):
    hits = [replace(NOTE, url="https://example.org/" + "long/" * 20)]
    head, line, *_ = hits_table(hits, width, *names)
    start = head.index("snippet")
    assert len(line) <= width
    assert len(line[start:]) >= (width - 15) // 2
    assert "Read a file" in line[start:] if names else "common case" in line[start:]


def test_a_table_says_how_many_others_have_a_text():
    assert "+2 Read a file" in hits_table([NOTE], 120)[1]


@pytest.mark.parametrize("width", [20, 30, 40, 59, 80])
def test_on_a_narrow_terminal_ranks_and_scores_stay(width: int):
    lines = hits_table(HITS, width)
    assert lines[0].split()[:2] == ["#", "score"]
    assert lines[9].split()[:2] == ["9", "-0.1234"]
    assert lines[10].split()[:2] == ["10", "0.7000"]
    assert len(lines) == 11


@pytest.mark.parametrize("width", [34, 40, 59, 80])
def test_on_a_narrow_terminal_bench_keeps_dim_and_rerank(width: int):
    columns = render_evaluate.bench_columns(REPORT)
    lines = shown(lambda: tables.fitted(columns, render_evaluate.LEAST_NEEDED), width)
    assert not [line for line in lines if "…" in line]
    assert [line.split()[:2] for line in lines] == [["dim", "rerank"], ["768", "–"], ["256", "×10"]]


@pytest.mark.parametrize("width", [45, 60, 80])
def test_on_a_narrow_terminal_explain_keeps_stages_and_times(width: int):
    stage = {"stage": "768:int8:30", "rows_in": 100_000, "rows_out": 30, "looked": 42, "bytes": 76_800_000}
    stage |= {"ms": 4.7, "read": "int8", "engine": "numba", "threads": 2}
    head, line = shown(lambda: tables.explain_table([stage]), width)
    assert line.split()[:4] == ["768:int8:30", "100,000", "30", "42"]
    assert (" ms" in head, "engine" in head) == (True, width == 80)
    assert max(len(head), len(line)) <= width


@pytest.mark.parametrize("width", [20, 30, 40, 59, 80])
def test_on_a_narrow_terminal_list_keeps_the_counts(width: int):
    lines = shown(lambda: indexes.listing_table(ENTRIES), width)
    assert [line.split()[1] for line in lines] == ["documents", "1,234,567", "0"]
    assert lines[1].startswith("wiki100")


@pytest.mark.parametrize(
    "args",
    [("query", "a heap", "-i", "wiki-odd"), ("list",), ("info", "pydoc"), ("bench", "-i", "pydoc")],
    ids=lambda args: args[0],
)
def test_in_a_pipe_no_width_is_kept_and_no_line_ends_in_spaces(shelf: Shelf, args: tuple[str, ...]):
    few = ("--sample", 3, "--dims", 64) if args[0] == "bench" else ()
    ran = shelf.run(*args, *few, COLUMNS="20")
    assert ran.code == 0
    assert not [line for line in ran.out.splitlines() if line != line.rstrip()]
    assert "…" not in ran.out.replace("word…", "")
    heads = {
        "query": "#  score  title",
        "list": "index  ",
        "info": "index ",
        "bench": "dim  rerank  ms/query",
    }
    assert any(" ".join(heads[args[0]].split()) in " ".join(line.split()) for line in ran.out.splitlines())


def test_a_terminal_is_as_wide_as_columns_says(shelf: Shelf):
    ours, theirs = os.openpty()
    env = {**shelf.env, "COLUMNS": "40", "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen([COMMAND, "list"], stdin=subprocess.DEVNULL, stdout=theirs, env=env) as process:
        os.close(theirs)
        shown = os.read(ours, 1 << 16).decode()
        assert process.wait(PATIENCE) == 0
    os.close(ours)
    assert max(map(len, shown.splitlines())) == 40
