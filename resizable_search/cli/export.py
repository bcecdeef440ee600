"""`rsearch export`: write an index in the form of another program."""

from pathlib import Path
from typing import Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.options import HomeOption, home_of

FORMATS = ("parquet", "datasets", "faiss-flat", "faiss-pq", "usearch")


def export(
    index: Annotated[str, typer.Argument(help="Index by name or folder.", autocompletion=completion.indexes)],
    dest: Annotated[Path, typer.Argument(help="The file (of parquet) or folder to write.")],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "--to",
            autocompletion=completion.export_formats,
            help=f"One of {', '.join(FORMATS)}.",
            show_default="parquet where DEST ends in .parquet",
        ),
    ] = None,
    dim: Annotated[
        int | None,
        typer.Option(
            help="Cut the rows to their first so many dimensions, renormalised.", show_default="the full one"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    home: HomeOption = None,
) -> None:
    """Write documents and rows for other programs, and check them with the library that reads them."""
    from resizable_search.cli import render_living
    from resizable_search.cli.progress import shown_progress
    from resizable_search.cli.signals import stop_on_signal
    from resizable_search.export import export as exporting
    from resizable_search.store.layout import resolve_index

    form = exporting.format_of(format, dest).name
    folder = resolve_index(index, home_of(home))
    with shown_progress() as progress, stop_on_signal() as stop:
        done = exporting.export(folder, dest, form, dim=dim, force=force, progress=progress, stop=stop)
    render_living.exported(done, dest)
