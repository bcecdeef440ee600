"""`rsearch tune`, and queries by the plans that it keeps. What it chooses depends on time."""

import json

import pytest

from tests.cli.conftest import Machine, Shelf, errs

TUNED = [
    "plan", "k", "recall", "overlap", "overlap_ci", "ms", "queries", "chosen_on", "source", "seed", "engine",
    "threads", "measured", "version", "candidates",
]  # fmt: skip


@pytest.fixture
def own(machine: Machine, shelf: Shelf) -> Machine:
    """A machine with an index of its own, to be tuned."""
    machine.take(shelf, "pydoc")
    return machine


def test_a_plan_is_measured_kept_shown_and_used(own: Machine):
    none = own.run("tune", "--show", "-i", "pydoc")
    assert (none.code, none.err) == (0, "")
    assert "has no tuned plan" in none.out
    errs(own.run("tune", "--recall", "1.5"), 2, "above 0 and at most 1")

    ran = own.run("tune", "--recall", 0.5, "-k", 4, "--sample", 120, "--seed", 2, "--json")
    assert ran.code == 0
    report = ran.json
    assert list(report) == ["index", "rows", "full_dim", "tuned", "remark", "not_kept"]
    tuned = report["tuned"]
    assert list(tuned) == TUNED
    assert (tuned["k"], tuned["recall"], tuned["seed"], report["not_kept"]) == (4, 0.5, 2, "")
    assert tuned["overlap_ci"][0] >= 0.5
    assert str(report["full_dim"]) in [c["plan"] for c in tuned["candidates"]]
    assert "rsearch: trying" in ran.err

    assert own.run("tune", "--show", "--json").json == [tuned]
    head, line = own.run("tune", "--show").out.splitlines()
    assert head.split()[:3] == ["k", "recall", "plan"]
    assert line.split()[:2] == ["4", "0.5"]

    asked = own.run("query", "syntax tree", "-k", 4, "--recall", 0.5, "--json")
    assert (asked.code, asked.err) == (0, "")
    assert asked.json["plan"] == tuned["plan"]
    errs(own.run("query", "tree", "-k", 4, "--recall", 0.5, "--dim", 64), 2, "give either it or")


def test_a_query_tunes_once_what_is_not_tuned_yet(own: Machine):
    first = own.run("query", "syntax tree", "--recall", 1, "--json")
    assert first.code == 0
    assert "pydoc has no plan for recall 1 at k 10 yet: tuning it once" in first.err
    again = own.run("query", "-", "--recall", 1, stdin="syntax tree\n")
    assert (again.code, again.err) == (0, "")
    assert again.json["hits"] == first.json["hits"]


def test_the_table_marks_the_plan_and_tells_how_it_was_proven(own: Machine):
    (own.folder / "asked.txt").write_text("syntax tree\nsyntax tree\narray of bytes\n")
    ran = own.run("tune", "--recall", 0.9, "--queries", "asked.txt")
    assert ran.code == 0
    assert ran.out.startswith("pydoc · 400 × ")
    assert [line for line in ran.out.splitlines() if line.startswith("→")]
    assert "1 queries prove no more than" in ran.out
    assert "rsearch query … --recall 0.9 · kept in the index" in ran.out
    assert "\x1b" not in ran.out


def test_a_plan_that_cannot_be_kept_is_printed_all_the_same(own: Machine):
    own.home.joinpath(".state").write_text("")
    ran = own.run("tune", "--recall", 0.5, "--sample", 100, "--json")
    assert ran.code == 0
    assert ran.json["tuned"]["plan"]
    assert ran.json["not_kept"]
    assert [line for line in ran.err.splitlines() if line.startswith("rsearch: the plan is not kept: ")]
    asked = own.run("query", "syntax tree", "--recall", 1, "--json")
    assert asked.code == 0
    assert "the plan is not kept" in asked.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--recall", 0), ("above 0 and at most 1",)),
        (("--recall", "nan"), ("above 0 and at most 1",)),
        (("-k", 0), ("k must be 1 or more",)),
        (("--sample", 1), ("--sample must be 2 or more",)),
        (("--sample", 5, "--queries", "x"), ("choose one of them",)),
        (("--no-titles", "--queries", "x"), ("choose one of them",)),
        (("--queries", "nowhere.txt"), ("nowhere.txt does not exist",)),
        (("--seed", -1), ("--seed", "is not in the range x>=0")),
        (("--threads", 0), ("threads must be",)),
        (("--engine", "fast"), ("'fast' is not one of",)),
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_wrong_usage(
    shelf: Shelf, options: tuple[object, ...], words: tuple[str, ...]
):
    errs(shelf.run("tune", "-i", "pydoc", *options), 2, *words)


def test_a_line_of_unknown_words_is_told_by_its_number(shelf: Shelf):
    (shelf.folder / "odd-tune.txt").write_text("syntax tree\nsyntax tree\n\nxyzzyq\n")
    errs(shelf.run("tune", "-i", "pydoc", "--queries", "odd-tune.txt"), 1, "odd-tune.txt, line 4: no word of")


STAGE = ["stage", "rows_in", "rows_out", "ms", "read", "bytes", "looked", "engine", "threads"]


def test_explain_tells_how_each_stage_went(shelf: Shelf):
    query = ("query", "syntax tree", "-i", "wiki100k", "-k", 3, "--plan", "768:1bit:60,768:int8:20,768")
    answer = shelf.run(*query, "--explain", "--json", "--engine", "numpy", "--threads", 1).json
    assert list(answer)[-1] == "explain"
    assert [list(stage) for stage in answer["explain"]] == [STAGE] * 3
    first, second, last = answer["explain"]
    assert (first["rows_in"], first["rows_out"], first["read"], first["bytes"]) == (300, 60, "1bit", 300 * 98)
    assert (second["rows_in"], second["rows_out"], second["read"]) == (60, 20, "int8")
    assert (last["rows_in"], last["rows_out"], last["read"], last["looked"]) == (20, 3, "float32", 20)
    assert {stage["engine"] for stage in answer["explain"]} == {"numpy"}
    assert "explain" not in shelf.run(*query, "--json").json

    lines = shelf.run(*query, "--explain").out.splitlines()
    assert lines[-4].split()[:3] == ["stage", "rows", "in"]
    assert [line.split()[0] for line in lines[-3:]] == ["768:1bit:60", "768:int8:20", "768"]
    told_by_line = shelf.run(
        "query", "-", "-i", "wiki100k", "--explain", stdin="syntax tree\n"
    ).out.splitlines()
    assert list(json.loads(told_by_line[0]))[-1] == "explain"


def test_a_mode_is_measured_by_judged_queries(own: Machine):
    ids = [hit["id"] for hit in own.run("query", "file", "-k", 40, "--json", "--no-group").json["hits"]]
    (own.folder / "q.tsv").write_text("".join(f"q{n}\t{id_}\n" for n, id_ in enumerate(ids)))
    (own.folder / "qrels.txt").write_text("".join(f"q{n} 0 {id_} 1\n" for n, id_ in enumerate(ids)))
    judged = ("--queries", own.folder / "q.tsv", "--qrels", own.folder / "qrels.txt")
    for wrong in (judged, judged[2:], ("--mode", *judged[:2]), ("--mode", *judged[2:])):
        errs(own.run("tune", "pydoc", *wrong), 2, "give --mode, --queries and --qrels together")
    done = own.run("tune", "pydoc", "--mode", *judged)
    assert done.code == 0
    assert f"{len(ids) // 2} queries choose" in done.out
    assert "by meaning alone; the gain is" in done.out
    report = own.run("tune", "pydoc", "--mode", *judged, "--json").json
    assert report["choice"]["chosen_on"] == len(ids) // 2
    assert len(report["means"]) == 9
    mode = own.run("info", "pydoc", "--json").json["mode"]
    assert bool(mode) == report["kept"]


def test_a_mode_is_measured_by_titles(own: Machine, shelf: Shelf):
    errs(
        shelf.run("tune", "wiki100k", "--mode"),
        2,
        "wiki100k has no embedder that works on this machine",
        "--qrels",
    )
    done = own.run("tune", "pydoc", "--mode", "--json")
    assert done.code == 0
    choice = done.json["choice"]
    assert (choice["source"], done.json["index"]) == ("own titles", "pydoc")
    assert choice["chosen_on"] >= 10
    assert "queries choose · own titles" in own.run("tune", "pydoc", "--mode").out


def test_words_are_searched_printed_and_explained(own: Machine):
    done = own.run("query", "file", "--mode", "hybrid", "-k", 2, "--explain", "--format", "cards")
    assert "dense " in done.out
    assert "lexical " in done.out
    assert "· words " in done.out
    silent = own.run("query", "qqzzx", "--mode", "lexical")
    assert (silent.code, silent.out.splitlines()[0]) == (0, "no documents")
    assert "no hit: none of its words is in the index" in silent.err
