"""That an index of millions of rows builds in little memory, and scans as fast as memory and disk allow.

    .venv/bin/python scripts/benchmarks/scale.py [--rows 2000000] [--vectors FILE.npy] [--folder DIR]

Makes so many rows of 768 (seeded; or takes the first of a file) on disk, and has `rsearch build vectors`
index a tenth of them and all of them, at 768 and 256 dimensions; prints the peaks of the memory of the
processes that build (RssAnon and RSS of /proc, every 20 ms). Then the same plans on both indexes, turn
about: the time may grow no faster than 1.1 times the rows do. Then a query whose index is not in the
page cache (dropped, and seen to be gone), in turn with a plain read of the same files by a mebibyte:
the scan must reach 80 % of its bytes a second. All rows take some 20 GB of disk in DIR (default: a
temporary folder), and nothing of them stays. Linux only; exit 1 when something required is missed.

    .venv/bin/python scripts/benchmarks/scale.py --sizes 100000,1000000,4000000

Builds and searches indexes of so many generated rows of 256 dimensions instead. Prints which fixed cost and
which cost of each row fit best for build time, disk, memory, an exact and a tuned query. Computed by them,
each figure must come out within 20 %. 4,000,000 rows take 12 GB of disk.

    .venv/bin/python scripts/benchmarks/scale.py --words articles/*.parquet --rows 1000000

Compares the lexical tier with SQLite's FTS5 and bm25s instead: so many documents of two sentences each, drawn
from these articles (columns title and text), and titles as queries, OR of their words. Each derives and
answers in a process of its own, on one thread. Times are CPU time, of a query the best of its rounds.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from _measure import (
    Watched,
    alternate,
    disturbed,
    disturbed_rows,
    drop,
    machine,
    median_ms,
    memory_mb,
    parser_of,
    read_bandwidth,
    read_seconds,
    scanned,
    show,
    verdict,
    watch,
)
from numpy.typing import NDArray

from resizable_search.engine.kernel_cache import compile_kernels
from resizable_search.engine.plan import BY_WORDS
from resizable_search.errors import RsearchError
from resizable_search.evaluate.timing import resident
from resizable_search.search.index import Index, open_index
from resizable_search.store.layout import NAMES
from resizable_search.store.lexical import derive_lexical
from resizable_search.system import size_of

WIDTH = 768
DIMS = f"{WIDTH},256"
BLOCK = 20_000
K = 10
MOST_ANONYMOUS_MB = 500
MOST_GROWTH = 1.1
LEAST_OF_DISK = 0.8
THREADS = 2
PLANS = (
    f"{WIDTH}",
    "256",
    f"256:100,{WIDTH}",
    f"{WIDTH}:1bit:200,{WIDTH}:int8:30,{WIDTH}",
    f"{WIDTH}:1bit:400,{WIDTH}:int8:30,{WIDTH}",
)
SIZED_WIDTH = 256
SIZED_PLANS = (f"{SIZED_WIDTH}", f"{SIZED_WIDTH}:1bit:400,{SIZED_WIDTH}")
MOST_OFF = 0.2
COLD_PLANS = (f"{WIDTH}", f"{WIDTH}:float32")


def write_rows(path: Path, rows: int, width: int = WIDTH, seed: int = 0) -> None:
    """Unit rows (rows, width) float32 around a thousand centres; each block has a seed of its own."""
    centres = np.random.default_rng(seed).standard_normal((1000, width), np.float32)
    with path.open("wb") as file:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(file, shape)
        for start in range(0, rows, BLOCK):
            rng = np.random.default_rng((seed, start))
            block = rng.standard_normal((min(BLOCK, rows - start), width), np.float32)
            block += centres[rng.integers(0, len(centres), len(block))]
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            block.tofile(file)


def build(rsearch: str, source: Path, home: Path, name: str, rows: int, dims: str = DIMS) -> Watched:
    """Have a process of its own index the first rows of a file, and watch its memory."""
    words = [rsearch, "build", "vectors", str(source), "--name", name, "--limit", str(rows)]
    words += ["--dims", dims, "--home", str(home)]
    begin = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            took = watch(process, begin)
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed with exit code {process.returncode}")
    return took


def builds(rsearch: str, source: Path, home: Path, rows: int) -> bool:
    """Build a tenth and all; whether the memory stays small."""
    lines, held = [], True
    for name, count in (("tenth", rows // 10), ("all", rows)):
        took = build(rsearch, source, home, name, count)
        said = verdict(took.peak_anonymous_mb, at_most=MOST_ANONYMOUS_MB)
        held = held and "MISSED" not in said
        figures = f"{took.seconds:.1f}", f"{count / took.seconds:,.0f}", f"{took.cpu_seconds:.1f}"
        memory = f"{took.peak_anonymous_mb:.0f}", f"{took.peak_mb:.0f}"
        lines.append((f"{count:,} × {WIDTH}", *figures, *memory, said))
    show(("build", "s", "rows/s", "CPU s", "peak RssAnon MB", "peak RSS MB", "RssAnon required"), lines)
    return held


def growth(small: Index, large: Index, queries: NDArray[np.float32], rounds: int) -> bool:
    """Time the same plans on both; whether the time grows no faster than the rows, nearly."""
    ways: dict[str, Callable[[int], object]] = {}
    small.warm()
    plans = []
    for plan in PLANS:
        try:
            for index in (small, large):
                index.scan(queries[:1], k=K, plan=plan)
        except RsearchError as error:
            print(f"{plan} is left out: {error}")
            continue
        plans.append(plan)
        for index in (small, large):
            ways[f"{index.name} {plan}"] = _scan(index, queries, plan)
    seconds = alternate(ways, rounds)
    print(f"\nengine: {large.warm()}, {THREADS} threads")
    lines, held = [], True
    factor = large.rows / small.rows
    for plan in plans:
        few, many = (median_ms(seconds[f"{index.name} {plan}"]) for index in (small, large))
        ratio = many / few / factor
        said = verdict(ratio, at_most=MOST_GROWTH)
        held = held and "MISSED" not in said
        path, read = scanned(large, plan)
        share = read / many * 1e3 / read_bandwidth(path, THREADS)
        traffic = f"{read / 1e6:.1f}", f"{share:.0%}"
        lines.append((plan, f"{few:.2f}", f"{many:.2f}", f"{ratio:.2f}", *traffic, said))
    headings = "plan", f"ms at {small.rows:,} rows", f"at {large.rows:,}", "growth / linear", "MB a query"
    show((*headings, "share of bandwidth", "growth required"), lines)
    if disturbed(seconds):
        print(disturbed(seconds))
    return held


def _scan(index: Index, queries: NDArray[np.float32], plan: str) -> Callable[[int], object]:
    return lambda i: index.scan(queries[i % len(queries), None], k=K, plan=plan)


def cold_scan(cold: str, other: str, plan: str, query_file: str) -> None:
    """Print as JSON the seconds of one scan of cold files, and the bytes of each in memory afterwards.

    It runs in a process of its own: nothing is mapped from before. The other index is asked first, so that
    code and threads are ready.
    """
    queries = np.load(query_file)
    with open_index(Path(other)) as index:
        index.warm()
        for query in queries[:3]:
            index.scan(query[None], plan=plan)
    folder = Path(cold)
    files = sorted(folder.rglob("*.npy"))
    with open_index(folder) as index:
        index.warm()
        drop(files)  # opening reads no more than headers
        begin = time.perf_counter()
        index.scan(queries[:1], plan=plan)
        seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "read": {str(path): resident(path) for path in files}}))


def cold(home: Path, queries: Path, rounds: int) -> bool:
    """Time scans from disk in turn with plain reads of what they read; whether they come near."""
    lines, held = [], True
    for plan in COLD_PLANS:
        scans, reads, nbytes = [], [], 0
        for _ in range(rounds):
            words = [__file__, "--cold-scan", str(home / "all"), str(home / "tenth")]
            found = json.loads(subprocess.check_output([sys.executable, *words, plan, str(queries)]))
            scans.append(found["seconds"])
            read = {Path(path): size for path, size in found["read"].items()}
            # Scanned from end to end; of the others, a few rows were fetched.
            whole = [path for path, size in read.items() if size > path.stat().st_size / 2]
            nbytes = sum(path.stat().st_size for path in whole)
            drop(whole)
            reads.append(read_seconds(whole))
            if sum(map(resident, whole)) < nbytes // 2:
                print("there is too little memory to keep the files: the plain read may be disturbed")
        scan, plain = float(np.median(scans)), float(np.median(reads))
        said = verdict(plain / scan, at_least=LEAST_OF_DISK)
        held = held and "MISSED" not in said
        speeds = f"{nbytes / scan / 1e6:,.0f}", f"{nbytes / plain / 1e6:,.0f}", f"{plain / scan:.2f}"
        lines.append((plan, f"{nbytes / 1e6:,.0f}", f"{scan:.2f}", *speeds, said))
    print()
    headings = "plan, cold", "MB read", "s", "MB/s", "plain read MB/s", "ratio", "required"
    show(headings, lines)
    return held


def write_texts(articles: Sequence[Path], rows: int, folder: Path) -> None:
    """Documents of two drawn sentences each, and a hundred titles as queries."""
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetDataset(articles).read(["title", "text"]).to_pydict()
    pieces = (re.split(r"(?<=[.!?])\s+", text) for text in table["text"])
    sentences = [piece for of_text in pieces for piece in of_text if len(piece) > 40]
    rng = random.Random(0)
    with (folder / "texts.jsonl").open("w", encoding="utf-8") as file:
        for row in range(rows):
            record = {"id": str(row), "text": " ".join(rng.sample(sentences, 2))}
            file.write(json.dumps(record) + "\n")
    (folder / "queries.json").write_text(json.dumps(rng.sample(table["title"], 100)))


def words_by_tier(folder: Path, rows: int) -> Callable[[str], object]:
    """The lexical tier of an index that is there already, derived again."""
    (folder / "tier" / NAMES.tiers).mkdir(parents=True)
    derive_lexical(folder / "home" / "texts", folder / "tier", rows)
    index = open_index(folder / "home" / "texts")
    nothing = np.zeros((1, index.full_dim), np.float32)
    return lambda query: index.run(nothing, BY_WORDS, K, texts=[query])


def words_by_fts5(folder: Path, rows: int) -> Callable[[str], object]:
    """SQLite's FTS5 without a copy of the texts."""
    (folder / "fts5").mkdir()
    database = sqlite3.connect(folder / "fts5" / "words.sqlite")
    database.execute("CREATE VIRTUAL TABLE words USING fts5(text, content='')")
    database.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(texts_of(folder)))
    database.execute("INSERT INTO words (words) VALUES ('optimize')")
    database.commit()
    question = f"SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT {K}"

    def ask(query: str) -> object:
        quoted = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query))
        return database.execute(question, (quoted,)).fetchall()

    return ask


def words_by_bm25s(folder: Path, rows: int) -> Callable[[str], object]:
    """bm25s with its numba kernels, mapped from disk."""
    import bm25s

    made = bm25s.BM25(k1=0.9, b=0.4)
    made.index(
        bm25s.tokenize(list(texts_of(folder)), stopwords=None, show_progress=False), show_progress=False
    )
    made.save(folder / "bm25s", show_progress=False)
    del made
    found = bm25s.BM25.load(folder / "bm25s", mmap=True)
    found.backend = "numba"

    def ask(query: str) -> object:
        tokens = bm25s.tokenize([query], stopwords=None, return_ids=False, show_progress=False)
        return found.retrieve(tokens, k=K, show_progress=False)

    return ask


def texts_of(folder: Path) -> Iterator[str]:
    """The texts of the documents, in order."""
    with (folder / "texts.jsonl").open(encoding="utf-8") as file:
        yield from (json.loads(line)["text"] for line in file)


WORDS = {"tier": words_by_tier, "fts5": words_by_fts5, "bm25s": words_by_bm25s}


def words_of_one(name: str, folder: Path, rows: int, rounds: int) -> None:
    """Print as JSON what deriving took, and the best CPU milliseconds of each query."""
    begin = time.process_time()
    ask = WORDS[name](folder, rows)
    seconds = time.process_time() - begin
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1e3
    queries = json.loads((folder / "queries.json").read_text())
    ask(queries[0])
    best = [float("inf")] * len(queries)
    for _ in range(rounds):
        for number, query in enumerate(queries):
            begin = time.process_time()
            ask(query)
            best[number] = min(best[number], (time.process_time() - begin) * 1e3)
    print(json.dumps({"seconds": seconds, "peak_mb": peak, "ms": best}))


def words(args: argparse.Namespace, folder: Path) -> bool:
    """Compare what searches by words."""
    write_texts(args.words, args.rows, folder)
    np.save(folder / "texts.npy", np.ones((args.rows, 2), np.float32))
    words = [args.rsearch, "build", "vectors", str(folder / "texts.npy"), "--home", str(folder / "home")]
    subprocess.check_call([*words, "--documents", str(folder / "texts.jsonl")], stdout=subprocess.DEVNULL)
    lines = []
    for name in WORDS:
        of_one = [__file__, "--words-of", name, str(folder), str(args.rows), str(args.rounds)]
        found = json.loads(subprocess.check_output([sys.executable, *of_one]))
        middle, high = np.percentile(found["ms"], (50, 95))
        size = size_of(folder / name) / 1e6
        figures = f"{found['seconds']:.0f}", f"{found['peak_mb']:,.0f}", f"{size:,.0f}"
        lines.append((name, *figures, f"{middle:.1f}", f"{high:.1f}"))
    print(f"{args.rows:,} documents of two sentences; {machine('bm25s')}; sqlite {sqlite3.sqlite_version}\n")
    show(("words by", "CPU s to derive", "peak MB", "MB on disk", "p50 ms", "p95 ms"), lines)
    return True


def search_sizes(home: Path, query_file: str, rounds: int, names: Sequence[str]) -> None:
    """Print as JSON, for each index, the MB that its first queries add to this process, and medians in ms.

    It runs in a process of its own. The indexes take turns, so that what disturbs one disturbs all.
    """
    queries = np.load(query_file)
    ways: dict[str, Callable[[int], object]] = {}
    found: list[dict[str, float]] = []
    with ExitStack() as stack:
        for name in (names[0], *names):  # the first one twice: then code and threads are ready
            index = stack.enter_context(open_index(home / name, threads=THREADS))
            index.warm()
            before = memory_mb(os.getpid())[1]
            for plan in SIZED_PLANS:
                index.scan(queries[:1], k=K, plan=plan)
                ways[f"{name} {plan}"] = _scan(index, queries, plan)
            found.append({"memory MB": memory_mb(os.getpid())[1] - before})
        seconds = alternate(ways, rounds)
    for name, of_one in zip(names, found[1:], strict=True):
        of_one |= {f"ms, {plan}": median_ms(seconds[f"{name} {plan}"]) for plan in SIZED_PLANS}
    print(json.dumps([found[1:], disturbed(seconds)]))


def sizes(args: argparse.Namespace, folder: Path) -> bool:
    """Build and search indexes of several sizes; whether a fixed cost and one of each row tell all of it."""
    home, source, query_file = folder / "home", folder / "rows.npy", folder / "queries.npy"
    counts = [int(count) for count in args.sizes.split(",")]
    write_rows(source, counts[-1], SIZED_WIDTH)
    np.save(query_file, disturbed_rows(np.load(source, mmap_mode="r")[: counts[0]], 100))
    compile_kernels()
    print(f"generated rows of {SIZED_WIDTH} dimensions; {machine()}\n")
    figures: list[dict[str, float]] = []
    for count in counts:
        took = build(args.rsearch, source, home, str(count), count, str(SIZED_WIDTH))
        figures.append({"build s": took.seconds, "disk MB": size_of(home / str(count)) / 1e6})
    words = [__file__, "--search-sizes", str(home), str(query_file), str(args.rounds), *map(str, counts)]
    searched, remark = json.loads(subprocess.check_output([sys.executable, *words]))
    figures = [of_build | of_search for of_build, of_search in zip(figures, searched, strict=True)]
    rows = np.array(counts) / 1e6
    lines, held = [], True
    for name in figures[0]:
        measured = np.array([figure[name] for figure in figures])
        weights = np.stack([1 / measured, rows / measured], axis=1)  # so that the relative errors are least
        (fixed, each), *_ = np.linalg.lstsq(weights, np.ones(len(rows)))
        for count, found, computed in zip(counts, measured, fixed + each * rows, strict=True):
            said = verdict(abs(computed / found - 1), at_most=MOST_OFF)
            held = held and "MISSED" not in said
            figures_of_one = f"{found:,.2f}", f"{computed:,.2f}", f"{computed / found - 1:+.0%}"
            arithmetic = f"{fixed:.2f} + {each:,.1f} × millions"
            lines.append((name, arithmetic, f"{count:,}", *figures_of_one, said))
    show(("what", "arithmetic", "rows", "measured", "computed", "off", "required"), lines, left=2)
    print(remark)
    return held


def measure(args: argparse.Namespace, folder: Path) -> bool:
    """Make, build and measure everything in a folder."""
    source, home, query_file = folder / "rows.npy", folder / "home", folder / "queries.npy"
    if args.vectors is None:
        begin = time.perf_counter()
        write_rows(source, args.rows)
        print(f"{args.rows:,} generated rows, {time.perf_counter() - begin:.1f} s; {machine()}\n")
    else:
        source = args.vectors
        print(f"the first {args.rows:,} rows of {source.name}; {machine()}\n")
    compile_kernels()
    stored = np.load(source, mmap_mode="r")
    rng = np.random.default_rng(1)
    queries = stored[np.sort(rng.integers(0, args.rows // 10, 100))]
    queries += rng.standard_normal(queries.shape, np.float32) * np.float32(0.02)
    np.save(query_file, queries)
    del stored
    held = [builds(args.rsearch, source, home, args.rows)]
    if args.vectors is None:
        source.unlink()  # the index has them
    with (
        open_index("tenth", home=home, threads=THREADS) as small,
        open_index("all", home=home, threads=THREADS) as large,
    ):
        held.append(growth(small, large, queries, args.rounds))
    del small, large  # and with them their maps, or the files would stay in memory
    held.append(cold(home, query_file, args.cold_rounds))
    return all(held)


def main() -> int:
    """Measure and print; 1 if something required is missed."""
    parser = parser_of(__doc__)
    rsearch = str(Path(sysconfig.get_path("scripts")) / "rsearch")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--vectors", type=Path, help=f"(n, {WIDTH}) float32 .npy; default: generated rows")
    parser.add_argument("--rounds", type=int, default=20, help="of warm scans (default: %(default)s)")
    parser.add_argument("--cold-rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to work (default: the system's temporary folder)")
    parser.add_argument("--rsearch", default=rsearch, help="the command (default: this environment's)")
    parser.add_argument("--words", nargs="+", type=Path, help="Parquet of articles: compare words instead")
    parser.add_argument("--sizes", help="compare indexes of these sizes, such as 100000,1000000,4000000")
    parser.add_argument("--search-sizes", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--cold-scan", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--words-of", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.words_of:
        name, folder, *counts = args.words_of
        words_of_one(name, Path(folder), *map(int, counts))
        return 0
    if args.search_sizes:
        home, query_file, rounds, *names = args.search_sizes
        search_sizes(Path(home), query_file, int(rounds), names)
        return 0
    if args.cold_scan:
        cold_scan(*args.cold_scan)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or gigabytes would stay behind
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        # The rows, the index, its tenth, and what a build adds for a while.
        needed = 4 * 4 * args.rows * WIDTH
        if shutil.disk_usage(temporary).free < needed:
            parser.error(f"{temporary} has less than {needed / 1e9:.0f} GB free: give another with --folder")
        held = (words if args.words else sizes if args.sizes else measure)(args, Path(temporary))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
