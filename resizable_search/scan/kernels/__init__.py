"""The compiled loops: int8 products and sign bits over ranges of rows, with the best kept as they pass.

They release the GIL and run on our own threads, each over its own range or its own queries. They are
compiled by `warm.compile_kernels` and only loaded by queries. Each kernel has one signature; arrays of
the index are read-only, scratch space is not.

A *pool* is what one thread holds of one query: candidate rows with a key each, and a bound below which
nothing matters any more. Pools of several threads are (threads, queries, capacity) arrays.
"""

from typing import Any

from numba import types

from resizable_search.scan.kernels.bits import best_by_count, rescore_bits, scan_bits
from resizable_search.scan.kernels.chains import rescore_best_by_count
from resizable_search.scan.kernels.int8 import best_of_pools, scan_int8, settle
from resizable_search.scan.kernels.rows import (
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

    i8, i16, i64, u8, u64 = types.int8, types.int16, types.int64, types.uint8, types.uint64
    f32, f64, flag = types.float32, types.float64, types.boolean
    stored, scales, allowed = given(f32, 2), given(f32, 1), given(u8, 1)
    integers = scratch(i16, 2)
    per_query, counts = scratch(f64, 1), scratch(i64, 1)
    answer = (scratch(f64, 2), scratch(i64, 2), scratch(i64, 1))
    pools = (scratch(i64, 3), scratch(f64, 3), scratch(i64, 2))
    one_pool = (scratch(i64, 2), scratch(f64, 2), counts)
    words = (given(u64, 1), scratch(u64, 2))
    return {
        scan_int8: (
            given(i8, 2), scales, scales, allowed, i64, integers, per_query, per_query, per_query, flag,
            i64, i64, i64, i64, scratch(f64, 2), counts, *one_pool,
        ),
        scan_bits: (
            given(u64, 2), allowed, i64, *words, i64, i64, i64, scratch(i64, 2), *one_pool,
        ),
        best_of_pools: (*pools, scratch(f64, 3), scratch(i64, 2), *answer),
        best_by_count: (*pools, scratch(i64, 3), i64, *answer),
        settle: (stored, i64, scratch(f32, 2), *pools, scratch(f64, 3), scratch(i64, 2), *answer),
        truncate: (scratch(f32, 2), i64, scratch(f32, 2)),
        quantise_queries: (scratch(f32, 2), integers, per_query, per_query, per_query),
        rescore_exact: (stored, i64, scratch(f32, 2), scratch(i64, 2), i64, *answer),
        rescore_narrowed: (
            stored, given(i8, 2), scales, scales, i64, scratch(f32, 2), integers, per_query, per_query,
            per_query, scratch(i64, 2), i64, *answer,
        ),
        rescore_best_by_count: (
            *pools, scratch(i64, 3), i64, *answer, stored, given(i8, 2), scales, scales, i64,
            scratch(f32, 2), integers, per_query, per_query, per_query, *answer,
        ),
        rescore_int8: (given(i8, 2), scales, i64, integers, per_query, scratch(i64, 2), i64, *answer),
        rescore_bits: (given(u64, 2), i64, *words, scratch(i64, 2), i64, *answer),
    }  # fmt: skip


SIGNATURES = _signatures()

__all__ = [
    "SIGNATURES",
    "best_by_count",
    "best_of_pools",
    "quantise_queries",
    "scan_bits",
    "scan_int8",
    "rescore_best_by_count",
    "rescore_bits",
    "rescore_exact",
    "rescore_int8",
    "rescore_narrowed",
    "settle",
    "truncate",
]
