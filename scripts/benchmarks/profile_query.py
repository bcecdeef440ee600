"""Where the time of a query goes: in the kernels, around them, and in a one-shot command.

    .venv/bin/python scripts/benchmarks/profile_query.py [--vectors FILE.npy --queries FILE.npy]

For an exact scan, the cookbook's plan and plans of sign bits, one query at a time on 1 and 2 threads,
k = 10: the median query, how much of it is spent in each kernel (on whichever thread is longest in it),
what is left for Python, the bytes that the kernels' scan reads a second, and what share that is of what
plain reads of the same file get in the same run. Then a one-shot `rsearch query` whose embedding is
cached: the whole process, and what its imports take by package (python -X importtime). Without
--vectors, random clustered ones stand in; an index that --home holds is used again.
"""

import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from _measure import (
    add_given,
    given_queries,
    given_vectors,
    index_of_matrix,
    machine,
    parser_of,
    read_bandwidth,
    scanned,
    show,
)
from latency import NAME, TEXT, prepare
from numpy.typing import NDArray

from resizable_search.engine import kernels
from resizable_search.engine.kernel_cache import compile_kernels
from resizable_search.engine.numba_engine import NumbaEngine
from resizable_search.search.index import Index, open_index
from resizable_search.search.results import SearchOptions

K = 10
THREADS = (1, 2)
PLANS = (
    "768",
    "256:100,768",
    "768:bits:100,768",
    "512:bits:100,768:int8:20,768",
    "384:bits:200,768:int8:40,768",
)


class Clock:
    """Stands for the kernels and sums the seconds of each, by thread."""

    def __init__(self) -> None:
        self.spent: dict[tuple[str, int], float] = defaultdict(float)
        timed = {name: self._timed(name, getattr(kernels, name)) for name in kernels.__all__[1:]}
        self.kernels = SimpleNamespace(**timed)

    def _timed(self, name: str, kernel: Any) -> Any:
        def call(*arguments: Any) -> Any:
            begin = time.perf_counter()
            try:
                return kernel(*arguments)
            finally:
                self.spent[name, threading.get_ident()] += time.perf_counter() - begin

        return call

    def longest(self) -> dict[str, float]:
        """Seconds of each kernel on the thread that spent the most in it; what was summed is forgotten."""
        found: dict[str, float] = {}
        for (name, _), seconds in self.spent.items():
            found[name] = max(found.get(name, 0.0), seconds)
        self.spent.clear()
        return found


def plan_lines(
    index: Index, plan: str, queries: NDArray[np.float32], rounds: int, bandwidth: dict[Path, float]
) -> list[tuple[str, ...]]:
    """What one plan costs on the index's threads, a line for the whole and one for each part."""
    engine = NumbaEngine(index.threads)
    index.warm()
    clock = Clock()
    engine._kernels = clock.kernels  # type: ignore[assignment]  # a clock that calls them
    index._chooser._engine = engine
    for i in range(5):
        index.scan(queries[i % len(queries)], k=K, plan=plan)
    clock.longest()
    whole, parts = [], defaultdict(list)
    for i in range(rounds):
        begin = time.perf_counter()
        index.scan(queries[i % len(queries)], k=K, plan=plan)
        whole.append(time.perf_counter() - begin)
        for name, seconds in clock.longest().items():
            parts[name].append(seconds)
    total = statistics.median(whole)
    medians = {name: statistics.median(seconds) for name, seconds in parts.items()}
    path, read = scanned(index, plan)
    rate = read / next(seconds for name, seconds in medians.items() if name.startswith("scan"))
    bandwidth.setdefault(path, read_bandwidth(path, index.threads))
    lines = [(plan, str(index.threads), f"{total * 1e3:.3f}", "100 %", f"{read / 1e6:.1f} MB scanned")]
    for name, seconds in sorted(medians.items(), key=lambda item: -item[1]):
        said = ""
        if name.startswith("scan"):
            said = f"{rate / 1e9:.1f} GB/s, {rate / bandwidth[path]:.0%} of what plain reads get"
        lines.append((f"  {name}", "", f"{seconds * 1e3:.3f}", f"{seconds / total:.0%}", said))
    left = total - sum(medians.values())
    lines.append(("  Python and threads", "", f"{left * 1e3:.3f}", f"{left / total:.0%}", ""))
    return lines


def imports(command: list[str]) -> tuple[float, dict[str, float]]:
    """Median seconds of a whole process, and seconds of its imports by package, each without its own."""
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - begin)
    told = subprocess.run([sys.executable, "-X", "importtime", *command], capture_output=True, text=True)
    spent: dict[str, float] = defaultdict(float)
    for line in told.stderr.splitlines():
        if line.startswith("import time:") and "self [us]" not in line:
            own, _, module = line.removeprefix("import time:").split("|")
            spent[module.strip().split(".")[0]] += int(own) / 1e6
    return statistics.median(times), spent


def one_shot(home: Path) -> None:
    """Where the time of a one-shot query goes."""
    script = str(Path(sysconfig.get_path("scripts")) / "rsearch")
    command = [script, "query", TEXT, "--index", NAME, "--home", str(home)]
    whole, spent = imports(command)
    bare, _ = imports([sys.executable, "-c", "pass"])
    with open_index(NAME, home=home) as index:
        answer = index.search([TEXT], SearchOptions())[0]
    times = answer.timings_ms
    heaviest = sorted(spent.items(), key=lambda item: -item[1])
    rows = [("the whole process", f"{whole * 1e3:.0f}"), ("  Python's own start", f"{bare * 1e3:.0f}")]
    rows += [(f"  import {name}", f"{seconds * 1e3:.0f}") for name, seconds in heaviest[:8]]
    rest = sum(seconds for _, seconds in heaviest[8:])
    rows += [("  other imports", f"{rest * 1e3:.0f}"), ("  scan (numpy)", f"{times.scan:.0f}")]
    show(("one-shot `rsearch query`, embedding cached", "ms"), [(*row, "") for row in rows])


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    add_given(parser, rounds=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = args.home or Path(temporary)
        rows, made_of = given_vectors(args.vectors, args.rows)
        queries = given_queries(args.queries, rows)
        compile_kernels()
        index_of_matrix(rows, made_of, home, NAME).close()
        print(f"{len(rows):,} × 768 ({made_of}), k {K}, {args.rounds} rounds; {machine()}\n")
        lines = []
        for threads in THREADS:
            bandwidth: dict[Path, float] = {}
            with open_index(NAME, home=home, threads=threads, engine="numba") as index:
                for plan in PLANS:
                    lines += plan_lines(index, plan, queries, args.rounds, bandwidth)
        show(("plan", "threads", "ms", "share", ""), lines)
        prepare(home, args.vectors, args.rows)
        one_shot(home)


if __name__ == "__main__":
    main()
