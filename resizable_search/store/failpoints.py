"""The steps by which a build becomes safe, named, so that a test can have the process die at each.

A step that is reached calls `on_reached`, which does nothing unless a test has set it. Whatever a
process dies of between two of them, the same build goes on (docs/format.md, "An unfinished build").
"""

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """What has just been done, in the order of a build; then what other changes of an index do."""

    READ = "documents read, nothing of them kept"
    SPOOLED = "documents kept"
    ANSWERED = "an answer come, not kept"
    JOURNALLED = "an answer journalled"
    APPENDED = "vectors appended, not synced"
    SYNCED = "vectors synced, not counted"
    FILED = "documents filed, not committed"
    COUNTED = "vectors and documents committed"
    COMPLETED = "all vectors there"
    DERIVED_BESIDE = "derived files written beside their places"
    DERIVED = "derived files in their places"
    COPIED = "documents copied"
    DOCUMENTS = "documents.sqlite written"
    MEASURED = "files measured"
    MANIFEST_BESIDE = "manifest written beside its place"
    MANIFEST = "manifest in its place"
    PLACING = "the manifest's checksum kept"
    EXCHANGED = "old and new index exchanged"
    PLACED = "the index in its place"
    PART_PLACED = "a part in its place, not listed"
    PART_LISTED = "a part listed"
    UNLINKED = "the unfinished build's database deleted"
    DISCARDED = "the unfinished build deleted"
    REPORTED = "the report written"
    MARKED = "rows marked as deleted, not listed"
    SWEPT = "bitmaps that are no longer listed deleted"
    COMPARED = "what has changed is known"
    GATHERED = "the vectors of a change gathered"
    KEPT_VECTORS = "the vectors that stay copied"
    FORGOTTEN = "the logs of earlier builds deleted"


OF_CHANGES = frozenset(
    (Step.MARKED, Step.SWEPT, Step.COMPARED, Step.GATHERED, Step.KEPT_VECTORS, Step.FORGOTTEN)
)
"""Those of deleting, compacting, syncing and adding, which a build of a new index never reaches."""


def _nothing(step: Step) -> None:
    """What is done on reaching a step: nothing."""


on_reached: Callable[[Step], None] = _nothing


def reached(step: Step) -> None:
    """Tell that a step is done."""
    on_reached(step)
