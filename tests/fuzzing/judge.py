"""Run all that reads an index on one case, and judge what came of it.

Right is an answer that is the defined one, or an error of ours in one line. Anything else is Wrong.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import numpy as np

from resizable_search.admin import doctor
from resizable_search.admin import remove as removal
from resizable_search.admin.overview import describe_index, overview
from resizable_search.engine.plan import Plan
from resizable_search.errors import RsearchError
from resizable_search.search.index import Index, open_index
from resizable_search.store import verify as verification
from resizable_search.store.layout import NAMES, Home
from tests.fuzzing import arrays, databases, manifests
from tests.fuzzing.cases import Case, Room, Wrong
from tests.fuzzing.commands import run_command
from tests.fuzzing.oracle import Holds, Meaning, Unknown, answer, held_documents, is_anothers, meaning
from tests.fuzzing.sound import FITTED, Sound, listed, load, make

TARGETS = {"manifest": manifests.mutated, "npy": arrays.mutated, "sqlite": databases.mutated}

K = 7
PLANS = (
    "{full}",
    "{middle}",
    "{odd}:20,{full}",
    "{full}:1bit:20,{full}:int8:12,{full}",
    "{small}:int8:30,{full}",
    "{odd}:int8:30,{full}:float32",
    "{full}:bits:30,{full}",
)

Outcome = Literal["refused", "right"]
T = TypeVar("T")


def no_case(sound: Sound) -> Case:
    """The sound index, as it is."""
    return Case("none", sound.name, ("nothing",), {})


@dataclass
class Judge:
    """Judges cases in a room, with the engines named."""

    room: Room
    engines: tuple[str, ...] = ("numpy",)
    sound: dict[str, Sound] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def in_room(cls, folder: Path, engines: tuple[str, ...] = ("numpy",)) -> "Judge":
        """A judge with a room of its own in that folder, in which the sound indexes are built if need be."""
        room = Room(folder)
        if room.sound.exists():
            sound = load(room.sound)
        else:
            room.sound.mkdir(parents=True)
            sound = make(room.sound)
        if not room.outside.exists():
            room.prepare()
        return cls(room, engines, sound)

    def judge(self, case: Case, command: int | None = None, *, briefly: bool = False) -> Outcome:
        """Do everything to the index of a case. Raises Wrong. `command`: which is run, too.

        `briefly`: only open and search it.
        """
        sound = self.sound[case.index]
        folder = self.room.put(case, sound)
        home = Home(self.room.home)
        try:
            if briefly:
                return "right" if self._searched(case, sound, folder) else "refused"
            return self._judged(case, sound, folder, home, command)
        except Wrong as wrong:
            raise Wrong(f"{case}: {wrong}") from wrong
        finally:
            self._make_sure_unharmed()

    def _judged(self, case: Case, sound: Sound, folder: Path, home: Home, command: int | None) -> Outcome:
        outcome: Outcome = "right"
        if tame(lambda: overview(home), "list") is None:
            outcome = "refused"
        if self._searched(case, sound, folder) is None:
            outcome = "refused"
        bad = self._verified(case, sound, folder, home)
        tame(lambda: list(doctor.examine_indexes(home)), "doctor")
        if command is not None:
            run_command(command, case.index, home.path)
        if bad != set():  # else there is nothing to do
            done = tame(lambda: verification.repair(case.index, home), "repair")
            self._look_at_repair(case, sound, folder, done)
        self._removed(case, home, folder)
        return outcome

    # -- searching

    def _searched(self, case: Case, sound: Sound, folder: Path) -> bool | None:
        outcome: bool | None = True
        for engine in self.engines:
            index = tame(lambda e=engine: open_index(folder, home=self.room.home, engine=e), "open")
            if index is None:
                return None
            with index:
                if self._asked(case, sound, folder, index) is None:
                    outcome = None
        return outcome

    def _asked(self, case: Case, sound: Sound, folder: Path, index: Index) -> bool | None:
        outcome: bool | None = True
        data = json.loads((folder / NAMES.manifest).read_bytes())
        try:
            meant = meaning(data, sound, folder)
        except Unknown as error:
            raise Wrong(f"opened what means no index: {error}") from None
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise Wrong(f"opened a manifest of another structure: {type(error).__name__}: {error}") from None
        if index.rows != np.count_nonzero(meant.allowed):
            raise Wrong(f"says that it has {index.rows} documents")
        full = meant.dims[-1]
        names = {
            "full": full,
            "middle": meant.dims[len(meant.dims) // 2],
            "odd": full // 2 + 1,
            "small": meant.dims[0],
        }
        plans = [Plan.parse(text.format(**names)) for text in PLANS]
        tuned = tame(index.plans.all, "tuned plans")
        if tuned is None:
            outcome = None
        asked = [(plan, K, {"plan": plan}) for plan in plans]
        asked += [(Plan.parse(t.plan), t.k, {"recall": t.recall}) for t in tuned or () if t.k <= 1000]
        for plan, k, options in asked:
            top = tame(lambda k=k, o=options: index.scan(sound.queries, k, **o), f"scan {plan}")
            if top is None:
                outcome = None
                continue
            right = answer(meant, plan, sound.queries, k)
            if not (np.array_equal(top.rows, right.rows) and np.array_equal(top.scores, right.scores)):
                raise Wrong(f"plan {plan} finds {top.rows.tolist()}, not {right.rows.tolist()}")
        if self._read(case, sound, folder, index, meant) is None:
            outcome = None
        if tame(lambda: describe_index(index), "info") is None:
            outcome = None
        return outcome

    def _read(self, case: Case, sound: Sound, folder: Path, index: Index, meant: Meaning) -> bool | None:
        """Read the documents: some at a time, as hits are, then all; and by a text where that can be."""
        outcome: bool | None = True
        holds = [self._held(sound, folder, path) for path in meant.paths]
        for start, part, held in zip(meant.starts, meant.parts, holds, strict=True):
            everything = range(start, start + len(part.rows))
            for some in (everything[3:4], everything[-9:], everything[::5], everything):
                found = tame(lambda rows=some: index.documents(list(rows)), "documents")
                if found is None:
                    outcome = None
                    continue
                if held.state == "foreign":
                    raise Wrong("reads documents of another schema, or that were written to")
                for row, got in zip(some, found, strict=True):
                    fields = (got.id, got.title, got.url, got.text)
                    self._look_at(fields, row - start, part.documents, held)
                    if got.row != row or not isinstance(got.metadata, dict):
                        raise Wrong(f"row {row} has the row {got.row} and the metadata {got.metadata!r:.60}")
        if case.index == FITTED:
            words = "tree of a root and its leaves"
            hits = tame(lambda: index.query(words, K), "query")
            if hits is None:
                return None
            vector = tame(lambda: index.embed_queries([words]), "embedding")
            right = answer(meant, Plan.parse(str(meant.dims[-1])), vector, K)
            if [hit.row for hit in hits] != right.rows[0][right.rows[0] >= 0].tolist():
                raise Wrong(f"the query finds {[hit.row for hit in hits]}, not {right.rows[0].tolist()}")
        return outcome

    def _held(self, sound: Sound, folder: Path, path: str) -> Holds:
        file = str(PurePosixPath(path) / NAMES.documents)
        content = (folder / file).read_bytes()
        if content == sound.files[file]:
            return Holds("whole", sound.parts[path].documents)
        return held_documents(content, sound.files[file], len(sound.parts[path].rows), self.room.folder)

    def _look_at(self, got: Any, row: int, documents: Any, held: Holds) -> None:
        if held.state == "whole":
            if got != held.documents[row]:
                raise Wrong(f"row {row} is {got!r:.200}, not {held.documents[row]!r:.200}")
        elif is_anothers(got, row, documents):
            raise Wrong(f"row {row} has another's: {got!r:.200}, not {documents[row]!r:.200}")

    # -- the rest

    def _verified(self, case: Case, sound: Sound, folder: Path, home: Home) -> set[str] | None:
        """The files that `verify` names, which are at least those that are not as listed."""
        found = tame(lambda: verification.verify(case.index, home, full=True), "verify")
        if found is None:
            return None
        named = {damage.file for damage in found.damaged}
        data = json.loads((folder / NAMES.manifest).read_bytes())
        missed = {
            file for file, entry in listed(data).items() if not _is_as_listed(folder / file, entry)
        } - named
        if missed:
            raise Wrong(f"verify does not name {sorted(missed)}")
        for file in case.changes if case.target == "sqlite" else ():
            part = str(PurePosixPath(file).parent).removeprefix(".")
            if PurePosixPath(file).name != NAMES.documents or file in named:
                continue
            if (state := self._held(sound, folder, part).state) != "whole":
                raise Wrong(f"verify does not name {file}, which is {state}")
        if not case.changes and named:
            raise Wrong(f"verify names {sorted(named)} of a sound index")
        return named

    def _look_at_repair(self, case: Case, sound: Sound, folder: Path, done: Any) -> None:
        """What is derived is as it was, if the manifest and the full vectors are."""
        own = {file for file, change in case.changes.items() if file in sound.files}
        lost = {file for file in own if not sound.is_derived(file)}
        if (
            lost
            or own != set(case.changes)
            or any(c.kind in ("folder", "link") for c in case.changes.values())
        ):
            return
        if done is None:
            raise Wrong("repair refuses what it can mend")
        unlike = [file for file in own if (folder / file).read_bytes() != sound.files[file]]
        if unlike or done.lost:
            raise Wrong(f"repair does not bring back {unlike or done.lost}")

    def _removed(self, case: Case, home: Home, folder: Path) -> None:
        there = os.path.lexists(folder / NAMES.manifest)

        def remove() -> list[str]:
            return removal.remove(case.index, home).left

        left = tame(remove, "remove")
        if left == [] and folder.exists():
            raise Wrong("remove leaves a folder without telling")
        if left is None and there and folder.exists() and not os.path.lexists(folder / NAMES.manifest):
            raise Wrong("remove stops half-way")

    def _make_sure_unharmed(self) -> None:
        """Nothing has happened to the sound indexes, nor to what lies outside the home."""
        if not self._sizes:
            self._sizes = {
                str(place / name / file): len(content)
                for place in (self.room.sound, self.room.outside)
                for name, sound in self.sound.items()
                for file, content in sound.files.items()
            }
        for path, size in self._sizes.items():
            if not os.path.isfile(path) or os.path.getsize(path) != size:
                raise Wrong(f"{path} was harmed")


def _is_as_listed(path: Path, entry: dict[str, Any]) -> bool:
    try:
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    except OSError:
        return False


def tame(call: Callable[[], T], what: str) -> T | None:
    """What a call gives; None if it raises an error of ours in one line. Raises Wrong for any other."""
    try:
        return call()
    except RsearchError as error:
        line = str(error)
        if not line.strip() or len(line.splitlines()) != 1 or len(line) > 2000 or not {":", ";"} & set(line):
            raise Wrong(f"{what} tells {line[:300]!r}, which is not one line with a remedy") from error
        return None
    except Exception as error:
        raise Wrong(f"{what} raises {type(error).__name__}: {error!s:.300}") from error
