"""`rsearch add`, `delete` and `compact`: change an index that is there."""

import sys
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from resizable_search.cli import completion
from resizable_search.cli.options import HomeOption, IndexArgument, home_of, index_name, piped_in
from resizable_search.errors import RsearchError, UsageError

STDIN = Path("-")


def add(
    index: Annotated[str, typer.Argument(help="Index by name or folder.", autocompletion=completion.indexes)],
    files: Annotated[
        list[Path],
        typer.Argument(help="Files and folders, as for `build files`; `-` reads JSON lines from stdin."),
    ],
    replace: Annotated[
        bool, typer.Option("--replace", help="Let a document take the place of the one that has its id.")
    ] = False,
    concurrency: Annotated[
        int | None, typer.Option(help="Requests under way at once.", show_default="8 for nomic")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Requests a minute at most.", show_default="240 at Nomic's own service, else no limit"
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Take documents of files into an index; it costs what they cost, not what the index weighs.

    A document that is there just so is passed over; another one of its id is
    refused, or with --replace takes its place. Killed, the same command resumes.
    """
    from resizable_search.build import add as addition
    from resizable_search.build.workspace import BuildOptions
    from resizable_search.cli import render_indexes
    from resizable_search.cli.options import command_to_go_on
    from resizable_search.cli.progress import shown_progress
    from resizable_search.cli.signals import stop_on_signal
    from resizable_search.store.layout import resolve_index

    folder = resolve_index(index, home_of(home))
    options = BuildOptions(
        folder.resolve().name,
        concurrency=concurrency,
        requests_per_minute=rate,
        command=command_to_go_on(),
    )
    if STDIN in files and len(files) > 1:
        raise UsageError("stdin is read alone: add what is piped in, and then the files")
    given: list[Path | BinaryIO] = [piped_in() if file == STDIN else file for file in files]
    with shown_progress() as progress, stop_on_signal() as stop:
        report = addition.add(folder, given, replace=replace, options=options, progress=progress, stop=stop)
    render_indexes.build_report(report, None, "", "", home)


def delete(
    index: Annotated[str, typer.Argument(help="Index by name or folder.", autocompletion=completion.indexes)],
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            autocompletion=completion.ids,
            help="Ids of documents; - reads them from stdin, one a line.",
            show_default="those of --where",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            "--where",
            help="Delete the documents of which this SQL expression is true, as `rsearch query` takes it.",
            show_default="by ids",
        ),
    ] = None,
    missing_ok: Annotated[
        bool, typer.Option("--missing-ok", help="Pass over ids that there are not.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it would do; write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: HomeOption = None,
) -> None:
    """Have documents never be found again; `rsearch compact` takes them off the disk.

    An id that there is not deletes nothing at all, unless --missing-ok.
    """
    from resizable_search.build import delete as deletion
    from resizable_search.cli import render_living
    from resizable_search.store.layout import resolve_index
    from resizable_search.text import counted

    if where is not None and (ids or missing_ok):
        raise UsageError("--where chooses documents by itself: give either it or ids")
    folder = resolve_index(index, home_of(home))
    wanted = [] if where is not None else _read_ids(ids or [])
    found = deletion.plan_deletion(folder, wanted, where=where, missing_ok=missing_ok)
    if not dry_run and found.rows:
        if not yes:
            documents = counted(len(found.rows), "document")
            if sys.stdin is None or not sys.stdin.isatty():
                raise RsearchError(
                    f"nobody is there to be asked to delete {documents}: give the same command with --yes"
                )
            typer.confirm(f"delete {documents} of {found.index}?", abort=True, err=True)
        confirmed = found if where is not None and not yes else None
        found = deletion.delete(folder, wanted, where=where, missing_ok=missing_ok, confirmed=confirmed)
    render_living.deleted(found, dry_run=dry_run)


def _read_ids(words: list[str]) -> list[str]:
    """The ids that are meant, each once, in order. Raises UsageError where there are none."""
    found: list[str] = []
    for word in words:
        if word == "-":
            found += [line for raw in sys.stdin or () if (line := raw.rstrip("\r\n"))]
        else:
            found.append(word)
    if not found:
        raise UsageError(
            "no id was given: name documents by the ids that `rsearch query --json` shows, or with --where"
        )
    return list(dict.fromkeys(found))


def compact(index: IndexArgument = None, home: HomeOption = None) -> None:
    """Make an index one part again, without a byte of what was deleted; answers stay as they are.

    Whoever has the index open keeps it as it was. It takes as much disk again
    as the index while it runs.
    """
    from resizable_search.build import compact as compaction
    from resizable_search.cli import render_living
    from resizable_search.cli.progress import shown_progress
    from resizable_search.cli.signals import stop_on_signal
    from resizable_search.store.layout import resolve_index

    places = home_of(home)
    folder = resolve_index(index_name(index, places), places)
    with shown_progress() as progress, stop_on_signal() as stop:
        done = compaction.compact(folder, progress, stop)
    render_living.compacted(done)
