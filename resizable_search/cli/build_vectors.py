"""`rsearch build vectors`: make an index of vectors that there are already."""

from pathlib import Path
from typing import Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.arguments import takes
from resizable_search.cli.build_arguments import EmbedderArguments, embedder_options
from resizable_search.cli.options import (
    DimsOption,
    HomeOption,
    LimitOption,
    NameOption,
    RestartOption,
    command_to_go_on,
    home_of,
    parse_numbers,
)


@takes(EmbedderArguments)
def vectors(
    reached: EmbedderArguments,
    file: Annotated[
        Path, typer.Argument(help="A .npy file: a vector a row, float16, float32 or float64.", metavar="FILE")
    ],
    documents: Annotated[
        Path | None,
        typer.Option(
            help="What each row is, in order: JSON lines or Parquet with any of id, title, url, text.",
            show_default="the row's number",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model that made the vectors, e.g. nomic-embed-text-v1.5.")
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.embedders,
            help="What embeds queries with that model, e.g. nomic-local.",
            show_default="by the model",
        ),
    ] = None,
    name: NameOption = None,
    limit: LimitOption = None,
    dims: DimsOption = None,
    restart: RestartOption = False,
    home: HomeOption = None,
) -> None:
    """Embeddings that you have already, in a .npy file.

    They are checked, normalised and stored with smaller dimensions, as every
    index is; the file is not changed, nor needed afterwards.
    """
    numbers = parse_numbers(dims, "--dims")

    from resizable_search.build.vectors import build_vectors
    from resizable_search.build.workspace import BuildOptions
    from resizable_search.cli import render_indexes
    from resizable_search.cli.progress import shown_progress
    from resizable_search.cli.signals import stop_on_signal
    from resizable_search.corpora.base import Corpus
    from resizable_search.embedders import registry
    from resizable_search.specs import EmbedderSpec

    options = BuildOptions(
        name if name is not None else file.stem,
        limit,
        numbers,
        restart=restart,
        command=command_to_go_on(),
    )
    with shown_progress() as progress, stop_on_signal() as stop:
        report = build_vectors(
            file,
            home_of(home),
            options,
            documents=documents,
            model=model,
            embedder=embedder,
            embedder_options=embedder_options(reached),
            progress=progress,
            stop=stop,
        )
    made_by = registry.embedder_class(report.manifest.embedder["kind"])
    example = Corpus.example if made_by.embeds else ""
    remark = made_by.remark_on(EmbedderSpec.from_json(report.manifest.embedder))
    render_indexes.build_report(report, limit, remark, example, home)
