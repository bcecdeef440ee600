"""Errands of other processes, done in a service: what `rsearch query` would print there, printed here."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from resizable_search.cli.remote import ADDRESSES
from resizable_search.cli.searching import SearchArguments
from resizable_search.cli.sheet import Sheet, Surface
from resizable_search.errors import RsearchError
from resizable_search.store.layout import Home

if TYPE_CHECKING:
    from resizable_search.search.index import Index

Lend = Callable[[str], "AbstractContextManager[Index]"]
"""Gives an index by its name, open and of the generation that is on disk."""


class DeclinedError(RsearchError):
    """An errand that whoever sent it must do himself."""


class Errands:
    """The handler of the door of a home's service: answers a search by an index that is lent."""

    def __init__(self, home: Home, lend: Lend) -> None:
        self._home = home
        self._lend = lend

    def __call__(self, errand: Mapping[str, Any]) -> dict[str, str]:
        """What the command would write to stdout and stderr, as `out` and `err`. Raises RsearchError.

        What the command would do besides, such as to tune, is declined. Why searches are slow here
        (`Index.remark`) is the service's to tell, not each answer's.
        """
        if errand["addresses"] != {name: os.environ.get(name) for name in ADDRESSES}:
            raise DeclinedError("its texts are embedded elsewhere")
        options = SearchArguments(**errand["options"])
        form = options.form()
        with self._lend(errand["index"]) as index:
            if not index.folder.samefile(self._home.index(errand["index"])):
                raise DeclinedError("another folder is served by this name")
            if errand["threads"] not in ("", str(index.threads)):
                raise DeclinedError("it wants another number of threads")
            if options.recall is not None and index.tuned(options.k, options.recall) is None:
                raise DeclinedError("its plan is to be tuned first")
            search = options.checked(index, form, group=errand["group"])
            found = (
                index.search_similar(errand["text"], search)
                if errand["command"] == "similar"
                else index.search([errand["text"]], search)[0]
            )
            sheet = Sheet(Surface(**errand["surface"]))
            options.write(found, index, form, sheet)
        explained = f"rsearch: the service that runs (process {os.getpid()}) has answered\n"
        return {"out": sheet.getvalue(), "err": explained if options.explain else ""}
