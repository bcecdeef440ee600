"""`rsearch config`: show and change the defaults of options."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from resizable_search.cli import completion
from resizable_search.cli.options import HomeOption, JsonOption
from resizable_search.cli.output import json_object, note
from resizable_search.cli.settings import SECTION, Configuration, Value, project_paths, read_toml
from resizable_search.errors import ConfigError, RsearchError
from resizable_search.system import HOME_VARIABLE
from resizable_search.text import plain, without_surrogates


@completion.source
def _keys(context: typer.Context, incomplete: str) -> list[str]:
    """Settings, up to the next dot: there are some hundred."""
    names = [name.split(".") for name in Configuration(context.find_root().command).names()]
    depth = incomplete.count(".")
    return [".".join(name[: depth + 1]) + ("." if len(name) > depth + 1 else "") for name in names]


@completion.source
def _values(context: typer.Context, incomplete: str) -> list[str]:
    """Values, from the source of the option itself."""
    setting = Configuration(context.find_root().command).find(context.params["key"])
    return [item.value for item in setting.option.shell_complete(context, incomplete)]


app = typer.Typer(invoke_without_command=True)

KeyArgument = Annotated[
    str,
    Argument(help="Setting: index, query.dim, build.files.chunk, …", metavar="KEY", autocompletion=_keys),
]
ProjectOption = Annotated[bool, Option("--project", help="Use the nearest pyproject.toml, not the home.")]


@app.callback()
def config(context: typer.Context, json: JsonOption = False, home: HomeOption = None) -> None:
    """Show or change the defaults of options.

    Order: command line, environment, project (table tool.rsearch of the nearest
    pyproject.toml), rsearch.toml in the home, built in.

    Keys are options without dashes: index, threads and engine for all commands,
    others in a table for each command. Table build is for every build, and
    build.files for one of them. A project sets search and output options only.
    """
    context.meta["home"] = home
    if context.invoked_subcommand is not None:
        return
    configuration = _configuration(context, None)
    origin = f"${HOME_VARIABLE}" if os.environ.get(HOME_VARIABLE) else ""
    rows = [("home", Value(str(configuration.home.path), origin), ""), *_listed(configuration)]
    problems = [*configuration.problems, *configuration.warnings]
    if json:
        files = [
            {"path": str(file.path), "exists": file.exists, "project": file.is_project}
            for file in configuration.files
        ]
        settings = [{"key": key, "value": v.value, "from": v.origin or "default"} for key, v, _ in rows]
        json_object({"files": files, "problems": problems, "settings": settings})
        return
    from rich.text import Text

    from resizable_search.cli.tables import borderless, show_table

    names = ("setting", "value", "from")
    table = borderless(*names, fold=names)
    for key, value, shown in rows:
        words = ", ".join(value.value) if isinstance(value.value, list) else str(value.value)
        style = "" if value.origin else "dim"
        cell = f"({shown})" if value.value is None else plain(words)
        table.add_row(Text(key, style=style), Text(cell, style=style), Text(plain(value.origin)))
    show_table(table)
    sys.stdout.flush()
    for problem in problems:
        note(problem)


def _listed(configuration: Configuration) -> Iterator[tuple[str, Value, str]]:
    """Each setting, its value and its words; of a table only what differs from the table above it."""
    for table in sorted(configuration.tables(), key=lambda table: (len(table) > 0, table)):
        for setting in configuration.table(table).values():
            value = configuration.value_of(setting)
            above = configuration.table(table[:-1]).get(setting.key) if table else None
            if above is None or list(map(str, value)) != list(map(str, configuration.value_of(above))):
                yield setting.name, value, setting.shown


@app.command("get")
def get(context: typer.Context, key: KeyArgument, home: HomeOption = None) -> None:
    """Print a setting; exit code 1 if it is not set."""
    configuration = _configuration(context, home)
    setting = configuration.find(key)
    value = configuration.value_of(setting).value
    if value is None:
        raise RsearchError(f"{key} is not set: the default is {setting.shown}")
    for line in value if isinstance(value, list) else [value]:
        typer.echo(line)


@app.command("set")
def set_(
    context: typer.Context,
    key: KeyArgument,
    values: Annotated[
        list[str], Argument(help="Value; several make a list.", metavar="VALUE...", autocompletion=_values)
    ],
    project: ProjectOption = False,
    home: HomeOption = None,
) -> None:
    """Write a setting into a file; comments and order stay."""
    setting = _configuration(context, home).find(key)
    if any(word != without_surrogates(word) for word in values):
        raise ConfigError(f"{key}: the value is not UTF-8, and a file of settings must be: write it in UTF-8")
    value = setting.parsed(values)
    if project and not setting.is_of_projects:
        raise ConfigError(f"{key} is not for projects: a project sets search and output options only")
    path = _edit(_path(context, home, project=project), key, value, project=project)
    typer.echo(f"{key} = {value} in {path}")


@app.command("unset")
def unset(
    context: typer.Context, key: KeyArgument, project: ProjectOption = False, home: HomeOption = None
) -> None:
    """Remove a setting from a file, also an unknown or wrong one."""
    path = _edit(_path(context, home, project=project), key, None, project=project)
    typer.echo(f"{key} is no longer set in {path}")


@app.command("path")
def path(context: typer.Context, project: ProjectOption = False, home: HomeOption = None) -> None:
    """Print the path of the home's file, or of the project's."""
    typer.echo(_path(context, home, project=project))


def _configuration(context: typer.Context, home: Path | None) -> Configuration:
    return Configuration(context.find_root().command, home or context.meta.get("home"))


def _path(context: typer.Context, home: Path | None, *, project: bool) -> Path:
    configuration = _configuration(context, home)
    if not project:
        return configuration.own.path
    if configuration.project is not None:
        return configuration.project.path
    for path in project_paths():
        return path
    raise RsearchError("no pyproject.toml here or in a folder above: make one, or leave --project out")


def _edit(path: Path, key: str, value: Any, *, project: bool) -> Path:
    """Set a key of a file, or remove it if `value` is None; the rest stays as it is. Returns `path`.

    Raises ConfigError if the file is not TOML, StorageError if it cannot be written.
    """
    import tomlkit

    from resizable_search.system import CHECK, make_home, replace_file, storage_errors

    target = Path(os.path.realpath(path))  # a link stays one
    document = read_toml(target, tomlkit.parse)
    mode = None if document is None else stat.S_IMODE(target.stat().st_mode)
    document = table = tomlkit.document() if document is None else document
    *names, last = key.split(".")
    for name in (*SECTION, *names) if project else names:
        table = table.setdefault(name, tomlkit.table())
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {name} is not a table: correct the file")
    if value is not None:
        table[last] = value
    elif table.pop(last, None) is None:
        raise RsearchError(f"{key} is not set there: `rsearch config` shows every setting and its file")
    make_home(target.parent)
    with storage_errors(target.parent, CHECK):
        replace_file(target, tomlkit.dumps(document).encode())
        if mode is not None:
            target.chmod(mode)
    return path
