"""What a configuration file may say: each key with its type, found among the options of the commands.

A setting is an option with a value that may serve many runs. A switch is none, since the command line
could not take it back; nor is what belongs to one run, or names a file that is read or written.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from resizable_search.cli.output import FORMATS
from resizable_search.errors import ConfigError
from resizable_search.text import quoted

Path = tuple[str, ...]
"""A table of a file, which is a command: `()` for the top level, `("build", "files")`."""

ENGINES = ("auto", "numpy", "numba")
SHARED = ("index", "threads", "engine")
"""Keys of the top level that are meant for every command that has such an option."""

PROJECT_HOMES = "project-homes"
CONFIG: Path = ("config",)
"""The command that has no settings, being about them."""

BOUND = ("model", "base-url", "api-key-env", "document-prefix", "query-prefix")
"""What is said of one embedder, and means nothing for another."""

RIVALS = {
    "plan": ("dim", "rerank", "recall"),
    "recall": ("plan", "dim", "rerank"),
    "dim": ("plan", "recall"),
    "rerank": ("plan", "recall"),
    "format": ("json",),
    "sample": ("queries",),
}
"""What takes the place of a setting when it is given nearer: on the command line, or in a nearer file."""

AT_HOME = ("lsa", "nomic-local")
"""Embedders that send no text anywhere, and load no model that a file names."""

VARIABLES = {
    "home": "RSEARCH_HOME",
    "index": "RSEARCH_INDEX",
    "threads": "RSEARCH_THREADS",
    "base-url": "OPENAI_BASE_URL",
}
"""The environment variable that goes before what a file says."""

_ONE_RUN = {
    "name",
    "open",
    "where",
    "documents",
    "queries",
    "plot",
    "shuffle-seed",
    "home",
    "revision",
    "config",
}
_NOT_OF = {
    ("query",): {"embedder", *BOUND},  # of an index, not of a machine
    ("build", "vectors"): {"embedder", "limit", *BOUND},
    ("serve",): {"index"},  # without one they do something else
    ("warm",): {"index"},
}
_LISTS = {"dims", "precisions", "batch", "fields", "metadata", "bench.threads", "bench.rerank"}
_CHOICES: dict[str, tuple[str, ...]] = {"engine": ENGINES, "format": FORMATS}
_LEAST = {"k": 1, "dim": 1, "threads": 1, "limit": 1, "concurrency": 1, "sample": 1}
_PROJECT_MAY = {
    "index", "home", "threads", "engine", "k", "dim", "dims", "rerank", "plan", "recall", "format",
    "fields", "snippet", "min-score", "min-recall", "precisions", "batch", "sample", "seed", "chars",
    "chunk", "chunk-overlap", "text-column", "id-column", "title-column", "url-column", "metadata",
    "on-bad-text", "lang", "date", "limit", "split", "embedder",
}  # fmt: skip
"""What a pyproject.toml may say, whoever wrote it: nothing that decides where texts and keys are sent."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of one command: its type, its parameter, and what it is where no file says it.

    `many`: "" for one value, "," for a list that may be written with commas, "[]" for an option that may
    be repeated. `shown` says in words what a `default` of None means.
    """

    table: Path
    key: str
    parameter: str
    type: type
    many: str = ""
    default: Any = None
    shown: str = ""
    choices: tuple[str, ...] = ()
    is_argument: bool = False

    @property
    def name(self) -> str:
        """As `rsearch config` writes it: `query.k`."""
        return ".".join((*self.table, self.key))

    def checked(self, value: Any) -> Any:
        """The value as the option takes it. Raises ConfigError, which says what it should be."""
        if self.many:
            given = value if isinstance(value, list) else [value]
            if self.many == ",":
                given = [
                    part.strip() for word in given if _is(word, str, int) for part in str(word).split(",")
                ]
            if not given or not all(isinstance(word, str) and word for word in given):
                raise ConfigError(f"{self.name} must be a list such as {self._example}, not {_told(value)}")
            for word in given:
                self._among_choices(word)
            return list(given) if self.many == "[]" else ",".join(given)
        if self.type is float and _is(value, int, float) and math.isfinite(value):
            return float(value)
        if self.type is int and _is(value, int):
            least = _LEAST.get(self.key, 0)
            if value < least:
                raise ConfigError(f"{self.name} must be {least} or more, not {value}")
            return value
        if self.type in (str, Enum) and isinstance(value, str) and value and value.isprintable():
            self._among_choices(value)
            return value
        kind = {int: "a whole number", float: "a number"}.get(self.type, "a text")
        raise ConfigError(f"{self.name} must be {kind}, not {_told(value)}")

    def read(self, words: list[str]) -> Any:
        """The value that these words of a command line mean. Raises ConfigError."""
        if self.many == "[]" or (self.many and len(words) > 1):
            return words if self.checked(words) else None
        if len(words) != 1:
            raise ConfigError(f"{self.name} takes one value")
        value: Any = words[0]
        if self.type in (int, float):
            kind: Callable[[str], Any] = int if self.type is int else float
            with suppress(ValueError):  # told by `checked`
                value = kind(value)
        self.checked(value)
        return value

    @property
    def _example(self) -> str:
        return '["768", "256"] or "768,256"' if self.many == "," else '["one", "two"]'

    def _among_choices(self, word: str) -> None:
        choices = self.choices
        if self.key == "embedder":
            from resizable_search.embedders.registry import names

            choices = tuple(names())
        if choices and word not in choices:
            raise ConfigError(f"{self.name} is one of {', '.join(choices)}, not {_told(word)}")


def _is(value: Any, *types: type) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


def _told(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else quoted(str(value)).strip("'\"")


class Tables(Mapping[Path, dict[str, Setting]]):
    """The settings of each table, by key. Asking for a table imports its commands, going through them all."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._made: dict[Path, dict[str, Setting]] = {(): _top()}

    def __getitem__(self, table: Path) -> dict[str, Setting]:
        if table not in self._made:
            self._made[table] = self._table(table)
        if not self._made[table]:
            raise KeyError(table)
        return self._made[table]

    def __iter__(self) -> Iterator[Path]:
        paths = (path[:end] for path, _ in leaves(self._root) for end in range(1, len(path) + 1))
        return (table for table in dict.fromkeys(((), *paths)) if table in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _table(self, table: Path) -> dict[str, Setting]:
        command = self._root
        for name in table:
            command = getattr(command, "commands", {}).get(name)
        found: dict[str, Setting] = {}
        for path, leaf in leaves(command, table) if command is not None and table[:1] != CONFIG else ():
            for parameter in leaf.params:
                setting = _setting(path, parameter)
                if setting is not None and not (setting.is_argument and len(table) > 1):
                    found.setdefault(setting.key, setting if table == path else _of(setting, table))
        return found


def _top() -> dict[str, Setting]:
    """What the top level of a file may say."""
    found = {
        key: Setting((), key, key, type_, shown=shown)
        for key, type_, shown in (
            ("home", str, "the user's data folder"),
            ("index", str, "wiki100k, else the only one"),
            ("threads", int, "all cores"),
        )
    }
    found["engine"] = Setting((), "engine", "engine", str, default="auto", choices=ENGINES)
    found[PROJECT_HOMES] = Setting((), PROJECT_HOMES, "", str, many="[]", shown="none")
    return found


class Schema:
    """Every setting of the command line below `root`, by table and key."""

    def __init__(self, root: Any) -> None:
        self.tables: Mapping[Path, dict[str, Setting]] = Tables(root)

    def find(self, name: str) -> Setting:
        """The setting of a dotted name. Raises ConfigError with the nearest."""
        *table, key = name.split(".")
        found = self.tables.get(tuple(table), {}).get(key)
        if found is None:
            raise ConfigError(f"there is no setting {quoted(name)}{self.nearest(name)}")
        return found

    def nearest(self, name: str) -> str:
        """`: did you mean query.k?`, or where to look."""
        import difflib  # only a wrong name needs it

        near = difflib.get_close_matches(name, [*self.names(), *map(".".join, self.tables)], 1, 0.6)
        return f": did you mean {near[0]}?" if near else ": `rsearch config` lists all that there are"

    def names(self) -> list[str]:
        """Every setting's dotted name."""
        return [setting.name for settings in self.tables.values() for setting in settings.values()]


def leaves(command: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each command that does something, below a group."""
    below: Mapping[str, Any] | None = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, one in below.items():
        if (*path, name) != CONFIG:
            yield from leaves(one, (*path, name))


def _setting(path: Path, parameter: Any) -> Setting | None:
    """The setting that an option or argument is, if it is one."""
    argument = parameter.param_type_name == "argument"
    if argument:
        key = parameter.name
        if parameter.required or key != "index":
            return None
    else:
        longest = max(parameter.opts, key=len)
        key = longest.lstrip("-")
        if parameter.is_flag or not parameter.expose_value:
            return None
    if key in _ONE_RUN or key in _NOT_OF.get(path, ()):
        return None
    annotation = parameter.type_descriptor.annotation
    choices = _CHOICES.get(key, ())
    if key == "precisions":
        from resizable_search.engine.plan import PRECISIONS

        choices = PRECISIONS
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        choices, annotation = tuple(str(member.value) for member in annotation), str
    many = "[]" if getattr(parameter, "multiple", False) else ""
    if key in _LISTS or ".".join((*path, key)) in _LISTS:
        many = ","
    default = parameter.default
    return Setting(
        path,
        key,
        parameter.name,
        str if many else annotation,
        many,
        default.value if isinstance(default, Enum) else default,
        parameter.show_default if isinstance(parameter.show_default, str) else "none",
        choices,
        argument,
    )


def _of(setting: Setting, table: Path) -> Setting:
    """The same setting, for all commands below a group."""
    return replace(setting, table=table)


def project_refusal(setting: Setting, value: Any) -> str:
    """Why a pyproject.toml may not say this, '' if it may."""
    if setting.key == "embedder" and value not in AT_HOME:
        return f"only {' or '.join(AT_HOME)} may be named there: others are sent your texts, or load a model"
    if setting.key not in _PROJECT_MAY:
        return "whoever wrote that file would decide where your texts and keys are sent, or what it costs"
    return ""
