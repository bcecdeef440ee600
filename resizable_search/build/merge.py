"""Merge indexes that were built apart: their parts become the parts of one new index, in the order given.

Files of a part are linked where that is possible, else copied, and checked against their checksums in either
case. The manifest is written last, so a merge that dies is resumed by the same call.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, replace
from heapq import merge as merge_sorted
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from resizable_search.build.report import BuildReport, finish
from resizable_search.build.workspace import BuildOptions, Workspace, by_option, check_name, lock_build
from resizable_search.corpora.base import Shard
from resizable_search.embedders.request_pool import Usage
from resizable_search.errors import (
    BuildStateError,
    BuildStoppedError,
    EmbedderMismatchError,
    IndexFormatError,
    RsearchError,
    UsageError,
)
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import Checkpoint, EmbedderSpec
from resizable_search.store.layout import NAMES, Home, state_of
from resizable_search.store.manifest import FileEntry, Manifest, Part, file_entry, read_manifest
from resizable_search.store.reader import IndexReader, PartReader
from resizable_search.store.writer import derive_missing, replace_folder
from resizable_search.system import make_sure_of_room
from resizable_search.text import listed


def merge(
    folders: Sequence[Path],
    home: Home,
    options: BuildOptions,
    progress: Progress = SILENT,
    stop: threading.Event | None = None,
) -> BuildReport:
    """Make the new index `options.name` of the indexes in `folders`, which stay as they are.

    Shards of a corpus are put into their own order, and must be all of them. Raises UsageError,
    EmbedderMismatchError, BuildStateError for shards that are not those of one corpus and for a name that is
    taken, IndexFormatError for a damaged file, RsearchError for an id that two indexes have, IndexBusyError,
    StorageError and BuildStoppedError.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(closing(IndexReader(folder))) for folder in folders]
        readers = in_order(readers)
        manifest = merged_manifest(readers)
        check_name(options.name)
        workspace = stack.enter_context(lock_build(home, options, progress, stop))
        if (workspace.unfinished / NAMES.work).exists():
            raise BuildStateError(
                f"a build of {options.name} is not finished: finish it, or choose another `name`"
            )
        if workspace.folder.exists():
            with suppress(IndexFormatError):
                there = read_manifest(workspace.folder)
                pairs = zip(there.parts, manifest.parts, strict=False)
                same = [old.files.items() >= new.files.items() for old, new in pairs]
                if len(there.parts) == len(manifest.parts) and all(same):
                    return BuildReport(options.name, workspace.folder, there)
            raise BuildStateError(
                f"{options.name} exists: choose another `name`, or delete it with `remove {options.name}`"
            )
        refuse_same_ids(readers)
        try:
            _take_files(readers, manifest, workspace)
        except KeyboardInterrupt:
            raise BuildStoppedError("stopped: the same command resumes the merge") from None
        staged = workspace.unfinished / NAMES.staged
        if NAMES.mean(manifest.full_dim) in manifest.parts[0].files:
            workspace.log.stage("deriving", manifest.rows, "rows")
            manifest = derive_missing(staged, manifest, workspace.log)
        written = manifest.write(staged)
        replace_folder(staged, workspace.folder)
        shutil.rmtree(workspace.unfinished, ignore_errors=True)
        return finish(workspace, _summed(readers, options.name, workspace.folder, written))


def in_order(readers: Sequence[IndexReader]) -> list[IndexReader]:
    """The indexes as given, or all shards of a corpus in their order. Raises UsageError, BuildStateError."""
    if len({reader.folder.resolve() for reader in readers}) < max(2, len(readers)):
        raise UsageError("name two indexes or more to merge, and each of them once")
    shards = [str(reader.manifest.corpus.get("shard") or "no shard") for reader in readers]
    if set(shards) == {"no shard"}:
        return list(readers)
    count = Shard.parse(min(shards)).count
    wanted = [f"{number}/{count}" for number in range(1, count + 1)]
    missing = [shard for shard in wanted if shard not in shards]
    if missing or len(shards) > count:
        what = f"shards are missing ({listed(missing, 3)})" if missing else f"these are not {count} shards"
        named = [f"{reader.name} ({shard})" for reader, shard in zip(readers, shards, strict=True)]
        raise BuildStateError(
            f"{what}: name each of 1/{count} to {count}/{count} once, not {listed(named, 6)}"
        )
    ordered = [readers[shards.index(shard)] for shard in wanted]
    for one, other in pairwise(ordered):
        _refuse_others(one, other)
    return ordered


def _refuse_others(one: IndexReader, other: IndexReader) -> None:
    """Raise BuildStateError for shards that are not of one corpus in one state."""
    mine, others = (by_option(reader.manifest.corpus) for reader in (one, other))
    for key in sorted({*mine, *others} - {"shard"}):
        if mine.get(key) != others.get(key):
            values = f"{mine.get(key)} and {others.get(key)}"
            raise BuildStateError(
                f"{one.name} and {other.name} are not shards of one corpus: `{key}` is {values}"
            )
    positions = [reader.manifest.source.position for reader in (one, other)]
    listings = [position.get("names") for position in positions if isinstance(position, Mapping)]
    if listings[:1] != listings[1:]:  # digests of the names and sizes of all files
        raise BuildStateError(
            f"{one.name} and {other.name} are not shards of the same files: files were added, removed or "
            "changed between their builds; build one of them again with `restart`"
        )


def merged_manifest(readers: Sequence[IndexReader]) -> Manifest:
    """The manifest of the new index. Raises EmbedderMismatchError, RsearchError for what cannot be merged."""
    base = readers[0].manifest
    spec = EmbedderSpec.from_json(base.embedder)
    parts: list[Part] = []
    for reader in readers:
        own = EmbedderSpec.from_json(reader.manifest.embedder)
        if own.space != spec.space:
            what = "another state of it" if own.model == spec.model else own.model
            raise EmbedderMismatchError(
                f"{readers[0].name} was embedded by {spec.model}, and {reader.name} by {what}: "
                "merge indexes of one model"
            )
        if reader.manifest.dims != base.dims:
            stored, others = (", ".join(map(str, dims)) for dims in (base.dims, reader.manifest.dims))
            raise RsearchError(
                f"{readers[0].name} stores {stored} dimensions, and {reader.name} {others}: build them with "
                "the same `dims`"
            )
        for part in reader.manifest.parts:
            if part.deleted == part.rows:
                raise RsearchError(
                    f"{reader.name} has a part without documents: `compact {reader.name}` first"
                )
            path = f"{NAMES.parts}/{len(parts) + 1}" if parts else ""
            files = part.files if not parts else _comparable_files(part, parts[0], base.full_dim)
            parts.append(replace(part, path=path, files=files))
    return Manifest(
        rows=sum(part.rows for part in parts),
        dims=base.dims,
        corpus=_merged_corpus(readers),
        label=base.label if base.corpus.get("shard") else listed([r.manifest.label for r in readers], 3),
        embedder=base.embedder,
        source=_merged_source(readers),
        parts=tuple(parts),
        files=base.files,
        fitted_rows=base.fitted_rows,
        # Bitmaps are named by generations, and the next one must not have the name of one that is here.
        generation=max(reader.manifest.generation for reader in readers),
    )


def _comparable_files(part: Part, first: Part, full: int) -> Mapping[str, FileEntry]:
    """The files of a part without codes that are made with another mean than the first part's."""
    mean = NAMES.mean(full)
    made = set(chain(*NAMES.short_codes(full)))
    if part.files.get(mean) == first.files.get(mean):
        return part.files
    return {name: entry for name, entry in part.files.items() if name not in made}


def _merged_corpus(readers: Sequence[IndexReader]) -> dict[str, Any]:
    base = readers[0].manifest.corpus
    if base.get("shard"):
        return {key: value for key, value in base.items() if key not in ("shard", "limit")}
    corpora = [reader.manifest.corpus for reader in readers]
    chunk = next(filter(None, (corpus.get("chunk") for corpus in corpora)), None)
    return {"kind": "merged", "chars": base.get("chars"), "chunk": chunk}


def _merged_source(readers: Sequence[IndexReader]) -> Checkpoint:
    """How far the corpus was read: a larger limit begins at its start, and passes over what was read."""
    sources = [reader.manifest.source for reader in readers]
    read, left_out = sum(source.read for source in sources), sum(source.left_out for source in sources)
    is_limited = any(reader.manifest.corpus.get("limit") for reader in readers)
    exhausted = all(source.exhausted for source in sources) and not is_limited
    return Checkpoint(read, None, read, exhausted, left_out, sources[-1].last_id)


def refuse_same_ids(readers: Sequence[IndexReader]) -> None:
    """Raise RsearchError if two documents have one id; no id is kept in memory."""
    streams = (_ids(part, reader.name) for reader in readers for part in reader.parts)
    for (id_, one), (other_id, other) in pairwise(merge_sorted(*streams)):
        if id_ == other_id:
            raise RsearchError(
                f"{one} and {other} both have a document {id_!r}: delete it from one of them "
                f"(`delete {other}`), or give it another id"
            )


def _ids(part: PartReader, name: str) -> Iterator[tuple[str, str]]:
    """The ids of a part's documents that are not deleted, ascending, each with the name of the index."""
    for row, id_ in part.connection.execute("SELECT row, id FROM documents ORDER BY id"):
        if part.allowed is None or part.allowed[row]:
            yield id_, name


def _take_files(readers: Sequence[IndexReader], manifest: Manifest, workspace: Workspace) -> None:
    """Bring every file into the folder of new files. Raises IndexFormatError, StorageError."""
    staged, log = workspace.unfinished / NAMES.staged, workspace.log
    staged.mkdir(parents=True, exist_ok=True)
    files = {staged / name: (readers[0].folder / name, entry) for name, entry in manifest.files.items()}
    origins = [(reader.folder, part) for reader in readers for part in reader.manifest.parts]
    for (folder, old), new in zip(origins, manifest.parts, strict=True):
        files |= {
            staged / new.file(name): (folder / old.file(name), entry) for name, entry in new.files.items()
        }
    for path in [path for path in staged.rglob("*") if path.is_file() and path not in files]:
        path.unlink()  # of another merge to this name that died
    device = staged.stat().st_dev
    needed = [entry.bytes for path, (origin, entry) in files.items() if origin.stat().st_dev != device]
    make_sure_of_room(f"merging {workspace.options.name}", sum(needed), staged, "or choose another `home`")
    log.stage("merging", len(files), "files")
    for path, (origin, entry) in files.items():
        workspace.check_stop()
        _take_file(origin, path, entry)
        log.advance(1)


def _take_file(origin: Path, path: Path, entry: FileEntry) -> None:
    if path.exists() and file_entry(path) == entry:  # of a merge that died
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        os.link(origin.resolve(), path)
    except OSError:  # another disk, or one without links
        shutil.copyfile(origin, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if file_entry(path) != entry:
        path.unlink()
        raise IndexFormatError(
            f"{origin} is not as it was written: look with `verify`, and merge again once it is repaired"
        )


def _summed(readers: Sequence[IndexReader], name: str, folder: Path, manifest: Manifest) -> BuildReport:
    """The report of the merge: what all builds cost together, and what they left out, as far as is known."""
    left_out: list[Mapping[str, Any]] = []
    total, runs = Usage(), 0
    for reader in readers:
        with suppress(OSError, ValueError, KeyError, TypeError):  # no report, or one of another version
            content = json.loads(state_of(reader.folder, NAMES.report).read_bytes())
            cost = dict(content["total"])
            own = Usage(**{key: cost[key] for key in asdict(Usage())})
            left_out, total, runs = [*left_out, *content["left_out"]], total + own, runs + cost["runs"]
    documents, read = manifest.documents, manifest.source.read
    return BuildReport(name, folder, manifest, documents, left_out, Usage(), total, runs, read=read)
