"""`rsearch build hf`: an index of any dataset of the hub."""

from typing import TYPE_CHECKING, Annotated

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
    uncut,
)
from resizable_search.errors import UsageError

if TYPE_CHECKING:
    from resizable_search.corpora.hub import HubCorpus
    from resizable_search.progress import Progress


@takes(BuildArguments, chars=None)
def hf(
    options: BuildArguments,
    repo: Annotated[str, typer.Argument(help="The dataset, such as wikimedia/wikipedia.", metavar="REPO")],
    config: Annotated[
        str | None, typer.Option("--config", help="Its configuration.", show_default="the only one")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Its split.")] = "train",
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="A branch, a tag or a commit.", show_default="main as it is now"),
    ] = None,
    text_column: TextColumnOption = None,
    id_column: IdColumnOption = None,
    title_column: TitleColumnOption = None,
    url_column: UrlColumnOption = None,
    metadata: MetadataOption = None,
    shuffle_seed: Annotated[
        int | None,
        typer.Option(
            "--shuffle-seed",
            help="Take rows in a random order over the whole split, so that --limit draws a sample.",
            show_default="the order of the files",
        ),
    ] = None,
    chunk: ChunkOption = None,
    chunk_overlap: ChunkOverlapOption = 0,
) -> None:
    """Any dataset of the hub (huggingface.co), streamed.

    Texts are cut to their first 1,200 characters, unless --chunk or --chars
    says otherwise. Rows come in the order of the files: --shuffle-seed samples.
    """
    if shuffle_seed is not None and shuffle_seed < 0:
        raise UsageError(f"--shuffle-seed must be 0 or more, not {shuffle_seed}")
    named = {"text": text_column, "id": id_column, "title": title_column, "url": url_column}

    def corpus(progress: "Progress") -> "HubCorpus":
        from resizable_search.corpora.hub import HubCorpus

        return HubCorpus(
            repo=repo,
            config=config,
            split=split,
            revision=revision,
            chars=uncut(options.chars, chunk, chunk_overlap),
            columns={field: column for field, column in named.items() if column is not None},
            optional=[field for field, column in named.items() if column is None and field != "text"],
            metadata=parse_words(metadata),
            chunk=chunk,
            chunk_overlap=chunk_overlap,
            shuffle_seed=shuffle_seed,
            progress=progress,
        )

    build.run(options, repo.rpartition("/")[2], corpus)
