"""Export an index: written by a format, checked with the library that is to read it, put in place."""

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import BuildStoppedError, RsearchError, StorageError, UsageError
from resizable_search.export import output as destination
from resizable_search.export.base import ExportSample, Format, SearchCheck, Settings
from resizable_search.export.datasets import DatasetsFormat
from resizable_search.export.faiss import FaissFlatFormat, FaissPQFormat
from resizable_search.export.output import write_card, write_facts
from resizable_search.export.parquet import ParquetFormat
from resizable_search.export.source import ExportSource
from resizable_search.export.usearch import UsearchFormat
from resizable_search.progress import SILENT, Progress
from resizable_search.statistics import lower_bound
from resizable_search.store.reader import IndexReader
from resizable_search.system import exhausted, free_bytes, size_of
from resizable_search.text import clipped, quoted, size

FORMATS: Mapping[str, Format] = {
    form.name: form
    for form in (ParquetFormat(), DatasetsFormat(), FaissFlatFormat(), FaissPQFormat(), UsearchFormat())
}

LEAST_OVERLAP = 0.9
"""Of the exact answer that an approximate index has to find, or it is not put in place."""

TAIL = 0.05
SUFFIXES = {".parquet": "parquet"}
"""What a destination's suffix says of the format where none is named."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported, where to, and what its check came to.

    `asked` of its rows asked for their `k` nearest, of which the library found the share `overlap`; with
    95 % confidence it finds at least `overlap_low` of all rows' (1 for what is exact, up to ties).
    """

    index: str
    path: Path
    format: str
    documents: int
    dim: int
    bytes: int
    library: str
    is_exact: bool
    settings: Settings
    asked: int
    k: int
    overlap: float
    overlap_low: float


def format_of(name: str | None, path: Path) -> Format:
    """The format of that name, else the one that the destination's suffix tells. Raises UsageError."""
    known = ", ".join(FORMATS)
    chosen = SUFFIXES.get(path.suffix.lower()) if name is None else name
    if chosen is None:
        raise UsageError(f"say what to export to with --format: one of {known}")
    if chosen not in FORMATS:
        raise UsageError(f"there is no --format {quoted(chosen)}: choose one of {known}")
    return FORMATS[chosen]


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
    """Export the index in `folder` to `path`, in bounded memory; the index may move on meanwhile.

    `dim` cuts its rows (None: the full dimension), `force` has an earlier export replaced. What is at
    `path` afterwards is whole, and was searched with the library of its format and compared with the
    exact scan; else nothing is changed there. Raises UsageError, RsearchError for a library that is
    missing, a place that is taken or an export that does not answer as it must, IndexFormatError,
    StorageError, IndexBusyError and BuildStoppedError.
    """
    form = format_of(format, path)
    dest = destination.destination(path, folder, force=force, is_folder=form.is_folder)
    form.require()
    with closing(IndexReader(folder)) as reader:
        source = ExportSource(reader, dim)
        if source.count > form.most_rows:
            raise UsageError(
                f"{reader.name} has {source.count:,} documents, and {form.name} takes {form.most_rows:,}: "
                "export to parquet or faiss-flat"
            )
        with destination.made_beside(dest) as made:
            _make_sure_of_room(form.bytes(source), dest)
            exported = _made(form, source, made, dest, progress, _counting(progress, stop, dest))
            destination.put(made, dest, force=force)
    return exported


def _made(
    form: Format,
    source: ExportSource,
    made: Path,
    dest: Path,
    progress: Progress,
    go_on: Callable[[int], None],
) -> Exported:
    """Make it, and check it."""
    facts = {**source.facts(), "format": form.name}
    progress.stage("exporting", source.count, "rows")
    sample = ExportSample.of(source)
    go_on(0)
    if form.is_folder:
        made.mkdir()
    settings = form.write(source, made, facts, sample, go_on)
    if form.is_folder:
        write_card(made, form, facts, settings)
    progress.stage("checking", None, "")
    go_on(0)
    shares = _checked(form, sample, _found(form, made, sample, settings))
    overlap = float(shares.mean())
    low = 1.0 if form.is_exact else lower_bound(shares, TAIL)
    if form.is_folder:
        checked = {"asked": len(shares), "k": sample.k, "overlap": overlap, "overlap_low": low}
        write_facts(made, {**facts, "settings": dict(settings), "checked": checked})
    return Exported(
        source.reader.name,
        dest,
        form.name,
        source.count,
        source.dim,
        size_of(made) if form.is_folder else made.stat().st_size,
        form.modules[0].partition(".")[0],
        form.is_exact,
        settings,
        len(shares),
        sample.k,
        overlap,
        low,
    )


def _found(form: Format, made: Path, sample: ExportSample, settings: Settings) -> SearchCheck:
    """What the library says of what was made. Raises RsearchError where it cannot read it."""
    try:
        return form.look(made, sample, settings)
    except RsearchError:
        raise
    except Exception as error:
        if (limit := exhausted(error)) is not None:
            raise limit from None
        why = clipped(f"{type(error).__name__}: {error}")
        raise _wrong(form, f"it cannot read it back ({why})") from error


def _checked(form: Format, sample: ExportSample, found: SearchCheck) -> NDArray[np.float64]:
    """The shares of the exact answers that were found. Raises RsearchError for another index than the own."""
    if list(found.ids) != sample.ids:
        raise _wrong(form, "it finds other documents at their places")
    if found.rows.shape != sample.queries.shape or found.rows.tobytes() != sample.queries.tobytes():
        raise _wrong(form, "it reads other numbers than the index holds")
    shares = sample.shares(found.nearest)
    least = float(shares.min() if form.is_exact else shares.mean())
    if least < (1.0 if form.is_exact else LEAST_OVERLAP):
        remedy = "" if form.is_exact else "; --format faiss-flat is exact"
        raise _wrong(form, f"it finds {shares.mean():.3f} of what the exact scan finds", remedy)
    return shares


def _wrong(form: Format, what: str, remedy: str = "") -> RsearchError:
    library = form.modules[0].partition(".")[0]
    return RsearchError(
        f"the export was checked with {library}, and {what}: nothing was put in place"
        f"{remedy or '; give the same command again, and report it if that does not help'}"
    )


def _counting(progress: Progress, stop: threading.Event | None, dest: Path) -> Callable[[int], None]:
    def go_on(rows: int) -> None:
        if rows:
            progress.advance(rows)
        if stop is not None and stop.is_set():
            raise BuildStoppedError(f"stopped: {dest} is as it was; the same command begins anew")

    return go_on


def _make_sure_of_room(needed: int, dest: Path) -> None:
    free = free_bytes(dest.parent)
    if needed > free:
        raise StorageError(
            f"{dest} takes {size(needed)} at least, and {size(free)} are free at {dest.parent}: "
            f"free some, or {destination.ELSEWHERE}"
        )
