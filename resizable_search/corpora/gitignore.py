"""Patterns as git reads them: which files a .gitignore leaves out.

The rules are those of git's `dir.c` and `wildmatch.c`. git matches bytes: `?` is one byte, and a class such
as `[[:alpha:]]` holds ASCII only. `pathspec` and `wcmatch` differ in `a**b`, in brackets and below folders:
a private file would be read, or a wanted one lost.
"""

import os
import re
import string
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

_BYTES = range(1, 256)
_CLASSES = {
    "alnum": string.ascii_letters + string.digits,
    "alpha": string.ascii_letters,
    "blank": " \t",
    "cntrl": "".join(map(chr, [*range(32), 127])),
    "digit": string.digits,
    "graph": string.ascii_letters + string.digits + string.punctuation,
    "lower": string.ascii_lowercase,
    "print": string.ascii_letters + string.digits + string.punctuation + " ",
    "punct": string.punctuation,
    "space": " \t\n\r\f\v",
    "upper": string.ascii_uppercase,
    "xdigit": string.hexdigits,
}
_STAR, _FOLDERS, _REST, _NEVER = b"[^/]*", b"(?:.*/)?", b".*", b"(?!)"
_ITEM = re.compile(rb"\[:([^]]*):\]|\\?(.)(?:-(?!\])\\?(.))?", re.DOTALL)  # of a bracket
_LITERAL = bytes(set(_BYTES) - set(b"*?[\\"))


class GitPattern(NamedTuple):
    """A line: it `keeps` if it began with `!`. `only_folders`: it ended with `/`; `by_name`: no other `/`."""

    regex: re.Pattern[bytes]
    keeps: bool
    only_folders: bool
    by_name: bool

    @property
    def is_valid(self) -> bool:
        """Whether anything can match it."""
        return _NEVER not in self.regex.pattern


@dataclass(frozen=True, slots=True)
class GitPatterns:
    """Patterns in one folder; the last that matches decides."""

    lines: tuple[GitPattern, ...]

    @classmethod
    def of(cls, lines: Iterable[str | bytes]) -> "GitPatterns":
        """The patterns of these lines; empty ones and comments are skipped."""
        return cls(tuple(p for line in lines if (p := parse(os.fsencode(line)))))

    @classmethod
    def read(cls, path: str) -> "GitPatterns":
        """The patterns of a file; none if it cannot be read."""
        try:
            with open(path, "rb") as file:
                text = file.read().removeprefix(b"\xef\xbb\xbf")
        except OSError:
            return cls(())
        return cls.of(line.removesuffix(b"\r") for line in text.split(b"\n"))

    def ignores(self, path: str, *, is_folder: bool) -> bool | None:
        """Whether a path below the folder is left out; None if nothing is said of it."""
        whole = os.fsencode(path)
        name = whole.rpartition(b"/")[2]
        for pattern in reversed(self.lines):
            may_match = is_folder or not pattern.only_folders
            if may_match and pattern.regex.fullmatch(name if pattern.by_name else whole):
                return not pattern.keeps
        return None

    def match_below(self, path: str) -> bool:
        """Whether a file's path, or that of a folder above it, is left out."""
        folders = (path[:at] for at, char in enumerate(path) if char == "/")
        is_below = any(self.ignores(folder, is_folder=True) for folder in folders)
        return is_below or bool(self.ignores(path, is_folder=False))


def parse(line: bytes) -> GitPattern | None:
    """The pattern of a line; None for a comment or an empty line."""
    line = line.partition(b"\0")[0]
    words = line.rstrip(b" ")
    is_escaped = (len(words) - len(words.rstrip(b"\\"))) % 2  # a space behind a backslash stays
    line = line[: len(words) + is_escaped]
    if not line or line.startswith(b"#"):
        return None
    keeps = line.startswith(b"!")
    glob = line[keeps:]
    only_folders = glob.endswith(b"/")
    glob = glob[: len(glob) - only_folders]
    regex = _translated(glob.removeprefix(b"/")) if glob.strip(b"/") else _NEVER
    return GitPattern(re.compile(regex, re.DOTALL), keeps, only_folders, by_name=b"/" not in glob)


def _translated(glob: bytes) -> bytes:
    """A regular expression for a glob. A star takes the least that it can, so that many stars cost little."""
    pieces = [*_pieces(glob), b"/"]
    out, at = [], 0
    while at < len(pieces) - 1:
        end = at + 1
        if pieces[at] == _STAR:
            while pieces[end] not in (_STAR, _FOLDERS, _REST, b"/"):
                end += 1
            if pieces[end] == _STAR:
                out.append(b"(?>[^/]*?" + b"".join(pieces[at + 1 : end]) + b")")
                at = end
                continue
        out += pieces[at:end]
        at = end
    return b"".join(out)


def _pieces(glob: bytes) -> Iterator[bytes]:
    """A glob as regular expressions of one byte or one row of stars each."""
    literal = len(glob) - len(glob.lstrip(_LITERAL))  # git compares these bytes first; the rest is its glob
    at = 0
    while at < len(glob):
        char, start = glob[at : at + 1], at
        at += 1
        if char == b"*":
            while glob[at : at + 1] == b"*":
                at += 1
            begins = start <= literal or glob[start - 1 : start] == b"/"
            if at - start == 1 or not begins or not glob.startswith((b"/", b"\\/"), at) and at < len(glob):
                yield _STAR
            elif glob[at : at + 1] == b"/":
                at += 1
                yield _FOLDERS
            else:
                yield _REST
        elif char == b"[":
            allowed, at = _bracket(glob, at)
            yield b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(allowed)) + b"]" if allowed else _NEVER
        elif char == b"?":
            yield b"[^/]"
        elif char == b"\\":
            yield re.escape(glob[at : at + 1]) or _NEVER
            at += 1
        else:
            yield re.escape(char)


def _bracket(glob: bytes, at: int) -> tuple[set[int], int]:
    """The bytes that a bracket allows, which begins before `at`, and where the glob goes on.

    A bracket that does not end, or that names an unknown class, allows none.
    """
    negated = glob[at : at + 1] in (b"!", b"^")
    first = at = at + negated
    allowed: set[int] = set()
    while item := _ITEM.match(glob, at):
        if item[0].startswith(b"]") and at > first:
            return (set(_BYTES) - allowed if negated else allowed) - {ord("/")}, at + 1
        name, start, stop = item.groups()
        if name is None:
            allowed |= {*start, *range(start[0], (stop or start)[0] + 1)}
        elif name.decode("latin-1") in _CLASSES:
            allowed |= {*_CLASSES[name.decode("latin-1")].encode()}
        else:
            break
        at = item.end()
    return set(), len(glob)


def tracked_but_ignored(folder: str) -> set[str]:
    """The files below a folder that git tracks although its rules ignore them, and the folders they lie in.

    Absolute paths; none where git is not installed. No setting of the folder can have git run a program.
    """
    command = ["git", "-c", "core.fsmonitor=false", "--no-optional-locks", "-C", folder]
    command += ["ls-files", "--cached", "--ignored", "--exclude-standard", "-z"]
    try:
        environment = os.environ | {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
        silent = subprocess.DEVNULL
        output = subprocess.check_output(command, stdin=silent, stderr=silent, env=environment, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return set()
    kept = set()
    for name in output.split(b"\0")[:-1]:
        path = os.path.join(folder, os.fsdecode(name))
        while path not in kept and path != folder:
            kept.add(path)
            path = os.path.dirname(path)
    return kept
