"""Hold an index that is to be changed: its lock, and what an earlier change left behind put right."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from resizable_search.index.changes import sweep
from resizable_search.index.layout import NAMES, Home
from resizable_search.index.lock import build_lock
from resizable_search.index.manifest import read_manifest
from resizable_search.index.storage import storage_errors
from resizable_search.resumption import recover


@contextmanager
def changing(folder: Path) -> Iterator[Home]:
    """Hold the lock of the index in `folder`, wherever that is; yields the home that it lies in.

    A build or compaction that died between two of its last steps is ended first. Raises IndexBusyError,
    and StorageError for what the disk refuses meanwhile.
    """
    place = folder.resolve()
    home = Home(place.parent)
    with storage_errors(home.path, "check its permissions"), build_lock(home.state(place.name), place.name):
        building = home.building(place.name)
        recover(building, place)
        tidy(building)
        sweep(place, read_manifest(place))
        yield home


def tidy(building: Path) -> None:
    """Delete what a compaction left of an index, and the folder of an unfinished build if it is empty."""
    if building.is_dir():
        shutil.rmtree(building / NAMES.compacted, ignore_errors=True)
        with suppress(OSError):
            building.rmdir()
