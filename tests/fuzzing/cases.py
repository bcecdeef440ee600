"""A case: files of a sound index that are not as they were written, and how that is put on disk."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from tests.fuzzing.sound import Sound

OUTSIDE = "@outside"
"""What a link's target begins with that leads to a copy of the index beside the home."""


class Wrong(AssertionError):
    """What must not happen: a traceback, a wrong row, damage that is not told."""


@dataclass(frozen=True)
class Change:
    """What lies at a path: `content` is bytes, a link's target, or (first bytes, size) of a sparse file."""

    kind: Literal["bytes", "gone", "link", "sparse", "folder", "fifo"]
    content: Any = None


@dataclass(frozen=True)
class Case:
    """A sound index of that name with these changes, by path; `words` say what was done.

    `relisted`: the manifest lists the changed files as if they had been written so.
    """

    target: str
    index: str
    words: tuple[str, ...]
    changes: Mapping[str, Change]
    relisted: bool = False

    def __str__(self) -> str:
        said = "; ".join(self.words)
        return f"{self.target} of {self.index}: {said}{' (relisted)' if self.relisted else ''}"


@dataclass(frozen=True)
class Room:
    """The folder of one worker: sound indexes, a copy of them outside the home, and the home of a case."""

    folder: Path

    @property
    def sound(self) -> Path:
        """The home of the sound indexes."""
        return self.folder / "sound"

    @property
    def outside(self) -> Path:
        """A copy of them, to which links lead and nothing may happen."""
        return self.folder / "outside"

    @property
    def home(self) -> Path:
        """The home that holds the index of one case."""
        return self.folder / "home"

    def prepare(self) -> None:
        """Copy the sound indexes outside."""
        shutil.copytree(self.sound, self.outside, ignore=shutil.ignore_patterns(".*"))

    def put(self, case: Case, sound: Sound) -> Path:
        """Put the index of a case into an empty home; its folder. What lies below a change does not count."""
        shutil.rmtree(self.home, ignore_errors=True)
        folder = self.home / case.index
        for name in sound.files:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name not in case.changes:
                os.link(sound.folder / name, path)
        for name, change in sorted(case.changes.items()):
            if not any(str(above) in case.changes for above in PurePosixPath(name).parents):
                self._apply(folder / name, change)
        return folder

    def _apply(self, path: Path, change: Change) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
        if change.kind == "gone":
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if change.kind == "bytes":
            path.write_bytes(change.content)
        elif change.kind == "link":
            path.symlink_to(change.content.replace(OUTSIDE, str(self.outside), 1))
        elif change.kind == "sparse":
            first, size = change.content
            path.write_bytes(first)
            os.truncate(path, size)
        elif change.kind == "folder":
            path.mkdir()
        else:
            os.mkfifo(path)
