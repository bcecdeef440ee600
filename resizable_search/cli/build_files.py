"""`rsearch build files`: an index of the user's own text, in files, folders or a pipe."""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resizable_search.cli import build
from resizable_search.cli.arguments import takes
from resizable_search.cli.build_arguments import BuildArguments
from resizable_search.cli.options import (
    ChunkOption,
    ChunkOverlapOption,
    IdColumnOption,
    MetadataOption,
    TextColumnOption,
    TitleColumnOption,
    UrlColumnOption,
    parse_words,
    piped_in,
    uncut,
)
from resizable_search.errors import UsageError

if TYPE_CHECKING:
    from resizable_search.corpora.files.corpus import TextCorpus
    from resizable_search.progress import Progress

STDIN = "-"


@takes(BuildArguments, chars=None)
def files(
    options: BuildArguments,
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders and patterns; `-` reads JSON lines from stdin.", metavar="PATH..."
        ),
    ],
    text_column: TextColumnOption = None,
    id_column: IdColumnOption = None,
    title_column: TitleColumnOption = None,
    url_column: UrlColumnOption = None,
    metadata: MetadataOption = None,
    chunk: ChunkOption = None,
    chunk_overlap: ChunkOverlapOption = 0,
) -> None:
    """Your own text: folders and files of text, Markdown, reST, HTML, PDF, JSON lines, CSV, Parquet.

    Texts are cut to their first 1,200 characters, unless --chunk or --chars
    says otherwise. What cannot be read is left out, and told by name and reason.
    """
    if STDIN in paths and len(paths) > 1:
        raise UsageError("stdin is read alone: build an index of it, and another of the files")

    def corpus(progress: "Progress") -> "TextCorpus":
        how: dict[str, Any] = {
            "text_column": text_column,
            "id_column": id_column,
            "title_column": title_column,
            "url_column": url_column,
            "metadata": parse_words(metadata),
            "chunk": chunk,
            "chunk_overlap": chunk_overlap,
            "chars": uncut(options.chars, chunk, chunk_overlap),
            "progress": progress,
        }
        if STDIN in paths:
            from resizable_search.corpora.files.corpus import StdinCorpus

            return StdinCorpus(piped_in(), **how)
        from resizable_search.corpora.files.corpus import FilesCorpus

        return FilesCorpus(paths, **how)

    build.run(options, usual_name(paths) if options.name is None else "", corpus)


def usual_name(paths: list[str]) -> str:
    """What an index of these files is called: as the folder, the file, or the folder that holds them all.

    Raises UsageError where nothing has a name.
    """
    if STDIN in paths:
        raise UsageError("what is piped in has no name: give the index one with --name")
    full = [os.path.abspath(os.path.expanduser(path)) for path in paths]
    if len(full) == 1 and os.path.isfile(full[0]):
        name = os.path.basename(full[0])
        while "." in name.lstrip("."):
            name = os.path.splitext(name)[0]
        return name.lstrip(".")
    folder = full[0] if len(full) == 1 else os.path.commonpath([os.path.dirname(path) for path in full])
    while folder != "/" and not os.path.isdir(folder):  # a pattern, or what is not there
        folder = os.path.dirname(folder)
    if name := os.path.basename(folder).lstrip("."):
        return name
    raise UsageError("these files have no folder with a name in common: name the index with --name")
