"""The indexes of a home, and what one index is made of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from resizable_search.admin.remove import unexpected_files
from resizable_search.embedders import registry
from resizable_search.errors import IndexFormatError, UsageError
from resizable_search.search.index import Index
from resizable_search.specs import EmbedderSpec
from resizable_search.store.layout import Home, unfinished_build
from resizable_search.store.manifest import Manifest, read_manifest
from resizable_search.store.tuned_plans import DefaultMode
from resizable_search.store.verify import last_verified
from resizable_search.system import size_of


@dataclass(frozen=True, slots=True)
class OverviewEntry:
    """One index, damaged index or unfinished build of a home."""

    name: str
    state: Literal["ready", "damaged", "unfinished"]
    rows: int = 0
    dims: tuple[int, ...] = ()
    model: str = ""
    corpus: str = ""
    bytes: int = 0
    changed: str = ""
    remark: str = ""


def overview(home: Home) -> list[OverviewEntry]:
    """Every index of the home and every unfinished build, by name."""
    entries = []
    for name in home.names():
        folder = home.index(name)
        try:
            manifest = read_manifest(folder)
        except IndexFormatError as error:
            entries.append(OverviewEntry(name, "damaged", remark=str(error)))
            continue
        entries.append(
            OverviewEntry(
                name,
                "ready",
                rows=manifest.documents,
                dims=manifest.dims,
                model=str(manifest.embedder.get("model", "")),
                corpus=manifest.label,
                bytes=sum(entry.bytes for entry in manifest.all_files().values()),
                changed=manifest.changed,
            )
        )
    for name in home.unfinished():
        folder = home.building(name)
        build = unfinished_build(folder)
        rows = build.safe if build else 0
        entries.append(OverviewEntry(name, "unfinished", rows, bytes=size_of(folder)))
    return entries


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index is made of."""

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
    deleted: int  # rows still on disk
    unfitted: int  # documents added after the embedder was fitted
    created: str
    changed: str
    written_by: str
    files: dict[str, int]
    bytes: int
    scan_bytes: dict[int, int]  # what one float32 query reads at each stored dimension
    embed_cost: str
    mode: str = ""
    strange: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    verified: str = "never"
    part_rows: list[int] = field(default_factory=list)
    nodes: list[tuple[str, list[int]]] = field(default_factory=list)  # each with the parts that it can read


def describe_index(index: Index) -> IndexInfo:
    """What an index is made of, and what is wrong with it."""
    manifest = index.manifest
    spec = EmbedderSpec.from_json(manifest.embedder)
    files = {name: entry.bytes for name, entry in manifest.all_files().items()}
    remark = ""
    try:
        cls = registry.embedder_class(spec.kind)
    except UsageError as error:  # its package is not installed; the rest can still be described
        cost = str(error)
    else:
        remark = cls.remark_on(spec)
        address = spec.options.get("base_url")
        service = f"{address} ({spec.options.get('served_as')})" if address else f"the {spec.kind} service"
        cost = (
            "this index embeds no texts"
            if not cls.embeds
            else f"one request to {service} for each new text; known texts are cached"
            if cls.remote
            else f"{spec.kind} on this machine, no request"
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
        deleted=manifest.rows - manifest.documents,
        unfitted=int((index.live_rows() >= manifest.fitted_rows).sum()) if manifest.fitted_rows else 0,
        created=manifest.created,
        changed=manifest.changed,
        written_by=manifest.written_by,
        files=files,
        bytes=sum(files.values()),
        scan_bytes={dim: index.rows * dim * 4 for dim in index.dims},
        embed_cost=cost,
        mode=_described_mode(index.plans.mode),
        strange=unexpected_files(index.folder, manifest),
        damaged=damaged_files(index.folder, manifest),
        verified=last_verified(index.folder),
        part_rows=[part.rows for part in manifest.parts],
    )


def _described_mode(mode: DefaultMode | None) -> str:
    """A tuned mode in words."""
    if mode is None:
        return ""
    low, high = mode.gain_ci
    weight = f" (words {mode.weight:g})" if mode.mode == "hybrid" else ""
    gain = f"{mode.value:.3f}, {low:+.3f} to {high:+.3f} over dense"
    return f"{mode.mode}{weight} by default: {mode.metric} {gain} on {mode.queries:,} queries"


def damaged_files(folder: Path, manifest: Manifest) -> list[str]:
    """What is wrong with the files of embedder/, which opening an index does not check; one phrase each."""
    problems = []
    for name, entry in sorted(manifest.files.items()):
        path = folder / name
        if not path.is_file():
            problems.append(f"{path} is missing")
        elif path.stat().st_size != entry.bytes:
            problems.append(f"{path} has {path.stat().st_size:,} bytes, not {entry.bytes:,}")
    return problems
