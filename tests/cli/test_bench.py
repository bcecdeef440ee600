"""`rsearch bench`: its figures as JSON, CSV and a table. All are measured at once: time is what they take."""

import csv
import io
from pathlib import Path

import pytest

from resizable_search.cli.bench import read_queries
from resizable_search.errors import UsageError
from tests.cli.conftest import ROWS, Ran, Shelf, told

RUNS = {
    "json": ("--dims", "64", "--rerank", "2", "--sample", 30, "--json"),
    "csv": ("--dims", "768", "--sample", 5, "--csv"),
    "table": ("--dims", " 768", "-k", 3, "--queries", "queries.txt"),
}


@pytest.fixture(scope="module")
def ran(shelf: Shelf) -> dict[str, Ran]:
    (shelf.folder / "queries.txt").write_text("chess gambit\n\n  \nvolcano erosion  \n")
    started = {name: shelf.start("bench", "-i", "wiki100k", *args) for name, args in RUNS.items()}
    ended = {name: shelf.end(process) for name, process in started.items()}
    assert all(one.code == 0 for one in ended.values())
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


def test_csv_has_a_header_and_a_row_a_measurement(ran: dict[str, Ran]):
    (row,) = csv.DictReader(io.StringIO(ran["csv"].out))
    assert (row["dim"], row["rerank"], row["plan"]) == ("768", "0", "768")
    assert float(row["overlap_low"]) == float(row["overlap_high"]) == 1


def test_the_table_reads_like_timeit(ran: dict[str, Ran]):
    title, head, full, *foot = ran["table"].out.splitlines()
    assert title.startswith(f"wiki100k · {ROWS} × 768 · k 3 · 2 queries · ")
    assert title.endswith(" · warm")
    assert "s per run" in head
    assert "overlap@3" in head
    assert full.split()[:2] == ["768", "–"]
    assert foot[0].startswith("queries: queries.txt, embedded in ")
    assert "\x1b" not in ran["table"].out


def test_a_line_of_unknown_words_is_told_by_its_number(shelf: Shelf):
    (shelf.folder / "odd.txt").write_text("\ufeffsyntax\u2028tree\n\x0b\nxyzzyq\n", encoding="utf-8")
    told(shelf.run("bench", "-i", "pydoc", "--queries", "odd.txt"), 1, "odd.txt, line 3: no word of 'xyzzyq'")


def test_lines_end_at_line_feeds_alone_and_a_byte_order_mark_is_none_of_them(tmp_path: Path):
    (tmp_path / "odd.txt").write_bytes("\ufeffone\u2028still one\x0bstill\r\n\n two\n".encode())
    assert read_queries(tmp_path / "odd.txt") == {1: "one\u2028still one\x0bstill", 3: "two"}


def test_a_file_of_queries_without_an_end_is_refused():
    with pytest.raises(UsageError, match="more than 64 MB"):
        read_queries(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dims", "64,256,64"), ("--dims names 64 more than once",)),
        (("--dims", "64,769"), ("dimension 769 is not within 1 to 768",)),
        (("--rerank", "-1"), ("--rerank: '-1' is no number",)),
        (("--dims", "9" * 5000), ("--dims: '99", "…' is too large")),
        (("--seed", "-1"), ("--seed", "greater than or equal to 0")),
        (("--json", "--csv"), ("one of --json and --csv",)),
        (("--queries", "nowhere.txt"), ("cannot read nowhere.txt", "one query a line")),
        (("--queries", "/dev/null"), ("/dev/null has no query",)),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_wrong_usage(
    shelf: Shelf, options: tuple[object, ...], words: tuple[str, ...]
):
    told(shelf.run("bench", "-i", "wiki100k", *options), 2, *words)
