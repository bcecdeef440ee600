"""The commands, put together. Nothing heavy is imported before a command runs."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from resizable_search import __version__
from resizable_search.cli import (
    bench,
    build,
    build_files,
    build_hf,
    config,
    configured,
    living,
    manage,
    query,
    similar,
    tune,
    verify,
)
from resizable_search.errors import UsageError

COMMANDS = (
    "build",
    "query",
    "similar",
    "bench",
    "tune",
    "list",
    "info",
    "add",
    "delete",
    "compact",
    "remove",
    "verify",
    "repair",
    "warm",
    "doctor",
    "config",
)


class ReaderGoneError(Exception):
    """Whoever read our output has gone (`| head`), which is no failure; typer would call it one."""


class InOrder(TyperGroup):
    """Lists the commands in the order of use, and lets nobody mistake a closed pipe for an error."""

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

    def list_commands(self, ctx: Any) -> list[str]:
        """The names as the help shows them."""
        return list(COMMANDS)


app = typer.Typer(
    name="rsearch",
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


build.app.command("files")(build_files.files)
build.app.command("hf")(build_hf.hf)
app.add_typer(build.app, name="build")
app.command("query")(query.query)
app.command("similar")(similar.similar)
app.command("bench")(bench.bench)
app.command("tune")(tune.tune)
app.command("list")(manage.list_indexes)
app.command("info")(manage.info)
app.command("add")(living.add)
app.command("delete")(living.delete)
app.command("compact")(living.compact)
app.command("remove")(manage.remove)
app.command("verify")(verify.verify)
app.command("repair")(verify.repair)
app.command("warm")(manage.warm)
app.command("doctor")(manage.doctor)
app.add_typer(config.app, name="config")
