"""`rsearch build`: make an index of a corpus, or of vectors."""

import functools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from resizable_search.cli import completion, render_build
from resizable_search.cli.options import BuildArguments, TextArguments, is_given, parse_words, piped_in, takes
from resizable_search.cli.settings import ConfiguredCommand
from resizable_search.errors import UsageError
from resizable_search.store.layout import home_of

if TYPE_CHECKING:
    from resizable_search.build.report import BuildReport
    from resizable_search.corpora.base import Corpus
    from resizable_search.progress import Progress

STDIN = "-"
app = typer.Typer(
    no_args_is_help=True,
    help="Build an index.\n\nRun the same command again to resume; a larger --limit extends the index.",
)

command = functools.partial(app.command, cls=ConfiguredCommand)


@command("wiki100k")
@takes(BuildArguments)
def wiki100k(options: BuildArguments, context: typer.Context) -> None:
    """Build an index of 100,000 English Wikipedia articles."""
    from resizable_search.corpora.hub import WIKI100K_ROWS, wikipedia

    limit = WIKI100K_ROWS if options.limit is None else options.limit
    if limit > WIKI100K_ROWS and is_given(context, "limit"):
        more = f"`rsearch build wiki --limit {limit}`"
        raise UsageError(f"wiki100k is the first {WIKI100K_ROWS:,} articles: for more, use {more}")
    options = replace(options, limit=min(limit, WIKI100K_ROWS))
    run(options, "wiki100k", lambda progress: wikipedia(chars=options.text_length(), progress=progress))


@command("wiki")
@takes(BuildArguments)
def wiki(
    options: BuildArguments,
    lang: Annotated[str, Option(help="Language code: en, simple, de, …")] = "en",
    date: Annotated[str, Option(help="Date of the dump.")] = "20231101",
) -> None:
    """Build an index of a Wikipedia of any language."""
    from resizable_search.corpora.hub import wikipedia

    chars = options.text_length()
    name = "wiki" if lang == "en" else f"wiki-{lang}"
    run(options, name, lambda progress: wikipedia(lang=lang, date=date, chars=chars, progress=progress))


@command("pydoc")
@takes(BuildArguments, embedder="lsa")
def pydoc(options: BuildArguments) -> None:
    """Build an index of your Python's own documentation."""
    from resizable_search.corpora.pydoc import PydocCorpus

    run(options, "pydoc", lambda _: PydocCorpus(chars=options.text_length()))


@command("vectors")
@takes(
    BuildArguments,
    without=("embedder", "model", "chars", "concurrency", "rate", "on_bad_text", "dry_run"),
)
def vectors(
    options: BuildArguments,
    file: Annotated[
        Path, Argument(help="A .npy file, one vector a row: float16, float32 or float64.", metavar="FILE")
    ],
    documents: Annotated[
        Path | None,
        Option(
            help="JSON lines or Parquet with id, title, url, text of each row.",
            show_default="row numbers as ids",
        ),
    ] = None,
    model: Annotated[
        str | None, Option(help="Model that made the vectors, e.g. nomic-embed-text-v1.5.")
    ] = None,
    embedder: Annotated[
        str | None,
        Option(
            autocompletion=completion.embedders,
            help="Embedder of queries, e.g. nomic-local.",
            show_default="by the model",
        ),
    ] = None,
) -> None:
    """Build an index of embeddings you already have, from a .npy file.

    The vectors are checked, normalised and copied: the file stays as it is and
    is not needed afterwards.
    """
    from resizable_search.build.build import build_vectors
    from resizable_search.cli.progress import shown_progress, stop_on_signal
    from resizable_search.corpora.base import Corpus
    from resizable_search.embedders import registry
    from resizable_search.specs import EmbedderSpec

    with shown_progress() as progress, stop_on_signal() as stop:
        report = build_vectors(
            file,
            home_of(options.home),
            options.build_options(file.stem),
            documents=documents,
            model=model,
            embedder=embedder,
            embedder_options=options.embedder_options(),
            progress=progress,
            stop=stop,
        )
    made_by = registry.embedder_class(report.manifest.embedder["kind"])
    example = Corpus.example if made_by.embeds else ""
    remark = made_by.remark_on(EmbedderSpec.from_json(report.manifest.embedder))
    render_build.build_report(report, options.limit, remark, example, options.home)


@command("files")
@takes(TextArguments)
def files(
    options: TextArguments,
    paths: Annotated[
        list[str],
        Argument(help="Files, folders and patterns; `-` reads JSON lines from stdin.", metavar="PATH..."),
    ],
) -> None:
    """Build an index of your own files.

    These may be text, Markdown, reST, HTML, PDF, JSON lines, CSV and Parquet.
    Each text is cut to its first 1,200 characters, unless --chunk or --chars
    says otherwise. Unreadable files are left out and listed with the reason.
    """
    if STDIN in paths and len(paths) > 1:
        raise UsageError("stdin cannot be mixed with files: build an index of each")

    def corpus(progress: "Progress") -> "Corpus":
        from resizable_search.corpora.files import FilesCorpus, StdinCorpus

        names = ("text_column", "id_column", "title_column", "url_column", "chunk", "chunk_overlap")
        reading: dict[str, Any] = {name: getattr(options, name) for name in names}
        reading |= {"metadata": parse_words(options.metadata), "chars": options.text_length()}
        if STDIN in paths:
            return StdinCorpus(piped_in(), **reading, progress=progress)
        return FilesCorpus(paths, **reading, progress=progress)

    run(options, usual_name(paths) if options.name is None else "", corpus)


@command("hf")
@takes(TextArguments)
def hf(
    options: TextArguments,
    repo: Annotated[str, Argument(help="Dataset, such as wikimedia/wikipedia.", metavar="REPO")],
    config: Annotated[
        str | None, Option(help="Configuration of the dataset.", show_default="the only one")
    ] = None,
    split: Annotated[str, Option(help="Split of the dataset.")] = "train",
    revision: Annotated[
        str | None, Option(help="Branch, tag or commit.", show_default="current main")
    ] = None,
    shuffle_seed: Annotated[
        int | None,
        Option(
            "--shuffle-seed",
            help="Read rows in this random order; --limit then draws a sample.",
            show_default="file order",
        ),
    ] = None,
) -> None:
    """Build an index of a dataset of huggingface.co, streamed.

    Each text is cut to its first 1,200 characters, unless --chunk or --chars
    says otherwise. Rows come in file order, unless --shuffle-seed is given.
    """
    if shuffle_seed is not None and shuffle_seed < 0:
        raise UsageError(f"--shuffle-seed must be 0 or more, not {shuffle_seed}")
    fields = ("text", "id", "title", "url")
    columns = {field: getattr(options, f"{field}_column") for field in fields}

    def corpus(progress: "Progress") -> "Corpus":
        from resizable_search.corpora.hub import HubCorpus

        return HubCorpus(
            repo=repo,
            config=config,
            split=split,
            revision=revision,
            chars=options.text_length(),
            columns={field: column for field, column in columns.items() if column is not None},
            optional=[field for field, column in columns.items() if column is None and field != "text"],
            metadata=parse_words(options.metadata),
            chunk=options.chunk,
            chunk_overlap=options.chunk_overlap,
            shuffle_seed=shuffle_seed,
            progress=progress,
        )

    run(options, repo.rpartition("/")[2], corpus)


def usual_name(paths: list[str]) -> str:
    """The name of an index of these files: that of the file, the folder, or the common folder.

    Raises UsageError if there is none.
    """
    if STDIN in paths:
        raise UsageError("piped documents have no name: name the index with --name")
    full = [os.path.abspath(os.path.expanduser(path)) for path in paths]
    if len(full) == 1 and os.path.isfile(full[0]):
        name = os.path.basename(full[0])
        while "." in name.lstrip("."):
            name = os.path.splitext(name)[0]
        return name.lstrip(".")
    folder = full[0] if len(full) == 1 else os.path.commonpath([os.path.dirname(path) for path in full])
    while folder != "/" and not os.path.isdir(folder):  # a pattern, or a missing folder
        folder = os.path.dirname(folder)
    if name := os.path.basename(folder).lstrip("."):
        return name
    raise UsageError("these files have no common folder with a name: name the index with --name")


def run(options: BuildArguments, usual_name: str, open_corpus: "Callable[[Progress], Corpus]") -> None:
    """Build an index of the corpus that `open_corpus` opens, and print the report."""
    report, remark, example = built(options, usual_name, open_corpus)
    render_build.build_report(report, options.limit, remark, example, options.home)


def built(
    options: BuildArguments, usual_name: str, open_corpus: "Callable[[Progress], Corpus]"
) -> "tuple[BuildReport, str, str]":
    """Build without printing: the report, a remark on the model, and an example of a query.

    With --dry-run it prints the plan of the build and raises `typer.Exit`.
    """
    from resizable_search.build import build as builder
    from resizable_search.build import dry_run
    from resizable_search.cli.progress import shown_progress, stop_on_signal
    from resizable_search.embedders import registry
    from resizable_search.specs import EmbedderSpec

    home, build_options = home_of(options.home), options.build_options(usual_name)
    embedder = registry.create(options.embedder, options.model, options.embedder_options())
    with shown_progress() as progress, stop_on_signal() as stop:
        corpus = open_corpus(progress)
        if options.dry_run:
            plan = dry_run.dry_run(corpus, embedder, home, build_options, progress)
            render_build.dry_run(plan)
            raise typer.Exit(0 if plan.ok else 1)
        report = builder.build(corpus, embedder, home, build_options, progress, stop)
    return report, embedder.remark_on(EmbedderSpec.from_json(report.manifest.embedder)), corpus.example
