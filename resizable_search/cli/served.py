"""Errands of other processes, done in a service: what `rsearch query` would print there, printed here."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from resizable_search.cli.errand import ADDRESSES
from resizable_search.cli.searching import SearchArguments
from resizable_search.cli.sheet import Sheet, Surface
from resizable_search.errors import RsearchError

if TYPE_CHECKING:
    from resizable_search.search import Index

Lend = Callable[[str], "AbstractContextManager[Index]"]
"""Gives an index by its name, open and of the generation that is on disk."""


class Declined(RsearchError):
    """An errand that whoever sent it must do himself."""


class Errands:
    """The handler of a service's door: answers a search by an index that is lent."""

    def __init__(self, lend: Lend) -> None:
        self._lend = lend

    def __call__(self, errand: Mapping[str, Any]) -> dict[str, str]:
        """What the command would write to stdout and stderr, as `out` and `err`. Raises RsearchError.

        What the command would do besides, such as to tune, is declined.
        """
        if errand["addresses"] != {name: os.environ.get(name) for name in ADDRESSES}:
            raise Declined("texts are to be embedded elsewhere")
        options = SearchArguments(**errand["options"])
        form = options.form()
        with self._lend(errand["index"]) as index:
            if errand["threads"] not in ("", str(index.threads)):
                raise Declined(f"scans run on {index.threads} threads here")
            if options.recall is not None and index.tuned(options.k, options.recall) is None:
                raise Declined("the plan is to be tuned first")
            plan = options.checked(index, form)
            if errand["command"] == "similar":
                found = index.answer_similar(errand["text"], options.k, plan=plan, where=options.where)
            else:
                found = index.answer(
                    errand["text"], options.k, plan=plan, where=options.where, group=errand["group"]
                )
            sheet = Sheet(Surface(**errand["surface"]))
            said = options.write(found, index, form, sheet)
        if options.explain:
            said += f"rsearch: the running service (process {os.getpid()}) has answered\n"
        return {"out": sheet.getvalue(), "err": said}
