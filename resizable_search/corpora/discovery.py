"""Which files a corpus is made of: what is named, and what lies in named folders, in a fixed order.

Hidden files and those that a .gitignore or a pattern leaves out are skipped unless they are named themselves.
Pipes, devices, broken links and links to a folder above are listed with their problem. A folder is read once,
however many links lead to it; links to folders are followed last, so that a folder goes by its own name if it
has one.
"""

import glob
import hashlib
import json
import os
import stat
import tempfile
import unicodedata
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from resizable_search.corpora import gitignore
from resizable_search.corpora.gitignore import GitPatterns
from resizable_search.errors import UsageError
from resizable_search.text import quoted

_Rules = tuple[tuple[str, GitPatterns], ...]  # folders with patterns, and those; the nearest last

_ALL_IGNORED: _Rules = (("/", GitPatterns.of(["*"])),)  # in an ignored folder that holds tracked files
_LISTING_MEMORY = 8 << 20  # bytes of a listing in memory; a longer one goes to a temporary file


class FoundFile(NamedTuple):
    """A file, or a folder that cannot be read: its path in the corpus's folder, and what tells a change."""

    id: str
    size: int = 0
    mtime_ns: int = 0
    problem: str = ""
    named: bool = False
    unread: bool = False  # the system refuses to look at it now


class Root(NamedTuple):
    """A file, or a folder with the pattern that its files must match ('' for all)."""

    path: str
    pattern: str = ""


class Listing:
    """Every file once, in order, in bounded memory, and digests of them."""

    def __init__(self, files: Iterable[FoundFile]) -> None:
        self.count = self.bytes = 0  # of the files
        self._file = tempfile.SpooledTemporaryFile(_LISTING_MEMORY)  # noqa: SIM115  (closed by `close`)
        self.close = weakref.finalize(self, self._file.close)  # as does dropping the listing
        digest, names = hashlib.sha256(), hashlib.sha256()
        for file in files:
            line = json.dumps(file).encode() + b"\n"
            digest.update(line)
            names.update(json.dumps(file[:2]).encode())
            self._file.write(line)
            self.count += 1
            self.bytes += file.size
        self.digest = digest.hexdigest()  # of all that is known of the files
        self.names = names.hexdigest()  # of their names and sizes alone, which copies of a folder share

    def read(self) -> Iterator[FoundFile]:
        """The files; one reader at a time."""
        self._file.seek(0)
        return (FoundFile(*json.loads(line)) for line in self._file)


def absolute(path: str) -> str:
    """The absolute path or pattern, with its links. Raises UsageError for an unknown `~user`."""
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path and not os.path.lexists(path):
        raise UsageError(f"{path} is in the folder of an unknown user: write the path out")
    return _as_stored(os.path.abspath(expanded))


def _as_stored(path: str) -> str:
    """The path, or the one that differs from it in the form of its accents alone (macOS takes them apart)."""
    if path.isascii() or os.path.lexists(path):
        return path
    folder, name = os.path.split(path)
    folder = _as_stored(folder)
    with suppress(OSError):
        name = next((other for other in os.listdir(folder) if _composed(other) == _composed(name)), name)
    return os.path.join(folder, name)


def _composed(path: str) -> str:
    return path if path.isascii() else unicodedata.normalize("NFC", path)


@dataclass
class Patterns:
    """Which files in named folders are read: by patterns as in a .gitignore of each. Raises UsageError."""

    include: Sequence[str] = ()  # files that match; none given: all
    exclude: Sequence[str] = ()  # not these files, and nothing in folders that match
    # One that begins with `!` takes files that an earlier one or a .gitignore leaves out.

    def __post_init__(self) -> None:
        for name in ("include", "exclude"):
            for line in getattr(self, name):
                pattern = gitignore.parse(os.fsencode(line))
                if pattern is None or not pattern.is_valid:
                    raise UsageError(f"`{name}`: {quoted(line)} is not a pattern: write one as in .gitignore")
        self._included = GitPatterns.of(map(_composed, self.include))
        self._excluded = GitPatterns.of(map(_composed, self.exclude))

    def ignores(self, path: str, *, is_folder: bool) -> bool | None:
        """Whether a path below the named folder is left out by `exclude`; None if that says nothing of it."""
        return self._excluded.ignores(_composed(path), is_folder=is_folder)

    def takes(self, path: str) -> bool:
        """Whether `include` has a file, or a folder above it."""
        return not self.include or self._included.match_below(_composed(path))


ALL_FILES = Patterns()


def roots_of(paths: Sequence[str]) -> tuple[list[Root], str]:
    """What absolute `paths` or patterns name, in order, and the folder that holds all. Raises UsageError."""
    roots: list[Root] = []
    folders: list[str] = []
    for path in paths:
        if os.path.lexists(path):
            roots.append(Root(path))
            alone = len(paths) == 1 and os.path.isdir(path)
            folders.append(path if alone else os.path.dirname(path))
        elif glob.has_magic(path):
            folder = os.path.dirname(path)
            while glob.has_magic(folder):
                folder = os.path.dirname(folder)
            roots.append(Root(folder, path[len(os.path.join(folder, "")) :]))
            folders.append(folder)
            if not os.path.isdir(folder) or next(walk([roots[-1]], folder), None) is None:
                raise UsageError(f"no file matches {path}: check the pattern")
        else:
            raise UsageError(f"{path} does not exist: name existing files, folders or patterns")
    return roots, os.path.commonpath(folders)


def base_of(within: Sequence[str], paths: Iterable[str]) -> str:
    """The folder of ids in a corpus of the paths `within`; '' if not all `paths` (absolute) are below it."""
    try:
        base = roots_of(within)[1]
    except UsageError:  # they are gone
        return ""
    return base if all(path.startswith(os.path.join(base, "")) for path in paths) else ""


def walk(roots: Sequence[Root], base: str, patterns: Patterns = ALL_FILES) -> Iterator[FoundFile]:
    """The files of these roots, each once, with ids relative to the folder `base`, which holds them all."""
    named = {path for path, pattern in roots if not pattern and not os.path.isdir(path)}
    walker = _Walker(base, patterns, named)
    # One root may want what another's pattern skips: then files are compared, and not folders.
    overlap = len(roots) > 1 and any(root.pattern for root in roots)
    ids: set[str] = set()
    for root in dict.fromkeys(roots):
        if overlap:
            walker.visited = set()
        for file in walker.root(root):
            if file.id not in ids:
                yield file
            if overlap:
                ids.add(file.id)


@dataclass(slots=True)
class _Walker:
    base: str
    patterns: Patterns
    named: set[str]
    visited: set[tuple[int, int]] = field(default_factory=set)

    def root(self, root: Root) -> Iterator[FoundFile]:
        if root.path in self.named:
            yield self._file(root.path, named=True)
            return
        # A path matches also if it lies in a folder that does.
        pattern = GitPatterns.of([_composed(f"/{root.pattern}")]) if root.pattern else None
        real = os.path.join(os.path.realpath(root.path), "")
        start = len(root.path.rstrip("/")) + 1
        waiting: list[tuple[str | os.DirEntry[str], _Rules]] = []
        above, tracked = _rules_above(root.path)
        folders = [(root.path, above)]  # and links to folders
        while waiting or folders:
            entry, rules = waiting.pop() if waiting else folders.pop(0)
            path = os.fspath(entry)
            if not isinstance(entry, str):
                try:
                    is_folder, is_link = entry.is_dir(), entry.is_symlink()
                except OSError:
                    is_folder = is_link = False
                below, as_folder = path[start:], is_folder and not is_link
                ignored = self.patterns.ignores(below, is_folder=as_folder)
                if ignored is None and _ignores(rules, path, is_folder=as_folder):
                    ignored, rules = path not in tracked, _ALL_IGNORED
                if path in self.named or ignored:
                    continue
                if not is_folder:
                    matches = pattern is None or pattern.match_below(_composed(below))
                    if matches and self.patterns.takes(below):
                        yield self._file(path)
                    continue
                if is_link:
                    linked = os.path.join(os.path.realpath(path), "")
                    if real.startswith(linked) and real != linked:  # such as `z: -> /` of Wine
                        yield FoundFile(self._id(path), problem="it links to a folder around this one")
                    else:
                        folders.append((path, ()))
                    continue
            try:
                state = os.stat(path)
                if (inode := (state.st_dev, state.st_ino)) in self.visited:
                    continue
                self.visited.add(inode)
                with os.scandir(path) as entries:
                    shown = [entry for entry in entries if not entry.name.startswith(".")]
            except OSError as error:
                yield self._problem(path, error)
                continue
            rules = _rules_of(path, rules)
            shown.sort(key=lambda entry: entry.name, reverse=True)
            waiting += [(entry, rules) for entry in shown]

    def _file(self, path: str, *, named: bool = False) -> FoundFile:
        try:
            state = os.stat(path)
        except OSError as error:
            return self._problem(path, error)
        if stat.S_ISREG(state.st_mode):
            return FoundFile(self._id(path), state.st_size, state.st_mtime_ns, named=named)
        return FoundFile(self._id(path), problem="it is a pipe, a socket or a device", named=named)

    def _problem(self, path: str, error: OSError) -> FoundFile:
        if os.path.islink(path):
            return FoundFile(self._id(path), problem="it is a broken link")
        unread = not isinstance(error, FileNotFoundError)
        return FoundFile(self._id(path), problem=f"it cannot be read ({error.strerror})", unread=unread)

    def _id(self, path: str) -> str:
        return path[len(self.base) :].lstrip("/") or "."


def _rules_above(root: str) -> tuple[_Rules, set[str]]:
    """The rules that git has for `root` from above, and the paths below it that are tracked all the same."""
    folders = [root]
    while not os.path.lexists(os.path.join(folders[-1], ".git")):
        if (parent := os.path.dirname(folders[-1])) == folders[-1]:
            return (), set()
        folders.append(parent)
    top = os.path.join(folders[-1], "")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    files = os.path.join(config, "git", "ignore"), os.path.join(top, ".git", "info", "exclude")
    rules: _Rules = tuple((top, GitPatterns.read(file)) for file in files)
    for folder, below in pairwise(reversed(folders)):
        rules = _rules_of(folder, rules)
        if _ignores(rules, below, is_folder=True):  # they do not count: `root` is named all the same
            return (), set()
    return rules, gitignore.tracked_but_ignored(root)


def _rules_of(folder: str, above: _Rules) -> _Rules:
    """The rules in a folder: those of the folder above it, and its own."""
    if above is _ALL_IGNORED:
        return above
    path = os.path.join(folder, ".gitignore")
    own = GitPatterns.of(()) if os.path.islink(path) else GitPatterns.read(path)  # git follows no link here
    return (*above, (os.path.join(folder, ""), own)) if own.lines else above


def _ignores(rules: _Rules, path: str, *, is_folder: bool) -> bool:
    for folder, patterns in reversed(rules):
        if (ignored := patterns.ignores(path[len(folder) :], is_folder=is_folder)) is not None:
            return ignored
    return False
