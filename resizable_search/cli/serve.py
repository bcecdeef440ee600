"""`rsearch serve` and `rsearch mcp`: the indexes of a home over HTTP, and for assistants over stdio."""

import os
import signal
import sys
import threading
import webbrowser
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from resizable_search.cli import completion
from resizable_search.cli.options import (
    EngineOption,
    HomeOption,
    PartialOption,
    RayArguments,
    ThreadsOption,
    takes,
)
from resizable_search.cli.output import note
from resizable_search.cli.progress import shown_progress
from resizable_search.environment import needs
from resizable_search.errors import RsearchError, StorageError, UsageError
from resizable_search.store.layout import home_of
from resizable_search.text import listed

if TYPE_CHECKING:
    from resizable_search.service.index_pool import IndexPool

TOKEN_VARIABLE = "RSEARCH_TOKEN"
LEAST_TOKEN = 16  # characters of a token: fewer can be guessed

IndexesOption = Annotated[
    list[str] | None,
    Option("--index", "-i", help="Serve only this index; repeatable.", autocompletion=completion.indexes),
]


@takes(RayArguments)
def serve(
    ray: RayArguments,
    index: IndexesOption = None,
    host: Annotated[str, Option(help="Listen on this address.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="Listen on this port; 0: any free one.")] = 8765,
    allow_remote: Annotated[
        bool, Option("--allow-remote", help="Allow a --host that other machines can reach.")
    ] = False,
    token_file: Annotated[
        Path | None, Option(help="Require the token in this file; --allow-remote needs one.")
    ] = None,
    allow_host: Annotated[list[str] | None, Option(help="Accept this Host header too; repeatable.")] = None,
    cors: Annotated[list[str] | None, Option(help="Let pages of this origin call it; repeatable.")] = None,
    open_page: Annotated[bool, Option("--open", help="Open the page in the browser.")] = False,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    partial: PartialOption = False,
    home: HomeOption = None,
) -> None:
    """Serve a search page and an HTTP API on this machine.

    Indexes stay open; rebuilt, changed and removed indexes are noticed. The
    command prints the address of the page; /docs describes the API. While it
    runs, `rsearch query` on the same home is answered by it.
    """
    token = _token(token_file, os.environ.get(TOKEN_VARIABLE, ""))
    with needs("serve"):
        from resizable_search.service import server
        from resizable_search.service.index_pool import IndexPool
        from resizable_search.service.middleware import AccessRules, is_loopback

    if not (is_loopback(host) or (allow_remote and token)):
        remedy = f"give --allow-remote, and a token in ${TOKEN_VARIABLE} or --token-file"
        raise UsageError(f"other machines can reach {host}: {remedy}")
    folder = home_of(home)
    cluster = ray.engines(partial=partial)
    pool = IndexPool(folder, index or (), threads=threads, engine=cluster or engine)
    rules = AccessRules.of(host, more=allow_host or (), origins=cors or (), token=token)
    with server.listen(host, port) as listening, ExitStack() as stack:
        if engine != "numpy" and cluster is None:
            _compile(pool)
        sockets = [listening]
        remark = None
        try:
            sockets.append(stack.enter_context(server.local_socket(folder)))
        except StorageError as error:
            remark = f"`rsearch query` will not use this service: {error}"

        def ready() -> None:
            what = listed(pool.names(), 3) or f"no index yet in {folder.path}"
            at = _address(host, listening.getsockname()[1])
            note(f"serving {what} at {at} (Ctrl-C stops)")
            if remark:
                note(remark)
            if open_page:  # some browsers run in the terminal until they are left
                page = at.split()[0]
                threading.Thread(target=webbrowser.open, args=(page,), name="browser", daemon=True).start()

        stopped_by = server.run(pool, rules, sockets, ready, note)
    if stopped_by == signal.SIGINT:
        raise KeyboardInterrupt
    note("stopped")


def mcp(
    index: IndexesOption = None,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    home: HomeOption = None,
) -> None:
    """Let assistants search the indexes (MCP over stdio).

    An assistant's program starts this command. It offers three tools that
    only read: search, get_document and list_indexes. `rsearch serve` offers
    the same tools at /mcp.
    """
    with needs("serve"):
        from resizable_search.service.index_pool import IndexPool
        from resizable_search.service.mcp import run_stdio
        from resizable_search.service.server import captured_log

    pool = IndexPool(home_of(home), index or (), threads=threads, engine=engine)
    if sys.stdin is None:
        raise RsearchError("stdin is closed: let an assistant's program start this command, and speak to it")
    if sys.stdin.isatty():
        note("waiting for an assistant on stdin: see `rsearch mcp --help` (Ctrl-C stops)")
    with captured_log("mcp", note):
        stopped_by = run_stdio(pool)
    if stopped_by == signal.SIGINT:
        raise KeyboardInterrupt


def _compile(pool: "IndexPool") -> None:
    """Compile missing kernels now, if an index is large enough for them: queries never do."""
    from resizable_search.engine.kernel_cache import compile_if_worth
    from resizable_search.store.manifest import read_manifest

    largest = 0
    for name in pool.names():
        with suppress(RsearchError):  # a damaged index is reported when it is opened
            manifest = read_manifest(pool.folder(name))
            largest = max(largest, manifest.documents * manifest.full_dim)
    with shown_progress() as progress:
        compile_if_worth(largest, progress)


def _address(host: str, port: int) -> str:
    """An address of the page that can be opened on this machine."""
    names = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    name = names.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}{' and all addresses of this machine' if host in names else ''}"


def _token(file: Path | None, variable: str) -> str:
    """The token that callers must send; '' for none. Raises UsageError, RsearchError."""
    token, source = variable.strip(), f"${TOKEN_VARIABLE}"
    if file is not None:
        try:
            token, source = file.read_text().strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise RsearchError(f"cannot read the token file {file} ({error}): name another file") from None
    is_good = len(token) >= LEAST_TOKEN and token.isascii() and token.isprintable()
    if (variable or file is not None) and not is_good:
        needed = f"{LEAST_TOKEN} or more printable ASCII characters"
        raise UsageError(f"the token in {source} must have {needed}: `openssl rand -hex 32` makes one")
    return token
