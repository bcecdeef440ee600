"""The edge: every domain error becomes one line and an exit code; no traceback unless --debug."""

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress

import typer
from typer.exceptions import TyperException

from resizable_search.cli import completion as completing
from resizable_search.cli.app import ReaderGoneError, app, with_flags
from resizable_search.cli.remote import SERVICE_VARIABLE
from resizable_search.errors import RsearchError
from resizable_search.system import exhausted
from resizable_search.text import plain

DEBUG_FLAG = "--debug"

_REFUSED_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""What writing to a stream fails with; files of an index name themselves, or are StorageErrors."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    _fill_closed_streams()
    if sys.stdout is None:
        sys.exit(_tell("stdout is closed: send it to a file, or to /dev/null", 1))
    _take_any_text()
    if completing.is_asked():
        sys.exit(completing.answer(lambda: _run([])))
    arguments, debug = take_debug(sys.argv[1:])
    if debug:
        os.environ[SERVICE_VARIABLE] = "off"  # who wants a trace wants to see this process at work
    sys.exit(_flushed(guarded(lambda: _run(arguments), debug=debug)))


def take_debug(words: list[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, which may stand anywhere before `--`, and whether it was there."""
    end = words.index("--") if "--" in words else len(words)
    return [word for word in words[:end] if word != DEBUG_FLAG] + words[end:], DEBUG_FLAG in words[:end]


def _fill_closed_streams() -> None:
    """Let no file that is opened later become stdin, stdout or stderr because the caller closed those."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


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
        return action()
    except (BrokenPipeError, ReaderGoneError):
        _drop_output()
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
        # Whoever met a limit of this process saw only that a file or a service could not be reached.
        return _tell(with_flags(str(exhausted(error) or error)), error.exit_code)
    except Exception as error:
        if debug:
            raise
        if (limit := exhausted(error)) is not None:
            return _tell(with_flags(str(limit)), limit.exit_code)
        if isinstance(error, OSError) and error.errno in _REFUSED_OUTPUT and error.filename is None:
            _drop_output()
            return _tell_of_output(error)
        what = f"{type(error).__name__}: {error}"
        return _tell(f"internal error ({what}): please report it, with what `{DEBUG_FLAG}` shows", 1)


def _flushed(code: int) -> int:
    """Write what is still buffered, before Python does it and complains. Returns the exit code."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        _drop_output()
        return code or _tell_of_output(error)
    return code


def _drop_output() -> None:
    """What is still buffered has nowhere to go: Python must not complain at exit."""
    with suppress(OSError, ValueError):  # a stream of no file has nothing to drop
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell_of_output(error: OSError) -> int:
    return _tell(f"cannot write the output ({error.strerror}): make room, or send it elsewhere", 1)


def _tell(message: str, code: int) -> int:
    line = plain(message)
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(f"rsearch: {line}\n")
            sys.stderr.flush()
    return code
