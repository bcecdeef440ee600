"""`rsearch build`: make an index of a corpus."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli import build_vectors
from resizable_search.cli.options import (
    DimsOption,
    HomeOption,
    LimitOption,
    NameOption,
    RestartOption,
    home_of,
    parse_numbers,
)
from resizable_search.errors import UsageError

if TYPE_CHECKING:
    from resizable_search.corpora.base import Corpus
    from resizable_search.progress import Progress

app = typer.Typer(
    no_args_is_help=True,
    help="Build an index. The same command again resumes a build that was stopped; a larger --limit extends.",
)


class OnBadText(StrEnum):
    """What becomes of a document that cannot be embedded."""

    skip = "skip"
    fail = "fail"


EmbedderOption = Annotated[str, typer.Option(help="nomic (remote), nomic-local, or lsa (needs no key).")]
ModelOption = Annotated[str | None, typer.Option(help="Model of the embedder.", show_default="its usual one")]
CharsOption = Annotated[int, typer.Option(help="Cut each text to its first so many characters; 0: no cut.")]
ConcurrencyOption = Annotated[
    int | None, typer.Option(help="Requests under way at once.", show_default="8 for nomic")
]
RateOption = Annotated[
    float | None,
    typer.Option(help="Requests a minute at most.", show_default="240 at Nomic's own service, else no limit"),
]
OnBadTextOption = Annotated[OnBadText, typer.Option(help="Leave out a document without text, or fail.")]


@dataclass(frozen=True, slots=True)
class Request:
    """What the options of every `build` command say together."""

    name: str
    limit: int | None
    embedder: str
    model: str | None
    dims: str | None
    chars: int
    restart: bool
    concurrency: int | None
    rate: float | None
    on_bad_text: OnBadText
    home: Path | None


@app.command()
def wiki100k(
    name: NameOption = None,
    limit: LimitOption = None,
    embedder: EmbedderOption = "nomic",
    model: ModelOption = None,
    dims: DimsOption = None,
    chars: CharsOption = 1200,
    restart: RestartOption = False,
    concurrency: ConcurrencyOption = None,
    rate: RateOption = None,
    on_bad_text: OnBadTextOption = OnBadText.skip,
    home: HomeOption = None,
) -> None:
    """The first 100,000 articles of English Wikipedia, streamed from the hub."""
    from resizable_search.corpora import presets

    most = presets.wiki100k().limit
    if limit is not None and most is not None and limit > most:
        raise UsageError(
            f"wiki100k is the first {most:,} articles: for more, use `rsearch build wiki --limit {limit}`"
        )
    request = Request(
        _chosen(name, "wiki100k"), limit or (limit if limit == 0 else most), embedder, model, dims, chars,
        restart, concurrency, rate, on_bad_text, home,
    )  # fmt: skip
    run(request, lambda progress: presets.wiki100k(chars=cut(chars)).corpus(progress=progress))


@app.command()
def wiki(
    lang: Annotated[str, typer.Option(help="Language code of the Wikipedia: en, simple, de, …")] = "en",
    date: Annotated[str, typer.Option(help="Date of the dump.")] = "20231101",
    name: NameOption = None,
    limit: LimitOption = None,
    embedder: EmbedderOption = "nomic",
    model: ModelOption = None,
    dims: DimsOption = None,
    chars: CharsOption = 1200,
    restart: RestartOption = False,
    concurrency: ConcurrencyOption = None,
    rate: RateOption = None,
    on_bad_text: OnBadTextOption = OnBadText.skip,
    home: HomeOption = None,
) -> None:
    """A Wikipedia of any language and size, streamed from the hub."""
    from resizable_search.corpora import presets

    request = Request(
        _chosen(name, "wiki" if lang == "en" else f"wiki-{lang}"), limit, embedder, model, dims, chars,
        restart, concurrency, rate, on_bad_text, home,
    )  # fmt: skip
    run(
        request,
        lambda progress: presets.wiki(lang=lang, date=date, chars=cut(chars)).corpus(progress=progress),
    )


@app.command()
def pydoc(
    name: NameOption = None,
    limit: LimitOption = None,
    embedder: EmbedderOption = "lsa",
    model: ModelOption = None,
    dims: DimsOption = None,
    chars: CharsOption = 1200,
    restart: RestartOption = False,
    concurrency: ConcurrencyOption = None,
    rate: RateOption = None,
    on_bad_text: OnBadTextOption = OnBadText.skip,
    home: HomeOption = None,
) -> None:
    """The documentation of this Python's standard library: real text that every machine has."""
    from resizable_search.corpora.pydoc import PydocCorpus

    request = Request(
        _chosen(name, "pydoc"),
        limit,
        embedder,
        model,
        dims,
        chars,
        restart,
        concurrency,
        rate,
        on_bad_text,
        home,
    )
    run(request, lambda _: PydocCorpus(chars=cut(chars)))


app.command()(build_vectors.vectors)


def _chosen(name: str | None, usual: str) -> str:
    return usual if name is None else name  # '' is a name that the build refuses


def cut(chars: int) -> int | None:
    """The number of characters that `--chars` keeps of a text; None for no cut. Raises UsageError."""
    if chars < 0:
        raise UsageError(f"--chars must be 0 (no cut) or more, not {chars}")
    return chars or None


def run(request: Request, open_corpus: "Callable[[Progress], Corpus]") -> None:
    """Build what is asked for of the corpus that `open_corpus` opens, and tell what came of it."""
    dims = parse_numbers(request.dims, "--dims")
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"--limit must be 1 or more, not {request.limit}")

    from resizable_search import build as builder
    from resizable_search.build_options import BuildOptions
    from resizable_search.cli import render_indexes
    from resizable_search.cli.progress import shown_progress
    from resizable_search.cli.stopping import stop_on_signal
    from resizable_search.embedders import registry

    home = home_of(request.home)
    options = BuildOptions(
        name=request.name,
        limit=request.limit,
        dims=dims,
        concurrency=request.concurrency,
        requests_per_minute=request.rate,
        on_bad_text="fail" if request.on_bad_text is OnBadText.fail else "skip",
        restart=request.restart,
    )
    embedder = registry.create(request.embedder, request.model)
    with shown_progress() as progress, stop_on_signal() as stop:
        corpus = open_corpus(progress)
        report = builder.build(corpus, embedder, home, options, progress, stop)
    render_indexes.build_report(report, request.limit, embedder.remark, corpus.example, request.home)
