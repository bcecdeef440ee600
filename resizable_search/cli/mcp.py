"""`rsearch mcp`: the tools of assistants over the indexes of a home."""

import signal
import sys
from typing import Annotated

import typer

from resizable_search.cli import completion
from resizable_search.cli.extra import extra_serve, say
from resizable_search.cli.options import EngineOption, HomeOption, ThreadsOption, home_of

ALONE = (
    "waiting for an assistant on stdin: its configuration starts this command (see `rsearch mcp --help`; "
    "Ctrl-C stops)"
)


def mcp(
    index: Annotated[
        list[str] | None,
        typer.Option(
            "--index",
            "-i",
            help="Offer this index alone, by name or folder; may be given again.",
            autocompletion=completion.indexes,
            show_default="all of the home",
        ),
    ] = None,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    home: HomeOption = None,
) -> None:
    """Let assistants search the indexes of this machine (Model Context Protocol, stdio).

    An assistant's program starts this and asks through stdin and stdout, with
    three tools: search, get_document and list_indexes. They only read. An
    index that is built anew meanwhile is followed. `rsearch serve` has the
    same tools at /mcp.
    """
    with extra_serve():
        from resizable_search.service import mcp_stdio as stdio
        from resizable_search.service.index_pool import IndexPool

    shelf = IndexPool(home_of(home), index or (), threads=threads, engine=engine)
    if sys.stdin.isatty():
        say(ALONE)
    if stdio.run(shelf, trouble=say) == signal.SIGINT:
        raise KeyboardInterrupt
