"""`rsearch eval` on a small collection: what it builds, prints, writes and refuses."""

import csv
import errno
import gzip
import io
import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from resizable_search.cli import render_evaluate, tables
from resizable_search.corpora.beir import collection_files
from resizable_search.errors import StorageError
from resizable_search.evaluate import plots
from resizable_search.evaluate.qrels import read_qrels_folder
from resizable_search.evaluate.relevance import (
    EvaluatedPlan,
    Evaluation,
    EvaluationReport,
    JudgedDocuments,
    JudgedQueries,
    MetricValue,
)
from tests.cli.conftest import Inside, Machine, another_api, errs, errs_at_last
from tests.cli.test_render import shown
from tests.judging import by_definition

SUBJECTS = ("chess", "volcano", "orchid", "glacier", "violin", "harbour")
SUBJECTS += ("comet", "saffron", "basalt", "heron", "cello", "delta")
LSA = ("--embedder", "lsa")


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """Two documents a subject, and a query of each; one query of no known word, one judged without a text."""
    folder = tmp_path / "my trees"
    (folder / "qrels").mkdir(parents=True)
    documents = [
        {
            "_id": f"{word}-{i}",
            "title": word.title(),
            "text": f"{word} {other} and {SUBJECTS[(n + i) % 12]} {i}",
        }
        for n, word in enumerate(SUBJECTS)
        for i, other in enumerate(("history", "science"), 1)
    ]
    queries = [{"_id": word, "text": f"{word} history"} for word in SUBJECTS]
    queries += [{"_id": "odd", "text": "zzzz"}, {"_id": "unjudged", "text": "chess"}]
    qrels = [f"{word}\t{word}-{i}\t{3 - i}" for word in SUBJECTS for i in (1, 2)]
    qrels += ["chess\tgone\t1", "odd\tchess-1\t0", "unknown\tchess-1\t1"]
    write(folder / "corpus.jsonl", documents)
    write(folder / "queries.jsonl", queries)
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(qrels) + "\n")
    return folder


def write(path: Path, lines: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_folder_is_built_once_and_judged_as_its_runs_are(inside: Inside, trees: Path):
    ran = inside.run(
        *("eval", trees, *LSA, "--dims", "4", "--rerank", "2", "--plan", "4:12,12", "-k", 3),
        *("--runs", "runs", "--per-query", "values.tsv", "--plot", "kept.svg", "--json"),
    )
    assert ran.code == 0, ran
    assert "my trees: 24 documents at" in ran.err
    assert "nDCG@10" in (inside.folder / "kept.svg").read_text()
    report = ran.json
    assert set(report) == set(EvaluationReport.__dataclass_fields__)
    assert (report["index"], report["rows"], report["k"]) == ("my trees", 24, 3)
    assert report["documents"] == {"count": 25, "absent": 1}
    asked = report["queries"]
    assert (asked["count"], asked["silent"], asked["hopeless"]) == (13, ["odd"], ["odd"])
    assert asked["unasked"] == ["unknown"]
    full = str(report["full_dim"])
    assert [plan["plan"] for plan in report["plans"]] == [full, "4", f"4:20,{full}", "4:12,12"]
    assert list(report["plans"][0]["measures"]) == ["nDCG@10", "R@10", "R@100", "RR@10"]

    rows = list(csv.DictReader(io.StringIO((inside.folder / "values.tsv").read_text()), delimiter="\t"))
    assert len(rows) == 13 * 4
    grades: dict[str, dict[str, int]] = {}
    for line in (trees / "qrels/test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        grades.setdefault(query, {})[document] = int(grade)
    for plan in report["plans"]:
        name = plan["plan"].replace(":", "-").replace(",", "_")
        ranked: dict[str, list[str]] = {query: [] for query in grades}
        for line in (inside.folder / "runs" / f"{name}.run").read_text().splitlines():
            query, q0, document, rank, score, tag = line.split(" ")
            assert (q0, tag, int(rank)) == ("Q0", plan["plan"], len(ranked[query]) + 1)
            ranked[query].append(document)
            float(score)
        for measure, told_of in plan["measures"].items():
            values = [float(row[measure]) for row in rows if row["plan"] == plan["plan"]]
            assert told_of["mean"] == pytest.approx(sum(values) / 13)
            expected = [by_definition(measure, grades[q], ranked[q]) for q in asked_in(rows)]
            assert values == pytest.approx(expected)

    again = inside.run("eval", trees, *LSA, "--dims", "4", "--measures", "RR@10")
    assert again.code == 0
    assert "documents at" not in again.err
    assert "1 of 25 judged documents not in the index: cannot be found\n" in again.out
    assert "1 query ('odd') without a word that the embedder knows: no hits\n" in again.out
    assert "1 query ('odd') without a relevant document: counted as 0\n" in again.out
    assert "1 query ('unknown') judged but not in the file of queries: left out\n" in again.out

    # The same index by its name, judged by files of other forms.
    trec = "".join(f"{q} 0 {d} {g}\n" for q, judged in grades.items() for d, g in judged.items())
    (inside.folder / "qrels.txt.gz").write_bytes(gzip.compress(trec.encode()))
    queries = [json.loads(line) for line in (trees / "queries.jsonl").read_text().splitlines()]
    (inside.folder / "q.tsv").write_text("".join(f"{q['_id']}\t{q['text']}\n" for q in queries))
    files = ("--queries", "q.tsv", "--qrels", "qrels.txt.gz")
    named = inside.run("eval", "-i", "my trees", *files, "--dims", "4", "--json").json
    assert [p["measures"] for p in named["plans"]] == [p["measures"] for p in report["plans"][:2]]
    errs_at_last(inside.run("eval", "-i", "my trees", *files, "--limit", 3), 2, "--limit is for building")
    assert inside.run("config", "set", "eval.chars", 1200).code == 0  # a default is no option that was given
    assert inside.run("eval", "-i", "my trees", *files, "--dims", "4").code == 0
    assert inside.run("config", "unset", "eval.chars").code == 0

    # Documents that have changed are not those that were judged.
    with (trees / "corpus.jsonl").open("a") as corpus:
        corpus.write("\n")
    errs_at_last(inside.run("eval", trees, *LSA), 1, "my trees was built with sha256", "--restart")


def test_a_service_is_paid_once_for_documents_and_queries(machine: Machine, trees: Path):
    with another_api(machine) as api:
        first = machine.run("eval", trees, "--embedder", "nomic", "--dims", 64, "--json")
        assert first.code == 0, first
        asked = api.requests
        assert asked >= 5  # 24 documents and 13 queries, 10 a request
        again = machine.run("eval", trees, "--dims", 256, "--rerank", 2, "--json")
        assert [plan["plan"] for plan in again.json["plans"]] == ["768", "256", "256:20,768"]
        assert again.json["plans"][0]["measures"] == first.json["plans"][0]["measures"]
        assert api.requests == asked


def asked_in(rows: list[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(row["query"] for row in rows))


def test_what_cannot_be_is_refused_before_anything_is_built(inside: Inside, trees: Path):
    errs(inside.run("eval"), 2, "no judgements", "FOLDER", "--qrels")
    errs(inside.run("eval", "nowhere"), 2, "nowhere does not exist", "corpus.jsonl")
    errs(inside.run("eval", trees, "--encoding", "klingon"), 2, "--encoding: 'klingon' is unknown")
    errs(inside.run("eval", trees, "--split", "dev"), 2, "no dev.tsv, but has test")
    errs(inside.run("eval", trees, "--qrels", "x"), 2, "leave --queries and --qrels out")
    errs(inside.run("eval", "--queries", "a", "--qrels", "b", "--split", "dev"), 2, "--split")
    errs(inside.run("eval", "--queries", "a", "--qrels", "b"), 2, "b does not exist")
    errs(inside.run("eval", trees, "--measures", "nDGC@10"), 2, "--measures: 'nDGC@10'")
    errs(inside.run("eval", trees, "--plan", "64:"), 2, "plan '64:'")
    errs(inside.run("eval", trees, "--dims", "a"), 2, "--dims")
    errs(inside.run("eval", trees, "-k", 0), 2, "k must be 1")
    errs(inside.run("eval", trees, "--plot", "x.pdf"), 2, "--plot draws .svg or .png")
    errs(inside.run("eval", trees, "--per-query", "no/x.tsv"), 2, "--per-query: there is no folder")
    errs(inside.run("eval", trees, "--per-query", "."), 2, "--per-query: . is a folder")
    errs(inside.run("eval", trees, "--runs", trees / "corpus.jsonl"), 2, "--runs: ", "is not a folder")
    errs(inside.run("eval", trees, "--engine", "x"), 2, "'x' is not one of")
    errs(inside.run("eval", trees, "-i", "x", "--restart"), 2, "--restart is for building")
    with (trees / "qrels/test.tsv").open("a") as qrels:
        qrels.write("q\td\tgood\n")
    errs(inside.run("eval", trees, *LSA), 1, "test.tsv, line 29: it has 'good' for a grade")
    (trees / "qrels/test.tsv").unlink()
    errs(inside.run("eval", trees, *LSA), 2, "has no test.tsv, but has no split")
    assert not inside.home.exists()


def test_a_file_that_cannot_be_written_is_told_in_one_line(tmp_path: Path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(path: Path, content: bytes) -> None:
        raise full

    monkeypatch.setattr(plots, "replace_file", refuse)
    evaluation = Evaluation(FOUR, [], ("nDCG@10",), np.empty((4, 0, 1)), [])
    with pytest.raises(
        StorageError, match=r"cannot write .*values.tsv \(No space left on device\): .*`per_query`"
    ):
        render_evaluate.write_per_query(evaluation, tmp_path / "values.tsv")


def test_a_dry_run_tells_what_the_build_would_take(inside: Inside, trees: Path):
    ran = inside.run("eval", trees, *LSA, "--dry-run")
    assert (ran.code, inside.home.exists()) == (0, False)
    assert "24" in ran.out


def plan(name: str, mean: float, difference: float, interval: tuple[float, float] | None) -> EvaluatedPlan:
    names = ("nDCG@10", "R@10", "R@100", "RR@10")
    measures = dict.fromkeys(names, MetricValue(mean, difference, interval))
    dim = int(name.split(":")[0])
    rerank = 10 if ":" in name else 0
    return EvaluatedPlan(dim, rerank, name, 1000 if rerank else 100, measures, 0.5, (0.48, 0.52), 1.23)


def report(*plans: EvaluatedPlan) -> EvaluationReport:
    asked = JudgedQueries(300, "qrels/test.tsv", 0.5, [], [], [], [])
    return EvaluationReport(
        "scifact", 5183, 768, 10, asked, JudgedDocuments(283, 0), "numba", 2, 0, 5000, False, list(plans)
    )


FOUR = report(
    plan("768", 0.7, 0.0, None),
    plan("512", 0.7, 0.0001, (-0.01, 0.01)),
    plan("64", 0.6, -0.1, (-0.123, -0.077)),
    plan("64:100,768", 0.71, 0.01, (0.001, 0.019)),
)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 130])
def test_the_table_fits_its_terminal_and_keeps_the_first_measure_and_the_overlap(width: int):
    columns = render_evaluate.eval_columns(FOUR)
    lines = shown(lambda: tables.fitted(columns, render_evaluate.eval_least_needed(FOUR)), width)
    assert all(len(line) <= width for line in lines)
    head = re.split(r"\s{1,}", lines[0].strip())
    assert head[:3] == ["dim", "rerank", "nDCG@10"]
    assert any(word.startswith("overlap@10") for word in head)
    assert ("ms" in head) == (width >= 100)
    assert ("less" in head) == (width >= 80)


def test_marks_and_differences_tell_what_is_certain():
    marks = [column.cells for column in render_evaluate.eval_columns(FOUR) if column.name == "nDCG@10"]
    assert marks == [["0.700", "0.700", "↓0.600", "↑0.710"]]
    (differences,) = (
        c.cells for c in render_evaluate.eval_columns(FOUR) if c.name == render_evaluate.DIFFERENCE
    )
    assert differences[1:3] == ["0.000 (−0.010 to +0.010)", "−0.100 (−0.123 to −0.077)"]
    assert render_evaluate.eval_footer(FOUR)[-1].endswith(
        "as a plan keeps: 100 of 768, 100 of 512, 100 of 64"
    )


def test_the_script_makes_a_collection_of_titles_that_can_be_judged(inside: Inside, monkeypatch):
    notes = inside.folder / "notes.jsonl"
    texts = {
        "chess gambit": "A Chess  gambit gives a pawn for time. ",
        "volcano": "Lava flows; a volcano erupts, volcanoes do. ",
    }
    write(notes, [{"id": t, "title": t.title(), "text": words * 6} for t, words in texts.items()])
    script = Path(__file__).parents[2] / "scripts" / "benchmarks" / "judged.py"
    monkeypatch.setattr(sys, "argv", ["judged.py", "made", str(notes)])
    runpy.run_path(str(script), run_name="__main__")
    corpus = [json.loads(line) for line in Path("made/corpus.jsonl").read_text().splitlines()]
    assert [(d["_id"], d["title"], d["text"][:30]) for d in corpus] == [
        ("chess gambit", "", "A gives a pawn for time. A giv"),
        ("volcano", "", "Lava flows; a erupts, volcanoe"),
    ]
    queries, qrels, _ = collection_files(Path("made"))
    judged = read_qrels_folder(queries, qrels)
    assert sorted(judged.queries.values()) == ["Chess Gambit", "Volcano"]
    assert {judged.queries[q]: grades for q, grades in judged.relevance.items()} == {
        title.title(): {title: 1} for title in texts
    }
