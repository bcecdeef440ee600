"""What `where` costs: single queries over 100,000 x 768 at several selectivities.

    .venv/bin/python scripts/benchmarks/where_speed.py [--vectors FILE.npy --queries FILE.npy] [--rounds 40]

Prints medians of single queries in milliseconds, k = 10, one process, the ways turn about: the unfiltered
query, ours with `where`, and two plain numpy ways (the rows of the mask gathered, or all of them masked
after the product; argpartition, a sort of k). The expression's rows are kept after its first use; what
finding them costs is printed beside it. Without --vectors, random clustered ones stand in; an index that
--home holds is used again.
"""

import tempfile
import time
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
)
from numpy.typing import NDArray

K = 10
SHARES = (0.001, 0.01, 0.1, 0.9)


def best(scores: NDArray[np.float32], rows: NDArray[Any] | None = None) -> NDArray[Any]:
    """The rows of the k best scores, as numpy finds them."""
    found = np.argpartition(scores, -K)[-K:]
    found = found[np.argsort(scores[found])[::-1]]
    return found if rows is None else rows[found]


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    add_given(parser, rounds=40)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows, made_of = given_vectors(args.vectors, args.rows)
        queries = given_queries(args.queries, rows)
        index = index_of_matrix(rows, made_of, args.home or Path(temporary), "measured")
        stored = np.load(index.folder / f"{index.full_dim}.npy")
        index.warm()
        print(f"{index.rows:,} × {index.full_dim} ({made_of}), k {K}, {args.rounds} rounds; {machine()}\n")
        lines, remark = [], ""
        for share in SHARES:
            where = f"CAST(substr(id, 4) AS INTEGER) % 1000 < {share * 1000:g}"
            begin = time.perf_counter()
            matching = index.check_where(where)
            first = (time.perf_counter() - begin) * 1e3
            mask = np.arange(index.rows) % 1000 < share * 1000
            chosen = np.flatnonzero(mask)

            def ask(i: int, where: str | None) -> object:
                return index.scan(queries[i % len(queries), None], k=K, where=where)

            spent = alternate(
                {
                    "unfiltered": lambda i: ask(i, None),
                    "where": lambda i, where=where: ask(i, where),
                    "gathered": lambda i, c=chosen: best(stored[c] @ queries[i % len(queries)], c),
                    "masked": lambda i, m=mask: best(
                        np.where(m, stored @ queries[i % len(queries)], np.float32(-np.inf))
                    ),
                },
                args.rounds,
            )
            remark = remark or disturbed(spent)
            lines.append(
                [f"{share:.1%}", f"{matching:,}", *(f"{median_ms(way):.2f}" for way in spent.values())]
                + [f"{first:.0f}"]
            )
        head = ["share", "rows", "unfiltered", "where", "numpy, rows gathered", "numpy, all, then masked"]
        show([*head, "first time: find the rows"], lines)
        if remark:
            print(remark)
        index.close()


if __name__ == "__main__":
    main()
