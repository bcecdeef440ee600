"""Have an index prove itself, remember when it last did, and mend what can be mended."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resizable_search.index.layout import NAMES, Home
from resizable_search.index.locate import find_index
from resizable_search.index.lock import build_lock
from resizable_search.index.manifest import file_entry, read_manifest
from resizable_search.index.repair import Repair, mend
from resizable_search.index.storage import CHECK, replace_file, storage_errors
from resizable_search.index.verify import Damage, examine
from resizable_search.progress import SILENT, Progress
from resizable_search.wording import counted


@dataclass(frozen=True, slots=True)
class Verified:
    """What `rsearch verify` found: `files` and `bytes` it looked at, and the damaged ones.

    `full`: all rows of what is derived were looked at, not a sample. `when` is in UTC.
    """

    index: str
    folder: str
    files: int
    bytes: int
    full: bool
    when: str
    damaged: tuple[Damage, ...]


def verify(name: str, home: Home, *, full: bool = False, progress: Progress = SILENT) -> Verified:
    """Look at every file of an index. Raises IndexFormatError if its manifest cannot be read."""
    folder = find_index(name, home)
    manifest = read_manifest(folder)
    damaged = tuple(examine(folder, manifest, full=full, progress=progress))
    files = manifest.all_files()
    found = Verified(
        folder.resolve().name,
        str(folder),
        len(files) + 1,
        sum(entry.bytes for entry in files.values()),
        full,
        datetime.now(UTC).isoformat(timespec="seconds"),
        damaged,
    )
    _remember(folder, found)
    return found


def repair(name: str, home: Home, progress: Progress = SILENT) -> Repair:
    """Mend what can be mended of an index, without the network. Raises IndexBusyError, StorageError."""
    folder = find_index(name, home)
    place = folder.resolve()
    home_of_it = Home(place.parent)
    with storage_errors(home_of_it.path, CHECK), build_lock(home_of_it.state(place.name), place.name):
        manifest = read_manifest(folder)
        done = mend(folder, manifest, list(examine(folder, manifest, full=True, progress=progress)), progress)
    verify(name, home, progress=progress)
    return done


def last_verified(folder: Path) -> str:
    """When an index was last verified and with what outcome, in words."""
    try:
        found: Mapping[str, Any] = json.loads(_place(folder).read_bytes())
        same = found["manifest"] == file_entry(folder / NAMES.manifest).sha256
        damaged = int(found["damaged"])
        when, how = str(found["when"]), "all rows" if found["full"] else "a sample of the rows"
    except (OSError, ValueError, KeyError, TypeError):
        return "never"
    if not same:
        return f"{when}, before it last changed"
    return f"{when}, {counted(damaged, 'damaged file') if damaged else f'all sound, {how}'}"


def _remember(folder: Path, found: Verified) -> None:
    """Keep the time and the outcome beside the index; where that cannot be written, nobody is told later."""
    told = {**asdict(found), "damaged": len(found.damaged)}
    told["manifest"] = file_entry(folder / NAMES.manifest).sha256
    path = _place(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(told, indent=1) + "\n").encode())
    except OSError:
        return


def _place(folder: Path) -> Path:
    real = folder.resolve()
    return Home(real.parent).state(real.name) / NAMES.verified
