"""Two stages in one call: after a scan has emptied the caches of all else, each step in Python is dear."""

from typing import Any

from numba import njit

from resizable_search.scan.kernels.bits import best_by_count
from resizable_search.scan.kernels.rows import rescore_narrowed


@njit(nogil=True, cache=True)
def rescore_best_by_count(
    rows: Any,
    keys: Any,
    counts: Any,
    tallies: Any,
    bits_dim: int,
    kept_keys: Any,
    kept_rows: Any,
    kept_sizes: Any,
    parts: Any,
    dim: int,
    queries: Any,
    asked: Any,
    units: Any,
    factors: Any,
    bases: Any,
    out_keys: Any,
    out_rows: Any,
    sizes: Any,
) -> int:
    """`bits.best_by_count` into kept_… (m, keep), and `rows.rescore_narrowed` of those, in row order."""
    best_by_count(rows, keys, counts, tallies, bits_dim, kept_keys, kept_rows, kept_sizes)
    for query in range(kept_rows.shape[0]):
        kept_rows[query, kept_sizes[query] :] = -1
        kept_rows[query].sort()
    return rescore_narrowed(
        parts, dim, queries, asked, units, factors, bases, kept_rows, out_keys, out_rows, sizes
    )  # fmt: skip
