"""What the measuring scripts share: indexes of given vectors, interleaved timing, tables, the machine."""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import distributions, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from resizable_search import __version__
from resizable_search.build.options import BuildOptions
from resizable_search.build.vectors import build_vectors
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
    rows: NDArray[np.float32], made_of: str, home: Path, name: str, progress: Progress = SILENT
) -> Index:
    """An index of these full vectors (n, d), as they are adopted; one that is complete is opened again."""
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".") as folder:
        vectors, documents = Path(folder) / made_of, Path(folder) / "documents.jsonl"
        with vectors.open("wb") as file:
            np.save(file, rows)
        write_documents(documents, len(rows))
        build_vectors(vectors, Home(home), BuildOptions(name), documents=documents, progress=progress)
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
