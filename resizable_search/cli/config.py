"""`rsearch config`: what the options of the commands are where nobody gives them, and where that is said."""

from pathlib import Path
from typing import Annotated, Any

import typer

from resizable_search.cli import completion, settings
from resizable_search.cli.configured import Configuration
from resizable_search.cli.options import BareHomeOption, JsonOption
from resizable_search.cli.settings import Schema, Setting
from resizable_search.errors import ConfigError, RsearchError

app = typer.Typer(invoke_without_command=True)

KeyArgument = Annotated[
    str,
    typer.Argument(
        help="A setting, such as index, query.dim or build.files.chunk.",
        metavar="KEY",
        autocompletion=completion.settings_keys,
    ),
]
ProjectOption = Annotated[
    bool,
    typer.Option("--project", help="Of the nearest pyproject.toml, not of the home."),
]


@app.callback()
def config(context: typer.Context, json: JsonOption = False, home: BareHomeOption = None) -> None:
    """Show or change the defaults of options, and where each is said.

    A value is that of the command line, else of its environment variable, else
    of the project (its table tool.rsearch in the nearest pyproject.toml, of this
    folder or one above), else of rsearch.toml in the home, else built in.

    A file has keys for all commands (index, threads, engine) and a table for
    each command, whose keys are its options without the dashes; the table build
    is for every build, build.files for one. A project may say nothing that
    decides where texts and keys are sent: docs/commands.md has the whole list.
    """
    context.meta["home"] = home
    if context.invoked_subcommand is not None:
        return
    from resizable_search.cli import render_config

    configuration = _configuration(context, None)
    render_config.listing(configuration, as_json=json)


@app.command("get")
def get(context: typer.Context, key: KeyArgument, home: BareHomeOption = None) -> None:
    """Print what a setting is; exit code 1 if nothing says it."""
    configuration = _configuration(context, home)
    setting = configuration.schema.find(key)
    found = configuration.find(setting)
    if found.value is None:
        raise RsearchError(f"{key} is not set: where it is not given, {setting.shown} is meant")
    values = found.value if isinstance(found.value, list) else [found.value]
    for value in values:
        typer.echo(value)


@app.command("set")
def set_(
    context: typer.Context,
    key: KeyArgument,
    values: Annotated[
        list[str],
        typer.Argument(
            help="Its value; several make a list.",
            metavar="VALUE...",
            autocompletion=completion.setting_values,
        ),
    ],
    project: ProjectOption = False,
    home: BareHomeOption = None,
) -> None:
    """Write a setting into a file, whose comments stay as they are."""
    configuration = _configuration(context, home)
    setting = configuration.schema.find(key)
    value = setting.read(values)
    if project and (why := settings.project_refusal(setting, value)):
        raise ConfigError(f"{key} is not taken from a project: {why}")
    if not project and key == "home":
        raise ConfigError("the home cannot say where it is: set $RSEARCH_HOME, or use --project")

    def change(table: Any) -> None:
        _table(table, setting, make=True)[setting.key] = value

    path = _edit(configuration, change, project=project)
    typer.echo(f"{key} = {value} in {path}")


@app.command("unset")
def unset(
    context: typer.Context, key: KeyArgument, project: ProjectOption = False, home: BareHomeOption = None
) -> None:
    """Take a setting out of a file, a wrong one too."""
    *table, last = key.split(".")
    setting = Setting(tuple(table), last, "", str)

    def change(found: Any) -> None:
        place = _table(found, setting, make=False)
        if not isinstance(place, dict) or last not in place:
            raise RsearchError(f"{key} is not set there: `rsearch config` shows where it is")
        del place[last]

    path = _edit(_configuration(context, home), change, project=project)
    typer.echo(f"{key} is no longer set in {path}")


@app.command("path")
def path(context: typer.Context, project: ProjectOption = False, home: BareHomeOption = None) -> None:
    """Print where the home's file is, be it there or not; with --project, the project's."""
    typer.echo(_file(_configuration(context, home), project=project))


def _configuration(context: typer.Context, home: Path | None) -> Configuration:
    return Configuration(Schema(context.find_root().command), home or context.meta.get("home"))


def _file(configuration: Configuration, *, project: bool) -> Path:
    from resizable_search.cli.config_files import nearest_project

    if not project:
        return configuration.own_file.path
    found = configuration.project.path if configuration.project is not None else nearest_project()
    if found is None:
        raise RsearchError("no pyproject.toml here or in a folder above: make one, or leave --project out")
    return found


def _edit(configuration: Configuration, change: Any, *, project: bool) -> Path:
    from resizable_search.cli import config_files

    path = _file(configuration, project=project)
    config_files.edit(path, config_files.SECTION if project else (), change)
    return path


def _table(found: Any, setting: Setting, *, make: bool) -> Any:
    """The table of a setting in a file; None where it is not there and none is to be made."""
    import tomlkit

    for name in setting.table:
        if name not in found:
            if not make:
                return None
            found[name] = tomlkit.table()
        found = found[name]
        if not isinstance(found, dict):
            raise ConfigError(f"{'.'.join(setting.table)} is no table in that file: mend it by hand")
    return found
