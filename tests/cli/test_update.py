"""`rsearch add`, `delete` and `compact`."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import PYDOC_ROWS, Machine, Shelf, errs


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
