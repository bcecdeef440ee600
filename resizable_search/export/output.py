"""Where an export goes: what may not be written over, and how it is put there whole or not at all.

It is made in a hidden folder beside its place, `.NAME.exporting`, which is deleted whatever happens; one
that a killed export has left is deleted by the next to the same place. A lock on that folder keeps two
exports to one place apart.

What a folder that was exported says of itself: README.md for people, export.json for programs.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resizable_search.errors import IndexBusyError, IndexFormatError, RsearchError, StorageError, UsageError
from resizable_search.export.base import CARD, FACTS, Format, Settings
from resizable_search.store.layout import NAMES, expanded
from resizable_search.store.manifest import read_manifest
from resizable_search.store.writer import place, sync_folder
from resizable_search.system import storage_errors, write_probe
from resizable_search.text import clipped, plain

ELSEWHERE = "export to another place"
MOST_NAME_BYTES = 200
"""Of the destination's name, so that the hidden folder's has room beside it."""

MADE = "export"
ASIDE = "replaced"
PARQUET = b"PAR1"


def destination(path: Path, index: Path, *, force: bool, is_folder: bool) -> Path:
    """The absolute path that an export of the index in the folder `index` may be written to.

    Raises UsageError for a place that makes no sense, RsearchError for one that is taken.
    """
    dest = Path(os.path.abspath(expanded(path)))
    if len(os.fsencode(dest.name)) > MOST_NAME_BYTES:
        raise UsageError(f"the name of {dest} is too long: {MOST_NAME_BYTES} bytes are allowed")
    real = dest.parent.resolve() / dest.name
    for above in (real, *real.parents):
        if above == index.resolve() or _is_index(above):
            raise UsageError(f"{dest} is in the folder of the index {above.name}: {ELSEWHERE}")
    refuse_taken(dest, force=force, is_folder=is_folder)
    if not dest.parent.is_dir():
        raise StorageError(f"there is no folder {dest.parent}: make it first")
    return dest


def refuse_taken(dest: Path, *, force: bool, is_folder: bool) -> None:
    """Refuse what may not be replaced: anything without `force`, else what is no export of that kind."""
    if not os.path.lexists(dest):
        return
    if not force:
        raise RsearchError(f"{dest} is there already: {ELSEWHERE}, or replace an export with --force")
    if dest.is_symlink():
        raise RsearchError(f"{dest} is a link: name what it leads to, or remove it yourself")
    why = _no_export_folder(dest) if is_folder else _no_parquet_file(dest)
    if why:
        raise RsearchError(f"{dest} {why}, so it is not replaced: {ELSEWHERE}, or remove it yourself")


@contextmanager
def made_beside(dest: Path) -> Iterator[Path]:
    """A path beside the destination where the export is made; what is left of it is deleted at the end.

    Raises IndexBusyError while another makes one for that place, and StorageError for what the disk refuses.
    """
    staging = dest.with_name(f".{dest.name}.exporting")
    with _told(dest):
        handle = _held(staging, dest)
        try:
            for old in staging.iterdir():
                _delete(old)
            yield staging / MADE
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            os.close(handle)


def put(made: Path, dest: Path, *, force: bool) -> None:
    """Have the disk hold what was made, then move it into its place in one step."""
    is_folder = made.is_dir()
    for path in [made, *made.rglob("*")]:
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    refuse_taken(dest, force=force, is_folder=is_folder)
    if force and is_folder:
        place(made, dest, made.with_name(ASIDE))
    else:
        made.rename(dest)  # a folder only where nothing is
        sync_folder(dest.parent)


def _held(staging: Path, dest: Path) -> int:
    """Make the folder if it is not there, and lock it; its descriptor."""
    while True:
        staging.mkdir(exist_ok=True)
        try:
            handle = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), staging.stat()):
                return handle
        except FileNotFoundError:
            pass  # whoever held it has ended, and deleted it
        except BlockingIOError:
            os.close(handle)
            raise IndexBusyError(f"another export to {dest} is under way: wait for it") from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


@contextmanager
def _told(dest: Path) -> Iterator[None]:
    """Tell what the disk refuses as StorageError, also where a library says no more than that it failed."""
    folder = dest.parent
    try:
        with storage_errors(folder, ELSEWHERE):
            try:
                yield
            except RuntimeError as error:
                write_probe(folder)
                raise RsearchError(f"{dest} could not be written ({clipped(str(error))})") from error
    except StorageError as error:
        raise StorageError(
            str(error).replace("the same command goes on", "the same command begins anew")
        ) from None


def _is_index(folder: Path) -> bool:
    if not (folder / NAMES.manifest).is_file():
        return False
    try:
        read_manifest(folder)
    except IndexFormatError:
        return False
    return True


def _no_parquet_file(path: Path) -> str:
    """What a file is that is no Parquet file; '' if it is one."""
    if not path.is_file():
        return "is no file"
    with path.open("rb") as file:
        return "" if file.read(len(PARQUET)) == PARQUET else "is no Parquet file"


def _no_export_folder(path: Path) -> str:
    """Why a folder is none that rsearch has exported, and nothing else; '' if it is."""
    if not path.is_dir():
        return "is no folder"
    try:
        known = json.loads((path / FACTS).read_bytes())["files"]
        strange = sorted(
            name
            for found in path.rglob("*")
            if not found.is_dir() and (name := found.relative_to(path).as_posix()) not in known
        )
    except (OSError, ValueError, TypeError, KeyError):
        return "was not exported by rsearch"
    strange = [name for name in strange if name != FACTS]
    return f"holds {clipped(strange[0])}, which is none of the export" if strange else ""


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


FRONT = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
"""
"""What the hub, and `datasets`, read of a card: which files are the data."""


def write_card(folder: Path, form: Format, facts: Mapping[str, Any], settings: Settings) -> None:
    """Write the README.md: what the rows are, how they are read, and how a query has to be prepared."""
    dim, full = facts["dim"], facts["full_dim"]
    cut = "" if dim == full else f", cut to the first {dim} of {full} dimensions and made unit length again"
    steps = [f"embed it with {_code(facts['model'])}{_with(facts['query_prefix'])}"]
    if facts["centred"]:
        steps.append("subtract the mean of its numbers")
    if dim != full:
        steps.append(f"take the first {dim}")
    steps.append("divide by its length")
    lines = [
        f"# {plain(facts['index'])}",
        "",
        f"{facts['documents']:,} documents of {plain(facts['corpus'])}, embedded with "
        f"{_code(facts['model'])}{_with(facts['document_prefix'])}{cut}. Rows have {dim} float32 numbers and "
        "norm 1, so inner products are cosine similarities.",
        "",
        f"A query is prepared as the documents were: {', '.join(steps)}. Then:",
        "",
        "```python",
        form.usage(settings).rstrip(),
        "```",
        "",
        f"`query` is (dim,) float32, `metadata` a JSON object as text. {FACTS} says all this for programs.",
    ]
    front = FRONT if form.name == "datasets" else ""
    (folder / CARD).write_text(front + "\n".join(lines) + "\n", encoding="utf-8")


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write export.json: the facts, and the files that the export consists of with their bytes."""
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    text = json.dumps({**facts, "files": files}, indent=1, ensure_ascii=False)
    (folder / FACTS).write_text(text + "\n", encoding="utf-8")


def _code(text: str) -> str:
    return f"`{plain(text).replace('`', '')}`"


def _with(prefix: str) -> str:
    return f" (task or prefix {_code(prefix)})" if prefix.strip() else ""
