"""What `where` costs: single queries over 100,000 x 768 at several selectivities.

    .venv/bin/python scripts/where_speed.py [--vectors FILE.npy --queries FILE.npy] [--rounds 40]

Prints medians of single queries in milliseconds, k = 10, one process, the ways turn about: the unfiltered
query, ours with `where`, and a plain numpy way (a product with the rows of the mask, argpartition, a sort of
k). The expression's rows are kept after its first use; what that costs is printed beside it. Without
--vectors, random clustered ones stand in; an index that --home holds is used again.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from _measure import (
    add_given,
    alternate,
    given_queries,
    given_vectors,
    index_of_matrix,
    machine,
    median_ms,
    parser_of,
)

K = 10
SHARES = (0.001, 0.01, 0.1, 0.9)


def main() -> None:
    """Measure."""
