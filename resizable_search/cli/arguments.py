"""Options that commands take together, declared once: dataclasses, each of whose fields is an option.

    @takes(BuildArguments, embedder="lsa")
    def pydoc(options: BuildArguments) -> None: ...

The command has an option for each field, besides those that it declares itself.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, TypeVar

import typer

from resizable_search.cli import completion

T = TypeVar("T")

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


def takes(
    group: type, without: tuple[str, ...] = (), **defaults: Any
) -> Callable[[Callable[..., T]], Callable[..., T]]:
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

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        first, *own = inspect.signature(command).parameters.values()

        @functools.wraps(command)
        def run(**values: Any) -> T:
            together = {option.name: values.pop(option.name) for option in options}
            return command(group(**together), **values)

        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        signature = inspect.Signature([*own, *options])
        run.__signature__ = signature  # type: ignore[attr-defined]  # functions may have one
        run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        return run

    return decorate
