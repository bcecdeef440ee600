"""Whether this machine is in order: credentials, hub, disk, kernels, and each index."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from resizable_search.admin.overview import damaged_files
from resizable_search.embedders import registry
from resizable_search.embedders.trusted_endpoints import TrustedEndpoints
from resizable_search.engine.kernel_cache import ColdKernelsError
from resizable_search.errors import RsearchError
from resizable_search.specs import EmbedderSpec
from resizable_search.store.delete import unexpected_files
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import read_manifest
from resizable_search.store.reader import IndexReader
from resizable_search.text import counted, dimensions

WIKI100K_BYTES = 1_200_000_000
"""About what the default index takes: 691 MB of vectors, the texts, and as much again while it is built."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One thing that `rsearch doctor` looked at, and what to do if it is not in order."""

    what: str
    state: Literal["ok", "wrong"]
    words: str


def examine(home: Home) -> Iterator[HealthCheck]:
    """Look at credentials, hub, disk, kernels, endpoints and each index, one after the other."""
    yield _finding("credentials", _credentials)
    yield _finding("hub", _hub)
    yield _finding("disk", partial(_disk, home))
    yield _finding("kernels", _kernels)
    yield from _endpoints(home)
    yield from examine_indexes(home)


def examine_indexes(home: Home) -> Iterator[HealthCheck]:
    """Look at each index of the home, and name the builds that are not finished."""
    for name in home.names():
        yield _finding(f"index {name}", partial(_index, home.index(name)))
    for name in home.unfinished():
        yield HealthCheck(f"build {name}", "ok", "not finished: give its build command again to go on")


def _finding(what: str, look: Callable[[], str]) -> HealthCheck:
    try:
        return HealthCheck(what, "ok", look())
    except (RsearchError, OSError) as error:
        return HealthCheck(what, "wrong", " ".join(str(error).split()))


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
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _kernels() -> str:
    """Scan a small made-up index with each engine, and by the definition."""
    from resizable_search.engine import vectors
    from resizable_search.engine.base import Engine, select
    from resizable_search.engine.kernel_cache import load_engine
    from resizable_search.engine.numpy_engine import NumpyEngine
    from resizable_search.engine.parts import Parts, View
    from resizable_search.engine.vectors import Tier, quantise, sign_words
    from resizable_search.system import thread_count

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
        found = engine.scan(Parts([view]), query, "exact", 10).top
        if not (np.array_equal(found.rows[0], best) and np.array_equal(found.scores[0], scores)):
            raise RsearchError(
                f"the {engine.name} engine finds wrong rows on this machine: "
                f"reinstall {engine.name}, and report it"
            )
    return f"numpy and the compiled kernels scan rightly, on {thread_count()} threads"


def _endpoints(home: Home) -> Iterator[HealthCheck]:
    """Ask each endpoint that an index of the home has its queries embedded at, once."""
    seen = set()
    for name in home.names():
        with suppress(RsearchError):  # what is wrong with an index is told below
            spec = EmbedderSpec.from_json(read_manifest(home.index(name)).embedder)
            asked = [spec.options.get(option) for option in ("base_url", "api_key_env", "served_as")]
            if asked[0] is None or str(asked) in seen:
                continue
            seen.add(str(asked))
            yield _finding("endpoint", partial(_endpoint, home, name, spec))


def _endpoint(home: Home, name: str, spec: EmbedderSpec) -> str:
    embedder = registry.reopen(spec, home.index(name) / NAMES.embedder)
    TrustedEndpoints(home.trusted).require(embedder, name)
    return embedder.check()


def _index(folder: Path) -> str:
    with closing(IndexReader(folder)) as reader:
        strange = unexpected_files(folder, reader.manifest)
        if strange:
            raise RsearchError(
                f"{folder} holds what is not the index's: {', '.join(strange[:3])}; move it away"
            )
        damaged = damaged_files(folder, reader.manifest)
        if damaged:
            raise RsearchError(f"{damaged[0]}: build the index again with --restart")
        documents = counted(reader.manifest.documents, "document")
        return f"{documents} at {dimensions(reader.dims)}"
