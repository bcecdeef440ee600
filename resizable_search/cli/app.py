"""The commands, put together. Nothing heavy is imported before a command runs."""

import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from resizable_search import __version__
from resizable_search.cli import configured
from resizable_search.cli import help as manual
from resizable_search.errors import UsageError

COMMANDS = {
    "build": "builds.app",
    "query": "query.query",
    "similar": "query.similar",
    "bench": "bench.bench",
    "tune": "tune.tune",
    "eval": "eval.evaluate",
    "serve": "serve.serve",
    "mcp": "serve.mcp",
    "list": "manage.list_indexes",
    "info": "manage.info",
    "add": "update.add",
    "delete": "update.delete",
    "compact": "update.compact",
    "export": "export.export",
    "remove": "manage.remove",
    "verify": "verify.verify",
    "repair": "verify.repair",
    "warm": "manage.warm",
    "doctor": "manage.doctor",
    "config": "config.app",
}
"""Each command, in the order of use: its module of this package, and its function or group there."""


_NAMED = re.compile(r"`([a-z]+(?:_[a-z]+)*)(=[^`\s]+)?((?: [^`]*)?)`")
_OPTION = re.compile(r"\b([a-z]+(?:_[a-z]+)*)=")


def with_flags(message: str) -> str:
    """A message of the library in words of the command line.

    The library names options and commands in backquotes: `restart` becomes --restart, `rate=60` becomes
    `--rate 60`, and `tune index=wiki k=20` becomes `rsearch tune --index wiki -k 20`.
    """
    return _NAMED.sub(_as_typed, message)


def _as_typed(found: re.Match[str]) -> str:
    name, value, rest = found[1], found[2], found[3]
    if name in COMMANDS:
        return f"`rsearch {name}{_OPTION.sub(lambda option: _flag(option[1]) + ' ', rest)}`"
    if rest:
        return found[0]  # a command of somebody else: `ulimit -n 1024`
    return f"`{_flag(name)} {value[1:]}`" if value else _flag(name)


def _flag(option: str) -> str:
    return f"-{option}" if len(option) == 1 else f"--{option.replace('_', '-')}"


class ReaderGoneError(Exception):
    """Whoever read our output has gone (`| head`), which is no failure; typer would call it one."""


class Lazily(Mapping[str, Any]):
    """The commands by name. One is imported and made when it is asked for: all of them take a while."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, attribute = COMMANDS[name].split(".")
            found = getattr(import_module(f"{__package__}.{module}"), attribute)
            alone, epilog = typer.Typer(), manual.epilog(name)
            if isinstance(found, typer.Typer):
                alone.add_typer(found, name=name, epilog=epilog)
            else:
                alone.command(name, epilog=epilog)(found)
            self._made[name] = manual.grouped(typer.main.get_group(alone).commands[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class InOrder(TyperGroup):
    """Lists the commands in the order of use, and lets nobody mistake a closed pipe for an error."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = Lazily()  # type: ignore[assignment]  # nobody adds to them

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGoneError from error
        except UsageError as error:
            if told := configured.hint(ctx, str(error)):
                raise UsageError(f"{error}{told}") from None
            raise


app = typer.Typer(
    name="rsearch",
    epilog=manual.epilog(""),
    cls=InOrder,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import platform
        from importlib.metadata import version

        typer.echo(f"rsearch {__version__}")
        typer.echo(f"Python {platform.python_version()}, numpy {version('numpy')}, numba {version('numba')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the trace of an error; may stand anywhere.")
    ] = False,
) -> None:
    """Build and query embedding indexes on disk, with resizable (Matryoshka) embeddings."""
