"""Every command where nothing can be written: on a full disk, and in a home that is read-only."""

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace

from resizable_search.store.manifest import read_manifest
from tests.cli.conftest import Machine
from tests.hostile import Row
from tests.hostile.disk import Disk
from tests.hostile.full import FULL

READ_ONLY = "Read-only file system"
NO_ROOM = "are free at"
"""What is said where it is known beforehand that there is no room."""

_REFUSED = "refused"
_FILES = ("rows.npy", "notes.jsonl", "out.parquet")
"""Words that are files of the machine, which lie on its disk."""

AN_ID = "<id>"
"""A word that is an id of pydoc."""

COMMANDS: tuple[tuple[tuple[object, ...], str], ...] = (
    (("query", "walk a directory tree", "-i", "pydoc", "--json"), "works"),
    (("query", "walk a directory tree", "-i", "pydoc"), "works"),
    (("list",), "works"),
    (("info", "pydoc"), "works"),
    (("bench", "-i", "pydoc", "--dims", 64, "--sample", 3), "works"),
    (("verify", "pydoc"), "works"),
    (("tune", "-i", "pydoc", "--sample", 20), "is not kept"),
    (("query", "a list of files", "-i", "pydoc", "--recall", 0.5), "is not kept"),
    (("similar", AN_ID, "-i", "pydoc"), "works"),
    (("delete", "pydoc", AN_ID, "--dry-run"), "works"),
    (("delete", "pydoc", "--where", "title > ''", "--dry-run"), "works"),
    (("warm", "pydoc"), "works"),
    (("repair", "damaged"), _REFUSED),
    (("warm", "bare"), _REFUSED),
    (("build", "pydoc", "--limit", 50, "--name", "other"), _REFUSED),
    (("build", "pydoc", "--restart", "--limit", 50), _REFUSED),
    (("build", "vectors", "rows.npy"), _REFUSED),
    (("add", "pydoc", "notes.jsonl"), _REFUSED),
    (("delete", "pydoc", AN_ID, "--yes"), _REFUSED),
    (("delete", "pydoc", "--where", "title > ''", "--yes"), _REFUSED),
    (("compact", "holed"), _REFUSED),
    (("export", "pydoc", "out.parquet"), _REFUSED),
)
"""What each is to do: work, work but for the tuned plan, which is not kept, or be refused in one line."""


def furnish(machine: Machine, shelf: Machine) -> None:
    """Put into an empty home a sound index, one with a damaged file, one without tiers, one to compact."""
    for name in ("pydoc", "damaged", "bare", "holed"):
        shutil.copytree(shelf.home / "pydoc", machine.home / name)
    shutil.copytree(shelf.home / ".state" / "pydoc", machine.home / ".state" / "pydoc")
    with (machine.home / "damaged" / "64.npy").open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    bare = machine.home / "bare"
    shutil.rmtree(bare / "tiers")
    manifest = read_manifest(bare)
    parts = tuple(
        replace(part, files={name: entry for name, entry in part.files.items() if "tiers" not in name})
        for part in manifest.parts
    )
    replace(manifest, parts=parts).write(bare)
    shutil.copy(shelf.home / "pydoc" / "64.npy", machine.folder / "rows.npy")
    note = {"id": "note", "text": "a list of files in a directory"}
    (machine.folder / "notes.jsonl").write_text(json.dumps(note) + "\n")
    assert machine.run("delete", "holed", _an_id(machine), "--yes").code == 0


def _an_id(machine: Machine) -> str:
    with contextlib.closing(sqlite3.connect(machine.home / "pydoc" / "documents.sqlite")) as documents:
        return str(documents.execute("SELECT id FROM documents WHERE row = 3").fetchone()[0])


def _word(machine: Machine, word: object) -> object:
    """A word of a command as this machine has it."""
    if word == AN_ID:
        return _an_id(machine)
    return machine.folder / str(word) if word in _FILES else word


def where_nothing_can_be_written(
    machine: Machine, shelf: Machine, disk: Disk, how: str, passed: tuple[str, ...] = ()
) -> Iterator[Row]:
    """Each command on a disk that is `full` or `read-only`, but for those in `passed`."""
    furnish(machine, shelf)
    (disk.fill if how == "full" else disk.read_only)()
    said = FULL if how == "full" else READ_ONLY
    before = machine.holdings()
    for words, meant in COMMANDS:
        if words[0] in passed:
            continue
        ran = machine.run(*(_word(machine, word) for word in words))
        wrong = []
        if meant == _REFUSED:
            told = said in ran.last or (how == "full" and NO_ROOM in ran.last)
            if ran.code != 1 or not told or ran.out:
                wrong.append(f"exit code {ran.code}, {ran.last!r}")
        elif ran.code or not ran.out:
            wrong.append(f"exit code {ran.code}, {ran.last!r}")
        elif meant == "is not kept" and not (meant in ran.err and said.split(";")[0] in ran.err):
            wrong.append(f"it does not say that the plan is not kept: {ran.err!r}")
        if machine.holdings() != before:
            wrong.append("it changed what is there")
            before = machine.holdings()
        yield Row(f"{how} disk: rsearch {' '.join(map(str, words))}", meant, wrong="; ".join(wrong))
    yield from _removals(machine, how)


def _removals(machine: Machine, how: str) -> Iterator[Row]:
    """`remove` needs no room; what is read-only stays."""
    ran = machine.run("remove", "bare", "--yes")
    situation = f"{how} disk: rsearch remove bare --yes"
    gone = not (machine.home / "bare").exists()
    if how == "full":
        wrong = "" if ran.code == 0 and gone else f"exit code {ran.code}, {ran.last!r}"
        yield Row(situation, "works", wrong=wrong)
        kept = json.loads(machine.run("info", "pydoc", "--json").out)
        yield Row(
            f"{how} disk: what info says then", "works", wrong=", ".join(kept["strange"] + kept["damaged"])
        )
    else:
        wrong = "" if ran.code == 1 and READ_ONLY in ran.last and not gone else f"{ran.code}, {ran.last!r}"
        yield Row(situation, _REFUSED, wrong=wrong)
