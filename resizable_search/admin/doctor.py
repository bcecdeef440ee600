"""Examine this machine (credentials, hub, disk, kernels, each index), and get it ready for searches."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from resizable_search.admin.overview import damaged_files
from resizable_search.admin.remove import unexpected_files
from resizable_search.embedders import registry
from resizable_search.embedders.registry import TrustedEndpoints
from resizable_search.engine.kernel_cache import ColdKernelsError, compile_kernels, is_warm
from resizable_search.errors import RsearchError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import EmbedderSpec
from resizable_search.store.layout import NAMES, Home, hold_lock, resolve_index
from resizable_search.store.manifest import Manifest, read_manifest
from resizable_search.store.reader import IndexReader
from resizable_search.store.writer import derive_missing, derived_names
from resizable_search.system import ANOTHER_HOME, existing, free_bytes, sync_folder, thread_count
from resizable_search.text import counted, dimensions, listed

WIKI100K_BYTES = 1_200_000_000  # to build it: 691 MB of vectors, the texts, and temporary files


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One thing that was examined, and what to do if it is wrong, or if it is wanted and not set up."""

    what: str
    state: Literal["ok", "not set up", "wrong"]
    words: str


class _NotSetUpError(RsearchError):
    """What was examined is neither configured nor used by an index."""


def examine(home: Home) -> Iterator[HealthCheck]:
    """Check credentials, hub, disk, kernels, endpoints and each index; what nothing uses is not wrong."""
    from resizable_search.corpora.hub import wikipedia
    from resizable_search.embedders.nomic import has_credentials

    manifests = {}
    for name in home.names():
        with suppress(RsearchError):  # `examine_indexes` reports a damaged index
            manifests[name] = read_manifest(home.index(name))
    used = {spec.get("kind") for one in manifests.values() for spec in (one.embedder, one.corpus)}
    yield _check(
        "credentials",
        lambda: registry.create("nomic").check(),
        lambda: "nomic" in used or has_credentials(),
    )
    has_hub = "hub" in used or os.environ.get("HF_ENDPOINT") or os.environ.get("HF_TOKEN")
    yield _check("hub", lambda: wikipedia().check(), lambda: bool(has_hub))
    yield _check("disk", partial(_disk, home))
    yield _check("kernels", _kernels)
    yield from _endpoints(home, manifests)
    yield from examine_indexes(home)


def examine_indexes(home: Home) -> Iterator[HealthCheck]:
    """Check each index of the home, and name unfinished builds."""
    for name in home.names():
        yield _check(f"index {name}", partial(_index, home.index(name)))
    for name in home.unfinished():
        yield HealthCheck(f"build {name}", "ok", "not finished: run its build command again to resume")


def warm(home: Home, name: str | None, progress: Progress = SILENT) -> list[str]:
    """Compile the kernels, and derive the tiers that the index `name` lacks, if given. Says what was done."""
    done = []
    if name is not None:
        folder = resolve_index(name, home)
        manifest = read_manifest(folder)
        wanted, is_derived = derived_names(manifest.dims), False
        if not all(part.files.keys() >= set(wanted) for part in manifest.parts):
            with hold_lock(folder):
                is_derived = add_tiers(folder, progress)
        done.append(f"{folder.name}: {'missing tiers derived' if is_derived else 'nothing is missing'}")
    try:
        compiled = compile_kernels(progress)
    except ColdKernelsError as error:
        raise RsearchError(f"{error}; numpy searches, more slowly") from None
    done.append(f"{compiled} kernels compiled" if compiled else "the kernels are already compiled")
    return done


def add_tiers(index: Path, progress: Progress = SILENT) -> bool:
    """Derive the tiers that an index lacks, under its lock, and keep its generation; whether it did."""
    manifest = read_manifest(index)
    progress.stage("deriving", manifest.rows, "rows")
    try:
        complete = derive_missing(index, manifest, progress)
        if complete.parts != manifest.parts:
            complete.write(index)
    except BaseException:
        for part in manifest.parts:
            for name in derived_names(manifest.dims):
                path = index / part.path / name
                if name not in part.files:
                    path.unlink(missing_ok=True)
            with suppress(OSError):
                (index / part.path / NAMES.tiers).rmdir()  # if it is empty
        raise
    sync_folder(index)
    return complete.parts != manifest.parts


def _check(
    what: str, examined: Callable[[], str], is_set_up: Callable[[], bool] = lambda: True
) -> HealthCheck:
    try:
        return HealthCheck(what, "ok", examined())
    except (RsearchError, OSError) as error:
        is_wrong = not isinstance(error, _NotSetUpError) and is_set_up()
        return HealthCheck(what, "wrong" if is_wrong else "not set up", " ".join(str(error).split()))


def _disk(home: Home) -> str:
    folder, free = existing(home.path), free_bytes(home.path)
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise RsearchError(f"{folder} is not writable: {ANOTHER_HOME}")
    if free < WIKI100K_BYTES:
        needs = f"building wiki100k needs about {WIKI100K_BYTES / 1e9:.1f} GB: free some, or {ANOTHER_HOME}"
        raise _NotSetUpError(f"{free / 1e9:.1f} GB free at {home.path}, and {needs}")
    return f"{free / 1e9:,.1f} GB free at {home.path}"


def _kernels() -> str:
    """Scan a small generated index with each engine, and compare with the definition."""
    from resizable_search.engine import vectors
    from resizable_search.engine.base import Engine, select
    from resizable_search.engine.kernel_cache import load_engine
    from resizable_search.engine.numpy_engine import NumpyEngine
    from resizable_search.engine.parts import Parts, View
    from resizable_search.engine.vectors import Tier, quantise

    rows = vectors.normalise(np.random.default_rng(0).standard_normal((5000, 96), np.float32))
    view = View(rows, 64, None, Tier(*quantise(rows)))
    query = vectors.truncate(rows[:1], 64)
    everything = np.arange(len(rows))
    scores, best = select(view.defined_scores(query[0], everything), everything, 10)
    engines: list[Engine] = [NumpyEngine()]
    cold = ""
    try:
        engines.append(load_engine(thread_count()))
    except ColdKernelsError as error:
        cold = f"the compiled engine cannot run ({error}), and numpy is slower: compile it with `warm`"
    for engine in engines:
        top = engine.scan(Parts([view]), query, "exact", 10).top
        if not (np.array_equal(top.rows[0], best) and np.array_equal(top.scores[0], scores)):
            raise RsearchError(f"the {engine.name} engine returns wrong rows here: install it again")
    if cold:
        raise RsearchError(cold) if is_warm() else _NotSetUpError(cold)
    return f"numpy and the compiled kernels return the right rows, on {thread_count()} threads"


def _endpoints(home: Home, manifests: Mapping[str, Manifest]) -> Iterator[HealthCheck]:
    """Ask each endpoint that embeds queries of an index of the home, once."""
    endpoints: dict[str, tuple[str, EmbedderSpec]] = {}
    for name, manifest in manifests.items():
        with suppress(RsearchError):  # as above
            spec = EmbedderSpec.from_json(manifest.embedder)
            endpoint = [spec.options.get(option) for option in ("base_url", "api_key_env", "served_as")]
            if endpoint[0] is not None:
                endpoints.setdefault(str(endpoint), (name, spec))
    for name, spec in endpoints.values():
        yield _check("endpoint", partial(_endpoint, home, name, spec))


def _endpoint(home: Home, name: str, spec: EmbedderSpec) -> str:
    embedder = registry.reopen(spec, home.index(name) / NAMES.embedder)
    TrustedEndpoints(home.trusted).require(embedder, name)
    return embedder.check()


def _index(folder: Path) -> str:
    with closing(IndexReader(folder)) as reader:
        if unexpected := unexpected_files(folder, reader.manifest):
            raise RsearchError(f"{folder} holds other files: {listed(unexpected, 3)}; move them away")
        if damaged := damaged_files(folder, reader.manifest):
            raise RsearchError(f"{damaged[0]}: build the index again with `restart`")
        return f"{counted(reader.manifest.documents, 'document')} at {dimensions(reader.dims)}"
