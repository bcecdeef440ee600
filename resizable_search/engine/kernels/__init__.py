"""The compiled loops: int8 products and sign bits over ranges of rows, with the best kept as they pass.

They release the GIL and run on our own threads, each over its own range or its own queries. They are
compiled by `warm.compile_kernels` and only loaded by queries. Each kernel has one signature. The arrays of
an index come as a table of its parts with their addresses (`engine.parts`), so that one call goes through
the rows of all parts.

A *pool* is what one thread holds of one query: candidate rows with a key each, and a bound below which
nothing matters any more. Pools of several threads are (threads, queries, capacity) arrays.
"""

from typing import Any

from numba import types

from resizable_search.engine.kernels.bits import best_by_count, rescore_best_by_count, rescore_bits, scan_bits
from resizable_search.engine.kernels.floats import scan_floats
from resizable_search.engine.kernels.int8 import best_of_pools, rescore, scan_int8
from resizable_search.engine.kernels.rows import (
    quantise_queries,
    rescore_exact,
    rescore_int8,
    rescore_narrowed,
    truncate,
)


def _signatures() -> dict[Any, Any]:
    """Each kernel, and the one signature that it is compiled and called with."""

    def given(kind: Any, axes: int) -> Any:
        return types.Array(kind, axes, "C", readonly=True)

    def scratch(kind: Any, axes: int) -> Any:
        return types.Array(kind, axes, "C")

    i16, i64, u64 = types.int16, types.int64, types.uint64
    f32, f64, flag = types.float32, types.float64, types.boolean
    parts = scratch(i64, 2)
    integers = scratch(i16, 2)
    per_query, counts = scratch(f64, 1), scratch(i64, 1)
    rows = scratch(i64, 2)
    answer = (scratch(f64, 2), scratch(i64, 2), scratch(i64, 1))
    pools = (scratch(i64, 3), scratch(f64, 3), scratch(i64, 2))
    one_pool = (scratch(i64, 2), scratch(f64, 2), counts)
    words = (given(u64, 1), scratch(u64, 2))
    asked = (integers, per_query, per_query, per_query)
    return {
        scan_int8: (
            parts, i64, *asked, flag, i64, i64, i64, i64, scratch(f64, 2), counts, *one_pool,
        ),
        scan_floats: (
            parts, i64, scratch(f32, 2), f64, i64, i64, i64, i64, scratch(f64, 2), counts, *one_pool,
        ),
        scan_bits: (parts, i64, *words, i64, i64, i64, scratch(i64, 2), *one_pool),
        best_of_pools: (*pools, scratch(f64, 3), scratch(i64, 2), *answer),
        best_by_count: (*pools, scratch(i64, 3), i64, *answer),
        rescore: (parts, i64, scratch(f32, 2), *pools, scratch(f64, 3), scratch(i64, 2), *answer),
        truncate: (scratch(f32, 2), i64, scratch(f32, 2)),
        quantise_queries: (scratch(f32, 2), integers, per_query, per_query, per_query),
        rescore_exact: (parts, i64, scratch(f32, 2), rows, *answer),
        rescore_narrowed: (parts, i64, scratch(f32, 2), *asked, rows, *answer),
        rescore_best_by_count: (
            *pools, scratch(i64, 3), i64, *answer, parts, i64, scratch(f32, 2), *asked, *answer,
        ),
        rescore_int8: (parts, i64, integers, per_query, rows, *answer),
        rescore_bits: (parts, i64, *words, rows, *answer),
    }  # fmt: skip


SIGNATURES = _signatures()

__all__ = [
    "SIGNATURES",
    "best_by_count",
    "best_of_pools",
    "quantise_queries",
    "scan_bits",
    "scan_floats",
    "scan_int8",
    "rescore_best_by_count",
    "rescore_bits",
    "rescore_exact",
    "rescore_int8",
    "rescore_narrowed",
    "rescore",
    "truncate",
]
