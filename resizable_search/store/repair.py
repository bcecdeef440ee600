"""Make an index's derived files anew from its full vectors, and tell what cannot be brought back.

What is derived is the same bytes whenever it is made, so a file that was made anew and is not what
the manifest lists is not put in its place: then the vectors or the manifest are the wrong ones.

Have an index prove itself, remember when it last did, and mend what can be mended.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from resizable_search.progress import SILENT, Progress
from resizable_search.store.layout import NAMES, Home, resolve_index
from resizable_search.store.manifest import Manifest, Part, file_entry, manifest_text, read_manifest
from resizable_search.store.verify import Damage, examine, kind_of
from resizable_search.store.writer import derive_beside, sync_folder
from resizable_search.system import CHECK, beside, build_lock, replace_file, storage_errors
from resizable_search.text import BACK, counted


@dataclass(frozen=True, slots=True)
class Lost:
    """A damaged file that cannot be brought back, by its path inside the index, and what to do."""

    file: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Repair:
    """The files that were mended, and those that could not be."""

    mended: tuple[str, ...]
    lost: tuple[Lost, ...]


def mend(folder: Path, manifest: Manifest, damages: Sequence[Damage], progress: Progress = SILENT) -> Repair:
    """Mend what can be mended of these damaged files of an index, each in one step.

    The caller holds the index's lock. A run that dies leaves every file as it was, or mended.
    """
    bad = {damage.file for damage in damages}
    mended: list[str] = []
    lost: list[Lost] = []
    for damage in damages:
        if damage.kind == "manifest":
            _rewrite_manifest(folder)
            mended.append(damage.file)
        elif damage.kind != "derived":
            lost.append(Lost(damage.file, BACK))
    derived = sum(damage.kind == "derived" for damage in damages)
    if derived:
        progress.stage("deriving", manifest.rows, "rows")
    for part in manifest.parts:
        names = [
            name for name in part.files if _path(part, name) in bad and _is_derived(part, name, manifest)
        ]
        if not names:
            continue
        if _path(part, NAMES.vectors(manifest.full_dim)) in bad:
            remedy = f"the full vectors that it follows from are damaged: {BACK}"
            lost += [Lost(_path(part, name), remedy) for name in names]
            continue
        blocked = {name: why for name in names if (why := _in_the_way(folder, _path(part, name)))}
        lost += [Lost(_path(part, name), f"{why}, and repair it again") for name, why in blocked.items()]
        names = [name for name in names if name not in blocked]
        for name in _derive(folder / part.path, part, manifest.dims, names, progress):
            mended.append(_path(part, name))
        lost += [
            Lost(
                _path(part, name),
                "what follows from the full vectors is not what the manifest lists, so one of the two is "
                f"another index's: {BACK}",
            )
            for name in names
            if _path(part, name) not in mended
        ]
    sync_folder(folder)
    return Repair(tuple(mended), tuple(lost))


def _derive(
    folder: Path, part: Part, dims: Sequence[int], names: Sequence[str], progress: Progress
) -> list[str]:
    """Make these files of a part anew; the names of those that are what the manifest lists, now in place."""
    made = []
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    try:
        derive_beside(folder, dims, names, progress)
        for name in names:
            if file_entry(beside(folder / name)) == part.files[name]:
                beside(folder / name).replace(folder / name)
                made.append(name)
    finally:
        for name in names:
            beside(folder / name).unlink(missing_ok=True)
    return made


def _in_the_way(folder: Path, file: str) -> str:
    """Why a file of the index in `folder` cannot be written, and what to do; '' if it can.

    What lies behind a link may be another index's.
    """
    *above, name = PurePosixPath(file).parts
    place = folder
    for step in above:
        place /= step
        if place.is_symlink():
            return f"{place} is a link: put the folder itself there"
        if place.exists() and not place.is_dir():
            return f"{place} is no folder: move it away"
    if (place / name).is_dir() and not (place / name).is_symlink():
        return "a folder lies in its place: move it away"
    return ""


def _rewrite_manifest(folder: Path) -> None:
    """Write the manifest's text again, as it was written first; its content is sound."""
    path = folder / NAMES.manifest
    replace_file(path, manifest_text(json.loads(path.read_bytes())))


def _is_derived(part: Part, name: str, manifest: Manifest) -> bool:
    return kind_of(_path(part, name), manifest)[0] == "derived"


def _path(part: Part, name: str) -> str:
    return str(PurePosixPath(part.path) / name)


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
    folder = resolve_index(name, home)
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
    folder = resolve_index(name, home)
    place = folder.resolve()
    home_of_it = Home(place.parent)
    with (
        storage_errors(home_of_it.path, CHECK),
        build_lock(home_of_it.state(place.name) / NAMES.lock, place.name),
    ):
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
