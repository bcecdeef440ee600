"""What `rsearch verify` and `rsearch repair` say."""

import shlex
import sys
from typing import TYPE_CHECKING

from resizable_search.cli.app import with_flags
from resizable_search.cli.output import json_object
from resizable_search.errors import IndexFormatError
from resizable_search.text import counted, plain, size

if TYPE_CHECKING:
    from resizable_search.store.repair import Repair, Verified


def verified(found: "Verified", name: str, *, as_json: bool) -> None:
    """A line for each damaged file, or one that all is sound. Raises IndexFormatError for damage."""
    if as_json:
        json_object(found)
    else:
        for damage in found.damaged:
            sys.stdout.write(f"damaged  {plain(damage.file)}: {plain(damage.wrong)}\n")
    if found.damaged:
        raise IndexFormatError(
            f"{found.index} has {counted(len(found.damaged), 'damaged file')} of {found.files}: "
            f"`rsearch repair {shlex.quote(name)}` mends what follows from the full vectors"
        )
    if not as_json:
        rows = "every row" if found.full else "a sample of the rows (--full: every row)"
        sys.stdout.write(
            f"{found.index}: {counted(found.files, 'file')}, {size(found.bytes)}, as they were written; "
            f"{rows} of what is derived follows from the full vectors\n"
        )


def repaired(done: "Repair", name: str) -> None:
    """What was mended, and what is lost. Raises IndexFormatError for the latter."""
    for file in done.mended:
        sys.stdout.write(f"mended  {plain(file)}\n")
    for lost in done.lost:
        sys.stdout.write(f"lost    {plain(lost.file)}: {plain(with_flags(lost.remedy))}\n")
    if done.lost:
        raise IndexFormatError(
            f"{counted(len(done.lost), 'file')} of {name} cannot be brought back from the others: put back a "
            "copy of each, or build the index again with --restart"
        )
    if not done.mended:
        sys.stdout.write(f"{plain(name)} has no damaged file\n")
