"""Check an index, remember when, and rebuild damaged derived files from the full vectors.

Derived files are always the same bytes. A rebuilt file that is not what the manifest lists is discarded: then
the vectors or the manifest are wrong.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from resizable_search.progress import SILENT, Progress
from resizable_search.store.layout import NAMES, Home, hold_lock, resolve_index
from resizable_search.store.manifest import Manifest, Part, file_entry, manifest_text, read_manifest
from resizable_search.store.verify import Damage, examine
from resizable_search.store.writer import derive_beside, sync_folder
from resizable_search.system import beside, replace_file
from resizable_search.text import BACK, counted


@dataclass(frozen=True, slots=True)
class Lost:
    """A damaged file that cannot be rebuilt, by its path inside the index, and what to do."""

    file: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Repair:
    """The files that were rebuilt, and those that could not be."""

    mended: tuple[str, ...]
    lost: tuple[Lost, ...]


def mend(folder: Path, manifest: Manifest, damages: Sequence[Damage], progress: Progress = SILENT) -> Repair:
    """Rebuild what can be rebuilt of these damaged files, each in one step. The caller holds the lock."""
    bad = {damage.file for damage in damages}
    mended: list[str] = []
    lost: list[Lost] = []
    for damage in damages:
        if damage.kind == "manifest":  # its content is sound: only the text differs
            path = folder / NAMES.manifest
            replace_file(path, manifest_text(json.loads(path.read_bytes())))
            mended.append(damage.file)
        elif damage.kind != "derived":
            lost.append(Lost(damage.file, BACK))
    derived = {damage.file for damage in damages if damage.kind == "derived"}
    if derived:
        progress.stage("deriving", manifest.rows, "rows")
    for part in manifest.parts:
        paths = {name: str(PurePosixPath(part.path) / name) for name in part.files}
        names = [name for name, path in paths.items() if path in derived]
        remedies = {name: _in_the_way(folder, paths[name]) for name in names}
        if paths[NAMES.vectors(manifest.full_dim)] in bad:
            remedies = dict.fromkeys(names, f"the full vectors that it follows from are damaged: {BACK}")
        names = [name for name in names if not remedies[name]]
        made = _rebuild(folder / part.path, part, manifest.dims, names, progress) if names else []
        mended += [paths[name] for name in made]
        for name in set(names) - set(made):
            remedies[name] = (
                "what follows from the full vectors is not what the manifest lists, so one of the two is "
                f"another index's: {BACK}"
            )
        lost += [Lost(paths[name], remedy) for name, remedy in remedies.items() if remedy]
    sync_folder(folder)
    return Repair(tuple(mended), tuple(lost))


def _rebuild(
    folder: Path, part: Part, dims: Sequence[int], names: Sequence[str], progress: Progress
) -> list[str]:
    """Derive these files of a part again. Returns those that are as the manifest lists them, now in place."""
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
    """What prevents writing a file of the index, and what to do; '' if nothing does.

    A link may lead to the file of another index.
    """
    *above, name = PurePosixPath(file).parts
    path = folder
    for step in above:
        path /= step
        if path.is_symlink():
            return f"{path} is a link: put the folder itself there, and repair it again"
        if path.exists() and not path.is_dir():
            return f"{path} is not a folder: move it away, and repair it again"
    if (path / name).is_dir() and not (path / name).is_symlink():
        return "a folder lies in its place: move it away, and repair it again"
    return ""


@dataclass(frozen=True, slots=True)
class Verified:
    """The files and bytes that were checked, and the damaged files.

    `full`: all rows of derived files were compared, not a sample. `when` is in UTC.
    """

    index: str
    folder: str
    files: int
    bytes: int
    full: bool
    when: str
    damaged: tuple[Damage, ...]


def verify(name: str, home: Home, *, full: bool = False, progress: Progress = SILENT) -> Verified:
    """Check every file of an index. Raises IndexFormatError if its manifest cannot be read."""
    folder = resolve_index(name, home)
    manifest = read_manifest(folder)
    damaged = tuple(examine(folder, manifest, full=full, progress=progress))
    files = manifest.all_files()
    outcome = Verified(
        folder.resolve().name,
        str(folder),
        len(files) + 1,
        sum(entry.bytes for entry in files.values()),
        full,
        datetime.now(UTC).isoformat(timespec="seconds"),
        damaged,
    )
    record = {**asdict(outcome), "damaged": len(damaged)}
    record["manifest"] = file_entry(folder / NAMES.manifest).sha256
    with suppress(OSError):  # where it cannot be written, no time is shown later
        path = _record_path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(record, indent=1) + "\n").encode())
    return outcome


def repair(name: str, home: Home, progress: Progress = SILENT) -> Repair:
    """Rebuild damaged derived files of an index. Raises IndexBusyError, StorageError."""
    folder = resolve_index(name, home)
    with hold_lock(folder):
        manifest = read_manifest(folder)
        done = mend(folder, manifest, list(examine(folder, manifest, full=True, progress=progress)), progress)
    verify(name, home, progress=progress)
    return done


def last_verified(folder: Path) -> str:
    """When an index was last verified, and the outcome, in words."""
    try:
        record: Mapping[str, Any] = json.loads(_record_path(folder).read_bytes())
        is_same = record["manifest"] == file_entry(folder / NAMES.manifest).sha256
        damaged = int(record["damaged"])
        when, rows = str(record["when"]), "all rows" if record["full"] else "a sample of the rows"
    except (OSError, ValueError, KeyError, TypeError):
        return "never"
    if not is_same:
        return f"{when}, before it last changed"
    return f"{when}, {counted(damaged, 'damaged file') if damaged else f'all sound, {rows}'}"


def _record_path(folder: Path) -> Path:
    real = folder.resolve()
    return Home(real.parent).state(real.name) / NAMES.verified
