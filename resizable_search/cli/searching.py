"""What `query` and `similar` share: their options, the plan that these mean, and how hits are shown."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.app import with_flags
from resizable_search.cli.options import (
    EngineOption,
    HomeOption,
    IndexOption,
    JsonOption,
    KOption,
    ThreadsOption,
    home_of,
    index_name,
)
from resizable_search.cli.output import (
    FieldsOption,
    FormatOption,
    MinScoreOption,
    OpenOption,
    OutputOptions,
    SnippetOption,
    above_min_score,
    check_fields,
    open_hit,
    output_options,
    print_answer,
)

if TYPE_CHECKING:
    from resizable_search.cli.remote import ServedIndex
    from resizable_search.embedders.base import Embedder
    from resizable_search.search.index import Index
    from resizable_search.search.options import SearchOptions
    from resizable_search.search.results import Answer


WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        autocompletion=completion.columns,
        help="Search only documents that match this SQL expression over id, title, url and metadata keys, "
        "e.g. \"title GLOB 'B*' AND year > 1990\".",
        show_default="all documents",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchArguments:
    """What every command that finds documents takes."""

    index: IndexOption = None
    k: KOption = 10
    dim: Annotated[
        int | None,
        typer.Option(
            "--dim",
            autocompletion=completion.dim,
            help="Scan the first so many dimensions.",
            show_default="the full dimension",
        ),
    ] = None
    rerank: Annotated[
        int,
        typer.Option("--rerank", help="Score RERANK x K candidates again at the full dimension; 0: none."),
    ] = 0
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan",
            autocompletion=completion.plan,
            help="The search as stages dim:precision:keep; precisions: exact (the default, left out), "
            "float32, int8, bits; such as 256:100,768 or 768:bits:400,768:int8:30,768.",
        ),
    ] = None
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            help="The fastest plan proven to reach this overlap@k, as `rsearch tune` measured it; "
            "tunes first if it has not.",
        ),
    ] = None
    where: WhereOption = None
    format: FormatOption = "table"
    json: JsonOption = False
    fields: FieldsOption = None
    snippet: SnippetOption = 0
    min_score: MinScoreOption = None
    open: OpenOption = None
    explain: Annotated[bool, typer.Option("--explain", help="Tell what each stage read, kept and took.")] = (
        False
    )
    threads: ThreadsOption = None
    engine: EngineOption = "auto"
    home: HomeOption = None

    def form(self) -> OutputOptions:
        """How hits are to be printed. Raises UsageError."""
        return output_options(self.format, self.json, self.fields, self.snippet, self.min_score, self.open)

    def opened(self, embedder: "Embedder | None" = None) -> "Index":
        """The index that is meant."""
        from resizable_search.search.index import open_index

        places = home_of(self.home)
        return open_index(
            index_name(self.index, places),
            home=places.path,
            embedder=embedder,
            threads=self.threads,
            engine=self.engine,
        )

    def checked(self, index: "Index", form: OutputOptions, *, group: bool = False) -> "SearchOptions":
        """The search options with their plan, checked against the index. Raises UsageError."""
        from resizable_search.search.options import SearchOptions

        check_fields(form, index)
        options = SearchOptions(self.k, self.dim, self.rerank, self.plan, self.recall, self.where, group)
        planned = with_tuned_plan(index, options)
        index.check_where(self.where)
        return planned

    def present(self, found: "Answer", index: "Index | ServedIndex", form: OutputOptions) -> None:
        """Print an answer, and do with it what else is asked for. Raises UsageError, RsearchError."""
        check_fields(form, index)
        found = above_min_score(found, form)
        print_answer(found, index, form, explain=self.explain)
        open_hit(found, form)
        tell_remark(index.remark)


def with_tuned_plan(index: "Index", options: "SearchOptions") -> "SearchOptions":
    """The options with the plan they mean; a recall that has no plan is tuned now. Raises UsageError."""
    from resizable_search.cli.tune import plan_for

    if options.recall is None:
        return options.with_plan(index.plan(options))
    return options.with_plan(plan_for(index, options.k, options.recall))


def tell_remark(remark: str) -> None:
    """Say on stderr why the search was slower than it could be."""
    if remark:
        sys.stderr.write(f"rsearch: {with_flags(remark)}\n")
