"""The destination of an export: what may be replaced, an atomic rename, and the card of a folder.

An export is made in a hidden folder beside its destination, `.NAME.exporting`. That folder is locked, and
deleted at the end; the next export to the same destination deletes what a killed one left.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resizable_search.errors import IndexBusyError, IndexFormatError, RsearchError, StorageError, UsageError
from resizable_search.export.base import Format, Settings
from resizable_search.store.layout import NAMES, expanded
from resizable_search.store.manifest import read_manifest
from resizable_search.store.writer import replace_folder, sync_folder
from resizable_search.system import file_lock, storage_errors, write_probe
from resizable_search.text import clipped, plain

if TYPE_CHECKING:
    from filelock import BaseFileLock

ELSEWHERE = "export to another path"
MOST_NAME_BYTES = 200
"""Of the destination's name: the hidden folder's name is longer."""

FACTS = "export.json"
"""The facts and files of an exported folder, for programs."""
CARD = "README.md"
LOCK = "lock"
EXPORT = "export"
REPLACED = "replaced"
PARQUET = b"PAR1"

DATASET_HEADER = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
"""
"""Tells the hub and `datasets` which files are the data."""


def destination(path: Path, index: Path, *, force: bool, is_folder: bool) -> Path:
    """The absolute path to export the index in the folder `index` to.

    Raises UsageError for a path inside an index, RsearchError for one that exists, StorageError without a
    folder.
    """
    dest = Path(os.path.abspath(expanded(path)))
    if len(os.fsencode(dest.name)) > MOST_NAME_BYTES:
        raise UsageError(f"the name of {dest} is too long: use at most {MOST_NAME_BYTES} bytes")
    real = dest.parent.resolve() / dest.name
    for above in (real, *real.parents):
        if above == index.resolve() or _is_index(above):
            raise UsageError(f"{dest} is in the folder of the index {above.name}: {ELSEWHERE}")
    refuse_existing(dest, force=force, is_folder=is_folder)
    if not dest.parent.is_dir():
        raise StorageError(f"there is no folder {dest.parent}: make it first")
    return dest


def refuse_existing(dest: Path, *, force: bool, is_folder: bool) -> None:
    """Refuse to replace anything without `force`, and with it anything that is not an export of that kind."""
    if not os.path.lexists(dest):
        return
    if not force:
        raise RsearchError(f"{dest} exists: {ELSEWHERE}, or replace an earlier export with `force`")
    if dest.is_symlink():
        raise RsearchError(f"{dest} is a link: name its target, or remove it yourself")
    why = _not_an_export(dest) if is_folder else _not_parquet(dest)
    if why:
        raise RsearchError(f"{dest} {why} and is not replaced: {ELSEWHERE}, or remove it yourself")


@contextmanager
def staging(dest: Path) -> Iterator[Path]:
    """A path beside the destination to make the export at. Whatever is left there is deleted at the end.

    Raises IndexBusyError while another process exports to `dest`, StorageError for what the disk refuses.
    """
    folder = dest.with_name(f".{dest.name}.exporting")
    with _storage_errors(dest):
        lock = _locked(folder, dest)
        try:
            for old in folder.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
                elif old.name != LOCK:
                    old.unlink()
            yield folder / EXPORT
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()


def publish(made: Path, dest: Path, *, force: bool) -> None:
    """Sync what was made to the disk, then move it to its destination in one step."""
    is_folder = made.is_dir()
    for path in [made, *made.rglob("*")]:
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    refuse_existing(dest, force=force, is_folder=is_folder)
    if force and is_folder:
        replace_folder(made, dest, made.with_name(REPLACED))
    else:
        made.rename(dest)  # fails where a folder exists
        sync_folder(dest.parent)


def _locked(folder: Path, dest: Path) -> "BaseFileLock":
    """Make and lock the folder. Its holder deletes it at the end: a lock without its file does not count."""
    from filelock import Timeout

    while True:
        folder.mkdir(exist_ok=True)
        lock = file_lock(folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise IndexBusyError(f"another process exports to {dest}: wait for it") from None
        except FileNotFoundError:
            continue
        if (folder / LOCK).exists():
            return lock
        lock.release()


@contextmanager
def _storage_errors(dest: Path) -> Iterator[None]:
    """Raise StorageError for what the disk refuses, even if a library only says that it failed."""
    try:
        with storage_errors(dest.parent, ELSEWHERE):
            try:
                yield
            except RuntimeError as error:
                write_probe(dest.parent)
                raise RsearchError(f"cannot write {dest} ({clipped(str(error))})") from error
    except StorageError as error:
        raise StorageError(
            str(error).replace("the same command resumes", "the same command starts again")
        ) from None


def _is_index(folder: Path) -> bool:
    if not (folder / NAMES.manifest).is_file():
        return False
    try:
        read_manifest(folder)
    except IndexFormatError:
        return False
    return True


def _not_parquet(path: Path) -> str:
    """Why a path is not a Parquet file; '' if it is one."""
    if not path.is_file():
        return "is not a file"
    with path.open("rb") as file:
        return "" if file.read(len(PARQUET)) == PARQUET else "is not a Parquet file"


def _not_an_export(path: Path) -> str:
    """Why a folder is not an export, and nothing else; '' if it is."""
    if not path.is_dir():
        return "is not a folder"
    try:
        known = json.loads((path / FACTS).read_bytes())["files"]
        files = (found.relative_to(path).as_posix() for found in path.rglob("*") if not found.is_dir())
        unexpected = sorted(name for name in files if name not in known and name != FACTS)
    except (OSError, ValueError, TypeError, KeyError):
        return "was not exported by rsearch"
    return f"holds {clipped(unexpected[0])}, which is not part of the export," if unexpected else ""


def write_card(folder: Path, form: Format, facts: Mapping[str, Any], settings: Settings) -> None:
    """Write README.md: what the rows are, how to read them, how to prepare a query."""
    dim, full = facts["dim"], facts["full_dim"]
    cut = "" if dim == full else f", cut to the first {dim} of {full} dimensions and normalised again"
    steps = [f"embed it with {_code(facts['model'])}{_prefix(facts['query_prefix'])}"]
    if facts["centred"]:
        steps.append("subtract the mean of its numbers")
    if dim != full:
        steps.append(f"take the first {dim}")
    steps.append("divide by its norm")
    lines = [
        f"# {plain(facts['index'])}",
        "",
        f"{facts['documents']:,} documents of {plain(facts['corpus'])}, embedded with "
        f"{_code(facts['model'])}{_prefix(facts['document_prefix'])}{cut}. Rows have {dim} float32 numbers "
        "and norm 1, so inner products are cosine similarities.",
        "",
        f"Prepare a query as the documents were prepared: {', '.join(steps)}. Then:",
        "",
        "```python",
        form.usage(settings).rstrip(),
        "```",
        "",
        f"`query` is (dim,) float32, `metadata` a JSON object as text. {FACTS} has these facts for programs.",
    ]
    header = DATASET_HEADER if form.name == "datasets" else ""
    (folder / CARD).write_text(header + "\n".join(lines) + "\n", encoding="utf-8")


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write export.json: the facts, and the bytes of every file of the export."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    text = json.dumps({**facts, "files": files}, indent=1, ensure_ascii=False)
    (folder / FACTS).write_text(text + "\n", encoding="utf-8")


def _code(text: str) -> str:
    return f"`{plain(text).replace('`', '')}`"


def _prefix(prefix: str) -> str:
    return f" (task or prefix {_code(prefix)})" if prefix.strip() else ""
