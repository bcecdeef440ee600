"""What the service makes of many clients: requests a second over HTTP beside the same scan in the process.

    .venv/bin/python scripts/benchmarks/load.py [--vectors FILE.npy --queries FILE.npy] [--clients 64]

Serves an index of 100,000 x 768 with `rsearch serve`, and has wrk (a program of its own; Debian: apt
install wrk) ask single queries, k = 10, over kept connections, exact and by the plan that is tuned for a
recall of 0.99. The rival is `Index.scan` called with one query at a time in one process, on the same
cores, before and after each run, the better of both: a scan alone, without documents, JSON or HTTP. For
information also the same scans by 64 queries at once, which is what the service makes of clients that wait
for it. Query vectors come from the cache, as those of texts that were asked before; the last two lines are
of another index of as many rows at 256 dimensions, whose embedder is on this machine: with the same texts
again and again, and with texts that are each asked once, so that each is embedded. Memory is the service's
anonymous memory, after the first fifth of the run and at its end.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _measure import (
    add_given,
    clustered,
    given_queries,
    given_vectors,
    index_of_matrix,
    machine,
    memory_mb,
    parser_of,
    show,
    verdict,
)
from numpy.typing import NDArray

from resizable_search.evaluate.tune import tune
from resizable_search.search.index import Index
from resizable_search.search.planning import SearchOptions
from resizable_search.search.query_embedder import QueryCache
from resizable_search.specs import EmbedderSpec
from resizable_search.store.layout import Home

K = 10
LEAST_SHARE = 0.7
TOGETHER = 64
ALONE_SECONDS = 5.0
TEXTS = 200_000  # texts that are each asked once: more than the service answers in a run
WORDS = ("river", "stone", "history", "first", "train", "small", "mountain", "city", "music", "paper")

LUA = """
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local n = os.time() * 7919
request = function()
  n = n + 1
  local headers = {["Content-Type"] = "application/json"}
  return wrk.format("POST", "/api/v1/search", headers, bodies[n %% #bodies + 1])
end
done = function(summary, latency, requests)
  local e = summary.errors
  local errors = e.status + e.connect + e.read + e.write + e.timeout
  io.write(string.format("FOUND %%d %%f %%f %%f %%d\\n", summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, errors))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk counted, and the service's anonymous memory in MB early in the run and at its end."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int
    early_mb: float
    late_mb: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    add_given(parser, rounds=1)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=30)
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not there: install it (Debian: apt install wrk)")
    with tempfile.TemporaryDirectory() as temporary:
        home = args.home or Path(temporary)
        rows, made_of = given_vectors(args.vectors, args.rows)
        queries = given_queries(args.queries, rows, 1000)
        index = index_of_matrix(rows, made_of, home, "measured")
        texts = cached(index, queries, Home(home))
        engine = index.warm()
        tune(index, 0.99, k=K)
        index.plans.read_again()
        words = index_of_matrix(clustered(args.rows, 256), "words.npy", home, "words", embedder="wordllama")
        fewer, distinct = (texts_of(count, np.random.default_rng(2)) for count in (len(texts), TEXTS))
        embedded = words.embed_queries(fewer)
        what = f"{index.rows:,} × {index.full_dim} ({made_of}), k {K}, {engine}"
        print(f"{what}; {args.clients} clients; {machine()}\n")
        plan = index.plan(SearchOptions(K, recall=0.99))
        ways: list[tuple[str, Index, NDArray[np.float32], list[str], dict[str, Any]]] = [
            (f"recall 0.99 ({plan})", index, queries, texts, {"recall": 0.99}),
            ("exact", index, queries, texts, {}),
            ("exact, 256 dimensions", words, embedded, fewer, {}),
            ("exact, 256 dimensions, embedded", words, embedded, distinct, {}),
        ]
        lines = []
        for name, asked, vectors, asks, options in ways:
            one = partial(scan, asked, vectors, 1, options)
            alone, many = rate(one), TOGETHER * rate(partial(scan, asked, vectors, TOGETHER, options))
            found = served(home, asked.name, asks, options, args.clients, args.seconds)
            alone = max(alone, rate(one))
            lines.append(
                [
                    name,
                    f"{found.rate:,.0f}",
                    f"{found.p50_ms:.1f}",
                    f"{found.p99_ms:.1f}",
                    str(found.errors),
                    f"{found.early_mb:.0f}",
                    f"{found.late_mb:.0f}",
                    f"{alone:,.0f}",
                    f"{many:,.0f}",
                    f"{found.rate / alone:.2f} {verdict(found.rate / alone, at_least=LEAST_SHARE)}",
                ]
            )
        show(
            [
                "search",
                "requests/s",
                "p50",
                "p99 ms",
                "errors",
                "MB early",
                "MB late",
                "scans/s",
                "of 64",
                "share",
            ],
            lines,
        )


def cached(index: Index, queries: NDArray[np.float32], home: Home) -> list[str]:
    """Texts whose vectors these are, as if they had been asked before."""
    texts = [f"query {number}" for number in range(len(queries))]
    fingerprint = EmbedderSpec.from_json(index.manifest.embedder).fingerprint
    QueryCache(home.queries).put(fingerprint, dict(zip(texts, queries, strict=True)))
    return texts


def texts_of(count: int, rng: np.random.Generator) -> list[str]:
    """So many texts of a few words that no other text has."""
    return [" ".join(WORDS[word] for word in rng.integers(0, len(WORDS), 8)) + f" {i}" for i in range(count)]


def scan(index: Index, queries: NDArray[np.float32], together: int, options: dict[str, Any], i: int) -> None:
    """The i-th scan of the rival, of so many queries at once."""
    start = i * together % (len(queries) - together)
    index.scan(queries[start : start + together], K, **options)


def rate(call: Callable[[int], object]) -> float:
    """How often a second a function can be called."""
    for i in range(3):
        call(i)
    count, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < ALONE_SECONDS:
        call(count)
        count += 1
    return count / spent


def served(
    home: Path, index: str, texts: list[str], options: dict[str, Any], clients: int, seconds: int
) -> Load:
    """Serve the home in a process of its own, and have wrk ask it."""
    command = [sys.executable, "-m", "resizable_search", "serve", "--home", str(home), "--port", "0"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            address = _address(process)
            bodies, script = Path(folder, "bodies"), Path(folder, "wrk.lua")
            asked = {"index": index, "k": K, **options}
            bodies.write_text("".join(json.dumps({"query": text, **asked}) + "\n" for text in texts))
            script.write_text(LUA % bodies)
            _wrk(script, address, clients, 3)
            memory: list[float] = []
            timer = threading.Timer(seconds / 5, lambda: memory.append(memory_mb(process.pid)[0]))
            timer.start()
            words = _wrk(script, address, clients, seconds)
            memory.append(memory_mb(process.pid)[0])
        finally:
            process.send_signal(signal.SIGTERM)
        count, spent, p50, p99, errors = map(float, words)
        return Load(int(count), spent, p50, p99, int(errors), memory[0], memory[-1])


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"at (http://\S+)", line):
            return found[1]
        print(line, end="", file=sys.stderr)
    sys.exit("the service did not start")


def _wrk(script: Path, address: str, clients: int, seconds: int) -> list[str]:
    ran = subprocess.run(
        ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "20s", "-s", script, address],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"^FOUND (.*)$", ran.stdout, re.M)
    if found is None:
        sys.exit(f"wrk said:\n{ran.stdout}{ran.stderr}")
    return found[1].split()


if __name__ == "__main__":
    main()
