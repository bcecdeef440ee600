"""Make an index's derived files anew from its full vectors, and tell what cannot be brought back.

What is derived is the same bytes whenever it is made, so a file that was made anew and is not what
the manifest lists is not put in its place: then the vectors or the manifest are the wrong ones.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from resizable_search.index.layout import NAMES
from resizable_search.index.manifest import Manifest, Part, file_entry, manifest_text
from resizable_search.index.storage import beside, replace_file
from resizable_search.index.verify import Damage, kind_of
from resizable_search.index.writer import derive_beside, sync_folder
from resizable_search.progress import SILENT, Progress
from resizable_search.wording import BACK


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
