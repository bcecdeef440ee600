"""The compiled loops: scans of ranges of rows that collect candidates, and the rescoring of given rows.

They release the GIL and run on our own threads, each on its own rows or queries. Queries only load them
(`kernel_cache`). Each kernel has one signature, so its parameters have no annotations. `table` names the
arrays of all parts by address (`engine.parts`), so that one call scans the rows of all parts.

Buffers hold the candidates of one query on one thread: rows with a key each, and a bound below which no row
matters any more. Buffers of several threads are (threads, queries, capacity) arrays.
"""

from typing import Any

from numba import types

from resizable_search.engine.kernels.four_bit import scan_four_bit
from resizable_search.engine.kernels.one_bit import (
    best_words,
    rescore_one_bit,
    scan_one_bit,
    search_one_bit,
)
from resizable_search.engine.kernels.rows import rescore_exact, rescore_int8, truncate
from resizable_search.engine.kernels.scan import scan_int8, survivors


def _signatures() -> dict[Any, Any]:
    """Each kernel, and the signature that it is compiled and called with."""

    def array(kind, axes):
        return types.Array(kind, axes, "C")

    i64, u64, f32, f64 = types.int64, types.uint64, types.float32, types.float64
    table = rows = array(i64, 2)
    queries = array(f32, 2)
    counts = array(i64, 1)
    best = queries, rows
    one_lower, one_candidates = (array(f64, 2), counts), (array(i64, 2), array(f64, 2), counts)
    lower, candidates = (array(f64, 3), array(i64, 2)), (array(i64, 3), array(f64, 3), array(i64, 2))
    return {
        scan_int8: (
            table, i64, types.boolean, queries, counts, i64, i64, i64, *one_lower, *one_candidates,
        ),
        scan_one_bit: (table, i64, queries, counts, i64, i64, array(u64, 2)),
        search_one_bit: (table, i64, i64, i64, table, i64, queries, *best),
        best_words: (array(u64, 3), *best),
        rescore_one_bit: (table, i64, queries, rows, *best),
        scan_four_bit: (
            table, i64, queries, array(f64, 1), counts, i64, i64, i64, *one_lower, *one_candidates,
        ),
        survivors: (*lower, *candidates),
        truncate: (queries, i64, queries),
        rescore_exact: (table, i64, queries, rows, *best),
        rescore_int8: (table, i64, types.boolean, queries, rows, *best),
    }  # fmt: skip


SIGNATURES = _signatures()
