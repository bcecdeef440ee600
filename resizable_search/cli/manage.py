"""`rsearch list`, `info`, `remove` and `doctor`: what there is, and whether all is in order."""

import itertools
import sys
from dataclasses import replace
from typing import Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.app import with_flags
from resizable_search.cli.options import (
    BareHomeOption,
    HomeOption,
    IndexArgument,
    JsonOption,
    home_of,
    index_name,
)
from resizable_search.errors import RsearchError


def list_indexes(json: JsonOption = False, home: HomeOption = None) -> None:
    """List the indexes of the home, and the builds that are not finished."""
    from resizable_search.admin.overview import overview
    from resizable_search.cli import render_indexes

    places = home_of(home)
    render_indexes.listing(overview(places), places.path, as_json=json)


def info(index: IndexArgument = None, json: JsonOption = False, home: HomeOption = None) -> None:
    """Show what an index is made of, what it weighs, and what a query costs."""
    from resizable_search.admin.overview import describe_index
    from resizable_search.cli import render_indexes
    from resizable_search.search.index import open_index

    places = home_of(home)
    with open_index(index_name(index, places), home=places.path) as opened:
        render_indexes.info(describe_index(opened), as_json=json)


def remove(
    index: Annotated[
        str, typer.Argument(help="Index by name or folder.", autocompletion=completion.indexes_and_builds)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: HomeOption = None,
) -> None:
    """Delete an index, or a build that is not finished.

    Its folder goes, and what is kept about it beside it. Only what is an index
    is deleted: a folder that holds anything else is refused.
    """
    from resizable_search.build import delete as removal
    from resizable_search.cli import render_indexes

    places = home_of(home)
    target = removal.plan_removal(index, places)
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise RsearchError(f"nobody is there to be asked: say `rsearch remove {index} --yes`")
        typer.confirm(f"delete {target.words}?", abort=True, err=True)
    render_indexes.removed(target, removal.remove(target))


def warm(
    index: Annotated[
        str | None,
        typer.Argument(
            autocompletion=completion.indexes,
            help="Index to derive int8 tiers and sign bits for, if it has none.",
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Compile the engine's kernels now, so that no query does without; a large build does so too.

    A query never compiles: without compiled kernels numpy searches, with the
    same answer, only slower.
    """
    from resizable_search.admin import doctor as warming
    from resizable_search.cli.progress import shown_progress

    with shown_progress() as progress:
        done = warming.warm(home_of(home), index, progress)
    for words in done:
        typer.echo(words)


def doctor(context: typer.Context, home: BareHomeOption = None, json: JsonOption = False) -> None:
    """Tell whether configuration, credentials, hub, disk and kernels are in order, each with its remedy."""
    from resizable_search.admin.doctor import HealthCheck, examine
    from resizable_search.cli import output, render_indexes
    from resizable_search.cli.configured import Configuration
    from resizable_search.cli.settings import Schema
    from resizable_search.store.layout import Home

    configuration = Configuration(Schema(context.find_root().command), home)
    told = [HealthCheck("configuration", "wrong", problem) for problem in configuration.problems]
    if not told:
        there = [str(file.path) for file in configuration.files if file.exists]
        told = [HealthCheck("configuration", "ok", ", ".join(there) or "no file")]
    findings = []
    for finding in itertools.chain(told, examine(Home(configuration.home.value))):
        finding = replace(finding, words=with_flags(finding.words))
        findings.append(finding)
        if not json:
            render_indexes.finding(finding)
    if json:
        output.json_object(findings)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)
