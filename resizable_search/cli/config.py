"""`rsearch config`: show and change the defaults of options."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument

from resizable_search.cli.options import HomeOption, JsonOption
from resizable_search.cli.output import json_object, note
from resizable_search.cli.settings import Configuration, Value, read_toml
from resizable_search.errors import ConfigError, RsearchError
from resizable_search.system import HOME_VARIABLE
from resizable_search.text import plain, without_surrogates

app = typer.Typer(invoke_without_command=True)

KeyArgument = Annotated[str, Argument(help="Setting: index, query.dim, build.files.chunk, …", metavar="KEY")]


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
    rows = [("home", Value(str(configuration.home.path), origin)), *_listed(configuration)]
    problems = [*configuration.problems, *configuration.warnings]
    if json:
        files = [
            {"path": str(file.path), "exists": file.exists, "project": file.is_project}
            for file in configuration.files
        ]
        settings = [{"key": key, "value": v.value, "from": v.origin or "default"} for key, v in rows]
        json_object({"files": files, "problems": problems, "settings": settings})
        return
    from resizable_search.cli.tables import columns_of, show_table, styled, wrapped

    cells = []
    for key, (value, origin) in rows:
        words = ", ".join(value) if isinstance(value, list) else "–" if value is None else str(value)
        cells.append((key, plain(words), plain(origin)))

    def style(row: int, line: str) -> str:
        return styled(line, "" if rows[row][1].origin else "dim")

    show_table(columns_of(("setting", "value", "from"), cells, give=True, fit=wrapped, style=style))
    sys.stdout.flush()
    for problem in problems:
        note(problem)


def _listed(configuration: Configuration) -> Iterator[tuple[str, Value]]:
    """Each setting and its value; of a table only what differs from the table above it."""
    for table in sorted(configuration.tables(), key=lambda table: (len(table) > 0, table)):
        for setting in configuration.table(table).values():
            value = configuration.value_of(setting)
            above = configuration.table(table[:-1]).get(setting.key) if table else None
            if above is None or list(map(str, value)) != list(map(str, configuration.value_of(above))):
                yield setting.name, value


@app.command("set")
def set_(
    context: typer.Context,
    key: KeyArgument,
    values: Annotated[list[str], Argument(help="Value; several make a list.", metavar="VALUE...")],
    home: HomeOption = None,
) -> None:
    """Write a setting into rsearch.toml; comments and order stay."""
    configuration = _configuration(context, home)
    setting = configuration.find(key)
    if any(word != without_surrogates(word) for word in values):
        raise ConfigError(f"{key}: the value is not UTF-8, and a file of settings must be: write it in UTF-8")
    value = setting.parsed(values)
    _edit(configuration.own.path, key, value)
    typer.echo(f"{key} = {value} in {configuration.own.path}")


@app.command("unset")
def unset(context: typer.Context, key: KeyArgument, home: HomeOption = None) -> None:
    """Remove a setting from rsearch.toml, also an unknown one."""
    path = _configuration(context, home).own.path
    _edit(path, key, None)
    typer.echo(f"{key} is no longer set in {path}")


def _configuration(context: typer.Context, home: Path | None) -> Configuration:
    return Configuration(context.find_root().command, home or context.meta.get("home"))


def _edit(path: Path, key: str, value: Any) -> None:
    """Set a key of a file, or remove it if `value` is None; the rest stays as it is.

    Raises ConfigError if the file is not TOML, StorageError if it cannot be written.
    """
    import tomlkit

    from resizable_search.system import CHECK, make_home, replace_file, storage_errors

    target = Path(os.path.realpath(path))  # a link stays one
    document = read_toml(target, "tomlkit")
    mode = None if document is None else stat.S_IMODE(target.stat().st_mode)
    document = table = tomlkit.document() if document is None else document
    *names, last = key.split(".")
    for name in names:
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
