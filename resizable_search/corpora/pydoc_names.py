"""The names under which people know the objects of the standard library.

They often differ from where the objects are defined: `create_task` is defined in `asyncio.tasks` and
known as `asyncio.create_task`, `deque` is compiled into `_collections` and known as
`collections.deque`. A module that the library reference does not describe is taken for such an inner
part, and its objects belong to the module that re-exports them, if one does.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from resizable_search.corpora.pydoc_links import is_documented
from resizable_search.corpora.pydoc_sources import Entry, Source, is_public


class Names:
    """The public names of what `sources` and the compiled modules define."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
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

    def inherited(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The members that public classes have from bases without a public name, as their own."""
        members: dict[tuple[str, str], list[Entry]] = {}
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
