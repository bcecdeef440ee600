"""How fast the numpy engine scans 100,000 x 768: against a bare product, and against the cookbook's way.

    .venv/bin/python scripts/scan_speed.py [--vectors FILE.npy --queries FILE.npy] [--rounds 40]

Prints medians of single queries in milliseconds, k = 10, one process, the ways turn about; ratios to
what each is measured against; and a verdict where one is required: the full scan takes at most 1.1
times a bare `vectors @ q` with argpartition and a sort of k, and the cookbook's way at least 1.5 times
as long as ours. The bare product is measured on the same mapped file as ours and on a copy in memory;
the verdict is against the faster. "Cookbook" is the way of Nomic's notebook (embeddings/00_matryoshka_
search_renorm.ipynb): float64, a slice of the full-width matrix, argsort of all scores; what it does to
its matrix in place is done to a copy here. Last, rows that the compiled engine's int8 cannot tell apart:
its exact scan gives up on it there, and may take 1.2 times as long as reading the floats. Without
--vectors, random clustered ones stand in; an index that --home holds is used again.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _measure import (
    add_given,
    alternate,
    disturbed,
    given_queries,
    given_vectors,
    index_of_matrix,
    machine,
    median_ms,
    parser_of,
    show,
    verdict,
)
from numpy.typing import NDArray

from resizable_search.engine import vectors
from resizable_search.engine.kernel_cache import compile_kernels, load_engine
from resizable_search.engine.numpy_engine import NumpyEngine
from resizable_search.engine.parts import Parts, View
from resizable_search.engine.quantise import Tier, quantise
from resizable_search.search.index import Index, open_index
from resizable_search.system import thread_count

K = 10
BATCH = 100
Way = Callable[[int], object]


def bare(rows: NDArray[np.float32], queries: NDArray[np.float32]) -> Way:
    """The least that numpy can do: one product, argpartition, a sort of k."""

    def ask(i: int) -> NDArray[np.int64]:
        scores = rows @ queries[i % len(queries)]
        best = np.argpartition(scores, -K)[-K:]
        return best[np.argsort(scores[best])[::-1]]

    return ask


def bare_batch(rows: NDArray[np.float32], queries: NDArray[np.float32]) -> Way:
    """The same for a batch: one GEMM, argpartition of each row of scores."""

    def ask(i: int) -> NDArray[np.int64]:
        scores = queries @ rows.T
        best = np.argpartition(scores, -K, axis=1)[:, -K:]
        order = np.argsort(np.take_along_axis(scores, best, 1), axis=1)[:, ::-1]
        return np.take_along_axis(best, order, 1)

    return ask


def cookbook(wide: NDArray[np.float64], queries: NDArray[np.float64], dim: int, expand: int = 0) -> Way:
    """Nomic's notebook: a slice of the float64 matrix, scaled once; every score sorted; best last."""
    full = wide.shape[1]
    scaled = wide if dim == full else wide / np.linalg.norm(wide[:, :dim], axis=1)[:, None]
    cut = scaled[:, :dim]

    def ask(i: int) -> NDArray[np.int64]:
        query = queries[i % len(queries)]
        short = query if dim == full else query[:dim] / np.linalg.norm(query[:dim])
        if not expand:
            return np.argsort(short @ cut.T)[-K:]
        candidates = np.argsort(short @ cut.T)[-expand * K :]
        return candidates[np.argsort(query @ wide[candidates].T)][-K:]

    return ask


def scan(index: Index, queries: NDArray[np.float32], **options: Any) -> Way:
    """Ours, as a user of the library calls it."""
    return lambda i: index.scan(queries[i % len(queries), None], k=K, **options).rows[0]


def engine_alone(view: View, queries: NDArray[np.float32]) -> Way:
    """Ours, the engine without what `index.scan` does around it."""
    engine, cut = NumpyEngine(), vectors.truncate(queries, view.dim)
    return lambda i: engine.scan(Parts([view]), "float32", cut[i % len(queries), None], K).top.rows[0]


def single_queries(index: Index, queries: NDArray[np.float32], rounds: int) -> bool:
    """Measure one query at a time, and say whether all that is required holds."""
    full = index.full_dim
    mapped = {dim: np.load(index.folder / f"{dim}.npy", mmap_mode="r").view(np.ndarray) for dim in index.dims}
    copied = {dim: np.array(rows) for dim, rows in mapped.items()}
    wide, wide_queries = copied[full].astype(np.float64), queries.astype(np.float64)
    cuts = {dim: vectors.truncate(queries, dim) for dim in index.dims}
    # What it is, the way, what it is measured against, and what the ratio must be.
    lines: list[tuple[str, Way, str | None, dict[str, float]]] = [
        (f"{full} bare, mapped file", bare(mapped[full], cuts[full]), None, {}),
        (f"{full} bare, in memory", bare(copied[full], cuts[full]), None, {}),
        (f"{full} engine alone", engine_alone(View(mapped[full], full), queries), f"{full} bare", {}),
        (f"{full} index.scan", scan(index, queries), f"{full} bare", {"at_most": 1.1}),
        (
            f"{full} cookbook",
            cookbook(wide, wide_queries, full),
            f"{full} index.scan",
            {"at_least": 1.5},
        ),
    ]
    for dim in (512, 256, 128, 64):
        lines += [
            (f"{dim} bare, mapped file", bare(mapped[dim], cuts[dim]), None, {}),
            (f"{dim} index.scan", scan(index, queries, dim=dim), f"{dim} bare", {}),
        ]
        if dim >= 256:
            lines.append((f"{dim} cookbook", cookbook(wide, wide_queries, dim), f"{dim} index.scan", {}))
    lines += [
        ("256 rerank 10 index.scan", scan(index, queries, dim=256, rerank=10), "256 bare", {}),
        (
            "256 rerank 10 cookbook",
            cookbook(wide, wide_queries, 256, 10),
            "256 rerank 10 index.scan",
            {},
        ),
    ]
    seconds = alternate({name: way for name, way, _, _ in lines}, rounds)
    medians = {name: median_ms(spent) for name, spent in seconds.items()}
    table, held = [], True
    for name, _, against, required in lines:
        row = [name, f"{medians[name]:.2f}", f"{min(seconds[name]) * 1e3:.2f}"]
        if against is not None:
            # Of the bare products, mapped and in memory, the faster counts.
            base = min(median for other, median in medians.items() if other.startswith(against))
            ratio = medians[name] / base
            said = verdict(ratio, **required)
            held = held and "MISSED" not in said
            row += [f"{ratio:.2f} × {against}", f"{medians[f'{full} index.scan'] / medians[name]:.1f}", said]
        else:
            row += ["", f"{medians[f'{full} index.scan'] / medians[name]:.1f}", ""]
        table.append(row)
    show(("one query", "median ms", "best ms", "ratio", "× full", "required"), table)
    print(disturbed(seconds))
    return held


def unstored(index: Index, queries: NDArray[np.float32], rounds: int) -> None:
    """A dimension that has no file: the first query makes reciprocal lengths, the others use them."""
    dim = next(dim for dim in (300, 200, 100, 50) if dim < index.full_dim)
    first = []
    for i in range(5):
        with open_index(index.folder, engine="numpy") as fresh:
            begin = time.perf_counter()
            fresh.scan(queries[i, None], k=K, dim=dim)
            first.append(time.perf_counter() - begin)
    ask = scan(index, queries, dim=dim)
    ask(0)
    later = alternate({"later": ask}, rounds)["later"]
    print(
        f"an unstored dimension, {dim}: the first query {statistics.median(first) * 1e3:.1f} ms, "
        f"each further one {median_ms(later):.2f} ms\n"
    )


def batches(index: Index, queries: NDArray[np.float32], rounds: int) -> None:
    """A batch of queries in one call, per query."""
    some = queries[:BATCH]
    rows = np.load(index.folder / f"{index.full_dim}.npy", mmap_mode="r").view(np.ndarray)
    small = np.load(index.folder / "256.npy", mmap_mode="r").view(np.ndarray)
    ways: dict[str, Way] = {
        "768 GEMM + argpartition": bare_batch(rows, vectors.truncate(some, index.full_dim)),
        "768 index.scan": lambda i: index.scan(some, k=K),
        "256 GEMM + argpartition": bare_batch(small, vectors.truncate(some, 256)),
        "256 index.scan": lambda i: index.scan(some, k=K, dim=256),
        "256 rerank 10 index.scan": lambda i: index.scan(some, k=K, dim=256, rerank=10),
    }
    seconds = alternate(ways, rounds, warm_up=1)
    table = []
    for name, spent in seconds.items():
        base = median_ms(seconds[f"{name[:3]} GEMM + argpartition"])
        ratio = "" if "GEMM" in name else f"{median_ms(spent) / base:.2f} × GEMM"
        table.append((name, f"{median_ms(spent) / len(some):.3f}", ratio, ""))
    show((f"batch of {len(some)}, per query", "median ms", "ratio", ""), table)


def adversarial(rounds: int) -> bool:
    """Rows that int8 cannot tell apart: exact gives up on it, and may cost 1.2 times what the floats do."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1, 768), np.float32) + rng.standard_normal((50_000, 768), np.float32) * 0.01
    rows = vectors.normalise(rows)
    parts = Parts([View(rows, 768, None, Tier(*quantise(rows), 768))])
    compile_kernels()
    engine = load_engine(thread_count())
    asked = vectors.normalise(rows[:1] + rng.standard_normal((1, 768), np.float32) * np.float32(0.02))
    ways: dict[str, Way] = {
        "float32": lambda i: engine.scan(parts, "float32", asked, K),
        "exact": lambda i: engine.scan(parts, "exact", asked, K),
    }
    seconds = alternate(ways, rounds)
    medians = {name: median_ms(spent) for name, spent in seconds.items()}
    ratio = medians["exact"] / medians["float32"]
    said = verdict(ratio, at_most=1.2)
    by = engine.scan(parts, "exact", asked, K).by
    print(
        f"50,000 rows that int8 cannot tell apart: exact {medians['exact']:.2f} ms (read: {by}), float32 "
        f"{medians['float32']:.2f} ms = {ratio:.2f} {said}\n"
    )
    return "MISSED" not in said


def main() -> int:
    """Measure and print; 1 if something required is missed."""
    parser = parser_of(__doc__)
    add_given(parser, rounds=40)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows, made_of = given_vectors(args.vectors, args.rows)
        queries = given_queries(args.queries, rows)
        made = index_of_matrix(rows, made_of, args.home or Path(temporary), "measured")
        made.close()
        index = open_index(made.folder, engine="numpy")
        del rows
        print(f"{index.rows:,} × {index.full_dim} ({made_of}), k {K}, {args.rounds} rounds; {machine()}\n")
        held = single_queries(index, queries, args.rounds)
        held = adversarial(args.rounds) and held
        unstored(index, queries, args.rounds)
        batches(index, queries, max(3, args.rounds // 8))
        index.close()
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
