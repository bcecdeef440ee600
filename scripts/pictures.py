"""The README's pictures: the demo's query and bench, run for real and drawn as SVG.

    .venv/bin/python scripts/pictures.py [--home .venv/demo] [--out DIR --all-widths]

Runs on the pydoc index what scripts/demo runs, building the index if the home has none, and draws
what the commands print, through their own rendering and rich's SVG export. Prints the path of each
picture: docs/images/query.svg and bench.svg, or in another folder with --out, where --all-widths
draws each at 80 and at 120 columns. Run it on a machine that does nothing else: the figures are real.
"""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from _measure import parser_of
from rich.console import Console
from rich.text import Text

from resizable_search.cli import output, render_bench
from resizable_search.evaluate.bench import run_bench, sample_queries
from resizable_search.evaluate.bench_options import BenchOptions
from resizable_search.search.index import Index, open_index

ROOT = Path(__file__).parents[1]
WIDTH = 104
"""Columns of the README's pictures."""

BLANK = "&#160;"
CELL = 12.2
"""The width of a character in rich's SVG."""
LEADING_BLANKS = re.compile(
    rf'(<text [^>]*?)x="([\d.]+)" y="([\d.]+)" textLength="([\d.]+)"([^>]*>)((?:{BLANK})+)(?=[^<&\n])'
)

QUERY = "walk a directory tree"
DIM, RERANK, HITS = 256, 10, 8
DIMS = (768, 512, 256)
QUERY_COMMAND = (
    f"rsearch query {shlex.quote(QUERY)} --index pydoc --dim {DIM} --rerank {RERANK} -k {HITS}".replace(
        "'", '"'
    )
)
BENCH_COMMAND = f"rsearch bench --index pydoc --dims {','.join(map(str, DIMS))} --rerank {RERANK}"


def build_missing(home: Path) -> None:
    """Build the pydoc index as the demo does; a complete one stays."""
    command = "import sys; from resizable_search.cli.main import main; sys.argv[0] = 'rsearch'; main()"
    words = [sys.executable, "-c", command, "build", "pydoc"]
    subprocess.run(words, check=True, env={**os.environ, "RSEARCH_HOME": str(home)})


def picture(command: str, show: Callable[[Console], None], width: int, path: Path) -> None:
    """Draw a command and what it shows on a terminal of that width."""
    console = Console(
        record=True,
        width=width,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        markup=False,
        emoji=False,
    )
    console.print(Text.assemble(("$ ", "green"), (command, "bold")), soft_wrap=True)
    show(console)
    drawn = console.export_svg(title="rsearch", unique_id=path.stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = LEADING_BLANKS.sub(moved, drawn)
    path.write_text(re.sub(r"[ \t]+\n", "\n", drawn), encoding="utf-8")
    print(path)


def moved(found: re.Match[str]) -> str:
    """A piece of text that stands where its first letter does: some viewers swallow blanks before it."""
    before, x, y, length, between, blanks = found.groups()
    width = CELL * blanks.count(BLANK)
    return f'{before}x="{float(x) + width:g}" y="{y}" textLength="{float(length) - width:g}"{between}'


def draw(index: Index, folder: Path, widths: dict[str, int]) -> None:
    """Run query and bench once, and draw them at each width; `widths` by what is added to the name."""
    index.answer(QUERY, HITS, DIM, RERANK)  # its embedding is cached then, as in daily use
    answer = index.answer(QUERY, HITS, DIM, RERANK)
    report = run_bench(index, sample_queries(index), BenchOptions(DIMS, (RERANK,)))
    for suffix, width in widths.items():
        picture(
            QUERY_COMMAND,
            lambda c: output.print_hits_table(answer, index, output.OutputOptions("table"), c, explain=False),
            width,
            folder / f"query{suffix}.svg",
        )
        picture(BENCH_COMMAND, lambda c: render_bench.bench(report, c), width, folder / f"bench{suffix}.svg")


def main() -> None:
    """Build what is missing, run, draw."""
    parser = parser_of(__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / ".venv/demo", help="where the demo's index is")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images")
    parser.add_argument("--all-widths", action="store_true", help="at 80 and 120 columns, for a look")
    args = parser.parse_args()
    build_missing(args.home)
    with open_index("pydoc", home=args.home) as index:
        draw(index, args.out, {"-80": 80, "-120": 120} if args.all_widths else {"": WIDTH})


if __name__ == "__main__":
    main()
