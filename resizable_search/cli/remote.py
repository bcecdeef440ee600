"""`rsearch query` and `similar` by a running service of the same home, where there is one.

The service prints what this process would have printed, and this process hands it on. Whatever stands
against that is no error: then nothing has been printed, and the command does its work here.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from resizable_search.cli.options import home_of, index_name
from resizable_search.cli.settings import VARIABLES
from resizable_search.errors import RsearchError
from resizable_search.service import knock
from resizable_search.store.layout import Home, expanded

if TYPE_CHECKING:
    from resizable_search.cli.searching import SearchArguments

SERVICE_VARIABLE = "RSEARCH_SERVICE"
"""`off`: every command does its work itself."""

ADDRESSES = ("ATLAS_API_PATH", "OPENAI_BASE_URL")
"""Where texts are sent to be embedded: the service must send them to the same place."""

HERE = ("index", "home", "open", "threads", "engine")
"""What is not handed on with the other options."""


class Done(int):
    """The exit code of a command that a service has done: this process holds nothing that is to be closed."""


def done(command: str, text: str, options: "SearchArguments", *, group: bool = False) -> Done | None:
    """Have a service do all of it, and print what it says; None if there is none that does it.

    `command` is `query` or `similar`, `text` what is looked for or the id.
    """
    off = os.environ.get(SERVICE_VARIABLE, "").strip().lower() in ("off", "0", "no", "false")
    if off or options.open is not None or options.engine != "auto":
        return None
    home = home_of(options.home)
    if not os.path.lexists(home.socket):
        return None
    try:
        name = _name(options.index, home)
        errand = None if name is None else _errand(command, text, options, name, group=group)
    except (RsearchError, OSError, ValueError):  # which the command itself tells
        return None
    told = None if errand is None else knock.ask(home, errand)
    if not isinstance(told, dict) or not all(isinstance(told.get(name), str) for name in ("out", "err")):
        return None
    sys.stdout.write(told["out"])
    sys.stdout.flush()
    if told["err"] and sys.stderr is not None:
        sys.stderr.write(told["err"])
    return Done(0)


def _name(index: str | None, home: Home) -> str | None:
    """What the index is called in the home; None for a folder elsewhere. Raises RsearchError, OSError."""
    name = index_name(index, home)
    if "/" not in name and "\\" not in name:
        return name
    folder = expanded(name)
    inside = folder.name not in ("", "..") and folder.parent.samefile(home.path)
    return folder.name if inside else None


def _errand(
    command: str, text: str, options: "SearchArguments", name: str, *, group: bool
) -> Mapping[str, Any]:
    """All that decides what is printed."""
    from resizable_search.cli.sheet import Surface

    threads = os.environ.get(VARIABLES["threads"], "") if options.threads is None else str(options.threads)
    return {
        "command": command,
        "text": text,
        "index": name,
        "group": group,
        "options": {
            field.name: getattr(options, field.name) for field in fields(options) if field.name not in HERE
        },
        "threads": threads.strip(),
        "addresses": {name: os.environ.get(name) for name in ADDRESSES},
        "surface": Surface.here().to_json(),
    }
