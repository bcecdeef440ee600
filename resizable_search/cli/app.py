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
    eval,
    export,
    living,
    manage,
    manual,
    query,
    serve,
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
    "eval",
    "serve",
    "list",
    "info",
    "add",
    "delete",
    "compact",
    "export",
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

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, its options in groups."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            manual.grouped(command)
        return command

    def list_commands(self, ctx: Any) -> list[str]:
        """The names as the help shows them."""
        return list(COMMANDS)


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


build.app.command("files", epilog=manual.epilog("build files"))(build_files.files)
build.app.command("hf", epilog=manual.epilog("build hf"))(build_hf.hf)
app.add_typer(build.app, name="build", epilog=manual.epilog("build"))
app.command("query", epilog=manual.epilog("query"))(query.query)
app.command("similar", epilog=manual.epilog("similar"))(similar.similar)
app.command("bench", epilog=manual.epilog("bench"))(bench.bench)
app.command("tune", epilog=manual.epilog("tune"))(tune.tune)
app.command("eval", epilog=manual.epilog("eval"))(eval.evaluate)
app.command("serve", epilog=manual.epilog("serve"))(serve.serve)
app.command("list", epilog=manual.epilog("list"))(manage.list_indexes)
app.command("info", epilog=manual.epilog("info"))(manage.info)
app.command("add", epilog=manual.epilog("add"))(living.add)
app.command("delete", epilog=manual.epilog("delete"))(living.delete)
app.command("compact", epilog=manual.epilog("compact"))(living.compact)
app.command("export", epilog=manual.epilog("export"))(export.export)
app.command("remove", epilog=manual.epilog("remove"))(manage.remove)
app.command("verify", epilog=manual.epilog("verify"))(verify.verify)
app.command("repair", epilog=manual.epilog("repair"))(verify.repair)
app.command("warm", epilog=manual.epilog("warm"))(manage.warm)
app.command("doctor", epilog=manual.epilog("doctor"))(manage.doctor)
app.add_typer(config.app, name="config", epilog=manual.epilog("config"))
