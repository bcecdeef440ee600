"""The documentation of the running Python's standard library: a corpus that every machine has.

One document for each documented module, class, function, method and property that people can reach
by a public name, and for each help topic ("with", "truth"). Their ids are the dotted names
(`json.dumps`, `collections.OrderedDict.move_to_end`), without the module for builtins (`str.join`),
and `topic:with` for the topics. PydocSource files are parsed, never imported; compiled modules are read
by an interpreter of their own. What has no docstring, tests, and names that begin with an underscore
are left out, except special methods (`__init__`) that a source file documents in more than one line.

The names under which people know the objects of the standard library.

They often differ from where the objects are defined: `create_task` is defined in `asyncio.tasks` and
known as `asyncio.create_task`, `deque` is compiled into `_collections` and known as
`collections.deque`. A module that the library reference does not describe is taken for such an inner
part, and its objects belong to the module that re-exports them, if one does.
"""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from resizable_search.corpora.base import Block, Corpus, Document, in_blocks
from resizable_search.corpora.pydoc_links import index_url, is_documented, library_url, source_url, topic_url
from resizable_search.corpora.pydoc_sources import (
    PydocEntry,
    PydocSource,
    is_public,
    read_sources,
    read_topics,
)
from resizable_search.errors import CorpusError, UsageError
from resizable_search.specs import CorpusSpec, Json


class Names:
    """The public names of what `sources` and the compiled modules define."""

    def __init__(self, sources: Mapping[str, PydocSource]) -> None:
        self._sources = sources
        self._homes: dict[tuple[str, str], list[tuple[str, str]]] = {}
        # Where several modules re-export an object, the documented and then the shortest name wins.
        for name in sorted(sources, key=lambda m: (not is_documented(m), m.count("."), m)):
            for module, taken, known_as in sources[name].imports:
                if is_public(name) and module != name:
                    self._homes.setdefault((module, taken), []).append((name, known_as))

    def public(self, module: str, name: str) -> tuple[str, str] | None:
        """The module and the qualified name that people use; None if there are no such."""
        top, dot, rest = name.partition(".")
        passed = set()
        while not is_documented(module) and top and module not in passed:
            passed.add(module)
            module, top = self._home(module, top) or (module, top)
        if not is_public(module) or top.startswith("_"):
            return None
        return module, top + dot + rest

    def inherited(self, entries: Iterable[PydocEntry]) -> Iterator[PydocEntry]:
        """The members that public classes have from bases without a public name, as their own."""
        members: dict[tuple[str, str], list[PydocEntry]] = {}
        for entry in entries:
            owner, dot, _ = entry.name.partition(".")
            if dot:
                members.setdefault((entry.module, owner), []).append(entry)
        bases: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for source in self._sources.values():
            for owner, module, base in source.bases:
                bases.setdefault((source.module, owner), []).append((module, base))
        for module, owner in bases:
            wanted = bases[module, owner] if self.public(module, owner) else []
            passed = {(module, owner)}
            while wanted := [base for base in wanted if base not in passed and not self.public(*base)]:
                for key in wanted:
                    for entry in members.get(key, ()):
                        yield replace(entry, module=module, name=owner + entry.name.removeprefix(key[1]))
                passed.update(wanted)
                wanted = [above for key in wanted for above in bases.get(key, ())]

    def _home(self, module: str, name: str) -> tuple[str, str] | None:
        for home, known_as in self._homes.get((module, name), ()):
            if self._sources[home].may_export(known_as):
                return home, known_as
        source = self._sources.get(module)
        if source.may_export(name) if source else not name.startswith("_"):
            for home, _ in self._homes.get((module, "*"), ()):
                exporter = self._sources[home]
                if not exporter.exports_known or name in exporter.exports:
                    return home, name
        return None


DEFAULT_CHARS = 1200
"""Where a document's text is cut, in characters."""

_FEWEST = 10
"""A library with fewer documented names in its source files has lost them."""
_TITLE_WIDTH = 100
_COMPILED_TIMEOUT = 60  # seconds; it takes a quarter of one
_PREFIX = {"module": "module ", "class": "class ", "coroutine": "async "}


class PydocCorpus(Corpus):
    """The docstrings of the standard library, sorted by module, then as the source has them.

    `chars` cuts the texts (None: no cut). `python` is the version that an index was made of: another
    one's documents are not mixed with it. `root` is the folder to read in place of the running
    Python's library; compiled modules are no part of it.
    """

    kind = "pydoc"
    example = "walk a directory tree"

    def __init__(
        self, chars: int | None = DEFAULT_CHARS, *, python: str | None = None, root: Path | str | None = None
    ) -> None:
        if chars is not None and chars < 1:
            raise UsageError(f"texts cannot be cut to {chars} characters: give 1 or more")
        self._chars = chars
        self._python = python or platform.python_version()
        self._root = None if root is None else Path(root)

    def spec(self) -> CorpusSpec:
        """The Python version and the options; `PydocCorpus(**options)` opens it again."""
        options: dict[str, Json] = {"python": self._python, "chars": self._chars}
        if self._root is not None:
            options["root"] = str(self._root)
        return CorpusSpec(self.kind, options)

    @property
    def label(self) -> str:
        """As in 'Python 3.11.7 standard library'."""
        return f"Python {self._python} standard library"

    def blocks(self, position: Json | None = None) -> Iterator[Block]:
        """The documents after the first `position`.

        Raises CorpusError where the library has no source files, and when another Python than
        `python` is running.
        """
        start = 0 if position is None else int(position)
        yield from in_blocks(islice(self._documents(), start, None), start)

    def _documents(self) -> Iterator[Document]:
        running = platform.python_version()
        if self._python != running:
            raise CorpusError(
                f"these are the documents of Python {self._python}, and this is Python {running}: "
                f"run rsearch with Python {self._python}, or build again with --restart"
            )
        compiled = [] if self._root else list(_compiled_entries())
        root = self._root or Path(os.__file__).parent
        sources = read_sources(root)
        entries = [entry for source in sources.values() for entry in source.entries]
        if len(entries) < _FEWEST:
            raise CorpusError(
                f"{root} holds no source files of the standard library: install them (on Debian "
                "'apt install libpython3-stdlib'), or run rsearch with another Python"
            )
        yield from _in_order(entries + compiled, sources, self._python, self._chars)
        for label, text in sorted(read_topics(root).items()):
            yield _topic(label, text, self._python, self._chars)


def _compiled_entries() -> Iterator[PydocEntry]:
    """What the compiled modules document, under the module where each object says it belongs."""
    script = Path(__file__).with_name("pydoc_compiled.py")
    # -I keeps this folder and the user's settings out of the other interpreter, -S the installed packages.
    command = [sys.executable, "-I", "-S", str(script)]
    try:
        run = subprocess.run(command, capture_output=True, timeout=_COMPILED_TIMEOUT, check=True)
        records = json.loads(run.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise CorpusError(
            f"the compiled modules of {sys.executable or 'this Python'} could not be read ({error}): "
            "run rsearch with another Python"
        ) from error
    for module, name, kind, signature, doc, home in records:
        # Private homes (_io) say no more than the module itself.
        yield PydocEntry(home if is_documented(home) else module, name, kind, signature, doc)


def _in_order(
    entries: Sequence[PydocEntry], sources: dict[str, PydocSource], python: str, chars: int | None
) -> Iterator[Document]:
    """One document for each public name, sorted by module.

    Of several definitions the one in the public module's own source file counts, then a compiled
    one, then one in an inner module, and last an inherited one; of those the first.
    """
    names = Names(sources)
    placed = []
    for rank, group in enumerate([entries, names.inherited(entries)]):
        for entry in group:
            if public := names.public(entry.module, entry.name):
                inner = 1 if not entry.path else 2 if public[0] != entry.module else 0
                placed.append((public, (rank, inner, entry.module), entry))
    placed.sort(key=lambda item: (item[0][0], item[1]))  # stable: source order stays
    seen = set()
    for (module, name), _, entry in placed:
        dotted = name if module == "builtins" and name else f"{module}.{name}".rstrip(".")
        if dotted not in seen:
            seen.add(dotted)
            title = _title(_PREFIX.get(entry.kind, "") + dotted + entry.signature)
            text = "\n".join([title, *_spelled_out(dotted), "", entry.doc])
            url = _url(python, module, name, entry, sources)
            yield _document(dotted, title, url, text, chars, kind=entry.kind, module=module)


def _topic(label: str, text: str, python: str, chars: int | None) -> Document:
    heading = text.strip().partition("\n")[0].replace('"', "") or label
    return _document(
        f"topic:{label}", heading, topic_url(python, label), text, chars, kind="topic", module=""
    )


def _document(
    name: str, title: str, url: str, text: str, chars: int | None, *, kind: str, module: str
) -> Document:
    # Docstrings may hold what no database takes: lone surrogates and NULs.
    clean = text.strip().encode("utf-8", "replace").decode().replace("\0", " ")
    return Document(name, title, url, clean[:chars].rstrip(), {"kind": kind, "module": module})


def _title(signature: str) -> str:
    """On one line, cut between two arguments."""
    line = " ".join(signature.split())
    if len(line) <= _TITLE_WIDTH:
        return line
    head = line[: _TITLE_WIDTH - 3]
    cut = head.rfind(", ")
    return f"{head[:cut]}, …)" if cut > head.find("(") > 0 else f"{head}…"


def _spelled_out(dotted: str) -> list[str]:
    """The words of a name, where they are not its parts already: 'argparse Argument Parser'."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", dotted)
    return [" ".join(words)] if words != dotted.split(".") else []


def _url(python: str, module: str, name: str, entry: PydocEntry, sources: dict[str, PydocSource]) -> str:
    """The library reference for what a documented module exports, else the source line."""
    top = name.partition(".")[0]
    source = sources.get(module)
    exported = not (source and source.exports_known and top) or top in source.exports
    if is_documented(module) and exported:
        return library_url(python, module, name, origin=entry.module)
    if entry.path:
        return source_url(python, entry.path, entry.line)
    return index_url(python)
