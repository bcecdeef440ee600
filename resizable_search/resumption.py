"""What an earlier run left behind, and whether a request may go on with it."""

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from resizable_search.errors import BuildStateError
from resizable_search.index.layout import NAMES
from resizable_search.index.manifest import file_entry, read_manifest
from resizable_search.index.work import Work


def recover(building: Path, folder: Path) -> None:
    """Bring a build that died between two of its last steps back to where it can go on, or end it.

    `building` is the unfinished build's folder, `folder` the index's.
    """
    staged = building / NAMES.staged
    if not (building / NAMES.work).exists():
        # Files without the database they belong to would be taken for a new one's.
        shutil.rmtree(building, ignore_errors=True)
    elif (staged / NAMES.manifest).exists() and (folder / NAMES.manifest).exists():
        # Both are whole; if they have changed places already, the new one is where it belongs.
        with closing(Work(building)) as work:
            placed = work.get("placing") == file_entry(folder / NAMES.manifest).sha256
        if placed:
            shutil.rmtree(building)
    elif not staged.exists() and (folder / NAMES.manifest).exists():
        parts = len(read_manifest(folder).parts)
        unlisted = folder / NAMES.parts / str(parts + 1)
        if unlisted.exists():
            unlisted.rename(staged)
        else:
            shutil.rmtree(building)


def goes_on_replacing(building: Path) -> bool:
    """Whether there is an unfinished build that is to replace the index."""
    if not (building / NAMES.work).exists():
        return False
    with closing(Work(building)) as work:
        return bool(work.get("replaces", False))


def refuse_differences(name: str, how: str, asked: Mapping[str, Any], held: Mapping[str, Any]) -> None:
    """Raise BuildStateError with both values where what is asked for is not what is held."""
    for key in sorted({*asked, *held}, key=lambda key: (key != "kind", key)):
        if asked.get(key) != held.get(key):
            raise BuildStateError(
                f"{name} {how} with {key} {_show(held.get(key))}, not {_show(asked.get(key))} as asked now: "
                "--restart builds it anew, another --name keeps both"
            )


def _show(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "the default" if value is None else str(value)
