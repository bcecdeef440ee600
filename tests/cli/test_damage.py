"""Index folders that are not as they were written: each is told with the file and what to do."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from resizable_search.store.manifest import _checksum
from tests.cli.conftest import Machine, Shelf, errs

REBUILD = "--restart"
BACK = "put it back from a copy, or build the index again with --restart"


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1000)


def edit_manifest(folder: Path, **changes: object) -> None:
    """Change the manifest, and let its checksum fit."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest = {**manifest, **changes}
    del manifest["checksum"]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "checksum": _checksum(manifest)}))


DAMAGES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing array": (
        lambda f: (f / "256.npy").unlink(),
        ("256.npy is missing", "`rsearch repair /", REBUILD),
    ),
    "truncated array": (lambda f: cut(f / "256.npy"), ("256.npy has", "`rsearch repair /", "rebuilds it")),
    "foreign array": (
        lambda f: shutil.copy(f / "256.npy", f / "64.npy"),
        ("64.npy has 409,728 bytes where", "`rsearch repair /", "rebuilds it", REBUILD),
    ),
    "missing documents": (
        lambda f: (f / "documents.sqlite").unlink(),
        ("documents.sqlite is missing", BACK),
    ),
    "truncated documents": (lambda f: cut(f / "documents.sqlite"), ("documents.sqlite has", BACK)),
    "newer format": (
        lambda f: edit_manifest(f, format=99),
        ("has format 99, and this rsearch reads up to", "pip install -U resizable_search"),
    ),
    "damaged manifest": (lambda f: cut(f / "manifest.json"), ("manifest.json is damaged", BACK)),
    "missing manifest": (lambda f: (f / "manifest.json").unlink(), ("it has no manifest.json",)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_with_the_file_and_the_remedy(machine: Machine, shelf: Shelf, damage: str):
    apply, words = DAMAGES[damage]
    apply(machine.take(shelf, "pydoc"))
    before = machine.holdings()
    errs(machine.run("query", "a list of files", "--index", "pydoc"), 1, *words)
    assert machine.holdings() == before


def test_the_state_of_another_fit_is_told_by_name(machine: Machine, shelf: Shelf):
    folder = machine.take(shelf, "pydoc")
    other = machine.take(shelf, "wiki-one") / "embedder"
    shutil.rmtree(folder / "embedder")
    other.rename(folder / "embedder")
    errs(
        machine.run("query", "a list of files", "--index", "pydoc"),
        1,
        "pydoc was embedded by lsa-tfidf-svd",
        "cannot be compared",
        "query it with its own embedder",
    )


def test_the_missing_state_of_an_embedder_is_told(machine: Machine, shelf: Shelf):
    shutil.rmtree(machine.take(shelf, "pydoc") / "embedder")
    errs(machine.run("query", "a list", "--index", "pydoc"), 1, "lsa.json is missing", REBUILD)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "embedder" / "components.npy").unlink(), "components.npy is missing"),
        (lambda f: cut(f / "embedder" / "components.npy"), "components.npy has "),
        (lambda f: shutil.rmtree(f / "embedder"), "components.npy is missing"),
    ],
    ids=["missing", "cut", "all missing"],
)
def test_a_damaged_embedder_is_told_by_doctor_and_info(
    machine: Machine, shelf: Shelf, damage: Callable[[Path], object], words: str
):
    damage(machine.take(shelf, "pydoc"))
    shown = machine.run("info", "pydoc")
    assert shown.code == 0
    assert f"damaged    {machine.home / 'pydoc' / 'embedder'}/" in shown.out
    assert words in shown.out
    findings = {finding["what"]: finding for finding in machine.run("doctor", "--json").json}
    assert findings["index pydoc"]["state"] == "wrong"
    assert words in findings["index pydoc"]["words"]
    assert REBUILD in findings["index pydoc"]["words"]


@pytest.mark.parametrize(
    "name", ["manifest.json", "embedder/lsa.json", "embedder/terms.json", "embedder/components.npy"]
)
def test_what_is_no_file_is_told_and_not_waited_for(machine: Machine, shelf: Shelf, name: str):
    folder = machine.take(shelf, "pydoc")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    errs(machine.run("query", "a list", "--index", "pydoc"), 1, name, "is not a file", REBUILD)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    errs(machine.run("query", "a list", "--index", "pydoc"), 1, name, "is not a file", REBUILD)


@pytest.mark.parametrize("name", ["manifest.json", "embedder/lsa.json"])
def test_a_file_of_senseless_size_is_not_read(machine: Machine, shelf: Shelf, name: str):
    folder = machine.take(shelf, "pydoc")
    os.truncate(folder / name, 10**10)
    errs(machine.run("query", "a list", "--index", "pydoc"), 1, name, "it has 10,000,000,000 bytes", REBUILD)


def test_doctor_and_list_go_on_to_the_sound_indexes(machine: Machine, shelf: Shelf):
    cut(machine.take(shelf, "wiki-odd") / "manifest.json")
    (machine.take(shelf, "wiki-one") / "64.npy").write_text("stray")
    machine.take(shelf, "wiki100k")
    listed = {entry["name"]: entry["state"] for entry in machine.run("list", "--json").json}
    assert listed == {"wiki-odd": "damaged", "wiki-one": "ready", "wiki100k": "ready"}
    ran = machine.run("doctor", "--json")
    assert ran.code == 1
    findings = {finding["what"]: finding for finding in ran.json}
    assert {what: findings[what]["state"] for what in findings if what.startswith("index")} == {
        "index wiki-odd": "wrong",
        "index wiki-one": "wrong",
        "index wiki100k": "ok",
    }
    assert REBUILD in findings["index wiki-odd"]["words"]
    assert "64.npy; move them away" in findings["index wiki-one"]["words"]
