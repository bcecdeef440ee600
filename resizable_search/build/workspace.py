"""Where a build works: its lock, its log, and the room that it needs.

What an earlier run left behind, and whether a request may go on with it.

Hold an index that is to be changed: its lock, and what an earlier change left behind put right.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from resizable_search import __version__
from resizable_search.build.journal import Work
from resizable_search.build.options import BuildOptions, check_name
from resizable_search.errors import BuildStateError, UsageError
from resizable_search.progress import LoggedProgress, Progress, logged
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import Manifest, file_entry, read_manifest
from resizable_search.store.writer import place, sweep
from resizable_search.system import Failpoint, build_lock, failpoint, make_home, storage_errors


@contextmanager
def locked(
    home: Home, options: BuildOptions, progress: Progress
) -> Iterator[tuple[ExitStack, LoggedProgress]]:
    """Hold the lock of the index that is to be built; what is put on the stack is closed before it is freed.

    Yields the stack, and the progress that goes into the build's log too.

    Raises UsageError for a name or limit that cannot be, IndexBusyError, and StorageError for whatever
    the disk refuses meanwhile.
    """
    check_name(options.name)
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit must be 1 or more, not {options.limit}")
    make_home(home.path)
    state = home.state(options.name)
    with (
        storage_errors(home.path, again=lambda: again(home, options)),
        build_lock(state / NAMES.lock, options.name),
        logged(progress, state / NAMES.log) as log,
        ExitStack() as stack,
    ):
        log.log(f"begun: rsearch {__version__}, {options.command or 'from Python'}")
        yield stack, log


def again(home: Home, options: BuildOptions) -> str:
    """How a build is gone on with: a restart that has begun is not begun once more."""
    begun = options.restart and (home.building(options.name) / NAMES.work).exists()
    return "the same command without --restart" if begun else "the same command"


def recover(building: Path, folder: Path) -> None:
    """Bring a build that died between two of its last steps back to where it can go on, or end it.

    `building` is the unfinished build's folder, `folder` the index's.
    """
    staged, aside = building / NAMES.staged, building / NAMES.replaced
    if aside.exists() and not folder.exists():
        aside.rename(folder)  # it serves on until the new one is in its place
    if not (building / NAMES.work).exists():
        # Files without the database they belong to would be taken for a new one's.
        discard(building)
        return
    if (staged / NAMES.manifest).exists() and (folder / NAMES.manifest).exists():
        with closing(Work(building)) as work:
            placing = work.get(_PLACING)
        if placing not in (None, file_entry(staged / NAMES.manifest).sha256):
            discard(building)  # they have changed places already, and this is the old one
    elif not staged.exists() and (folder / NAMES.manifest).exists():
        parts = len(read_manifest(folder).parts)
        unlisted = folder / NAMES.parts / str(parts + 1)
        if unlisted.exists():
            unlisted.rename(staged)
        else:
            discard(building)


def put_in_place(work: Work, manifest: Manifest, folder: Path) -> Manifest:
    """Write the manifest of a finished build, and put all of it where the index belongs, as `folder`.

    The build remembers which of two folders is its own, so that `recover` knows whether they have been
    exchanged, whatever was done to the new index since. Returns the manifest as written.
    """
    work.set(_PLACING, None)
    written = manifest.write(work.staged)
    work.set(_PLACING, file_entry(work.staged / NAMES.manifest).sha256)
    place(work.staged, folder, work.folder / NAMES.replaced)
    return written


def discard(building: Path) -> None:
    """Delete an unfinished build.

    Its database goes first: without it nobody takes what else is left, if this is interrupted, for a
    build to go on with.
    """
    (building / NAMES.work).unlink(missing_ok=True)
    failpoint(Failpoint.DISCARDED)
    shutil.rmtree(building, ignore_errors=True)


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
    if isinstance(value, str) and value != value.strip() or value == "":  # a prefix, whose spaces count
        return repr(value)
    return "the default" if value is None else str(value)


_PLACING = "placing"
"""The checksum of the manifest of the build that is being put in its place."""


@contextmanager
def changing(folder: Path) -> Iterator[Home]:
    """Hold the lock of the index in `folder`, wherever that is; yields the home that it lies in.

    A build or compaction that died between two of its last steps is ended first. Raises IndexBusyError,
    and StorageError for what the disk refuses meanwhile.
    """
    place = folder.resolve()
    home = Home(place.parent)
    with (
        storage_errors(home.path, "check its permissions"),
        build_lock(home.state(place.name) / NAMES.lock, place.name),
    ):
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
