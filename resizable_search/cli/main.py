"""The edge: every domain error becomes one line and an exit code; no traceback unless --debug."""

import io
import os
import sys
from collections.abc import Callable

import typer
from typer.exceptions import TyperException

from resizable_search.cli.app import ReaderGoneError, app
from resizable_search.errors import RsearchError

DEBUG_FLAG = "--debug"


def main() -> None:
    """Run the command line and leave with its exit code."""
    _take_any_text()
    debug = DEBUG_FLAG in sys.argv
    arguments = [word for word in sys.argv[1:] if word != DEBUG_FLAG]
    sys.exit(guarded(lambda: _run(arguments), debug=debug))


def _take_any_text() -> None:
    """Neither bytes on stdin that are no text nor characters that stdout's encoding lacks are an error."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _run(arguments: list[str]) -> int:
    code = app(args=arguments, prog_name="rsearch", standalone_mode=False)
    if code == 130:  # what typer makes of Ctrl-C, without a word
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def guarded(action: Callable[[], int], *, debug: bool = False) -> int:
    """Do it, and tell what goes wrong in one line on stderr. Returns the exit code."""
    try:
        code = action()
        sys.stdout.flush()
        return code
    except (BrokenPipeError, ReaderGoneError):
        # What is still buffered has nowhere to go: Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _tell("stopped", 130)
    except typer.Abort:
        return _tell("nothing was done", 1)
    except TyperException as error:
        if debug:
            raise
        text = error.format_message()
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(f"{text}\n")
            return 0
        hint = "" if error.exit_code == 1 else " (`--help` shows the usage)"
        return _tell(f"{text.rstrip('.')}{hint}", error.exit_code)
    except RsearchError as error:
        if debug:
            raise
        return _tell(str(error), error.exit_code)
    except MemoryError:
        return _tell("out of memory: use fewer --dims or a smaller batch", 1)
    except Exception as error:
        if debug:
            raise
        what = f"{type(error).__name__}: {error}"
        return _tell(f"internal error ({what}): please report it, with what `{DEBUG_FLAG}` shows", 1)


def _tell(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"rsearch: {line}\n")
    return code
