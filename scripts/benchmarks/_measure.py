"""What the measuring scripts share: indexes of given vectors, interleaved timing, tables, the machine.

Watch the memory of a process that was started. Linux only.

Which files of an index a plan reads, as docs/format.md names them, and how fast memory gives them; what plans
keep and spend, stage by stage.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from resizable_search import __version__
from resizable_search.build.build import build_vectors
from resizable_search.build.workspace import BuildOptions
from resizable_search.engine.plan import Plan
from resizable_search.evaluate import timing as page_cache
from resizable_search.evaluate.bench import Queries
from resizable_search.evaluate.plan_space import FACTORS, MeasuredPlans, PlanSearch, first_stages
from resizable_search.progress import SILENT, Progress
from resizable_search.search.index import Index, open_index
from resizable_search.store.layout import Home

FILLER = "The canopy of a tree shades its trunk, and whoever counts its leaves begins at the root. "


def write_documents(path: Path, rows: int) -> None:
    """JSON lines with a made-up document of some 1,200 characters for each of so many rows."""
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            url = f"https://en.wikipedia.org/wiki/Article_{row}"
            text = f"{row} {FILLER * 13}"
            record = {"id": f"row{row}", "title": f"Article {row}", "url": url, "text": text}
            file.write(json.dumps(record) + "\n")


def index_of_matrix(
    rows: NDArray[np.float32],
    made_of: str,
    home: Path,
    name: str,
    progress: Progress = SILENT,
    embedder: str | None = None,
) -> Index:
    """An index of these full vectors (n, d), as they are adopted; one that is complete is opened again.

    `embedder`: the kind that embeds queries; None: texts cannot be embedded.
    """
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".") as folder:
        vectors, documents = Path(folder) / made_of, Path(folder) / "documents.jsonl"
        with vectors.open("wb") as file:
            np.save(file, rows)
        write_documents(documents, len(rows))
        options = BuildOptions(name)
        build_vectors(vectors, Home(home), options, documents=documents, embedder=embedder, progress=progress)
    return open_index(name, home=home)


def clustered(rows: int, width: int = 768, seed: int = 0) -> NDArray[np.float32]:
    """Random unit rows (rows, width) around a thousand centres: something to search if nothing is given."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((1000, width), np.float32)
    out = np.empty((rows, width), np.float32)
    for start in range(0, rows, 10_000):
        block = centres[rng.integers(0, 1000, min(10_000, rows - start))]
        block += rng.standard_normal(block.shape, np.float32)
        out[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return out


def given_vectors(path: Path | None, rows: int) -> tuple[NDArray[np.float32], str]:
    """The first `rows` vectors of a file, or random clustered ones; and what they are, for the output."""
    if path is None:
        return clustered(rows), f"{rows} random clustered vectors"
    found = np.load(path, mmap_mode="r")[:rows]
    return found, f"{path.name}, {len(found)} rows"


def disturbed_rows(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Some of these rows (n, d), a little disturbed, as queries (count, d)."""
    rng = np.random.default_rng(1)
    found: NDArray[np.float32] = rows[rng.integers(0, len(rows), count)]
    return found + rng.standard_normal(found.shape, np.float32) * np.float32(0.02)


def given_queries(path: Path | None, rows: NDArray[np.float32], count: int = 200) -> NDArray[np.float32]:
    """The queries of a file, (m, d) float32, or `count` disturbed rows."""
    return disturbed_rows(rows, count) if path is None else np.load(path).astype(np.float32)


class StageClock:
    """A progress that keeps the seconds of each stage of a build."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._stage, self._since = "", time.perf_counter()

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """A stage begins, and the one before it ends."""
        now = time.perf_counter()
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = name, now

    def advance(self, amount: int) -> None:
        """Nothing to keep."""

    def note(self, message: str) -> None:
        """Nothing to keep."""

    def seconds_of(self, stage: str) -> float:
        """The seconds of a stage; 0 if there was none."""
        self.stage("", None, "")
        return self._seconds.get(stage, 0.0)


def parser_of(docstring: str | None) -> argparse.ArgumentParser:
    """A script's arguments, its docstring as help."""
    return argparse.ArgumentParser(
        description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_given(
    parser: argparse.ArgumentParser, rounds: int, *, queries: bool = True, home: bool = True
) -> None:
    """What most scripts can be given: vectors, queries, how many rows and rounds, and where to keep them."""
    parser.add_argument("--vectors", type=Path, help="(n, d) float32 .npy; default: random clustered ones")
    if queries:
        parser.add_argument("--queries", type=Path, help="(m, d) float32 .npy; default: rows, disturbed")
    parser.add_argument("--rows", type=int, default=100_000, help="so many rows (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=rounds, help="(default: %(default)s)")
    if home:
        parser.add_argument("--home", type=Path, help="keep the index here, not in a folder that goes")


def alternate(
    ways: Mapping[str, Callable[[int], object]],
    rounds: int,
    warm_up: int = 2,
    before: Callable[[str], object] = lambda name: None,
    burst: int = 1,
) -> dict[str, list[float]]:
    """Call each way `burst` times a round, each time with the next number, turn about; each call's seconds.

    What disturbs the machine for a while disturbs all of them. They begin in another order each round.
    `before` is called with a way's name ahead of its calls of a round, and not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(-warm_up, rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            before(name)
            for call in range(burst):
                begin = time.perf_counter()
                ways[name](max(0, number) * burst + call)
                spent = time.perf_counter() - begin
                if number >= 0:
                    seconds[name].append(spent)
    return seconds


def median_ms(seconds: Sequence[float]) -> float:
    """The median in milliseconds."""
    return statistics.median(seconds) * 1e3


def disturbed(seconds: Mapping[str, Sequence[float]]) -> str:
    """A remark on figures that other work on the machine has spoilt, judged by median over best; else ''."""
    spread = statistics.median(statistics.median(spent) / min(spent) for spent in seconds.values())
    if spread < 1.3:
        return ""
    return f"the machine was busy (medians are {spread:.1f} times the best): measure again when it is quiet"


def verdict(ratio: float, *, at_most: float | None = None, at_least: float | None = None) -> str:
    """Whether a ratio is as required: 'ok (≤ 1.1)' or 'MISSED (≤ 1.1)'; '' where nothing is required."""
    if at_most is not None:
        return f"{'ok' if ratio <= at_most else 'MISSED'} (≤ {at_most:.3g})"
    if at_least is not None:
        return f"{'ok' if ratio >= at_least else 'MISSED'} (≥ {at_least:.3g})"
    return ""


def show(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print a table; the first `left` columns and the last are aligned left, figures right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for i, heading in enumerate(headings):
        is_text = i < left or i == len(headings) - 1
        table.add_column(heading, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=200, highlight=False, markup=False).print(table)


def machine(*packages: str) -> str:
    """One line on the machine and the versions that the figures belong to, of these packages if installed."""
    load = os.getloadavg()[0]
    installed = {distribution.name for distribution in distributions()}
    further = "".join(f", {package} {version(package)}" for package in packages if package in installed)
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}; Python {platform.python_version()}, "
        f"numpy {np.__version__}{further}, resizable_search {__version__}"
    )


SAMPLE_SECONDS = 0.02


@dataclass(slots=True)
class Watched:
    """What a process took: seconds, CPU seconds, and peaks of its memory in MB.

    `peak_anonymous_mb` leaves mapped files out, `peak_mb` has them.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_anonymous_mb: float = 0.0
    peak_mb: float = 0.0


def watch(process: "subprocess.Popen[str]", begin: float) -> Watched:
    """Follow a process that was started at `begin` (perf_counter) until it ends; sets its return code."""
    found = Watched()
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        anonymous, whole = memory_mb(process.pid)
        found.peak_anonymous_mb = max(found.peak_anonymous_mb, anonymous)
        found.peak_mb = max(found.peak_mb, whole)
        time.sleep(SAMPLE_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    found.seconds = time.perf_counter() - begin
    found.cpu_seconds = usage.ru_utime + usage.ru_stime
    return found


def memory_mb(pid: int) -> tuple[float, float]:
    """RssAnon and VmRSS of a process in MB; 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    anonymous, whole = (int(lines.get(name, "0 kB").split()[0]) for name in ("RssAnon", "VmRSS"))
    return anonymous * 1024 / 1e6, whole * 1024 / 1e6


REPEATS = 7
READERS = (np.add.reduce, np.bitwise_or.reduce, np.maximum.reduce)
TIERS = {"1bit": ("1bit",), "int8": ("int8", "scale"), "exact": ("int8", "scale", "error"), "float32": ()}


BUFFER = 1 << 20
MOST_RESIDENT = 0.01


def drop(paths: Sequence[Path]) -> None:
    """Drop files from the page cache; RuntimeError if much of one stays: some process has it mapped."""
    for path in paths:
        left = page_cache.drop([path])
        if left > MOST_RESIDENT and page_cache.resident(path) > BUFFER:
            raise RuntimeError(f"{left:.0%} of {path} stays in memory: some process has it mapped")


def read_seconds(paths: Sequence[Path]) -> float:
    """Seconds to read files one after the other, from begin to end, into a buffer of a mebibyte."""
    buffer = bytearray(BUFFER)
    begin = time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - begin


def stages(plan: str) -> list[tuple[int, str]]:
    """The dimension and the precision of each stage of a printed plan."""
    found = []
    for stage in plan.split(","):
        dim, *rest = stage.split(":")
        found.append((int(dim), rest[0] if rest and not rest[0].isdigit() else "exact"))
    return found


def files_of(index: Index, plan: str) -> list[Path]:
    """The files that a plan reads, in the order of its stages; the first is scanned from end to end."""
    found: dict[Path, None] = {}
    # numpy reads the floats for exact stages, compiled kernels the int8 codes and then some floats.
    floats = index.warm() == "numpy"
    for dim, precision in stages(plan):
        if floats and precision == "exact":
            precision = "float32"
        stored = stored_dim(index, dim, precision)
        for tier in TIERS[precision]:
            found[index.folder / "tiers" / f"{stored}.{tier}.npy"] = None
        if precision in ("exact", "float32"):
            found[index.folder / f"{stored}.npy"] = None
    return [path for path in found if path.exists()]


def stored_dim(index: Index, dim: int, precision: str) -> int:
    """The stored dimension that a stage reads; the one-bit codes of the full one serve every other."""
    return index.full_dim if precision == "1bit" else min(d for d in index.dims if d >= dim)


def scanned(index: Index, plan: str) -> tuple[Path, int]:
    """The file that a plan's first stage scans, and the bytes of it that a query reads."""
    dim, precision = stages(plan)[0]
    path = files_of(index, plan)[0]
    whole = np.load(path, mmap_mode="r").nbytes
    return path, whole * dim // stored_dim(index, dim, precision)


def read_bandwidth(path: Path, threads: int) -> float:
    """Bytes a second at which so many threads read a mapped file that is in memory: the best of several.

    The numbers of the file, as int64, are reduced to one by numpy: by whichever of READERS is fastest.
    """
    raw = np.memmap(path, np.uint8, mode="r")
    numbers = raw[: len(raw) // 8 * 8].view(np.ndarray).view(np.int64)
    parts: list[NDArray[np.int64]] = np.array_split(numbers, threads)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for reader in READERS:
            for _ in range(REPEATS):
                begin = time.perf_counter()
                list(pool.map(reader, parts))
                best = max(best, numbers.nbytes / (time.perf_counter() - begin))
    return best


Lines = list[tuple[str, ...]]

OTHER_MEMORY = np.zeros(64 << 20, np.uint8)
ASKED = 200  # queries of a profile


def bytes_by_file(index: Index) -> Lines:
    """A line for each kind of file of the index: megabytes, and bytes a row."""
    sizes: dict[str, int] = {}
    for part in index.manifest.parts:
        for name in part.files:
            kind = "tiers/lexical.*" if "lexical" in name else name
            size = (index.folder / part.path / name).stat().st_size
            sizes[kind] = sizes.get(kind, 0) + size
    return [(name, f"{size / 1e6:.1f}", f"{size / index.rows:.1f}") for name, size in sorted(sizes.items())]


def kept_by_stage(
    index: Index, queries: NDArray[np.float32], wanted: NDArray[np.int64], recalls: Sequence[float]
) -> Lines:
    """A line for each first stage: the least candidates that find so much of the true rows (m, k)."""
    k = wanted.shape[1]
    measured = MeasuredPlans(index, Queries(queries, "given"), k, wanted)
    grid = [k * factor for factor in FACTORS]
    lines = []
    for stage in first_stages(PlanSearch(measured, 0.5, len(queries), 0.5).stored):
        ranks = measured.ranks(Plan((stage,)), grid[-1])
        found = [float(measured.shares_within(ranks, keep).mean()) for keep in grid]
        enough = [
            [keep for keep, share in zip(grid, found, strict=True) if share >= recall] for recall in recalls
        ]
        lines.append((str(stage), *(f"{least[0]:,}" if least else f"> {grid[-1]:,}" for least in enough)))
    return lines


def spent_by_stage(index: Index, plan: Plan, queries: NDArray[np.float32], k: int) -> Lines:
    """A line for each stage, and what is around them: milliseconds of a query, hot and cold (medians)."""
    by_cache = []
    for is_cold in (False, True):
        spent = []
        for number in range(ASKED):
            if is_cold:
                np.add(OTHER_MEMORY, 1, out=OTHER_MEMORY)
            begin = time.perf_counter()
            _, stages = index.run(queries[number % len(queries), None], plan, k)
            whole = time.perf_counter() - begin
            inside = [stage.seconds for stage in stages]
            spent.append((*inside, whole - sum(inside), whole))
        by_cache.append([statistics.median(column) * 1e3 for column in zip(*spent, strict=True)])
    names = [*map(str, plan.stages), "around them", "all"]
    return [(name, f"{hot:.3f}", f"{cold:.3f}") for name, hot, cold in zip(names, *by_cache, strict=True)]
