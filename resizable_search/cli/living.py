"""`rsearch add`, `delete` and `compact`: change an index that is there."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.options import HomeOption, IndexArgument, home_of, index_name
from resizable_search.errors import RsearchError, UsageError


def add(
    index: Annotated[str, typer.Argument(help="Index by name or folder.", autocompletion=completion.indexes)],
    files: Annotated[
        list[Path], typer.Argument(help="Files of documents (id, title, url, text): JSON lines or Parquet.")
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
    refused, or with --replace takes its place. Killed, the same command goes on.
    """
    from resizable_search.build_options import BuildOptions
    from resizable_search.cli import render_indexes
    from resizable_search.cli.options import command_to_go_on
    from resizable_search.cli.progress import shown_progress
    from resizable_search.cli.stopping import stop_on_signal
    from resizable_search.index.locate import find_index
    from resizable_search.living import addition

    folder = find_index(index, home_of(home))
    options = BuildOptions(
        folder.resolve().name,
        concurrency=concurrency,
        requests_per_minute=rate,
        command=command_to_go_on(),
    )
    with shown_progress() as progress, stop_on_signal() as stop:
        report = addition.add(folder, files, replace=replace, options=options, progress=progress, stop=stop)
    render_indexes.build_report(report, None, "", "", home)


def delete(
    index: Annotated[str, typer.Argument(help="Index by name or folder.", autocompletion=completion.indexes)],
    ids: Annotated[
        list[str],
        typer.Argument(
            autocompletion=completion.ids, help="Ids of documents; - reads them from stdin, one a line."
        ),
    ],
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
    from resizable_search.cli import render_living
    from resizable_search.index.locate import find_index
    from resizable_search.living import deletion
    from resizable_search.wording import counted

    folder = find_index(index, home_of(home))
    wanted = _read_ids(ids)
    found = deletion.deletion(folder, wanted, missing_ok=missing_ok)
    if not dry_run and found.rows:
        if not yes:
            if sys.stdin is None or not sys.stdin.isatty():
                raise RsearchError("nobody is there to be asked: give the same command with --yes")
            typer.confirm(
                f"delete {counted(len(found.rows), 'document')} of {found.index}?", abort=True, err=True
            )
        found = deletion.delete(folder, wanted, missing_ok=missing_ok)
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
        raise UsageError("no id was given: name documents by the ids that `rsearch query --json` shows")
    return list(dict.fromkeys(found))


def compact(index: IndexArgument = None, home: HomeOption = None) -> None:
    """Make an index one part again, without a byte of what was deleted; answers stay as they are.

    Whoever has the index open keeps it as it was. It takes as much disk again
    as the index while it runs.
    """
    from resizable_search.cli import render_living
    from resizable_search.cli.progress import shown_progress
    from resizable_search.cli.stopping import stop_on_signal
    from resizable_search.index.locate import find_index
    from resizable_search.living import compaction

    places = home_of(home)
    folder = find_index(index_name(index, places), places)
    with shown_progress() as progress, stop_on_signal() as stop:
        done = compaction.compact(folder, progress, stop)
    render_living.compacted(done)
