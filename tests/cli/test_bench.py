"""`rsearch bench`: its figures as JSON, CSV and a table. All are measured at once: time is what they take."""

import csv
import io
import re
import sys
from pathlib import Path

import pytest

from resizable_search.cli.evaluate import read_queries
from resizable_search.errors import UsageError
from tests.cli.conftest import ROWS, Ran, Shelf, errs, errs_at_last

RUNS = {
    "json": ("--dims", "64", "--rerank", "2", "--sample", 30, "--json"),
    "csv": ("--dims", "768", "--sample", 5, "--csv"),
    "table": ("--dims", " 768", "-k", 3, "--queries", "queries.txt"),
    "ways": (
        *("--dims", "64", "--precisions", "exact,bits", "--plan", "768:bits:40,768:int8:30,768"),
        *("--batch", "1,7", "--threads", "1", "--sample", 5, "--plot", "ways.svg", "--json"),
    ),
    "judged": ("--dims", "64", "--sample", 20, "--min-recall", "0.999"),
    "passed": ("--dims", "768", "--rerank", "2", "--sample", 20, "--min-recall", "1"),
    "one row": ("-i", "wiki-one", "--sample", 5, "--json"),
}


@pytest.fixture(scope="module")
def ran(shelf: Shelf) -> dict[str, Ran]:
    (shelf.folder / "queries.txt").write_text("chess gambit\n\n  \nvolcano erosion  \n")
    # The last `-i` counts.
    started = {name: shelf.start("bench", "-i", "wiki100k", *args) for name, args in RUNS.items()}
    ended = {name: shelf.end(process) for name, process in started.items()}
    assert {name for name, one in ended.items() if one.code} == {"judged"}
    return ended


def test_json_has_exactly_the_promised_keys(ran: dict[str, Ran]):
    report = ran["json"].json
    assert set(report) >= {"index", "rows", "full_dim", "k", "queries", "threads", "measurements"}
    promised = (
        "dim rerank plan seconds_per_run runs_per_second p50_ms p95_ms p99_ms speedup overlap overlap_ci"
    )
    for measurement in report["measurements"]:
        assert set(measurement) >= set(promised.split())
    assert (report["index"], report["rows"], report["full_dim"], report["k"]) == ("wiki100k", ROWS, 768, 10)
    assert report["queries"]["count"] == 30


def test_the_full_dimension_is_measured_first_and_each_other_with_and_without_rerank(ran: dict[str, Ran]):
    measured = ran["json"].json["measurements"]
    assert [(m["dim"], m["rerank"]) for m in measured] == [(768, 0), (64, 0), (64, 2)]
    assert [m["plan"] for m in measured] == ["768", "64", "64:20,768"]


def test_the_figures_fit_each_other(ran: dict[str, Ran]):
    measured = ran["json"].json["measurements"]
    assert measured[0]["overlap"] == measured[0]["speedup"] == 1
    for m in measured:
        assert m["runs_per_second"] == pytest.approx(1 / m["seconds_per_run"])
        assert m["speedup"] == pytest.approx(measured[0]["seconds_per_run"] / m["seconds_per_run"])
        assert 0 < m["p50_ms"] <= m["p95_ms"] <= m["p99_ms"]
        low, high = m["overlap_ci"]
        assert 0 <= low <= m["overlap"] <= high <= 1
    assert measured[1]["overlap"] < measured[2]["overlap"]


def test_plans_precisions_batches_and_threads_are_measured(ran: dict[str, Ran], shelf: Shelf):
    report = ran["ways"].json
    plans = ["768", "64", "64:bits:100,768", "768:bits:40,768:int8:30,768"]
    ways = [(m["batch"], m["plan"], m["rerank"]) for m in report["measurements"]]
    assert ways == [(batch, *way) for batch in (1, 7) for way in zip(plans, (0, 0, 10, None), strict=True)]
    assert report["threads"] == 1
    assert {m["threads"] for m in report["measurements"]} == {1}
    assert {m["engine"] for m in report["measurements"]} == {report["engine"]}
    assert (report["cache"], report["cold_stayed"]) == ("warm", None)
    picture = (shelf.folder / "ways.svg").read_text()
    assert picture.startswith("<?xml")
    assert "</svg>" in picture


def test_a_rerank_of_the_full_dimension_alone_says_that_it_does_nothing(ran: dict[str, Ran]):
    assert "--rerank does nothing at the full dimension (768)" in ran["passed"].err
    assert "--rerank does nothing" not in ran["json"].err


def test_what_misses_the_least_recall_is_named_behind_the_table(ran: dict[str, Ran]):
    assert "overlap@10" in ran["judged"].out
    assert ran["judged"].code == 1
    assert ran["judged"].last.startswith("rsearch: below --min-recall 0.999: 64 (0.")
    assert "overlap@10" in ran["passed"].out


def test_an_index_of_one_row_loses_nothing_and_has_no_interval(ran: dict[str, Ran]):
    measured = ran["one row"].json["measurements"]
    assert {(m["overlap"], m["overlap_ci"]) for m in measured} == {(1.0, None)}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can drop files")
def test_cold_runs_say_what_stayed_or_that_all_did(shelf: Shelf):
    ran = shelf.run("bench", "-i", "pydoc", "--dims", "64", "--sample", 5, "--cold")
    if ran.code:  # on a RAM disk nothing can be dropped
        errs_at_last(ran, 1, "stay in memory", "without --cold")
        return
    title, *_ = ran.out.splitlines()
    assert title.endswith(" · cold")
    assert re.search(r"; \d+\.\d % of them stayed$", ran.out, re.MULTILINE)


def test_csv_has_a_header_and_a_row_a_measurement(ran: dict[str, Ran]):
    (row,) = csv.DictReader(io.StringIO(ran["csv"].out))
    assert (row["dim"], row["rerank"], row["plan"]) == ("768", "0", "768")
    assert float(row["overlap_low"]) == float(row["overlap_high"]) == 1


def test_the_table_reads_like_timeit(ran: dict[str, Ran]):
    title, head, full, *foot = ran["table"].out.splitlines()
    assert title.startswith(f"wiki100k · {ROWS} × 768 · k 3 · 2 queries · ")
    assert title.endswith(" · warm")
    assert "ms/query" in head
    assert "overlap@3" in head
    assert full.split()[:2] == ["768", "–"]
    assert foot[0].startswith("queries: queries.txt, embedded in ")
    assert "\x1b" not in ran["table"].out


def test_a_line_of_unknown_words_is_told_by_its_number(shelf: Shelf):
    (shelf.folder / "odd.txt").write_text("\ufeffsyntax\u2028tree\n\x0b\nxyzzyq\n", encoding="utf-8")
    errs(shelf.run("bench", "-i", "pydoc", "--queries", "odd.txt"), 1, "odd.txt, line 3: no word of 'xyzzyq'")


def test_lines_end_at_line_feeds_alone_and_a_byte_order_mark_is_none_of_them(tmp_path: Path):
    (tmp_path / "odd.txt").write_bytes("\ufeffone\u2028still one\x0bstill\r\n\n two\n".encode())
    assert read_queries(tmp_path / "odd.txt") == {1: "one\u2028still one\x0bstill", 3: "two"}


def test_a_file_of_queries_without_an_end_is_refused():
    with pytest.raises(UsageError, match="is not a file"):
        read_queries(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dims", "64,256,64"), ("--dims names 64 more than once",)),
        (("--dims", "64,769"), ("dimension 769 is not within 1 to 768",)),
        (("--rerank", "-1"), ("--rerank: '-1' is not a number",)),
        (("--dims", "9" * 5000), ("--dims: at most",)),
        (("--dims", "²"), ("--dims: '²' is not a number",)),
        (("--dims", "0" * 5000), ("dimension 0 is not within",)),
        (("--seed", "-1"), ("--seed", "is not in the range x>=0")),
        (("--json", "--csv"), ("one of --json and --csv",)),
        (("--batch", "0"), ("--batch: at least 1",)),
        (("--batch", "1,99999999999999999999"), ("--batch: at most 10,000",)),
        (("--threads", "9999"), ("--threads: at most 1,024",)),
        (("-k", "99999999999"), ("k must be 1 to 10,000",)),
        (("--rerank", "9" * 5000), ("--rerank: at most",)),
        (("--sample", "0"), ("--sample must be 1 to 100,000",)),
        (("--precisions", "exact,int4"), ("unknown precision 'int4'", "exact,float32,int8")),
        (("--plan", "768:bits:400"), ("end it with an exact stage",)),
        (("--plan", "768:bits:9,768"), ("keeps fewer than k",)),
        (("--cold", "--batch", "1,2"), ("leave --batch out",)),
        (("--plot", "bench.pdf"), ("--plot draws .svg or .png",)),
        (("--min-recall", "1.01"), ("--min-recall must be 0 to 1",)),
        (("--min-recall", "nan"), ("--min-recall must be 0 to 1",)),
        (("--queries", "nowhere.txt"), ("nowhere.txt does not exist", "one query a line")),
        (("--queries", "/dev/null"), ("/dev/null is not a file",)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_option_that_makes_no_sense_is_wrong_usage(
    shelf: Shelf, options: tuple[object, ...], words: tuple[str, ...]
):
    errs(shelf.run("bench", "-i", "wiki100k", *options), 2, *words)
