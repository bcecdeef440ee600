"""`rsearch update`, `add`, `delete` and `compact`."""

import io
import json
import re
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import PYDOC_ROWS, WORDY, Inside, Machine, Shelf, documents, errs
from tests.cli.test_commands_table import WRITES, snapshot


@pytest.fixture
def pydoc(machine: Machine, shelf: Shelf) -> Path:
    return machine.take(shelf, "pydoc")


def ids(machine: Machine, count: int) -> list[str]:
    ran = machine.run("query", "parse json", "--index", "pydoc", "-k", count, "--json")
    return [hit["id"] for hit in ran.json["hits"]]


def test_what_is_added_is_found_and_what_is_deleted_is_not_before_and_after_compacting(
    machine: Machine, pydoc: Path
):
    file = machine.folder / "notes.jsonl"
    file.write_text(json.dumps({"id": "note", "title": "On JSON", "text": "parse json"}) + "\n")
    ran = machine.run("add", "pydoc", file)
    assert ran.code == 0
    assert "1 added, " in ran.out
    first, second, *_ = ids(machine, 3)
    assert "note" in (first, second)
    read = PYDOC_ROWS
    assert f"{read + 1}; {read} read from the corpus" in machine.run("info", "pydoc").out
    ran = machine.run("delete", "pydoc", "note", "--yes")
    assert ran.out.startswith("pydoc: deleted 1 document, ")
    assert "1 deleted: `rsearch compact pydoc`" in machine.run("info", "pydoc").out
    left = ids(machine, 10)
    assert "note" not in left
    assert "(2 parts and 1 deleted before)" in machine.run("compact", "pydoc").out
    assert ids(machine, 10) == left
    assert machine.run("compact", "pydoc").out.startswith("pydoc is compact: ")
    assert machine.run("verify", "pydoc", "--full").code == 0


def test_delete_asks_tells_what_it_would_do_and_refuses_unknown_ids(machine: Machine, pydoc: Path):
    before, gone = machine.holdings(), ids(machine, 1)[0]
    errs(machine.run("delete", "pydoc", gone), 1, "not a terminal: pass --yes", "--yes")
    errs(machine.run("delete", "pydoc", gone, "nothing", "--yes"), 1, "no document 'nothing'", "--missing-ok")
    errs(machine.run("similar", "nothing"), 1, "pydoc has no document with the id 'nothing'")
    assert machine.run("delete", "pydoc", gone, "--dry-run").out.startswith(
        "pydoc: would delete 1 document, "
    )
    assert {name: data for name, data in machine.holdings().items() if name.startswith("pydoc/")} == {
        name: data for name, data in before.items() if name.startswith("pydoc/")
    }
    ran = machine.run("delete", "pydoc", gone, "nothing", "--missing-ok", "-y")
    assert "skipped 1 unknown id" in ran.out
    assert gone not in ids(machine, 5)


def test_delete_takes_an_expression_tells_how_many_it_means_and_asks(machine: Machine, pydoc: Path):
    listed = machine.run("query", "parse json", "--index", "pydoc", "-k", 500, "--json").json["hits"]
    title = sorted({hit["title"] for hit in listed})[3]
    meant = {hit["id"] for hit in listed if hit["title"] < title}
    where = ("--where", f"title < '{title}'")
    several = f"{len(meant)} documents"
    errs(machine.run("delete", "pydoc", *where), 1, f"pass --yes to delete {several} of pydoc")
    assert machine.run("delete", "pydoc", *where, "--dry-run").out.startswith(
        f"pydoc: would delete {several}, "
    )
    errs(machine.run("delete", "pydoc", *where, "an-id"), 2, "cannot be combined with ids")
    errs(machine.run("delete", "pydoc", *where, "--missing-ok"), 2, "cannot be combined with ids")
    errs(machine.run("delete", "pydoc", "--where", "year > 1", "--yes"), 2, "names no column 'year'")
    errs(machine.run("delete", "pydoc", "--yes"), 2, "no id given", "--where")
    assert machine.run("delete", "pydoc", *where, "-y").out.startswith(f"pydoc: deleted {several}, ")
    left = machine.run("query", "parse json", "--index", "pydoc", "-k", 500, "--json").json["hits"]
    assert {hit["id"] for hit in left} == {hit["id"] for hit in listed} - meant
    assert machine.run("delete", "pydoc", *where, "-y").out.startswith("pydoc: deleted nothing, ")


@pytest.fixture
def notes(inside: Inside) -> Path:
    """A folder, and the index of it."""
    folder = inside.folder / "notes"
    folder.mkdir()
    for number, document in enumerate(documents()):
        (folder / f"{number:02}.txt").write_text(f"{document.text} {WORDY[number : number + 90]}")
    assert inside.run("build", "files", "notes", "--embedder", "lsa", "--dims", 8).code == 0
    return folder


@pytest.mark.parametrize("words", [(), ("notes",), ("-i", "notes"), ("./indexes/notes",)], ids=" ".join)
def test_update_follows_the_folder_of_the_index(inside: Inside, notes: Path, words: tuple[str, ...]):
    ran = inside.run("update", *words)
    assert ran.out.startswith("notes: 40 documents at 8, ")
    assert ran.out.endswith("\nno changes: nothing was written\n")
    (notes / "new.txt").write_text("word1 of a new text")
    (notes / "00.txt").unlink()
    before = snapshot(inside.home)
    ran = inside.run("update", *words, "--dry-run")
    assert ran.code == 0
    assert re.search(r"changes +1 added, 1 removed, 39 unchanged; 1 text to embed\n", ran.out)
    assert snapshot(inside.home) == before
    ran = inside.run("update", *words, "--rate", 60, "--concurrency", 1)
    assert ran.out.splitlines()[1:2] == ["1 added, 1 removed, 39 unchanged; 1 text embedded"]
    for path in {path for path, state in snapshot(inside.home).items() if before.get(path) != state}:
        assert any(fnmatch(path, pattern.replace("NAME", "notes")) for pattern in WRITES["update"]), path


@pytest.mark.parametrize("answers", [True, False], ids=["a yes", "--yes"])
def test_update_asks_before_more_than_half_of_an_index_goes(
    inside: Inside, notes: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
):
    for path in sorted(notes.iterdir())[:30]:
        path.unlink()
    what = f"delete 30 of the 40 documents of notes, which {notes} no longer has"
    ran = inside.run("update", "notes")
    assert (ran.code, ran.out, ran.last) == (1, "", f"rsearch: not a terminal: pass --yes to {what}")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    ran = inside.run("update", "notes")
    assert ran.code == 1
    assert re.search(rf"{what}\? \[y/N\]: ?rsearch: nothing was done\n$", ran.err)
    assert inside.run("info", "notes", "--json").json["rows"] == 40
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n") if answers else io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: answers)
    ran = inside.run("update", "notes", *(() if answers else ("--yes",)))
    assert ran.out.splitlines()[1] == "30 removed, 10 unchanged; 0 texts embedded"


def test_ids_to_delete_may_come_from_stdin_and_documents_only_from_a_pipe(
    inside: Inside, notes: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO("03.txt\r\n\n04.txt\n"))
    ran = inside.run("delete", "notes", "-", "05.txt", "--yes")
    assert ran.out.startswith("notes: deleted 3 documents, 37 left")
    errs(inside.run("delete", "notes", "-", "--yes"), 2, "id")  # stdin has no more
    errs(inside.run("add", "notes", "-", "x.md"), 2, "stdin cannot be mixed with files: add each by itself")
    for words in (("add", "notes", "-"), ("build", "files", "-", "--name", "x")):
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        errs(inside.run(*words), 2, "stdin is not a pipe: send JSON lines to it, or name files")


def test_update_refuses_in_one_line_what_it_cannot_follow(inside: Inside, notes: Path):
    shutil.rmtree(notes)
    ran = inside.run("update", "notes", "--yes")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"rsearch: notes follows {notes}, which is gone: put it back, or build another index\n"
    np.save(inside.folder / "mine.npy", np.eye(4, dtype=np.float32))
    assert inside.run("build", "vectors", "mine.npy").code == 0
    errs(inside.run("update", "mine"), 1, "mine cannot be updated", "`rsearch build vectors`")
    errs(inside.run("update"), 1, "which index? name one with --index: there are mine, notes")
    errs(inside.run("update", "nots"), 1, "did you mean notes?")
