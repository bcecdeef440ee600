"""Options of the commands that embed documents: how they are embedded, and how a build goes."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.arguments import ApiKeyEnvOption, BaseUrlOption
from resizable_search.cli.options import DimsOption, HomeOption, LimitOption, NameOption, RestartOption


class OnBadText(StrEnum):
    """What becomes of a document that cannot be embedded."""

    skip = "skip"
    fail = "fail"


ModelOption = Annotated[str | None, typer.Option(help="Model of the embedder.", show_default="its usual one")]
DocumentPrefixOption = Annotated[
    str | None, typer.Option(help="Put before each document's text.", show_default="what the model wants")
]
QueryPrefixOption = Annotated[
    str | None, typer.Option(help="Put before each query's text.", show_default="what the model wants")
]


CharsOption = Annotated[
    int | None, typer.Option(help="Cut each text to its first so many characters; 0: no cut.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderArguments:
    """How an embedder is reached, and what it puts before a text."""

    base_url: BaseUrlOption = None
    api_key_env: ApiKeyEnvOption = None
    document_prefix: DocumentPrefixOption = None
    query_prefix: QueryPrefixOption = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildArguments:
    """What every `build` command that embeds takes."""

    name: NameOption = None
    limit: LimitOption = None
    embedder: Annotated[
        str,
        typer.Option(
            autocompletion=completion.embedders,
            help="nomic (remote), nomic-local, openai (any endpoint like its), sentence-transformers, "
            "or lsa (needs no key).",
        ),
    ] = "nomic"
    model: ModelOption = None
    base_url: BaseUrlOption = None
    api_key_env: ApiKeyEnvOption = None
    document_prefix: DocumentPrefixOption = None
    query_prefix: QueryPrefixOption = None
    dims: DimsOption = None
    chars: CharsOption = 1200
    restart: RestartOption = False
    concurrency: Annotated[
        int | None,
        typer.Option(help="Requests under way at once.", show_default="8; 2 at this machine's own endpoint"),
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(
            help="Requests a minute at most.", show_default="240 at Nomic's own service, else no limit"
        ),
    ] = None
    on_bad_text: Annotated[OnBadText, typer.Option(help="Leave out a document without text, or fail.")] = (
        OnBadText.skip
    )
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what it would do, cost and take; write and pay nothing.")
    ] = False
    home: HomeOption = None


def embedder_options(arguments: EmbedderArguments | BuildArguments) -> dict[str, str | int | None]:
    """What is said of the embedder, by the names that its constructor has for it."""
    return {field.name: getattr(arguments, field.name) for field in fields(EmbedderArguments)}
