"""Builds on disks that fill up, and go on when there is room again."""

import json
import re
import resource
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from resizable_search.build import report, write
from resizable_search.build.build import build
from resizable_search.build.journal import Journal
from resizable_search.build.workspace import BuildOptions
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.errors import RsearchError, StorageError
from resizable_search.search.index import open_index
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import Manifest
from tests.cli.conftest import Machine, another_api
from tests.hostile import Row
from tests.hostile.disk import mounted
from tests.support import ListCorpus, TableEmbedder, articles

FULL = "is full; nothing is lost: free some space, and the same command"
REFUSED = "more at least, and "
"""In the refusal of a build whose arrays cannot fit."""


def undated(folder: Path) -> dict[str, Any]:
    """Every file of an index, the manifest without its dates."""
    found: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    manifest = json.loads(found[NAMES.manifest])
    for name in ("created", "changed", "checksum"):
        del manifest[name]
    return {**found, NAMES.manifest: manifest}


def billed_again(asked: Counter[str]) -> int:
    """How often a text was billed that had been before."""
    return sum(times - 1 for times in asked.values())


# -- in this process: a corpus and an embedder of which everything is known

CONCURRENCY, BATCH = 2, 10
IN_FLIGHT = CONCURRENCY * BATCH
"""Texts that may be billed again after a build that failed: what had been sent and was not yet safe."""

_DOCUMENTS = {"old": articles(300, "old"), "new": articles(300, "new")}
_TABLE = TableEmbedder(width=128)


class Small:
    """Builds of one kind in a home: what is there before, and the build that is broken off."""

    def __init__(self, home: Path, kind: str = "new") -> None:
        self.home = Home(home)
        self.kind = kind
        self.embedder = self._service()

    def prepare(self) -> None:
        """Build what there is before: nothing, a part of the index, or another one."""
        if self.kind == "extended":
            self._build("new", self._service(), limit=120)
        elif self.kind == "restarted":
            self._build("old", self._service())

    def build(self, told: str = "") -> None:
        """Build the index, or go on with it in the way that one was `told`."""
        restart = self.kind == "restarted" and "without `restart`" not in told
        self._build("new", self.embedder, restart=restart)

    def answers(self) -> list[str]:
        """The ids that a query finds in the index that is there."""
        embedder = None if self.kind == "fitted" else self._service()
        with open_index("made", home=self.home.path, embedder=embedder, engine="numpy") as index:
            return [hit.id for hit in index.query("anything", k=3)]

    def _service(self) -> Any:
        if self.kind == "fitted":
            return LsaEmbedder()
        return TableEmbedder(width=128, table=_TABLE.table, remote=True, concurrency=CONCURRENCY)

    def _build(self, which: str, embedder: Any, **options: Any) -> None:
        corpus = ListCorpus(_DOCUMENTS[which], block_size=50)
        build(corpus, embedder, self.home, BuildOptions("made", **options))


def undisturbed(home: Path, kind: str = "new") -> dict[str, Any]:
    """The index of that kind, built where nothing is in its way."""
    small = Small(home, kind)
    small.prepare()
    small.build()
    return undated(home / "made")


PHASES: dict[str, tuple[Any, str]] = {
    "begin": (Journal, "set"),
    "receive": (Journal, "receive"),
    "record": (Journal, "record"),
    "fit": (LsaEmbedder, "fit"),
    "rows": (Journal, "blocks"),
    "derive": (write, "derive"),
    "documents": (write, "write_documents"),
    "checksums": (write, "list_files"),
    "manifest": (Manifest, "write"),
    "report": (report, "replace_file"),
}
"""What is about to be done when the disk turns full."""


def fills_before(folder: Path, whole: dict[str, Any], phase: str, kind: str = "new", nth: int = 1) -> Row:
    """A disk that turns full right before a phase begins for the nth time."""
    owner, name = PHASES[phase]
    original = getattr(owner, name)
    left = [nth]
    with mounted(folder, 1 << 14) as disk, pytest.MonkeyPatch.context() as patch:
        small = Small(disk.folder / "home", kind)
        small.prepare()

        def full(*args: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                disk.fill()
            return original(*args, **options)

        patch.setattr(owner, name, full)
        row = _broken_off(small, whole, f"{kind} index, the disk fills before: {phase}", disk.empty)
    if (row.outcome == "built") != (phase == "report"):  # by then the index is complete, and stays so
        return Row(row.situation, row.outcome, row.identical, row.twice, row.wrong or "the disk did not fill")
    return row


def fills_by_its_size(folder: Path, whole: dict[str, Any], kib: int) -> Row:
    """A disk of a small size."""
    with mounted(folder, kib) as disk:
        return _broken_off(Small(disk.folder / "home"), whole, f"a disk of {kib} KiB", disk.grow)


def lacks_inodes(folder: Path, whole: dict[str, Any], inodes: int) -> Row:
    """A disk with room, on which only so many files can be."""
    with mounted(folder, 1 << 14, inodes) as disk:
        return _broken_off(Small(disk.folder / "home"), whole, f"a disk of {inodes} inodes", disk.grow)


def limits_files(folder: Path, whole: dict[str, Any], kib: int) -> Row:
    """A process whose files may have no more than so many KiB (`ulimit -f`)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def free() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    small = Small(folder / "home")
    resource.setrlimit(resource.RLIMIT_FSIZE, (kib << 10, before[1]))
    try:
        return _broken_off(small, whole, f"files of {kib} KiB at most", free, "ulimit -f unlimited")
    finally:
        free()


def _broken_off(
    small: Small, whole: dict[str, Any], situation: str, make_room: Callable[[], None], said: str = FULL
) -> Row:
    """Build on a disk that fills, make room, and build again."""
    wrong, told = [], ""
    try:
        small.build()
        outcome = "built"
    except RsearchError as error:
        outcome, told = f"… {said} …", str(error)
        if type(error) is not StorageError or said not in told:
            outcome = f"{type(error).__name__}: {error}"
            wrong.append("the line does not say so")
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
        wrong.append("an exception")
    if small.kind in ("extended", "restarted") and len(small.answers()) != 3:
        wrong.append("what was there does not serve on")
    make_room()
    try:
        if outcome != "built" or small.kind != "restarted":  # it would start again
            small.build(told)
    except Exception as error:
        return Row(situation, outcome, False, wrong=f"going on: {type(error).__name__}: {error}")
    identical = undated(small.home.index("made")) == whole
    twice = billed_again(Counter(getattr(small.embedder, "asked", ())))
    if not identical:
        wrong.append("the index is another")
    if twice > IN_FLIGHT:
        wrong.append("more was billed twice than was in flight")
    if small.home.building("made").exists():
        wrong.append("the unfinished build is still there")
    return Row(situation, outcome, identical, twice, "; ".join(wrong))


# -- the command itself


def command_on_a_small_disk(
    folder: Path,
    env: Mapping[str, str],
    kib: int,
    words: tuple[object, ...],
    whole: dict[str, Any],
    kind: type[Machine] = Machine,
) -> Row:
    """`rsearch build` on a disk of a small size, and again on a larger one; its index is named `made`."""
    situation = f"rsearch build {words[0]} on {kib:,} KiB"
    command = ("build", *words, "--name", "made")
    wrong = []
    with mounted(folder, kib) as disk:
        machine = kind(disk.folder, dict(env))
        with another_api(machine) as api:
            ran = machine.run(*command)
            stages = re.findall(r"rsearch: (reading|fitting|embedding|deriving|writing)\b", ran.err)
            outcome = f"full ({stages[-1] if stages else 'beginning'})" if ran.code else "built"
            refused = REFUSED in ran.last
            if refused:
                outcome = "refused before it began"
            if ran.code not in (0, 1) or (
                ran.code == 1 and ((FULL not in ran.last and not refused) or ran.out)
            ):
                wrong.append(f"exit code {ran.code}, {ran.last!r}")
            disk.grow()
            again = machine.run(*command)
            twice = billed_again(api.answered)
        if again.code:
            return Row(situation, outcome, False, twice, f"going on: exit code {again.code}, {again.last!r}")
        identical = undated(machine.home / "made") == whole
        if not identical:
            wrong.append("the index is another")
        if twice > IN_FLIGHT:
            wrong.append("more was billed twice than was in flight")
        if machine.unfinished():
            wrong.append("the unfinished build is still there")
    return Row(situation, outcome, identical, twice, "; ".join(wrong))
