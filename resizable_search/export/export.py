"""Export an index: a format writes it, its library checks it, a rename publishes it."""

import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from resizable_search.errors import BuildStoppedError, RsearchError, UsageError
from resizable_search.export.base import ExportJob, ExportSample, ExportSource, Format, Settings
from resizable_search.export.datasets import DatasetsFormat
from resizable_search.export.faiss import FaissFlatFormat, FaissPQFormat
from resizable_search.export.output import (
    ELSEWHERE,
    destination,
    publish,
    staging,
    write_card,
    write_facts,
)
from resizable_search.export.parquet import ParquetFormat
from resizable_search.export.usearch import UsearchFormat
from resizable_search.progress import SILENT, Progress
from resizable_search.statistics import lower_bound
from resizable_search.store.reader import IndexReader
from resizable_search.system import exhausted, make_sure_of_room, size_of
from resizable_search.text import clipped, quoted

FORMATS: Mapping[str, Format] = {
    form.name: form
    for form in (ParquetFormat(), DatasetsFormat(), FaissFlatFormat(), FaissPQFormat(), UsearchFormat())
}

LEAST_OVERLAP = 0.9
"""The overlap with the exact answer that an approximate export must reach."""

TAIL = 0.05
SUFFIXES = {".parquet": "parquet"}
"""The format that a destination's suffix implies."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported, and the result of its check.

    `asked` rows searched for their `k` nearest; the library found the share `overlap`. With 95 % confidence
    it finds at least `overlap_low` for all rows (1 for an exact format, up to ties).
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
    """The format of that name, or the one that the suffix implies. Raises UsageError."""
    known = ", ".join(FORMATS)
    chosen = SUFFIXES.get(path.suffix.lower()) if name is None else name
    if chosen is None:
        raise UsageError(f"name a `format`: one of {known}")
    if chosen not in FORMATS:
        raise UsageError(f"unknown `format` {quoted(chosen)}: choose one of {known}")
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
    """Export the index in `folder` to `path`, in bounded memory. The index may change meanwhile.

    `dim` cuts the rows (None: the full dimension); `force` replaces an earlier export. The library of the
    format searches the result, and the answers are compared with the exact scan; only then it is moved to
    `path`. Raises UsageError, RsearchError (a missing library, an existing path, a failed check),
    IndexFormatError, StorageError, IndexBusyError and BuildStoppedError.
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
            raise UsageError(
                f"{reader.name} has {source.count:,} documents, and {form.name} takes {form.most_rows:,}: "
                "export to parquet or faiss-flat"
            )
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
        raise _failed(form, "it returns other documents at their places")
    queries = job.sample.queries
    if check.rows.shape != queries.shape or check.rows.tobytes() != queries.tobytes():
        raise _failed(form, "it reads other numbers than the index holds")
    shares = job.sample.shares(check.nearest)
    overlap = float(shares.mean())
    if form.is_exact and shares.min() < 1.0 or overlap < LEAST_OVERLAP:
        remedy = "" if form.is_exact else "; the format faiss-flat is exact"
        raise _failed(form, f"it finds {overlap:.3f} of what the exact scan finds", remedy)
    low = 1.0 if form.is_exact else lower_bound(shares, TAIL)
    k = job.sample.k
    if form.is_folder:
        checked = {"asked": len(shares), "k": k, "overlap": overlap, "overlap_low": low}
        write_facts(made, {**job.facts, "settings": dict(settings), "checked": checked})
    return Exported(
        job.source.reader.name,
        dest,
        form.name,
        job.source.count,
        job.source.dim,
        size_of(made) if form.is_folder else made.stat().st_size,
        form.library,
        form.is_exact,
        settings,
        len(shares),
        k,
        overlap,
        low,
    )


def _failed(form: Format, what: str, remedy: str = "") -> RsearchError:
    return RsearchError(
        f"{form.library} checked the export, and {what}: nothing was written"
        f"{remedy or '; run the same command again, and report it if it fails again'}"
    )
