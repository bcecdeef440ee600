"""The command, run inside this process: what a command costs is mostly its start."""

import contextlib
import io
import os
import sys
from unittest import mock

from resizable_search.cli import main
from tests.cli.conftest import Machine, Ran, shown


class Inside(Machine):
    """A machine whose commands run in this process, one after the other, on its main thread."""

    def run(self, *args: object, stdin: str | None = None, **env: str) -> Ran:
        words, debug = main.take_debug([str(word) for word in args])
        out, err = _stream(), _stream()
        with (
            mock.patch.dict(os.environ, {**self.env, **env}, clear=True),
            mock.patch.object(sys, "stdin", io.StringIO(stdin or "")),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main.guarded(lambda: main._run(words), debug=debug)
        return Ran(words, code, shown(_said(out)), shown(_said(err))).keeps_promises()


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape", write_through=True)


def _said(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
