"""`rsearch build`: make an index of a corpus."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli import build_vectors
from resizable_search.cli import help as manual
from resizable_search.cli.arguments import takes
from resizable_search.cli.build_arguments import BuildArguments, OnBadText, embedder_options
from resizable_search.cli.options import command_to_go_on, home_of, parse_numbers
from resizable_search.errors import UsageError

if TYPE_CHECKING:
    from resizable_search.build.report import BuildReport
    from resizable_search.corpora.base import Corpus
    from resizable_search.progress import Progress

app = typer.Typer(
    no_args_is_help=True,
    help="Build an index. The same command again resumes a build that was stopped; a larger --limit extends.",
)


@app.command(epilog=manual.epilog("build wiki100k"))
@takes(BuildArguments)
def wiki100k(options: BuildArguments) -> None:
    """The first 100,000 articles of English Wikipedia, streamed from the hub."""
    from resizable_search.corpora import presets

    most = presets.wiki100k().limit
    if options.limit is None:
        options = replace(options, limit=most)
    elif most is not None and options.limit > most:
        raise UsageError(
            f"wiki100k is the first {most:,} articles: for more, use "
            f"`rsearch build wiki --limit {options.limit}`"
        )
    run(
        options,
        "wiki100k",
        lambda progress: presets.wiki100k(chars=cut(options.chars)).corpus(progress=progress),
    )


@app.command(epilog=manual.epilog("build wiki"))
@takes(BuildArguments)
def wiki(
    options: BuildArguments,
    lang: Annotated[str, typer.Option(help="Language code of the Wikipedia: en, simple, de, …")] = "en",
    date: Annotated[str, typer.Option(help="Date of the dump.")] = "20231101",
) -> None:
    """A Wikipedia of any language and size, streamed from the hub."""
    from resizable_search.corpora import presets

    preset = presets.wiki(lang=lang, date=date, chars=cut(options.chars))
    run(
        options,
        "wiki" if lang == "en" else f"wiki-{lang}",
        lambda progress: preset.corpus(progress=progress),
    )


@app.command(epilog=manual.epilog("build pydoc"))
@takes(BuildArguments, embedder="lsa")
def pydoc(options: BuildArguments) -> None:
    """The documentation of this Python's standard library: real text that every machine has."""
    from resizable_search.corpora.pydoc import PydocCorpus

    run(options, "pydoc", lambda _: PydocCorpus(chars=cut(options.chars)))


app.command(epilog=manual.epilog("build vectors"))(build_vectors.vectors)


def cut(chars: int | None) -> int | None:
    """The number of characters that `--chars` keeps of a text; None for no cut. Raises UsageError."""
    if chars is not None and chars < 0:
        raise UsageError(f"--chars must be 0 (no cut) or more, not {chars}")
    return chars or None


def run(asked: BuildArguments, usual_name: str, open_corpus: "Callable[[Progress], Corpus]") -> None:
    """Build what is asked for of the corpus that `open_corpus` opens, and tell what came of it."""
    from resizable_search.cli import render_indexes

    report, remark, example = made(asked, usual_name, open_corpus)
    render_indexes.build_report(report, asked.limit, remark, example, asked.home)


def made(
    asked: BuildArguments, usual_name: str, open_corpus: "Callable[[Progress], Corpus]"
) -> "tuple[BuildReport, str, str]":
    """As `run`, telling nothing: the report, a remark on the model, and a query that may be tried.

    With --dry-run it tells what a build would take, and leaves (`typer.Exit`).
    """
    dims = parse_numbers(asked.dims, "--dims")
    if asked.limit is not None and asked.limit < 1:
        raise UsageError(f"--limit must be 1 or more, not {asked.limit}")

    from resizable_search.build import build as builder
    from resizable_search.build import dry_run
    from resizable_search.build.workspace import BuildOptions
    from resizable_search.cli import render_forecast
    from resizable_search.cli.progress import shown_progress
    from resizable_search.cli.signals import stop_on_signal
    from resizable_search.embedders import registry
    from resizable_search.specs import EmbedderSpec

    home = home_of(asked.home)
    options = BuildOptions(
        name=usual_name if asked.name is None else asked.name,  # '' is a name that the build refuses
        limit=asked.limit,
        dims=dims,
        concurrency=asked.concurrency,
        requests_per_minute=asked.rate,
        on_bad_text="fail" if asked.on_bad_text is OnBadText.fail else "skip",
        restart=asked.restart,
        command=command_to_go_on(),
    )
    embedder = registry.create(asked.embedder, asked.model, embedder_options(asked))
    with shown_progress() as progress, stop_on_signal() as stop:
        corpus = open_corpus(progress)
        if asked.dry_run:
            found = dry_run.dry_run(corpus, embedder, home, options, progress)
            render_forecast.forecast(found)
            raise typer.Exit(0 if found.ok else 1)
        report = builder.build(corpus, embedder, home, options, progress, stop)
    return report, embedder.remark_on(EmbedderSpec.from_json(report.manifest.embedder)), corpus.example
