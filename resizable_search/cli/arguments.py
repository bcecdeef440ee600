"""Options that commands take together, declared once: dataclasses, each of whose fields is an option.

    @takes(BuildArguments, embedder="lsa")
    def pydoc(options: BuildArguments) -> None: ...

The command has an option for each field, besides those that it declares itself.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Any

import typer

from resizable_search.cli import completion
from resizable_search.cli.options import DimsOption, HomeOption, LimitOption, NameOption, RestartOption


class OnBadText(StrEnum):
    """What becomes of a document that cannot be embedded."""

    skip = "skip"
    fail = "fail"


ModelOption = Annotated[str | None, typer.Option(help="Model of the embedder.", show_default="its usual one")]
BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        help="Of openai: the endpoint, up to /v1.", show_default="$OPENAI_BASE_URL, else OpenAI's own"
    ),
]
ApiKeyEnvOption = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.variables,
        help="Of openai: name of the variable that holds its key.",
        show_default="OPENAI_API_KEY",
    ),
]
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


def takes(
    group: type, without: tuple[str, ...] = (), **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of the dataclass `group` as options; it gets one as its first argument.

    Those in `without` are no options of it, and `defaults` are this command's own. typer reads options
    from a signature, so one is made up.
    """
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=field.type,
            default=defaults.get(field.name, field.default),
        )
        for field in fields(group)
        if field.name not in without
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        first, *own = inspect.signature(command).parameters.values()

        @functools.wraps(command)
        def run(**values: Any) -> None:
            together = {option.name: values.pop(option.name) for option in options}
            command(group(**together), **values)

        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        signature = inspect.Signature([*own, *options])
        run.__signature__ = signature  # type: ignore[attr-defined]  # functions may have one
        run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        return run

    return decorate
