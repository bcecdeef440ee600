"""What there is in a home, what an index weighs, and whether this machine is in order."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resizable_search.embedders import registry
from resizable_search.embedders.base import EmbedderSpec
from resizable_search.errors import IndexFormatError, RsearchError, UsageError
from resizable_search.index.layout import Home
from resizable_search.index.locate import find_index
from resizable_search.index.lock import build_lock
from resizable_search.index.manifest import Manifest, read_manifest
from resizable_search.index.reader import IndexReader
from resizable_search.index.storage import storage_errors
from resizable_search.index.work import rows_so_far
from resizable_search.index.wreck import is_wreck, remove_wreck
from resizable_search.index.writer import add_tiers, remove_index, strange_files
from resizable_search.progress import SILENT, Progress
from resizable_search.scan.warm import ColdKernelsError, compile_kernels
from resizable_search.search import Index
from resizable_search.wording import counted, dimensions

WIKI100K_BYTES = 1_200_000_000
"""About what the default index takes: 691 MB of vectors, the texts, and as much again while it is built."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of `rsearch list`: an index, a damaged one, or an unfinished build."""

    name: str
    state: Literal["ready", "damaged", "unfinished"]
    rows: int = 0
    dims: tuple[int, ...] = ()
    model: str = ""
    corpus: str = ""
    bytes: int = 0
    changed: str = ""
    remark: str = ""


def overview(home: Home) -> list[Entry]:
    """Every index of the home and every unfinished build, by name."""
    entries = []
    for name in home.names():
        folder = home.index(name)
        try:
            manifest = read_manifest(folder)
        except IndexFormatError as error:
            entries.append(Entry(name, "damaged", remark=str(error)))
            continue
        size = sum(entry.bytes for entry in manifest.all_files().values())
        model = str(manifest.embedder.get("model", ""))
        entries.append(
            Entry(
                name,
                "ready",
                manifest.documents,
                manifest.dims,
                model,
                manifest.label,
                size,
                manifest.changed,
            )
        )
    for name in home.unfinished():
        rows = rows_so_far(home.building(name))
        entries.append(Entry(name, "unfinished", rows, bytes=_size(home.building(name))))
    return entries


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What `rsearch info` shows. `scan_bytes`: what one query reads at each stored dimension."""

    name: str
    folder: str
    rows: int
    dims: tuple[int, ...]
    corpus: dict[str, Any]
    label: str
    source_rows: int
    left_out: int
    corpus_exhausted: bool
    embedder: dict[str, Any]
    fingerprint: str
    remark: str
    generation: int
    parts: int
    created: str
    changed: str
    written_by: str
    files: dict[str, int]
    bytes: int
    scan_bytes: dict[int, int]
    embed_cost: str
    strange: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


def describe_index(index: Index) -> IndexInfo:
    """Everything that a person may want to know of an index."""
    manifest = index.manifest
    spec = EmbedderSpec.from_json(manifest.embedder)
    files = {name: entry.bytes for name, entry in manifest.all_files().items()}
    remark = ""
    try:
        cls = registry.embedder_class(spec.kind)
    except UsageError as error:  # of a package that is not installed here: all else can be told
        cost = str(error)
    else:
        remark = cls.remark
        cost = (
            "no text can be embedded here"
            if not cls.embeds
            else f"one request to the {spec.kind} service for each new text, none for one asked before"
            if cls.remote
            else f"embedded on this machine by {spec.kind}, without a request"
        )
    return IndexInfo(
        name=index.name,
        folder=str(index.folder),
        rows=index.rows,
        dims=index.dims,
        corpus=dict(manifest.corpus),
        label=manifest.label,
        source_rows=manifest.source.read,
        left_out=manifest.source.left_out,
        corpus_exhausted=manifest.source.exhausted,
        embedder=spec.to_json(),
        fingerprint=spec.fingerprint,
        remark=remark,
        generation=manifest.generation,
        parts=len(manifest.parts),
        created=manifest.created,
        changed=manifest.changed,
        written_by=manifest.written_by,
        files=files,
        bytes=sum(files.values()),
        scan_bytes={dim: index.rows * dim * 4 for dim in index.dims},
        embed_cost=cost,
        strange=strange_files(index.folder, manifest),
        damaged=damaged_files(index.folder, manifest),
    )


@dataclass(frozen=True, slots=True)
class Removable:
    """What `remove` would delete: an index (`folder`), an unfinished build (`building`), or both.

    `home` is the folder it lies in; `state` is where its lock lies, None outside the home of all
    indexes; `damaged`: its manifest cannot be read.
    """

    name: str
    words: str
    home: Path
    folder: Path | None
    building: Path | None
    state: Path | None
    damaged: bool = False


def removable(name: str, home: Home) -> Removable:
    """What deleting that name, or that folder, means. Raises IndexNotFoundError, IndexFormatError."""
    if name in home.unfinished() and not home.index(name).is_dir():
        words = f"the unfinished build of {name}"
        return Removable(name, words, home.path, None, home.building(name), home.state(name))
    folder = find_index(name, home)
    if folder.is_symlink():
        raise RsearchError(
            f"{folder} is a link: remove what it leads to by its own name, or the link with rm"
        )
    real = folder.resolve()
    at_home = real.parent == home.path.resolve()  # also if it was named by its folder
    state = home.state(real.name) if at_home else None
    building = home.building(real.name) if at_home and real.name in home.unfinished() else None
    damaged = False
    try:
        words = f"{counted(read_manifest(folder).documents, 'document')} in {folder}"
    except IndexFormatError:
        if not is_wreck(folder):
            raise
        damaged, words = True, f"damaged, in {folder}"
    return Removable(name, f"{name} ({words})", real.parent, folder, building, state, damaged)


def remove(target: Removable) -> list[str]:
    """Delete it. Returns what else lay in the folder and was left there.

    Raises IndexBusyError, and StorageError if the disk refuses.
    """
    with storage_errors(target.home, "check its permissions"):
        if target.state is None:
            return _remove_folder(target)
        with build_lock(target.state, target.name):
            if target.building is not None:
                shutil.rmtree(target.building)
            left = _remove_folder(target)
        shutil.rmtree(target.state, ignore_errors=True)
        return left


def _remove_folder(target: Removable) -> list[str]:
    if target.folder is None:
        return []
    return remove_wreck(target.folder) if target.damaged else remove_index(target.folder)


def warm(home: Home, name: str | None, progress: Progress = SILENT) -> list[str]:
    """Compile the kernels, and derive the tiers of an index that lacks them; in words, what was done.

    `name` None: the kernels alone. Raises RsearchError, IndexBusyError, StorageError.
    """
    done = []
    if name is not None:
        folder = find_index(name, home)
        with storage_errors(home.path), build_lock(home.state(folder.resolve().name), folder.name):
            derived = add_tiers(folder, progress)
        done.append(f"{folder.name} {'has its int8 tiers and sign bits now' if derived else 'lacks nothing'}")
    try:
        compiled = compile_kernels(progress)
    except ColdKernelsError as error:
        raise RsearchError(f"{error}; searches take numpy, which is slower: reinstall numba") from None
    done.append(f"{compiled} kernels compiled" if compiled else "the kernels are compiled already")
    return done


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `rsearch doctor` looked at, and what to do if it is not in order."""

    what: str
    state: Literal["ok", "wrong"]
    words: str


def examine(home: Home) -> Iterator[Finding]:
    """Look at credentials, hub, disk, kernels and each index, one after the other."""
    yield _finding("credentials", _credentials)
    yield _finding("hub", _hub)
    yield _finding("disk", partial(_disk, home))
    yield _finding("kernels", _kernels)
    for name in home.names():
        yield _finding(f"index {name}", partial(_index, home.index(name)))
    for name in home.unfinished():
        yield Finding(f"build {name}", "ok", "not finished: give its build command again to go on")


def _finding(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "ok", look())
    except (RsearchError, OSError) as error:
        return Finding(what, "wrong", " ".join(str(error).split()))


def _credentials() -> str:
    return registry.create("nomic").check()


def _hub() -> str:
    from resizable_search.corpora.presets import wiki100k

    return wiki100k().corpus().check()


def _disk(home: Home) -> str:
    folder = home.path
    while not folder.exists():
        folder = folder.parent
    if not _writable(folder):
        raise RsearchError(f"{folder} is not writable: choose another home with --home or $RSEARCH_HOME")
    free = shutil.disk_usage(folder).free
    if free < WIKI100K_BYTES:
        raise RsearchError(
            f"{free / 1e9:.1f} GB free at {home.path}, and building wiki100k takes about "
            f"{WIKI100K_BYTES / 1e9:.1f} GB: free some, or choose another home with --home"
        )
    return f"{free / 1e9:,.1f} GB free at {home.path}"


def _writable(folder: Path) -> bool:
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _kernels() -> str:
    """Scan a small made-up index with each engine, and by the definition."""
    from resizable_search import vectors
    from resizable_search.quantise import Tier, quantise, sign_words
    from resizable_search.scan.base import Engine, View
    from resizable_search.scan.numpy_engine import NumpyEngine
    from resizable_search.scan.warm import load_engine
    from resizable_search.threads import thread_count
    from resizable_search.topk import select

    rows = vectors.normalise(np.random.default_rng(0).standard_normal((5000, 96), np.float32))
    view = View(rows, 64, None, Tier(*quantise(rows), 96), sign_words(rows).T.copy())
    query = vectors.truncate(rows[:1], 64)
    everything = np.arange(len(rows))
    scores, best = select(view.defined_scores(query[0], everything), everything, 10)
    engines: list[Engine] = [NumpyEngine()]
    try:
        engines.append(load_engine(thread_count()))
    except ColdKernelsError as error:
        raise RsearchError(
            f"the compiled engine cannot run ({error}), and numpy is slower: compile it with `rsearch warm`"
        ) from None
    for engine in engines:
        found = engine.scan(view, "exact", query, 10).top
        if not (np.array_equal(found.rows[0], best) and np.array_equal(found.scores[0], scores)):
            raise RsearchError(
                f"the {engine.name} engine finds wrong rows on this machine: "
                f"reinstall {engine.name}, and report it"
            )
    return f"numpy and the compiled kernels scan rightly, on {thread_count()} threads"


def _index(folder: Path) -> str:
    with closing(IndexReader(folder)) as reader:
        strange = strange_files(folder, reader.manifest)
        if strange:
            raise RsearchError(
                f"{folder} holds what is not the index's: {', '.join(strange[:3])}; move it away"
            )
        damaged = damaged_files(folder, reader.manifest)
        if damaged:
            raise RsearchError(f"{damaged[0]}: build the index again with --restart")
        documents = counted(reader.manifest.documents, "document")
        return f"{documents} at {dimensions(reader.dims)}"


def damaged_files(folder: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the files that opening an index does not look at (embedder/), a phrase for each."""
    found = []
    for name, entry in sorted(manifest.files.items()):
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif path.stat().st_size != entry.bytes:
            found.append(f"{path} has {path.stat().st_size:,} bytes where {entry.bytes:,} belong")
    return found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
