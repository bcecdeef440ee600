"""Which files a corpus is made of: what is named, and what lies in named folders, in a fixed order.

A folder is read in the order of its names. Hidden files and what a .gitignore leaves out are passed
over in silence, unless they are named themselves; pipes, devices and links to nothing are found, with
what is wrong with them. A folder is read once, however many links lead to it: links to folders are
followed last, so that what they lead to goes by its own name where it has one.

What .gitignore files leave out, each for its own folder and those below, as git reads them.
"""

import glob
import hashlib
import json
import os
import re
import stat
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from resizable_search.errors import UsageError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


_NAME = ".gitignore"


@dataclass(frozen=True, slots=True)
class GitignoreRules:
    """The rules that hold in a folder: those of each folder above it and its own, the nearest last."""

    specs: "tuple[tuple[str, GitIgnoreSpec], ...]" = ()

    @classmethod
    def above(cls, root: str) -> "GitignoreRules":
        """What the folders above `root` say of what is in it, up to the top of its git repository.

        A root that they leave out is named all the same: then they say nothing.
        """
        above = _parents(root)
        top = next((i for i, folder in enumerate([root, *above]) if _is_repository(folder)), 0)
        rules = cls()
        for folder in reversed(above[:top]):
            rules = rules.within(folder)
        return cls() if rules.leave_out(root, is_folder=True) else rules

    def within(self, folder: str) -> "GitignoreRules":
        """The rules that hold in this folder, which lies in the one that these are of."""
        spec = _spec(os.path.join(folder, _NAME))
        return self if spec is None else GitignoreRules((*self.specs, (os.path.join(folder, ""), spec)))

    def leave_out(self, path: str, *, is_folder: bool) -> bool:
        """Whether what lies at a path in the folder is left out: the nearest rule that knows it decides."""
        for folder, spec in reversed(self.specs):
            said = spec.check_file(path[len(folder) :] + ("/" if is_folder else "")).include
            if said is not None:
                return bool(said)
        return False


NO_RULES = GitignoreRules()


def _spec(path: str) -> "GitIgnoreSpec | None":
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:  # as names of files are read
            lines = file.read().split("\n")
    except OSError:
        return None
    from pathspec import GitIgnoreSpec

    good = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error):
            continue  # git passes over a pattern that is none, too
        good.append(line)
    spec = GitIgnoreSpec.from_lines(good)
    return spec if len(spec) else None


def _parents(folder: str) -> list[str]:
    found = []
    while (above := os.path.dirname(folder)) != folder:
        found.append(above)
        folder = above
    return found


def _is_repository(folder: str) -> bool:
    return os.path.lexists(os.path.join(folder, ".git"))


_IN_MEMORY = 8 << 20
"""Bytes of a listing that are held in memory; a longer one goes to a temporary file."""


class FoundFile(NamedTuple):
    """A file: its id, which is its path in the corpus's folder, what tells a changed one, what is wrong.

    `unread`: the system does not let it be looked at now, be it a file or a folder.
    """

    id: str
    size: int = 0
    mtime_ns: int = 0
    problem: str = ""
    named: bool = False
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Root:
    """A file, or a folder with the pattern that its files must match ('' for all of them)."""

    path: str
    pattern: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether there is something below it."""
        return bool(self.pattern) or os.path.isdir(self.path)


class Listing:
    """Every file once, in order, in bounded memory; `digest` is over all that is known of them."""

    def __init__(self, found: Iterable[FoundFile]) -> None:
        self.count = 0
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  (closed by `close`)
        self.close = weakref.finalize(self, self._file.close)
        """Frees what it holds; so does forgetting it."""
        digest = hashlib.sha256()
        for file in found:
            line = json.dumps(file).encode() + b"\n"
            digest.update(line)
            self._file.write(line)
            self.count += 1
        self.digest = digest.hexdigest()

    def read(self, start: int = 0) -> Iterator[FoundFile]:
        """The files from number `start` on; one reader at a time."""
        self._file.seek(0)
        for number, line in enumerate(self._file):
            if number >= start:
                yield FoundFile(*json.loads(line))


def absolute(path: str) -> str:
    """The path or pattern from the root on; links in it stay. Raises UsageError for an unknown `~user`."""
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path and not os.path.lexists(path):
        raise UsageError(f"{path} is in the folder of a user that this machine does not know: write it out")
    return os.path.abspath(expanded)


def roots_of(paths: Sequence[str]) -> tuple[list[Root], str]:
    """What absolute `paths` name, in order, and the folder that holds all of it, which ids are relative to.

    A path that does not exist is taken for a pattern, with `**` for folders at any depth. Raises
    UsageError for what is not there.
    """
    roots: list[Root] = []
    folders: list[str] = []
    for path in paths:
        if os.path.lexists(path):
            roots.append(Root(path))
            alone = len(paths) == 1 and roots[0].is_folder
            folders.append(path if alone else os.path.dirname(path))
        elif glob.has_magic(path):
            folder = os.path.dirname(path)
            while glob.has_magic(folder):
                folder = os.path.dirname(folder)
            roots.append(Root(folder, path[len(os.path.join(folder, "")) :]))
            folders.append(folder)
            if not os.path.isdir(folder) or next(walk([roots[-1]], folder), None) is None:
                raise UsageError(f"no file is meant by {path}: check the pattern")
        else:
            raise UsageError(f"there is no {path}: name files, folders or patterns that are there")
    return roots, os.path.commonpath(folders)


def base_of(paths: Sequence[str]) -> str:
    """The folder that ids are relative to where these absolute paths are a corpus; '' where they are gone."""
    try:
        return roots_of(paths)[1]
    except UsageError:
        return ""


def is_below(path: str, folder: str) -> bool:
    """Whether an absolute path or pattern is below a folder, as both are written."""
    return path.startswith(os.path.join(folder, ""))


def walk(roots: Sequence[Root], base: str) -> Iterator[FoundFile]:
    """The files of these roots, each once, with ids relative to the folder `base`, which holds them all."""
    walking = _Walk(base, {root.path for root in roots if not root.is_folder})
    # What one pattern passes over, another root may want: then files are told apart, and not folders.
    overlap = len(roots) > 1 and any(root.pattern for root in roots)
    given: set[str] = set()
    for root in dict.fromkeys(roots):
        if overlap:
            walking.visited = set()
        for found in walking.root(root):
            if found.id not in given:
                yield found
            if overlap:
                given.add(found.id)


@dataclass(slots=True)
class _Walk:
    base: str
    named: set[str]
    visited: set[tuple[int, int]] = field(default_factory=set)

    def root(self, root: Root) -> Iterator[FoundFile]:
        if root.path in self.named:
            yield self._file(root.path, named=True)
            return
        matches = _matching(root) if root.pattern else None
        folders: list[tuple[str, GitignoreRules]] = [(root.path, GitignoreRules.above(root.path))]
        while folders:
            folder, rules = folders.pop(0)
            for found in self._folder(folder, rules, folders):
                if isinstance(found, FoundFile):
                    yield found
                elif matches is None or matches(found):
                    yield self._file(found)

    def _folder(
        self, folder: str, rules: GitignoreRules, links: list[tuple[str, GitignoreRules]]
    ) -> Iterator["str | FoundFile"]:
        """Files below a folder, and what cannot be read; links to other folders are put behind `links`.

        There is a stack and no recursion, for folders may lie deep.
        """
        stack: list[tuple[Iterator[os.DirEntry[str]], GitignoreRules]] = []
        following: str | None = folder
        while stack or following:
            if following:
                try:
                    stack.append(self._entered(following, rules))
                except OSError as error:
                    yield self._wrong(following, error)
                following = None
                continue
            entries, rules = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
                continue
            is_folder, is_link = _kind_of(entry)
            if entry.path in self.named or rules.leave_out(entry.path, is_folder=is_folder and not is_link):
                continue
            if is_folder and is_link:
                links.append((entry.path, NO_RULES))
            elif is_folder:
                following = entry.path
            else:
                yield entry.path

    def _entered(
        self, folder: str, rules: GitignoreRules
    ) -> tuple[Iterator[os.DirEntry[str]], GitignoreRules]:
        """What lies in a folder, by name, and its rules; nothing where it has been entered before."""
        state = os.stat(folder)
        place = (state.st_dev, state.st_ino)
        if place in self.visited:
            return iter(()), rules
        self.visited.add(place)
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
        return iter(sorted(shown, key=lambda entry: entry.name)), rules.within(folder)

    def _file(self, path: str, *, named: bool = False) -> FoundFile:
        try:
            state = os.stat(path)
        except OSError as error:
            return self._wrong(path, error)
        problem = "" if stat.S_ISREG(state.st_mode) else _what(state.st_mode)
        # A device's numbers say nothing about what it would give.
        size, time = (0, 0) if problem else (state.st_size, state.st_mtime_ns)
        return FoundFile(self._id(path), size, time, problem, named)

    def _wrong(self, path: str, error: OSError) -> FoundFile:
        if os.path.islink(path):
            return FoundFile(self._id(path), problem="it links to nothing")
        unread = not isinstance(error, FileNotFoundError)
        return FoundFile(self._id(path), problem=f"it cannot be read ({error.strerror})", unread=unread)

    def _id(self, path: str) -> str:
        return path[len(self.base) :].lstrip("/") or "."


def _matching(root: Root) -> Callable[[str], bool]:
    """Whether a path below a root matches its pattern, or lies in a folder that does."""
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines([f"/{root.pattern}"])
    start = len(root.path.rstrip("/")) + 1
    return lambda path: spec.match_file(path[start:])


def _kind_of(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Whether it is a folder, or a link to one, and whether it is a link."""
    try:
        return entry.is_dir(), entry.is_symlink()
    except OSError:
        return False, False


def _what(mode: int) -> str:
    for is_kind, name in (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if is_kind(mode):
            return f"it is {name}"
    return "it is no file"
