"""Defaults of options from files, as the parser's default map.

A file has a table for each command, and above them keys for all. An option with a value is a setting, unless
it belongs to one run. A project sets search and output options only: the author of its file must not decide
where texts and keys are sent.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperOption
from typer.exceptions import TyperException

from resizable_search.cli import completion
from resizable_search.cli.output import note
from resizable_search.errors import ConfigError, UsageError
from resizable_search.store.layout import NAMES, home_of
from resizable_search.text import clipped, quoted

Table = tuple[str, ...]  # a table of a file, named as its command: () for the top level

INDEX_OPTION = "index_option"  # the parameter of `--index` in commands that also take an INDEX by position
APPLIED = "rsearch.applied"  # where a context keeps the defaults that came from files
SHARED = ("index", "threads", "engine")  # settings of the top level, of every command that has the option

REMOVED = ("home", "project-homes")
BOUND = ("model", "base-url", "api-key-env", "encoding-format", "document-prefix", "query-prefix")
"""Settings of the embedder that a file names: another one ignores them."""

# Environment variables that go before files.
VARIABLES = {"index": "RSEARCH_INDEX", "threads": "RSEARCH_THREADS", "base-url": "OPENAI_BASE_URL"}

RIVALS = {  # a setting is dropped if the command line or a nearer file gives one of its rivals
    "plan": {"dim", "rerank", "recall"},
    "recall": {"plan", "dim", "rerank"},
    "dim": {"plan", "recall"},
    "rerank": {"plan", "recall"},
    "format": {"json"},
    "sample": {"queries"},
    "split": {"queries", "qrels"},
    "index": {"folder"},  # of `eval`: a FOLDER names its own index
}

_NO_SETTINGS = {"name", "open", "where", "documents", "queries", "plot", "shuffle-seed", "home", "revision"}
_NO_SETTINGS |= {"config", "serve.index", "mcp.index", "warm.index", "build.vectors.limit"}
_NO_SETTINGS |= {f"{table}.{key}" for table in ("query", "build.vectors") for key in ("embedder", *BOUND)}
"""Options of one run, of what an index has itself, and an INDEX without which a command does otherwise."""

_OF_PROJECTS = {*SHARED, "k", "dim", "dims", "rerank", "plan", "recall", "precisions", "batch", "sample"}
_OF_PROJECTS |= {"seed", "format", "fields", "snippet", "min-score", "min-recall", "measures"}


class Value(NamedTuple):
    """A value, and its origin: a file, a variable, or "" for built in."""

    value: Any
    origin: str = ""


class ConfigFile:
    """A file, and its values by table and key."""

    def __init__(self, path: Path, is_project: bool) -> None:
        self.path, self.is_project = path, is_project
        self.exists = False
        self.values: dict[Table, dict[str, Any]] = {}

    def of(self, table: Table) -> dict[str, Any]:
        """The values of a command: of all commands, of its group, its own."""
        values: dict[str, Any] = {}
        for end in range(len(table) + 1):
            values |= self.values.get(table[:end], {})
        return values


class Setting(NamedTuple):
    """One key of one table, and the option that it sets."""

    table: Table
    key: str
    option: Any

    @property
    def name(self) -> str:
        """The dotted name: `query.k`."""
        return ".".join((*self.table, self.key))

    def parsed(self, value: Any) -> Any:
        """The value as the parser reads it from a command line. Raises ConfigError."""
        if isinstance(value, dict):
            raise ConfigError(f"{self.name} takes one value")
        words = [str(word) for word in (value if isinstance(value, list) else [value])]
        if not self.option.multiple:
            words = [",".join(words)]
        try:
            for word in words:
                check_number(self.option, word)
            return self.option.process_value(None, words if self.option.multiple else words[0])
        except TyperException as error:
            raise ConfigError(f"{self.name}: {error.message.rstrip('.')}") from None


def check_number(option: Any, word: str) -> None:
    """Refuse what is no number, `1_000`, and digits that are not ASCII. Raises BadParameter."""
    kind = {"int": int, "float": float}.get(option.type.name.removesuffix(" range"))
    if kind is None:
        return
    try:
        if not word.isascii() or "_" in word:
            raise ValueError(word)
        kind(word)
    except ValueError:
        what = "whole number" if kind is int else "number"
        raise typer.BadParameter(f"{quoted(word)} is not a {what}.", param=option) from None


def _leaves(command: Any, path: Table = ()) -> Iterator[tuple[Table, Any]]:
    """Each command below a group, with its path; `config` has no settings."""
    below: Mapping[str, Any] | None = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, one in below.items():
        if (*path, name) != ("config",):
            yield from _leaves(one, (*path, name))


def _key(path: Table, option: Any) -> str | None:
    """The key of an option, or of an INDEX that may be left out; None for what is no setting."""
    key = max(option.opts, key=len).lstrip("-")
    if option.param_type_name == "argument":
        is_setting = key == "index" and not option.required
    else:
        is_setting = option.expose_value and not option.is_flag
    return key if is_setting and not {key, ".".join((*path, key))} & _NO_SETTINGS else None


def read_toml(path: Path, library: str = "tomllib", mentions: bytes = b"") -> Any:
    """The content of a file, None if it does not exist or does not mention a word. Raises ConfigError."""
    try:
        content = path.read_bytes() if os.path.exists(path) else None
        if content is None or mentions not in content:
            return None
        return import_module(library).loads(content.decode())  # which takes long: only if there is a file
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML ({clipped(str(error))}): correct the file") from None


def _project_paths() -> Iterator[Path]:
    """The readable pyproject.toml of this folder and of those above it, the nearest first."""
    with suppress(OSError):  # this folder is gone
        here = Path.cwd()
        paths = (folder / "pyproject.toml" for folder in (here, *here.parents))
        yield from (path for path in paths if path.is_file() and os.access(path, os.R_OK))


class Configuration:
    """The settings of the commands below `root`, and the files of the project, if any, and of the home."""

    def __init__(self, root: Any, home: str | Path | None = None) -> None:
        self._root = root
        self._tables: dict[Table, dict[str, Setting]] = {}
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self.home = home_of(home)
        projects = (self._read(path, is_project=True) for path in _project_paths())
        project = next((file for file in projects if file.exists), None)
        self.own = self._read(self.home.path / NAMES.config)
        self.files = [file for file in (project, self.own) if file is not None]

    def table(self, table: Table) -> dict[str, Setting]:
        """The settings of a table by key; none for an unknown one. Its commands are imported."""
        if table not in self._tables:
            command = self._root
            for name in table or ("query",):
                command = getattr(command, "commands", {}).get(name)
            settings: dict[str, Setting] = {}
            for path, leaf in _leaves(command, table) if command is not None else ():
                for option in leaf.params:
                    key = _key(path, option)
                    if key and (table or key in SHARED):
                        settings.setdefault(key, Setting(table, key, option))
            self._tables[table] = settings
        return self._tables[table]

    def tables(self) -> list[Table]:
        """Every table that has settings."""
        paths = (path[:end] for path, _ in _leaves(self._root) for end in range(1, len(path) + 1))
        return [table for table in dict.fromkeys(((), *paths)) if self.table(table)]

    def names(self) -> list[str]:
        """Every setting's dotted name."""
        return [setting.name for table in self.tables() for setting in self.table(table).values()]

    def find(self, name: str) -> Setting:
        """The setting of a dotted name. Raises ConfigError, which names the nearest known one."""
        *table, key = name.split(".")
        if setting := self.table(tuple(table)).get(key):
            return setting
        import difflib  # only a wrong name needs it

        near = difflib.get_close_matches(name, [*self.names(), *map(".".join, self.tables())], 1, 0.6)
        remedy = f"did you mean {near[0]}?" if near else "`rsearch config` lists all"
        raise ConfigError(f"unknown setting {clipped(name) if len(name) < 60 else quoted(name)}: {remedy}")

    def _read(self, path: Path, *, is_project: bool = False) -> ConfigFile:
        """Read a file. A wrong one becomes a problem."""
        file = ConfigFile(path, is_project)
        try:
            data = read_toml(path, mentions=b"rsearch" if is_project else b"")
        except ConfigError as error:
            file.exists = True
            self.problems.append(str(error))
            return file
        for name in ("tool", "rsearch") if is_project else ():
            data = data.get(name) if isinstance(data, dict) else None
        file.exists = bool(data) if is_project else data is not None
        if ignored := ", ".join(self._take(file, (), data if isinstance(data, dict) else {})):
            why = "a project sets search and output options only"
            if not is_project:
                why = "--home and $RSEARCH_HOME choose the home"
            self.warnings.append(f"{path}: ignored {ignored} ({why})")
        return file

    def _take(self, file: ConfigFile, table: Table, data: Mapping[str, Any]) -> Iterator[str]:
        """Take the values of a table. Yields the names that the file may not set."""
        for key, value in data.items():
            name = ".".join((*table, key))
            setting = self.table(table).get(key)
            is_of_projects = table[:1] != ("build",) and key in _OF_PROJECTS
            if name in REMOVED or (setting is not None and file.is_project and not is_of_projects):
                yield name
            elif setting is None and isinstance(value, dict) and self.table((*table, key)):
                yield from self._take(file, (*table, key), value)
            else:
                try:
                    parsed = self.find(name).parsed(value)
                except ConfigError as error:
                    self.problems.append(f"{file.path}: {error}")
                    continue
                if key == "index" and "/" in parsed:
                    parsed = str(file.path.parent / os.path.expanduser(parsed))
                file.values.setdefault(table, {})[key] = parsed

    def defaults(self, table: Table, given: Mapping[str, Any]) -> dict[str, Value]:
        """What files say of a command, by key, beside the parameters that the command line gives."""
        settings = self.table(table)
        nearer = {name.replace("_", "-") for name in given}
        nearer |= {key for key, variable in VARIABLES.items() if os.environ.get(variable)}
        values: dict[str, Value] = {}
        for file in self.files:  # the nearest first
            own = {key: value for key, value in file.of(table).items() if key in settings}
            embedder = own.get("embedder")
            if embedder is not None and given.get("embedder", embedder) != embedder:
                own = {key: value for key, value in own.items() if key not in BOUND}
            for key, value in own.items():
                if not nearer & {key, *RIVALS.get(key, ())}:
                    values[key] = Value(settings[key].parsed(value), str(file.path))
            nearer |= values.keys()
        return values

    def value_of(self, setting: Setting) -> Value:
        """The value of a setting if the command line does not give it."""
        variable = VARIABLES.get(setting.key, "")
        if value := os.environ.get(variable, "").strip():
            return Value(value, f"${variable}")
        return self.defaults(setting.table, {}).get(setting.key, Value(setting.option.default))


class ConfiguredCommand(TyperCommand):
    """A command whose options have defaults in files; its INDEX may be named by `--index` too."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **attributes)
        params: list[Any] = self.params
        if index := next((one for one in params if one.opts == ["index"]), None):
            option = TyperOption(
                param_decls=[INDEX_OPTION, "--index", "-i"],
                type=index.type,
                help="The same as INDEX.",
                autocompletion=completion.indexes,
                expose_value=False,
            )
            params.append(option)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Make the default map of the options that the command line does not give, and parse."""
        parsed, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        given = {name: value for name, value in parsed.items() if value not in (None, (), [])}
        if INDEX_OPTION in given:
            given["index"] = given.pop(INDEX_OPTION)
            args = [given["index"], *args]  # INDEX is the first argument of every command that has one
        if "help" not in given:  # which shows what is built in, and works with a wrong file
            for option in self.params:
                if isinstance(word := given.get(option.name or ""), str):
                    check_number(option, word)
            configuration = Configuration(ctx.find_root().command, given.get("home"))
            if not ctx.resilient_parsing:  # else a word is being completed
                for problem in configuration.problems:
                    raise ConfigError(problem)
                for warning in configuration.warnings:
                    note(warning)
            values = configuration.defaults(tuple(ctx.command_path.split(" ")[1:]), given)
            ctx.meta[APPLIED] = values
            ctx.default_map = {key.replace("-", "_"): value.value for key, value in values.items()}
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. An error names the file that gave a wrong default."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            message = str(error).replace("_", "-")
            for key, (value, origin) in ctx.meta.get(APPLIED, {}).items():
                if f"--{key} " in message or (re.search(rf"\b{key}", message) and str(value) in message):
                    raise UsageError(f"{error} ({origin} sets {key} = {value})") from None
            raise
