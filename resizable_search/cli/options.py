"""Options that several commands share, how their values are read, and the index that they name."""

import functools
import inspect
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_type_hints

import typer
from typer import Argument, Option

from resizable_search.cli import completion
from resizable_search.cli.output import OutputOptions
from resizable_search.cli.progress import command_to_go_on
from resizable_search.embedders import DEFAULT_EMBEDDER
from resizable_search.errors import UsageError
from resizable_search.store.layout import Home, default_name, home_of, resolve_index
from resizable_search.text import quoted

if TYPE_CHECKING:
    from resizable_search.build.workspace import BuildOptions
    from resizable_search.cluster.connection import RayOptions
    from resizable_search.cluster.search import RayEngines
    from resizable_search.embedders.base import Embedder
    from resizable_search.search.index import Index
    from resizable_search.search.planning import SearchOptions
    from resizable_search.store.executor import EngineMaker

HomeOption = Annotated[Path | None, Option(help="Folder of all indexes.", show_default="$RSEARCH_HOME")]
IndexOption = Annotated[
    str | None,
    Option("--index", "-i", help="Name or folder; else $RSEARCH_INDEX.", autocompletion=completion.indexes),
]
IndexArgument = Annotated[
    str | None, Argument(help="Name or folder; else $RSEARCH_INDEX.", autocompletion=completion.indexes)
]
RequiredIndexArgument = Annotated[str, Argument(help="Name or folder.", autocompletion=completion.indexes)]
KOption = Annotated[int, Option("-k", help="Number of hits.")]
ThreadsOption = Annotated[int | None, Option(help="Threads of a scan.", show_default="$RSEARCH_THREADS")]
EngineOption = Annotated[
    Literal["auto", "numpy", "numba"], Option(metavar="ENGINE", help="auto, numpy, numba.")
]
JsonOption = Annotated[bool, Option("--json", help="Print JSON.")]
YesOption = Annotated[bool, Option("--yes", "-y", help="Do not ask.")]
DryRunOption = Annotated[bool, Option("--dry-run", help="Show work, cost and space; write nothing.")]

BaseUrlOption = Annotated[str | None, Option(help="Endpoint of openai, up to /v1, else $OPENAI_BASE_URL.")]
ApiKeyEnvOption = Annotated[str | None, Option(help="Variable of openai's key, else OPENAI_API_KEY.")]
CharsOption = Annotated[int | None, Option(min=0, help="Keep the first CHARS characters of a text; 0: all.")]
PartialOption = Annotated[
    bool, Option("--partial", help="With --ray: answer without unreadable parts, and say so.")
]


class Arguments(SimpleNamespace):
    """Options of several commands: the annotated names of a class, with their defaults."""

    def replace(self, **values: Any) -> Self:
        """The same options but for these."""
        return type(self)(**vars(self) | values)


class RayArguments(Arguments):
    """The cluster of a command, and what it may use there."""

    ray: Annotated[
        str | None,
        Option(metavar="local|HOST:PORT", help="Work on a Ray cluster (extra `ray`); local starts one here."),
    ] = None
    workers: Annotated[int | None, Option(help="Workers of --ray.", show_default="one a node or GPU")] = None
    resources: Annotated[
        str | None,
        Option(metavar="JSON", help="What each worker takes, by Ray's names.", show_default='{"CPU": 1}'),
    ] = None

    def cluster(self, gpus_per_worker: float = 0.0) -> "RayOptions | None":
        """The cluster; None without --ray. Raises UsageError."""
        if self.ray is None:
            if self.workers is not None or gpus_per_worker or self.resources is not None:
                raise UsageError("options of workers belong to --ray: name a cluster")
            return None
        from resizable_search.cluster.connection import RayOptions

        try:
            wanted = json.loads(self.resources or "{}")
            is_sound = isinstance(wanted, dict) and all(type(n) in (int, float) for n in wanted.values())
        except (ValueError, RecursionError):
            is_sound = False
        if not is_sound:
            raise UsageError('--resources is a JSON object of numbers, such as {"CPU": 2, "big_disk": 1}')
        return RayOptions(self.ray, self.workers, gpus_per_worker, wanted)

    def engines(self, *, partial: bool = False) -> "RayEngines | None":
        """What scans on the cluster; None without --ray. Raises UsageError."""
        options = self.cluster()
        if options is None:
            if partial:
                raise UsageError("--partial belongs to --ray: name a cluster")
            return None
        from resizable_search.cluster.search import RayEngines

        return RayEngines(options, partial=partial)


class UpdateArguments(RayArguments):
    """The options of `update`, `add` and every `build` command."""

    gpus_per_worker: Annotated[float, Option(help="GPUs of each worker.")] = 0.0
    concurrency: Annotated[int | None, Option(help="Requests at once.", show_default="8; 2 if local")] = None
    rate: Annotated[
        float | None, Option(help="Requests a minute.", show_default="240 at Nomic's service")
    ] = None
    home: HomeOption = None


class BuildArguments(UpdateArguments):
    """Options of every `build` command."""

    name: Annotated[str | None, Option(help="Name of the index.", show_default="from the corpus")] = None
    limit: Annotated[int | None, Option(help="Read only the first LIMIT documents.")] = None
    shard: Annotated[
        str | None, Option(metavar="I/N", help="Build one of N shards, e.g. 3/16, for `rsearch merge`.")
    ] = None
    embedder: Annotated[
        str,
        Option(
            help="wordllama, nomic, nomic-local, openai (and alike), sentence-transformers or lsa.",
            autocompletion=completion.embedders,
        ),
    ] = DEFAULT_EMBEDDER
    model: Annotated[str | None, Option(help="Model of the embedder.", show_default="the usual one")] = None
    base_url: BaseUrlOption = None
    api_key_env: ApiKeyEnvOption = None
    encoding_format: Annotated[
        Literal["base64", "float"] | None, Option(help="Encoding of openai's vectors.")
    ] = None
    document_prefix: Annotated[str | None, Option(help="Text put before documents.")] = None
    query_prefix: Annotated[str | None, Option(help="Text put before queries.")] = None
    dims: Annotated[str | None, Option(help="Dimensions to store beside the full one, e.g. 64,256.")] = None
    chars: CharsOption = 1200
    restart: Annotated[bool, Option("--restart", "--refit", help="Build again from the start.")] = False
    on_bad_text: Annotated[Literal["skip", "fail"], Option(help="Skip documents without text, or fail.")] = (
        "skip"
    )
    dry_run: DryRunOption = False

    def embedder_options(self) -> dict[str, str | int | None]:
        """The keywords of the embedder's constructor."""
        names = ("base_url", "api_key_env", "encoding_format", "document_prefix", "query_prefix")
        return {name: getattr(self, name) for name in names}

    def build_options(self, usual_name: str) -> "BuildOptions":
        """The options of the library's builds. Raises UsageError."""
        from resizable_search.build.workspace import BuildOptions

        return BuildOptions(
            usual_name if self.name is None else self.name,  # the build refuses ''
            self.limit,
            parse_numbers(self.dims, "--dims"),
            self.concurrency,
            self.rate,
            self.on_bad_text,
            self.restart,
            command_to_go_on(),
        )

    def text_length(self) -> int | None:
        """How many characters of a text to keep, None for all."""
        return self.chars or None


class TextArguments(BuildArguments):
    """Options of `build` commands that read tables and long texts."""

    chars: CharsOption = None
    text_column: Annotated[str | None, Option(help="Column with the texts.", show_default="text")] = None
    id_column: Annotated[str | None, Option(help="Column with the ids.", show_default="id, else row")] = None
    title_column: Annotated[str | None, Option(help="Column with the titles.", show_default="title")] = None
    url_column: Annotated[str | None, Option(help="Column with the URLs.", show_default="url")] = None
    metadata: Annotated[str | None, Option(help="Columns to keep as metadata, e.g. year,lang.")] = None
    chunk: Annotated[
        str | None, Option(help="Chunk size in tokens (400) or characters (1600c); 0: none.")
    ] = None
    chunk_overlap: Annotated[int, Option(help="Overlap of chunks, in the same unit.")] = 0

    def reading(self) -> dict[str, Any]:
        """How texts are read, by the names of these options. Raises UsageError."""
        names = ("text_column", "id_column", "title_column", "url_column", "chunk_overlap")
        return {name: getattr(self, name) for name in names} | {
            "metadata": parse_words(self.metadata),
            "chunk": None if self.chunk == "0" else self.chunk,
            "chars": self.text_length(),
        }

    def text_length(self) -> int | None:
        """As for other builds, but without --chars 1200, and all of a text that is chunked."""
        is_whole = self.chunk in (None, "0")
        return 1200 if self.chars is None and is_whole else self.chars or None


class SearchArguments(RayArguments):
    """The options of `query`; `similar` has them too, but `group` and `mode`."""

    index: IndexOption = None
    k: KOption = 10
    dim: Annotated[
        int | None, Option(help="Scan only DIM dimensions, else all.", autocompletion=completion.dims)
    ] = None
    rerank: Annotated[int, Option(help="Rescore RERANK x max(K, 10) candidates at the full dimension.")] = 0
    plan: Annotated[
        str | None,
        Option(help="Search by stages, e.g. 256:100,768 or 64:1bit:400,768.", autocompletion=completion.dims),
    ] = None
    mode: Annotated[
        Literal["dense", "lexical", "hybrid"] | None,
        Option(metavar="MODE", help="Rank by meaning (dense), by words (lexical) or by both (hybrid)."),
    ] = None
    recall: Annotated[
        float | None, Option(help="Use the plan tuned for this overlap@k; tune it if there is none.")
    ] = None
    where: Annotated[
        str | None, Option(help="Search only what matches, e.g. \"title GLOB 'B*' AND year > 1990\" (SQL).")
    ] = None
    group: Annotated[
        bool, Option("--group/--no-group", help="Show one chunk of a document, and one of equal texts.")
    ] = True
    format: Annotated[
        Literal["cards", "table", "json", "jsonl", "csv", "tsv", "plain"] | None,
        Option(metavar="FORMAT", help="cards (on a terminal), table (else), json, jsonl, csv, tsv or plain."),
    ] = None
    json: JsonOption = False
    fields: Annotated[
        str | None,
        Option(help="Print these fields, e.g. rank,score,id,title,url,snippet, and keys of the metadata."),
    ] = None
    snippet: Annotated[int, Option(min=0, metavar="N", help="Print N best matching characters; 0: none.")] = 0
    min_score: Annotated[float | None, Option(help="Leave out hits below this score.")] = None
    open: Annotated[int | None, Option(min=1, help="Open the url of this hit in the browser.")] = None
    explain: Annotated[bool, Option("--explain", help="Tell what each stage read, kept and took.")] = False
    threads: ThreadsOption = None
    engine: EngineOption = "auto"
    partial: PartialOption = False
    home: HomeOption = None

    def output(self) -> OutputOptions:
        """How hits are printed. Raises UsageError."""
        if self.json and self.format not in (None, "cards", "table", "json"):
            raise UsageError(f"--json means --format json: leave it or --format {self.format} out")
        names = None if self.fields is None else parse_words(self.fields)
        if names is not None and (not all(names) or len(set(names)) < len(names)):
            raise UsageError("--fields takes each field once, separated by commas: id,title,score")
        if self.min_score is not None and math.isnan(self.min_score):
            raise UsageError("--min-score must be a number")
        format = "json" if self.json else self.format or ("cards" if sys.stdout.isatty() else "table")
        if format == "cards" and names is not None:
            format = "table"
        return OutputOptions(format, names, self.snippet, self.min_score, self.open, self.explain)

    def search(self) -> "SearchOptions":
        """How to search. Raises UsageError."""
        from resizable_search.search.planning import SearchOptions

        return SearchOptions(**{name: getattr(self, name) for name in SearchOptions.__slots__})

    def open_index(self, embedder: "Embedder | None" = None) -> "Index":
        """Open the index of the command."""
        engine = self.engines(partial=self.partial) or self.engine
        return open_index(self.index, self.home, self.threads, engine, embedder)


def takes(
    group: type[Arguments], without: tuple[str, ...] = (), **defaults: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of `group`; it gets one as its first argument.

    `without` names options to leave out; `defaults` are this command's own.
    """
    kind = inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(name, kind, annotation=annotation, default=defaults.get(name, getattr(group, name)))
        for name, annotation in get_type_hints(group, include_extras=True).items()
        if name not in without
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        _, *own = inspect.signature(command).parameters.values()

        @functools.wraps(command)
        def run(**values: Any) -> Any:
            together = {option.name: values.pop(option.name) for option in options}
            return command(group(**together), **values)

        # typer reads options from a signature.
        signature = inspect.Signature([*own, *options])
        run.__signature__ = signature  # type: ignore[attr-defined]  # functions may have one
        run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        return run

    return decorate


def is_given(context: typer.Context, name: str) -> bool:
    """Whether the command line names this parameter; a default from a file does not count."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def index_name(index: str | None, home: Home) -> str:
    """The index of a command."""
    return default_name(home) if index is None else index


def index_folder(index: str | None, home: Path | None) -> Path:
    """The folder of the index of a command. Raises IndexNotFoundError, UsageError."""
    folder = home_of(home)
    return resolve_index(index_name(index, folder), folder)


def open_index(
    index: str | None,
    home: Path | None,
    threads: int | None = None,
    engine: "str | EngineMaker" = "auto",
    embedder: "Embedder | None" = None,
) -> "Index":
    """Open the index of a command."""
    from resizable_search.search import index as library

    folder = home_of(home)
    name = index_name(index, folder)
    return library.open_index(
        name, home=folder.path, embedder=embedder, threads=threads, engine=engine, stays=False
    )


def parse_numbers(text: str | None, option: str, most: int = 10**6, least: int = 0) -> tuple[int, ...] | None:
    """A list such as `768,512,256`, each number once, from `least` to `most`. Raises UsageError."""
    if text is None:
        return None
    numbers: list[int] = []
    for word in (part.strip() for part in text.split(",")):
        if not (word.isascii() and word.isdigit()):
            raise UsageError(f"{option}: {quoted(word)} is not a number: write a list such as 768,512,256")
        number = int(word[:20])  # more digits are too many anyway
        if not least <= number <= most:
            bound = f"at most {most:,}" if number > most else f"at least {least}"
            raise UsageError(f"{option}: {bound}, not {number}")
        if number in numbers:
            raise UsageError(f"{option} names {number} more than once: name each number once")
        numbers.append(number)
    return tuple(numbers)


def parse_words(text: str | None) -> tuple[str, ...]:
    """A list of names such as `year,lang`; spaces around them do not count."""
    return () if text is None else tuple(word.strip() for word in text.split(","))
