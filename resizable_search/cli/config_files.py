"""The files that configuration is read from: `rsearch.toml` of the home, and a project's pyproject.toml.

They are found as ruff and black find theirs: `[tool.rsearch]` of the nearest pyproject.toml that has
one, from the current folder upwards. A wrong file is told in its problems; nothing here is raised for it.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resizable_search.cli import settings
from resizable_search.cli.settings import Schema, Setting
from resizable_search.errors import ConfigError
from resizable_search.store.layout import NAMES, Home
from resizable_search.text import clipped, quoted

PROJECT = "pyproject.toml"
SECTION = ("tool", "rsearch")
MOST_BYTES = 1_000_000
"""Of a file that somebody wrote by hand."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What one file says: checked values by table and key, and what is wrong with it, a line each."""

    path: Path
    is_project: bool
    exists: bool = False
    values: Mapping[settings.Path, Mapping[str, Any]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def get(self, setting: Setting) -> Any:
        """What it says of a setting: in its own table, a group's above it, or at the top level; else None."""
        for end in range(len(setting.table), -1, -1):
            if end or not setting.table or setting.key in settings.SHARED:
                value = self.values.get(setting.table[:end], {}).get(setting.key)
                if value is not None and not (setting.is_argument and end):
                    return str(value) if end == 0 and setting.many == "," else value
        return None


def home_file(home: Home, schema: Schema) -> ConfigFile:
    """What the home's own file says."""
    return _read(home.path / NAMES.config, schema, is_project=False)


def project_file(schema: Schema, start: Path | None = None) -> ConfigFile | None:
    """What the nearest pyproject.toml with a `[tool.rsearch]` says; None without any."""
    for folder in _upwards(start):
        path = folder / PROJECT
        content = _content(path)
        if isinstance(content, bytes) and b"rsearch" in content:
            found = _read(path, schema, is_project=True)
            if found.problems or found.exists:
                return found
    return None


def nearest_project(start: Path | None = None) -> Path | None:
    """The nearest pyproject.toml, whatever it says."""
    return next((folder / PROJECT for folder in _upwards(start) if (folder / PROJECT).is_file()), None)


def _upwards(start: Path | None) -> Iterator[Path]:
    """The folder and its parents; none if the current one is gone."""
    try:
        here = Path.cwd() if start is None else start
    except OSError:
        return
    yield from (here, *here.parents)


def _content(path: Path) -> bytes | str | None:
    """What a file holds, in words why it cannot be read, or None if there is none."""
    try:
        if not os.path.exists(path):  # nor what lies where nobody may look, which the command tells better
            return None
        if not path.is_file():
            return "it is no file"
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None  # no home could lie there, which the command itself tells
        return error.strerror or "it cannot be read"
    return content if len(content) <= MOST_BYTES else f"it has more than {MOST_BYTES:,} bytes"


def _read(path: Path, schema: Schema, *, is_project: bool) -> ConfigFile:
    content = _content(path)
    if content is None:
        return ConfigFile(path, is_project)
    if isinstance(content, str):
        return ConfigFile(path, is_project, True, problems=(f"{path}: {content}",))
    import tomllib  # only a file needs it

    try:
        data: Any = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        return ConfigFile(path, is_project, True, problems=(f"{path} is no TOML ({clipped(str(error))})",))
    if is_project:
        for name in SECTION:
            data = data.get(name, {}) if isinstance(data, dict) else {}
        if not data:  # another's file, which speaks of rsearch elsewhere
            return ConfigFile(path, is_project)
    values, problems = checked(data, schema, path, is_project=is_project)
    return ConfigFile(path, is_project, True, values, tuple(problems))


def checked(
    data: Any, schema: Schema, path: Path, *, is_project: bool
) -> tuple[dict[settings.Path, dict[str, Any]], list[str]]:
    """The values of a file that make sense, by table and key; and what is wrong with the others."""
    values: dict[settings.Path, dict[str, Any]] = {}
    problems: list[str] = []

    def refuse(name: str, why: str) -> None:
        problems.append(f"{path}: {clipped(name) if len(name) < 60 else quoted(name)} {why}")

    def take(table: settings.Path, found: Mapping[str, Any]) -> None:
        for key, value in found.items():
            name = ".".join((*table, key))
            setting = schema.tables.get(table, {}).get(key)
            if setting is None and isinstance(value, dict) and (*table, key) in schema.tables:
                take((*table, key), value)
            elif setting is None:
                refuse(name, f"is no setting{schema.nearest(name)}")
            elif is_project and (why := settings.project_refusal(setting, value)):
                refuse(name, f"is not taken from a project: {why}")
            elif not is_project and name == "home":
                refuse(name, "is said by the project or by $RSEARCH_HOME: the home cannot say where it is")
            else:
                try:
                    taken = setting.checked(value)
                except ConfigError as error:
                    problems.append(f"{path}: {error}")
                else:
                    values.setdefault(table, {})[key] = _placed(setting, taken, path)

    take((), data if isinstance(data, dict) else {})
    return values, problems


def _placed(setting: Setting, value: Any, path: Path) -> Any:
    """The value; a path in it is meant from the file's folder, and `~` is the user's."""
    is_path = setting.key == "home" or (setting.key == "index" and "/" in value)
    return str(path.parent / os.path.expanduser(value)) if is_path else value


def edit(path: Path, section: tuple[str, ...], change: Callable[[Any], None]) -> None:
    """Change a file's table and leave the rest of it, comments too, as it is; in one step.

    `change` gets the table, made if it is not there. Raises ConfigError if the file is no TOML, StorageError
    if it cannot be written.
    """
    import stat

    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    from resizable_search.system import CHECK, make_home, replace_file, storage_errors

    path = Path(os.path.realpath(path))  # a link stays one
    content = _content(path)
    if isinstance(content, str):
        raise ConfigError(f"{path}: {content}")
    try:
        document = tomlkit.parse((content or b"").decode())
        table: Any = document
        for name in section:
            if name not in table:
                table[name] = tomlkit.table(is_super_table=name == "tool")
            table = table[name]
            if not isinstance(table, dict):
                raise ConfigError(f"{path}: {name} is no table: mend the file")
        change(table)
        written = tomlkit.dumps(document).encode()
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no TOML ({clipped(str(error))}): mend it by hand") from None
    make_home(path.parent)
    with storage_errors(path.parent, CHECK):
        mode = stat.S_IMODE(path.stat().st_mode) if content is not None else None
        replace_file(path, written)
        if mode is not None:
            path.chmod(mode)
