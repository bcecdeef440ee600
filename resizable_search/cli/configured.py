"""What the options of a command are where nobody gives them: by the environment, then by files.

Command line > environment > the project's pyproject.toml > rsearch.toml of the home > built in. This is
click's `default_map`, made when a command's `--home` has been read: before its other options, and after
`--help`, which no wrong file can spoil.
"""

import os
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import typer

from resizable_search.cli import settings
from resizable_search.cli.config_files import ConfigFile, home_file, project_file
from resizable_search.cli.settings import Schema, Setting
from resizable_search.errors import ConfigError, RsearchError
from resizable_search.store.layout import Home, default_home, expanded
from resizable_search.system import HOME_VARIABLE

APPLIED = "rsearch.applied"
"""Where a context keeps what files gave, by key."""


@dataclass(frozen=True, slots=True)
class Found:
    """A value and where it comes from: a file, a variable, the command line, or None for built in."""

    value: Any
    origin: str = ""
    file: ConfigFile | None = None


class Configuration:
    """The files that count for a command, which of them says what, and the home that they lead to.

    `given` is what `--home` says. Nothing is raised for a wrong file: `problem` is the first one's.
    """

    def __init__(self, schema: Schema, given: Path | None = None) -> None:
        self.schema = schema
        self.given = given
        own = Home(expanded(given) if given is not None else default_home())
        self.own_file = home_file(own, schema)
        self.project = project_file(schema)
        self.files = [file for file in (self.project, self.own_file) if file is not None]

    @cached_property
    def home(self) -> Found:
        """The home: by command line, environment, a project that the user trusts, or the usual one."""
        if self.given is not None:
            return Found(expanded(self.given), "--home")
        if os.environ.get(HOME_VARIABLE):
            return Found(default_home(), f"${HOME_VARIABLE}")
        wanted = self._wanted_home
        if wanted is not None and self.project is not None and wanted in self._agreed:
            return Found(Path(wanted), str(self.project.path), self.project)
        return Found(default_home())

    @property
    def problems(self) -> list[str]:
        """What is wrong with the files, a line each."""
        told = [problem for file in self.files for problem in file.problems]
        wanted = self._wanted_home
        chosen = self.given is not None or os.environ.get(HOME_VARIABLE)
        if not chosen and self.project is not None and wanted is not None and wanted not in self._agreed:
            command = shlex.join(["rsearch", "config", "set", settings.PROJECT_HOMES, *self._agreed, wanted])
            told.append(
                f"{self.project.path} wants the home {wanted}, and a home also says where keys may be sent: "
                f"if you trust it, say so once with `{command}`, else use --home"
            )
        return told

    @property
    def _wanted_home(self) -> str | None:
        wanted = None if self.project is None else self.project.values.get((), {}).get("home")
        return None if wanted is None else os.path.realpath(wanted)

    @property
    def _agreed(self) -> list[str]:
        """The homes that projects may name, by the user's own file."""
        return list(self.own_file.values.get((), {}).get(settings.PROJECT_HOMES, []))

    def find(self, setting: Setting) -> Found:
        """What a setting is where the command line does not say it."""
        if setting.table == () and setting.key == "home":
            return self.home
        variable = settings.VARIABLES.get(setting.key)
        if variable and (said := os.environ.get(variable, "").strip()):
            return Found(said, f"${variable}")
        for number, file in enumerate(self.files):
            value = file.get(setting)
            if value is None or self._outdone(setting, number):
                continue
            return Found(value, str(file.path), file)
        return Found(setting.default)

    def _outdone(self, setting: Setting, number: int) -> bool:
        """Whether a nearer file says what excludes this setting."""
        siblings = self.schema.tables.get(setting.table, {})
        rivals = [siblings[key] for key in settings.RIVALS.get(setting.key, ()) if key in siblings]
        return any(file.get(rival) is not None for file in self.files[:number] for rival in rivals)


class Defaults(dict[str, Any]):
    """The default map of one command. It is asked after all that the command line says has been read."""

    def __init__(self, context: Any, configuration: Configuration, table: settings.Path) -> None:
        super().__init__()
        self._context = context
        self._helps = context.resilient_parsing  # while words are completed
        self._configuration = configuration
        self._table = table
        self._told: dict[str, Found] = context.meta.setdefault(APPLIED, {})

    @cached_property
    def _settings(self) -> dict[str, Setting]:
        """The settings of the command, by the names of its parameters."""
        table = self._configuration.schema.tables.get(self._table, {})
        return {setting.parameter: setting for setting in table.values()}

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a parameter, None where no file says it. Raises ConfigError for a wrong file."""
        if not any(file.exists for file in self._configuration.files):
            return default
        if self._context.resilient_parsing and not self._helps:
            return default  # help shows what is built in
        if not self._helps and (problems := self._configuration.problems):
            raise ConfigError(problems[0])
        setting = self._settings.get(key)
        if setting is None or any(self._is_given(rival) for rival in settings.RIVALS.get(setting.key, ())):
            return default
        found = self._configuration.find(setting)
        if found.file is None or not self._fits(setting, found.file):
            return default
        self._told[setting.key] = found
        return found.value

    def _is_given(self, key: str) -> bool:
        source = self._context.get_parameter_source(key.replace("-", "_"))
        return source is not None and source.name == "COMMANDLINE"

    def _fits(self, setting: Setting, file: ConfigFile) -> bool:
        """Whether what is said of an embedder is meant for the one that runs."""
        chosen = self._settings.get("embedder")
        if setting.key not in settings.BOUND or chosen is None:
            return True
        runs = self._context.params.get("embedder", chosen.default)
        meant = file.get(chosen)
        if meant is not None:
            return bool(meant == runs)
        from resizable_search.embedders import registry

        try:
            return setting.parameter in registry.parameters(runs)
        except RsearchError:  # there is no such embedder, which is told where it is made
            return True


def use_files(context: typer.Context, home: Path | None) -> Path | None:
    """Callback of every `--home`: what files say becomes the command's defaults. The home that is meant."""
    try:
        configuration = Configuration(Schema(context.find_root().command), home)
        context.default_map = Defaults(context, configuration, command_path(context))
        found = configuration.home
    except Exception:
        if context.resilient_parsing:
            return home
        raise
    return found.value if found.file is not None else home


def command_path(context: Any) -> settings.Path:
    """The command of a context, as its table is called."""
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return tuple(names)


def hint(context: Any, message: str) -> str:
    """Which file said what this message complains of; '' if none did."""
    applied: dict[str, Found] = context.meta.get(APPLIED, {})
    for key, found in applied.items():
        words = f"{re.escape(key)}|{re.escape(str(found.value))}"
        if re.search(rf"(?<![\w-])({words})(?![\w-])", message):
            return f" ({found.origin} says {key} = {found.value})"
    return ""
