"""Export an index: a format writes it, its library checks it, a rename publishes it.

An export is made in a hidden folder beside its destination, `.NAME.exporting`. That folder is locked, and
deleted at the end; the next export to the same destination deletes what a killed one left.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resizable_search.errors import (
    BuildStoppedError,
    IndexFormatError,
    RsearchError,
    StorageError,
    UsageError,
)
from resizable_search.export.base import ExportJob, ExportSample, ExportSource, Format, Settings
from resizable_search.export.faiss import FaissFlatFormat, FaissPQFormat
from resizable_search.export.parquet import DatasetsFormat, ParquetFormat
from resizable_search.export.usearch import UsearchFormat
from resizable_search.progress import SILENT, Progress
from resizable_search.statistics import lower_bound
from resizable_search.store.layout import expanded
from resizable_search.store.manifest import read_manifest
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import replace_folder
from resizable_search.system import (
    build_lock,
    empty_state,
    exhausted,
    make_sure_of_room,
    remove_state,
    size_of,
    storage_errors,
    sync_folder,
    write_probe,
)
from resizable_search.text import clipped, plain, quoted, without_surrogates

FORMATS: Mapping[str, Format] = {
    form.name: form
    for form in (ParquetFormat(), DatasetsFormat(), FaissFlatFormat(), FaissPQFormat(), UsearchFormat())
}

LEAST_OVERLAP = 0.9  # the overlap with the exact answer that an approximate export must reach

TAIL = 0.05
ELSEWHERE = "export to another path"
MOST_NAME_BYTES = 200  # of the destination's name: the hidden folder's name is longer
FACTS = "export.json"  # the facts and files of an exported folder, for programs
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


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported, and the share `overlap` of their `k` nearest that `asked` rows found in it."""

    path: Path
    documents: int
    dim: int
    bytes: int
    settings: Settings
    asked: int
    k: int
    overlap: float
    overlap_low: float  # of all rows at least, with 95 % confidence; 1 for an exact format, up to ties


def format_of(name: str | None, path: Path) -> Format:
    """The format of that name, or parquet for a path with its suffix. Raises UsageError."""
    if name is None and path.suffix.lower() == ".parquet":
        name = "parquet"
    if name is None or name not in FORMATS:
        problem = "name a `format`" if name is None else f"unknown `format` {quoted(name)}"
        raise UsageError(f"{problem}: choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def export(
    folder: Path,
    path: Path,
    format: str | None = None,
    *,
    dim: int | None = None,
    force: bool = False,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> Exported:
    """Export the index in `folder` to `path`, once the format's library has searched the result and passed.

    `dim` cuts the rows (None: the full dimension); `force` replaces an earlier export. Raises UsageError,
    RsearchError (a missing library, an existing path, a failed check), IndexFormatError, StorageError,
    IndexBusyError and BuildStoppedError.
    """
    form = format_of(format, path)
    dest = destination(path, folder, force=force, is_folder=form.is_folder)
    form.require()

    def step(rows: int) -> None:
        if rows:
            progress.advance(rows)
        if stop is not None and stop.is_set():
            raise BuildStoppedError(f"stopped: {dest} is unchanged; the same command starts again")

    with closing(IndexReader(folder)) as reader:
        source = ExportSource(reader, dim)
        if source.count > form.most_rows:
            many = f"{reader.name} has {source.count:,} documents, and {form.name} takes {form.most_rows:,}"
            raise UsageError(f"{many}: export to parquet or faiss-flat")
        with staging(dest) as made:
            make_sure_of_room(str(dest), form.bytes(source), dest.parent, f"or {ELSEWHERE}")
            progress.stage("exporting", source.count, "rows")
            job = ExportJob(source, ExportSample.of(source), {**source.facts(), "format": form.name}, step)
            exported = _write_and_check(form, job, made, dest, progress)
            publish(made, dest, force=force)
    return exported


def _write_and_check(form: Format, job: ExportJob, made: Path, dest: Path, progress: Progress) -> Exported:
    job.step(0)
    if form.is_folder:
        made.mkdir()
    settings = form.write(job, made)
    if form.is_folder:
        write_card(made, form, job.facts, settings)
    progress.stage("checking", None, "")
    job.step(0)
    try:
        check = form.look(made, job.sample, settings)
    except RsearchError:
        raise
    except Exception as error:
        if (limit := exhausted(error)) is not None:
            raise limit from None
        why = clipped(f"{type(error).__name__}: {error}")
        raise _failed(form, f"it cannot read the export ({why})") from error
    if list(check.ids) != job.sample.ids:
        raise _failed(form, "it returns other documents at their positions")
    queries = job.sample.queries
    if check.rows.shape != queries.shape or check.rows.tobytes() != queries.tobytes():
        raise _failed(form, "it reads other numbers than the index holds")
    shares = job.sample.shares(check.nearest)
    overlap = float(shares.mean())
    if form.is_exact and shares.min() < 1.0 or overlap < LEAST_OVERLAP:
        remedy = "" if form.is_exact else "; the format faiss-flat is exact"
        raise _failed(form, f"it finds {overlap:.3f} of what the exact scan finds", remedy)
    low = 1.0 if form.is_exact else lower_bound(shares, TAIL)
    checked: dict[str, Any] = dict(asked=len(shares), k=job.sample.k, overlap=overlap, overlap_low=low)
    if form.is_folder:
        write_facts(made, {**job.facts, "settings": dict(settings), "checked": checked})
    size = size_of(made) if form.is_folder else made.stat().st_size
    return Exported(dest, job.source.count, job.source.dim, size, settings, **checked)


def _failed(form: Format, what: str, remedy: str = "") -> RsearchError:
    remedy = remedy or "; run the same command again, and report it if it fails again"
    return RsearchError(f"{form.library} checked the export, and {what}: nothing was written{remedy}")


def destination(path: Path, index: Path, *, force: bool, is_folder: bool) -> Path:
    """The absolute path to export to. Raises UsageError, RsearchError if it exists, StorageError."""
    dest = Path(os.path.abspath(expanded(path)))
    if len(os.fsencode(dest.name)) > MOST_NAME_BYTES:
        raise UsageError(f"the name of {dest} is too long: use at most {MOST_NAME_BYTES} bytes")
    if without_surrogates(str(dest)) != str(dest):
        raise UsageError(f"the path {dest} is not UTF-8, which libraries need: {ELSEWHERE}")
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
    if dest.is_symlink() or not (_is_export(dest) if is_folder else _is_parquet(dest)):
        raise RsearchError(f"{dest} is more than an earlier export: {ELSEWHERE}, or remove it yourself")


@contextmanager
def staging(dest: Path) -> Iterator[Path]:
    """A path beside the destination to make the export at, while nobody else does. Raises IndexBusyError."""
    lock = dest.with_name(f".{dest.name}.exporting") / "lock"
    with _storage_errors(dest), build_lock(lock, str(dest), "exported", ELSEWHERE):
        empty_state(lock)
        try:
            yield lock.with_name("export")
        finally:
            remove_state(lock)


def publish(made: Path, dest: Path, *, force: bool) -> None:
    """Sync what was made to the disk, then move it to its destination in one step."""
    is_folder = made.is_dir()
    for path in [made, *made.rglob("*")]:
        sync_folder(path)  # a file too
    refuse_existing(dest, force=force, is_folder=is_folder)
    if force and is_folder:
        replace_folder(made, dest)
    else:
        made.rename(dest)  # fails where a folder exists
        sync_folder(dest.parent)


@contextmanager
def _storage_errors(dest: Path) -> Iterator[None]:
    """Raise StorageError for what the disk refuses, even if a library only says that it failed."""
    with storage_errors(dest.parent, ELSEWHERE, lambda: "the same command starts again"):
        try:
            yield
        except RuntimeError as error:
            write_probe(dest.parent)
            raise RsearchError(f"cannot write {dest} ({clipped(str(error))})") from error


def _is_index(folder: Path) -> bool:
    with suppress(IndexFormatError):
        read_manifest(folder)
        return True
    return False


def _is_parquet(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def _is_export(folder: Path) -> bool:
    """Whether a folder has the files of an export, and no other."""
    try:
        known = {FACTS, *json.loads((folder / FACTS).read_bytes())["files"]}
    except (OSError, ValueError, TypeError, KeyError):
        return False
    files = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())
    return known.issuperset(files)


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
        form.usage.format(**settings),
        "```",
        "",
        f"`query` is (dim,) float32, `metadata` a JSON object as text. {FACTS} has these facts for programs.",
    ]
    header = DATASET_HEADER if form.name == "datasets" else ""
    (folder / "README.md").write_text(header + "\n".join(lines) + "\n", encoding="utf-8")


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
