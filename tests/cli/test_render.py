"""Tables: what stays on a narrow terminal, and what they look like in a pipe."""

import io
import os
import subprocess

import pytest
from rich.console import Console
from rich.table import Table

from resizable_search.admin.overview import OverviewEntry
from resizable_search.cli import indexes, render_evaluate, tables
from resizable_search.evaluate.bench import BenchReport, Measurement, QueryInfo
from resizable_search.search.results import Answer, Hit, Timings
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


def shown(table: Table, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    tables.show_table(table, console)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 30, 40, 59, 80])
def test_on_a_narrow_terminal_ranks_and_scores_stay(width: int):
    lines = shown(tables.hits_table(ANSWER, width), width)
    assert lines[0].split()[:2] == ["#", "score"]
    assert lines[9].split()[:2] == ["9", "-0.1234"]
    assert lines[10].split()[:2] == ["10", "0.7000"]
    assert len(lines) == 11


@pytest.mark.parametrize("width", [34, 40, 59, 80])
def test_on_a_narrow_terminal_bench_keeps_dim_and_rerank(width: int):
    columns = render_evaluate.bench_columns(REPORT)
    lines = shown(tables.fitted(columns, width, render_evaluate.LEAST_NEEDED), width)
    assert not [line for line in lines if "…" in line]
    assert [line.split()[:2] for line in lines] == [["dim", "rerank"], ["768", "–"], ["256", "×10"]]


@pytest.mark.parametrize("width", [45, 60, 80])
def test_on_a_narrow_terminal_explain_keeps_stages_and_times(width: int):
    stage = {"stage": "768:int8:30", "rows_in": 100_000, "rows_out": 30, "looked": 42, "bytes": 76_800_000}
    stage |= {"ms": 4.7, "read": "int8", "engine": "numba", "threads": 2}
    head, line = shown(tables.explain_table([stage], width), width)
    assert line.split()[:4] == ["768:int8:30", "100,000", "30", "42"]
    assert (" ms" in head, "engine" in head) == (True, width == 80)
    assert max(len(head), len(line)) <= width


@pytest.mark.parametrize("width", [20, 30, 40, 59, 80])
def test_on_a_narrow_terminal_list_keeps_the_counts(width: int):
    lines = shown(indexes.listing_table(ENTRIES), width)
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
