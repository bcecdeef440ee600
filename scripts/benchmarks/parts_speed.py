"""How much slower an index of many parts is than the same one compacted.

    .venv/bin/python scripts/benchmarks/parts_speed.py [--rows 100000] [--dim 768] [--parts 10] [--rounds 60]

Builds an index of so many parts, copies it, compacts the copy, and asks both in turn, k = 10, one query
at a time, files in memory: medians in milliseconds of each plan, and their ratio, which may be 1.1 at
most. `undisturbed` is the ratio of the fastest tenths, which says more where others use the machine. The
two also have to give the same answers. Exit 1 if a ratio of medians is above that.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _measure import clustered, machine, parser_of

from resizable_search.build.build import build_vectors, compact
from resizable_search.build.workspace import BuildOptions
from resizable_search.engine.kernel_cache import compile_kernels
from resizable_search.search.index import Index, open_index
from resizable_search.store.layout import Home

K = 10
MOST = 1.1
PLANS = ("768", "256", "64", "256:100,768", "768:1bit:400,768", "768:1bit:400,768:int8:30,768", "768:float32")


def make(folder: Path, rows: int, parts: int, vectors: np.ndarray) -> tuple[Path, Path]:
    """An index of parts and a compacted copy of it: their folders."""
    np.save(folder / "rows.npy", vectors)
    home = Home(folder / "home")
    for number in range(1, parts + 1):
        build_vectors(folder / "rows.npy", home, BuildOptions("many", limit=rows * number // parts))
    (folder / "rows.npy").unlink()
    shutil.copytree(home.index("many"), home.index("one"))
    compact(home.index("one"))
    return home.index("many"), home.index("one")


def main() -> int:
    """Measure; 1 if many parts are too slow, or answer otherwise."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="(default: %(default)s)")
    parser.add_argument("--parts", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=60, help="queries of each (default: %(default)s)")
    parser.add_argument("--engine", default="numba", help="(default: %(default)s)")
    args = parser.parse_args()
    compile_kernels()
    bad = False
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        vectors = clustered(args.rows)
        queries = vectors[np.random.default_rng(1).integers(0, args.rows, args.rounds)]
        queries = queries + np.random.default_rng(2).standard_normal(queries.shape).astype(np.float32) * 0.02
        many, one = make(Path(temporary), args.rows, args.parts, vectors)
        del vectors
        with open_index(many, engine=args.engine) as split, open_index(one, engine=args.engine) as whole:
            split.warm()
            whole.warm()
            print(f"{args.rows:,} rows, {len(split.manifest.parts)} parts against one, {args.engine}, k {K}")
            print(f"{'plan':<30}{'parts ms':>10}{'one ms':>10}{'ratio':>8}{'undisturbed':>13}")
            for plan in PLANS:
                seconds: dict[Index, list[float]] = {split: [], whole: []}
                for query in queries:
                    answers = []
                    for index in (split, whole):
                        begin = time.perf_counter()
                        top = index.scan(query[None], k=K, plan=plan)
                        seconds[index].append(time.perf_counter() - begin)
                        answers.append(top)
                    bad |= not np.array_equal(answers[0].rows, answers[1].rows)
                    bad |= not np.array_equal(answers[0].scores, answers[1].scores)
                slow, fast = (float(np.median(seconds[index][5:])) * 1e3 for index in (split, whole))
                bad |= slow > MOST * fast
                low, least = (float(np.quantile(seconds[index][5:], 0.1)) for index in (split, whole))
                print(f"{plan:<30}{slow:>10.2f}{fast:>10.2f}{slow / fast:>8.2f}{low / least:>13.2f}")
    print(f"{'too slow, or other answers' if bad else 'within'} {MOST:g} times")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
