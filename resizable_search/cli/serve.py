"""`rsearch serve`: a search page and an HTTP API over the indexes of a home."""

import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.extra import extra_serve, say
from resizable_search.cli.options import EngineOption, HomeOption, ThreadsOption, home_of
from resizable_search.errors import RsearchError, UsageError

if TYPE_CHECKING:
    from resizable_search.service.index_pool import IndexPool

TOKEN_VARIABLE = "RSEARCH_TOKEN"
LEAST_TOKEN = 16
"""Characters of a token: fewer can be guessed."""


def serve(
    index: Annotated[
        list[str] | None,
        typer.Option(
            "--index",
            "-i",
            help="Serve this index alone, by name or folder; may be given again.",
            autocompletion=completion.indexes,
            show_default="all of the home",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any that is free.")
    ] = 8765,
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="Let --host be an address that other machines reach."),
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="File with the token that callers have to send; --allow-remote wants one.",
            show_default="$RSEARCH_TOKEN",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Another name that the service goes by; may be given again."),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            "--cors",
            help="Origin whose pages may use the API, such as https://example.org; may be given again.",
        ),
    ] = None,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    home: HomeOption = None,
) -> None:
    """Serve a search page, and an HTTP API, over the indexes of this machine.

    Indexes are opened once and stay in memory as far as they are read; one
    that is built anew, changed or removed meanwhile is followed. The page is
    at the address that is printed, the API's description at /docs.
    """
    import os

    token = _token(token_file, os.environ.get(TOKEN_VARIABLE, ""))
    with extra_serve():
        from resizable_search.cli.served import Errands
        from resizable_search.service import server
        from resizable_search.service.door import Door
        from resizable_search.service.index_pool import IndexPool
        from resizable_search.service.middleware import AccessRules, is_loopback

    if not is_loopback(host):
        if not allow_remote:
            raise UsageError(
                f"other machines reach {host}: say --allow-remote, with a token in ${TOKEN_VARIABLE} or "
                "--token-file, if they may"
            )
        if not token:
            raise UsageError(
                f"--allow-remote wants a token: put one into ${TOKEN_VARIABLE}, or name a file that holds "
                "one with --token-file"
            )
    places = home_of(home)
    shelf = IndexPool(places, index or (), threads=threads, engine=engine)
    rules = AccessRules.of(host, more=allow_host or (), origins=_origins(cors or ()), token=token)
    listening = server.listen(host, port)
    if engine != "numpy":
        _compile(shelf)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"

    def ready() -> None:
        names = shelf.names()
        what = _counted(len(names)) if names else f"no index yet in {places.path}"
        say(f"serving {what} at {address} (Ctrl-C stops)")
        if door.problem:
            say(f"`rsearch query` does its work itself: {door.problem}")

    with Door(places, Errands(places, shelf.lend)) as door:
        stopped_by = server.run(shelf, rules, listening, ready=ready, trouble=say)
    if stopped_by == signal.SIGINT:
        raise KeyboardInterrupt
    say("stopped")


def _compile(shelf: "IndexPool") -> None:
    """Compile the kernels now, if an index is large enough to use them: no query does."""
    from resizable_search.cli.progress import shown_progress
    from resizable_search.engine.kernel_cache import compile_if_worth
    from resizable_search.store.manifest import read_manifest

    largest = 0
    for name in shelf.names():
        with suppress(RsearchError):  # a damaged index is reported when it is opened
            manifest = read_manifest(shelf.folder(name))
            largest = max(largest, manifest.documents * manifest.full_dim)
    with shown_progress() as progress:
        compile_if_worth(largest, progress)


def _counted(indexes: int) -> str:
    return f"{indexes} index{'' if indexes == 1 else 'es'}"


def _token(file: Path | None, variable: str) -> str:
    """The token that callers have to send; '' for none. Raises UsageError, RsearchError."""
    token, source = variable.strip(), f"${TOKEN_VARIABLE}"
    if file is not None:
        try:
            token, source = file.read_text().strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise RsearchError(f"cannot read the token file {file} ({error}): name one that has it") from None
    if (token or file is not None) and not (
        len(token) >= LEAST_TOKEN and token.isascii() and token.isprintable()
    ):
        raise UsageError(
            f"the token in {source} must have {LEAST_TOKEN} or more printable ASCII characters: "
            "`openssl rand -hex 32` makes one"
        )
    return token


def _origins(cors: "list[str] | tuple[str, ...]") -> list[str]:
    from resizable_search.service.middleware import origin_of

    origins = []
    for text in cors:
        origin = origin_of(text)
        if origin is None:
            raise UsageError(f"--cors {text} is no origin: write one as https://example.org")
        origins.append(origin)
    return origins
