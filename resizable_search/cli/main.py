"""The command line: the commands, and errors as one line and an exit code."""

import errno
import gc
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from resizable_search import __version__
from resizable_search.cli import completion
from resizable_search.cli.help import COMMANDS, OTHER_NAMES, describe, epilog
from resizable_search.cli.output import note
from resizable_search.cli.remote import SERVICE_VARIABLE
from resizable_search.cli.settings import ConfiguredCommand
from resizable_search.environment import unusable_setting
from resizable_search.errors import RsearchError, UsageError
from resizable_search.system import exhausted

DEBUG_FLAG = "--debug"

_REFUSED_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Errors of writing to stdout. Errors of files have a file name, or are StorageErrors."""


class SuggestingGroup(TyperGroup):
    """A group that suggests a command for one that it does not have."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command. Raises UsageError with a suggestion."""
        try:
            return super().resolve_command(ctx, args)
        except TyperException as error:
            likely = OTHER_NAMES.get(args[0], "")
            if os.path.exists(args[0]) and "config" not in ctx.command_path:
                likely = f"build files {shlex.quote(args[0])}"
            if likely in self.commands or " " in likely:
                error.message = f"No such command {args[0]!r}. Did you mean {likely!r}?"
            raise


class LazyCommands(Mapping[str, Any]):
    """The commands by name. Each is imported when it is needed: importing all takes long."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, attribute = COMMANDS[name].split(".")
            function = getattr(import_module(f"{__package__}.{module}"), attribute)
            single = typer.Typer()
            if isinstance(function, typer.Typer):
                single.add_typer(function, name=name, cls=SuggestingGroup)
            else:
                kind = TyperCommand if name == "doctor" else ConfiguredCommand
                single.command(name, cls=kind)(function)
            self._made[name] = describe(typer.main.get_group(single).commands[name], name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class RootGroup(SuggestingGroup):
    """The group of all commands, in the order of use."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = LazyCommands()  # type: ignore[assignment]  # nothing is added

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options of all commands; `help COMMAND` is `COMMAND --help`."""
        return super().parse_args(ctx, [*args[1:], "--help"] if args[:1] == ["help"] else args)


app = typer.Typer(
    name="rsearch",
    epilog=epilog(""),
    cls=RootGroup,
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
        bool, Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Build and query indexes on disk, with resizable (Matryoshka) embeddings.

    `rsearch help COMMAND` shows the options and examples of a command.
    """


def main() -> None:
    """Run the command line and leave with its exit code."""
    _fill_closed_streams()
    if sys.stdout is None:
        sys.exit(_tell("stdout is closed: send it to a file, or to /dev/null", 1))
    _take_any_text()
    if os.environ.get(completion.VARIABLE, "").startswith("complete_"):
        sys.exit(completion.answer(lambda: app(args=[], prog_name="rsearch")))
    arguments, debug = take_debug(sys.argv[1:])
    if debug:
        os.environ[SERVICE_VARIABLE] = "off"  # the trace must be of this process
    code = guarded(lambda: _run(arguments), debug=debug)
    flushed = guarded(sys.stdout.flush)  # before Python does, which would print a traceback
    gc.freeze()  # else the last collection takes a tenth of the time of a query
    sys.exit(code or flushed)


def take_debug(words: list[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug` (anywhere before `--`), and whether it was there."""
    end = words.index("--") if "--" in words else len(words)
    return [word for word in words[:end] if word != DEBUG_FLAG] + words[end:], DEBUG_FLAG in words[:end]


def _fill_closed_streams() -> None:
    """Open closed standard streams on /dev/null, so that no other file takes their numbers."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one


def _take_any_text() -> None:
    """Accept any bytes on stdin, and print characters that stdout's encoding lacks as escapes."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _run(arguments: list[str]) -> None:
    # Not by typer's own `main`, which calls Ctrl-C and a reader that has gone (`| head`) something else.
    command = typer.main.get_command(app)
    with command.make_context("rsearch", arguments) as context:
        command.invoke(context)


def guarded(action: Callable[[], None], *, debug: bool = False) -> int:
    """Run `action`, and print an error as one line on stderr. Returns the exit code."""
    try:
        action()
    except typer.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        _drop_output()
    except KeyboardInterrupt:
        return _tell("stopped", 130)
    except typer.Abort:
        return _tell("nothing was done", 1)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, TyperException):
            text = error.format_message()
            if type(error).__name__ == "NoArgsIsHelpError":
                sys.stdout.write(f"{text}\n")
                return 0
            hint = "" if error.exit_code == 1 else " (`--help` shows the usage)"
            return _tell(f"{text.rstrip('.')}{hint}", error.exit_code)
        # A limit of this process looks like an unreachable file or service where it is met.
        is_foreign = isinstance(error, OSError | ValueError | ImportError)
        setting = unusable_setting(error) if is_foreign else ""
        known = exhausted(error) or (UsageError(setting) if setting else error)
        if isinstance(known, RsearchError):
            return _tell(str(known), known.exit_code)
        if isinstance(error, OSError) and error.errno in _REFUSED_OUTPUT and error.filename is None:
            _drop_output()
            problem = f"cannot write the output ({error.strerror})"
            return _tell(f"{problem}: free some space, or send it elsewhere", 1)
        if isinstance(error, FileNotFoundError) and error.filename is None:  # `os.getcwd` cannot say what
            return _tell("the current folder is gone: change to another, or give absolute paths", 1)
        what = f"{type(error).__name__}: {error}"
        return _tell(f"internal error ({what}): please report it with the output of `{DEBUG_FLAG}`", 1)
    return 0


def _drop_output() -> None:
    """Send the rest of the output to /dev/null: Python must not complain at exit."""
    with suppress(OSError, ValueError):  # not a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(message: str, code: int) -> int:
    note(message)
    return code
