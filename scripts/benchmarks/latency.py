"""What a whole process costs: `rsearch --help`, and a cached one-shot query on 100,000 x 768 (also served).

    .venv/bin/python scripts/benchmarks/latency.py [--vectors FILE.npy] [--rounds 15] [--home DIR]

Prints medians of whole processes, from start to exit, turn about, files in memory, and the ratio of each to
the least that such a command can cost: `--help` of a minimal typer app with rich (at most 1.3 times), a
minimal typer command that imports numpy and prints a rich table (at most 1.5 times), and, for a query that
a running `rsearch serve` answers, one that prints a table or a line (at most 1.25 times). The minimal
commands take an option or argument too: typer imports pydantic for it (some 80 ms). The query's embedding
is cached, as it is the second time it is asked, and its output goes into a pipe. Without --vectors, random
clustered ones stand in; an index that --home holds is used again. It needs the extra `serve`.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from _measure import (
    add_given,
    alternate,
    disturbed,
    given_vectors,
    index_of_matrix,
    machine,
    median_ms,
    parser_of,
    show,
    verdict,
)

from resizable_search.search.query_embedder import QueryCache
from resizable_search.specs import EmbedderSpec
from resizable_search.store.layout import Home

TEXT = "tree data structures"
NAME = "measured"

MINIMAL_HELP = '''
"""A typer app with one command and one option."""
import typer
from typing import Annotated

app = typer.Typer()

@app.command()
def hello(name: Annotated[str, typer.Option(help="Whom to greet.")] = "you") -> None:
    """Greet somebody."""
    typer.echo(f"hello {name}")

app()
'''

MINIMAL_TABLE = '''
"""A typer command that prints a table with rich; with --numpy, of an array."""
import typer

app = typer.Typer()

@app.command()
def table(count: int = 10, numpy: bool = False) -> None:
    from rich.console import Console
    from rich.table import Table

    scores = [1 - rank / 20 for rank in range(count)]
    if numpy:
        import numpy as np

        scores = np.linspace(1, 0.5, count)
    made = Table("rank", "score", "title")
    for rank, score in enumerate(scores, 1):
        made.add_row(str(rank), f"{score:.4f}", f"Title {rank}")
    Console().print(made)

app()
'''

MINIMAL_LINE = '''
"""A typer command that prints a line."""
import typer

app = typer.Typer()

@app.command()
def hello(name: str) -> None:
    typer.echo(f"hello {name}")

app()
'''


def prepare(home: Path, vectors: Path | None, rows: int) -> None:
    """Build the index if it is not there, and keep the query's vector as its first asking would."""
    found, made_of = given_vectors(vectors, rows)
    with index_of_matrix(found, made_of, home, NAME) as index:
        near = index.vectors([0])[0] + np.float32(0.02) * np.random.default_rng(0).standard_normal(
            index.full_dim, np.float32
        )
        spec = EmbedderSpec.from_json(index.manifest.embedder)
        QueryCache(Home(home).queries).put(spec.fingerprint, {TEXT: near.astype(np.float32)})


def process(words: list[str], service: str = "off") -> Callable[[int], object]:
    """Run a command to its end, its output into a pipe; it must succeed."""
    env = {**os.environ, "RSEARCH_SERVICE": service}
    return lambda _: subprocess.run(
        words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True, env=env
    )


@contextmanager
def serving(rsearch: str, home: Path, query: list[str]) -> Iterator[None]:
    """A running service of a home, which answers this query."""
    with subprocess.Popen([rsearch, "serve", "--port", "0"], stderr=subprocess.DEVNULL) as service:
        try:
            while not Home(home).socket.exists():
                if service.poll() is not None:
                    raise SystemExit('rsearch serve does not start: `pip install ".[serve]"`')
                time.sleep(0.05)
            told = subprocess.run([*query, "--explain"], capture_output=True, text=True, check=True).stderr
            if "service" not in told:
                raise SystemExit("the service does not answer")
            yield
        finally:
            service.terminate()


def main() -> int:
    """Measure and print; 1 if something required is missed."""
    parser = parser_of(__doc__)
    add_given(parser, rounds=15, queries=False)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = args.home or Path(temporary) / "home"
        prepare(home, args.vectors, args.rows)
        os.environ["RSEARCH_HOME"] = str(home)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # installed commands have their modules compiled
        help_app, table_app = Path(temporary) / "minimal_help.py", Path(temporary) / "minimal_table.py"
        line_app = Path(temporary) / "minimal_line.py"
        help_app.write_text(MINIMAL_HELP)
        table_app.write_text(MINIMAL_TABLE)
        line_app.write_text(MINIMAL_LINE)
        rsearch = str(Path(sysconfig.get_path("scripts")) / "rsearch")
        query = [rsearch, "query", TEXT, "--index", NAME, "--dim", "256"]
        ways = {
            "minimal typer app --help": process([sys.executable, str(help_app), "--help"]),
            "rsearch --help": process([rsearch, "--help"]),
            "minimal command, numpy and a table": process([sys.executable, str(table_app), "--numpy"]),
            "rsearch query, cached, --dim 256": process(query),
            "  the same, --rerank 10": process([*query, "--rerank", "10"]),
            "  the same, --json": process([*query, "--json"]),
            "  the same, without --dim": process(query[:-2]),
            "minimal command, a table": process([sys.executable, str(table_app), "--count", "10"]),
            "rsearch query, by a service": process(query, "on"),
            "minimal command, a line": process([sys.executable, str(line_app), "you"]),
            "  by a service, --json": process([*query, "--json"], "on"),
        }
        with serving(rsearch, home, query):
            seconds = alternate(ways, args.rounds)
    against = {
        "rsearch --help": ("minimal typer app --help", 1.3),
        "rsearch query, cached, --dim 256": ("minimal command, numpy and a table", 1.5),
        "rsearch query, by a service": ("minimal command, a table", 1.25),
        "  by a service, --json": ("minimal command, a line", 1.25),
    }
    medians = {name: median_ms(spent) for name, spent in seconds.items()}
    held, table = True, []
    for name, spent in seconds.items():
        row = [name, f"{medians[name]:.0f}", f"{min(spent) * 1e3:.0f}"]
        if name in against:
            other, most = against[name]
            ratio = medians[name] / medians[other]
            held = held and ratio <= most
            row += [f"{ratio:.2f}", verdict(ratio, at_most=most)]
        table.append([*row, "", ""][:5])
    print(f"whole processes, {args.rows:,} × 768, {args.rounds} rounds; {machine()}\n")
    show(("command", "median ms", "best ms", "ratio", "required"), table)
    print(disturbed(seconds))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
