"""`rsearch build`: make an index of a corpus, or of vectors."""

import functools
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from resizable_search.cli import completion, render_build
from resizable_search.cli.help import CLUSTER
from resizable_search.cli.options import BuildArguments, TextArguments, is_given, takes
from resizable_search.cli.output import note
from resizable_search.cli.progress import piped_in, shown_progress, stop_on_signal
from resizable_search.cli.settings import ConfiguredCommand
from resizable_search.errors import UsageError
from resizable_search.specs import FileFormat
from resizable_search.store.layout import Home, home_of

if TYPE_CHECKING:
    from resizable_search.build.report import BuildReport
    from resizable_search.cli.earlier_build import EarlierBuild
    from resizable_search.corpora.base import Corpus
    from resizable_search.embedders.base import Embedder
    from resizable_search.progress import Progress

STDIN = "-"
app = typer.Typer(
    no_args_is_help=True,
    help="Build an index.\n\nRun the same command again to resume; a larger --limit extends the index.\n"
    "Options that you leave out are those of the index, if there is one.",
)

command = functools.partial(app.command, cls=ConfiguredCommand)


@command("wiki100k")
@takes(BuildArguments, embedder="nomic")
def wiki100k(options: BuildArguments, context: typer.Context) -> None:
    """Build an index of 100,000 English Wikipedia articles."""
    from resizable_search.corpora.hub import WIKI100K_ROWS, WIKIPEDIA, wikipedia

    limit = WIKI100K_ROWS if options.limit is None else options.limit
    if limit > WIKI100K_ROWS and is_given(context, "limit"):
        more = f"`rsearch build wiki --limit {limit}`"
        raise UsageError(f"wiki100k is the first {WIKI100K_ROWS:,} articles: for more, use {more}")
    options = options.replace(limit=min(limit, WIKI100K_ROWS))
    same = {"kind": "hub", "repo": WIKIPEDIA}
    run(context, options, "wiki100k", wikipedia, same, {"chars": options.text_length()})


@command("wiki")
@takes(BuildArguments, embedder="nomic")
def wiki(
    options: BuildArguments,
    context: typer.Context,
    lang: Annotated[str, Option(help="Language code: en, simple, de, …")] = "en",
    date: Annotated[str, Option(help="Date of the dump.")] = "20231101",
) -> None:
    """Build an index of a Wikipedia of any language."""
    from resizable_search.corpora.hub import WIKIPEDIA, wikipedia

    name = "wiki" if lang == "en" else f"wiki-{lang}"
    asked = {"lang": lang, "date": date, "chars": options.text_length()}
    run(context, options, name, wikipedia, {"kind": "hub", "repo": WIKIPEDIA}, asked)


@command("pydoc")
@takes(BuildArguments, without=("shard",))
def pydoc(options: BuildArguments, context: typer.Context) -> None:
    """Build an index of your Python's own documentation."""
    from resizable_search.corpora.pydoc import PydocCorpus

    def corpus(progress: "Progress", **reading: Any) -> "Corpus":
        return PydocCorpus(**reading)

    run(context, options, "pydoc", corpus, {"kind": "pydoc"}, {"chars": options.text_length()})


@command("vectors")
@takes(
    BuildArguments,
    without=(
        *("embedder", "model", "shard", "chars", "concurrency", "rate", "on_bad_text", "dry_run"),
        *CLUSTER,
    ),
)
def vectors(
    options: BuildArguments,
    file: Annotated[
        Path, Argument(help="A .npy file, one vector a row: float16, float32 or float64.", metavar="FILE")
    ],
    documents: Annotated[
        Path | None,
        Option(help="JSON or Parquet with the id, title, url and text of each row.", show_default="none"),
    ] = None,
    model: Annotated[str | None, Option(help="Model of the vectors, e.g. nomic-embed-text-v1.5.")] = None,
    embedder: Annotated[
        str | None,
        Option(help="Embedder of queries.", show_default="by the model", autocompletion=completion.embedders),
    ] = None,
) -> None:
    """Build an index of embeddings you already have, from a .npy file.

    The vectors are checked, normalised and copied: the file stays as it is and
    is not needed afterwards.
    """
    from resizable_search.build.build import build_vectors
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
@takes(TextArguments, chunk="400")
def files(
    options: TextArguments,
    context: typer.Context,
    paths: Annotated[
        list[str],
        Argument(help="Files, folders and patterns; `-` reads JSON lines from stdin.", metavar="PATH..."),
    ],
    include: Annotated[
        list[str] | None,
        Option(
            metavar="PATTERN", help="Read only matching files, e.g. '*.md'; repeatable.", show_default="all"
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        Option(metavar="PATTERN", help="Skip these, as in a .gitignore, e.g. drafts/; repeatable."),
    ] = None,
    input_format: Annotated[
        FileFormat | None, Option(metavar="FORMAT", help="Read all files as this, e.g. jsonl.")
    ] = None,
    delimiter: Annotated[str | None, Option(help="Delimiter of CSV.", show_default="from the header")] = None,
    encoding: Annotated[
        str | None, Option(help="Encoding of files that are not UTF-8.", show_default="guessed")
    ] = None,
) -> None:
    """Build an index of your own files.

    These may be text, Markdown, reST, HTML, PDF, JSON, CSV and Parquet.
    Long texts are cut into chunks; --chunk 0 takes the first 1,200 characters
    of each instead. What is unreadable or not for people is left out and listed.
    """
    if STDIN in paths and len(paths) > 1:
        raise UsageError("stdin cannot be mixed with files: build an index of each")
    if options.shard is not None and options.limit is not None:
        raise UsageError("--limit cannot be combined with --shard here: leave one of them out")
    given = [option for option in context.params if is_given(context, option)]

    from resizable_search.corpora.discovery import absolute

    def corpus(progress: "Progress", **reading: Any) -> "Corpus":
        from resizable_search.corpora.files import RULES, FilesCorpus, StdinCorpus

        if STDIN in paths:
            return StdinCorpus(piped_in(), **reading, rules=RULES, must_apply=given, progress=progress)
        return FilesCorpus(paths, **reading, rules=RULES, must_apply=given, progress=progress)

    name = usual_name(paths) if options.name is None else ""
    same = {"kind": "files", "paths": paths if STDIN in paths else [absolute(path) for path in paths]}
    # '' means no pattern, where an index has some.
    patterns = {"include": list(filter(None, include or ())), "exclude": list(filter(None, exclude or ()))}
    formats = {"input_format": input_format, "delimiter": delimiter and delimiter.replace("\\t", "\t")}
    formats |= {"encoding": encoding}
    run(context, options, name, corpus, same, options.reading() | patterns | formats)


@command("hf")
@takes(TextArguments, embedder="nomic")
def hf(
    options: TextArguments,
    context: typer.Context,
    repo: Annotated[str, Argument(help="Dataset, such as wikimedia/wikipedia.", metavar="REPO")],
    config: Annotated[str | None, Option(help="Configuration of the dataset.")] = None,
    split: Annotated[str, Option(help="Split of the dataset.")] = "train",
    revision: Annotated[str | None, Option(help="Branch, tag or commit.", show_default="main")] = None,
    shuffle_seed: Annotated[
        int | None, Option(min=0, help="Read rows in this random order; --limit then draws a sample.")
    ] = None,
) -> None:
    """Build an index of a dataset of huggingface.co, streamed.

    Each text is cut to its first 1,200 characters, unless --chunk or --chars
    says otherwise. Rows come in file order, unless --shuffle-seed is given.
    """

    def corpus(progress: "Progress", **reading: Any) -> "Corpus":
        from resizable_search.corpora.hub import DEFAULT_COLUMNS, HubCorpus

        columns = {field: reading.pop(f"{field}_column", None) for field in DEFAULT_COLUMNS}
        return HubCorpus(
            repo=repo,
            columns={field: column for field, column in columns.items() if column is not None},
            optional=[field for field, column in columns.items() if column is None and field != "text"],
            **reading,
            progress=progress,
        )

    asked = {"config": config, "split": split, "revision": revision, "shuffle_seed": shuffle_seed}
    name = repo.rpartition("/")[2]
    run(context, options, name, corpus, {"kind": "hub", "repo": repo}, asked | options.reading())


def usual_name(paths: list[str]) -> str:
    """The name of the file, the folder, or the common folder. Raises UsageError if there is none."""
    if STDIN in paths:
        raise UsageError("piped documents have no name: name the index with --name")
    full = [os.path.abspath(os.path.expanduser(path)) for path in paths]
    if len(full) == 1 and os.path.isfile(full[0]):
        return os.path.basename(full[0]).lstrip(".").partition(".")[0]
    folder = full[0] if len(full) == 1 else os.path.commonpath([os.path.dirname(path) for path in full])
    while folder != "/" and not os.path.isdir(folder):  # a pattern, or a missing folder
        folder = os.path.dirname(folder)
    if name := os.path.basename(folder).lstrip("."):
        return name
    raise UsageError("these files have no common folder with a name: name the index with --name")


def run(
    context: typer.Context,
    options: BuildArguments,
    usual_name: str,
    open_corpus: "Callable[..., Corpus]",  # takes the options `asked` and `progress`
    same: Mapping[str, Any],  # options left out are those of an index whose corpus has this in its spec
    asked: Mapping[str, Any],
    *,
    quiet: bool = False,  # print on stderr, and only changes
) -> "BuildReport":
    """Build an index of a corpus, and print the report. With --dry-run it raises `typer.Exit`."""
    from resizable_search.build import build as builder
    from resizable_search.build import dry_run
    from resizable_search.cli.earlier_build import EarlierBuild
    from resizable_search.cluster.embedder import on_cluster

    cluster = options.cluster(options.gpus_per_worker)
    part: dict[str, Any] = {} if options.shard is None else {"shard": options.shard}
    if part and options.limit is not None:
        part["limit"] = options.limit  # of the whole
        options = options.replace(limit=None)
    usual_name += f"-{options.shard.replace('/', '-of-')}" if options.shard else ""
    home, build_options = home_of(options.home), options.build_options(usual_name)
    given = {name for name in context.params if is_given(context, name)}
    earlier = EarlierBuild.find(home, build_options)
    embedder = _embedder(options, given, earlier, home, build_options.name)
    if earlier is not None:
        asked = earlier.corpus_options(same, asked, given)
        if "dims" not in given:
            dims = earlier.dims if embedder.kind == earlier.kind else None
            build_options = replace(build_options, dims=dims)
    with shown_progress() as progress, stop_on_signal() as stop:
        corpus = open_corpus(progress=progress, **{**asked, **part})
        if options.dry_run:
            render_build.dry_run(dry_run.dry_run(corpus, embedder, home, build_options, progress))
        with on_cluster(embedder, cluster, stop) as spread:
            report = builder.build(corpus, spread, home, build_options, progress, stop)
    remark = render_build.embedder_line(embedder, report.manifest)
    if not quiet:
        render_build.build_report(report, options.limit, remark, corpus.example, options.home)
    elif report.added or report.left_out:
        for line in render_build.build_lines(report, options.limit, remark):
            note(line)
    return report


def _embedder(
    options: BuildArguments, given: Collection[str], earlier: "EarlierBuild | None", home: Home, name: str
) -> "Embedder":
    """The embedder: of another kind if that is given, else the earlier build's, else the default."""
    from resizable_search.embedders import registry

    own = options.embedder_options()
    is_other = earlier is not None and options.embedder != earlier.kind
    if earlier is None or ("embedder" in given and is_other) or (earlier.spec is None and not is_other):
        begun_by = None if earlier is None or is_other else earlier.corpus.get("model")
        return registry.create(options.embedder, options.model or begun_by, own)
    own = {option: value for option, value in own.items() if option in given}
    return earlier.embedder(home, name, options.model if "model" in given else None, own)
