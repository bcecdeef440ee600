"""That a build which is killed goes on to the very index of one that nobody disturbed.

    .venv/bin/python scripts/drills/kill_matrix.py [--kills 100] [--rows 400] [--seed 0] [--failpoints all]

Kills `rsearch build wiki100k` with SIGKILL at random moments while texts are being embedded, and once at
each failpoint (`Failpoint` in resizable_search/store/layout.py), against a loopback hub and a
loopback Nomic API that answers a request in 50 ms; 8 requests of 10 texts are under way. Each time the
same command is given again. Tells how many indexes came out byte-identical (manifest dates apart), and
how many texts were billed twice. Exit 1 if one differs, or if a kill cost more than 80 texts.
"""

import random
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.benchmarks._measure import parser_of, show
from tests.kills import BATCH, CONCURRENCY, KINDS, Death, ground, plain_environment


def row(name: str, deaths: Sequence[Death], rows: int) -> tuple[str, ...]:
    """A line of the table."""
    midway = sum(0 < death.embedded < rows for death in deaths)
    embedded = sorted(death.embedded for death in deaths)
    under_way = sorted(death.under_way for death in deaths)
    return (
        name,
        str(len(deaths)),
        f"{midway}: {embedded[0]} to {embedded[-1]} texts",
        f"{under_way[0]} to {under_way[-1]}",
        f"{sum(death.same for death in deaths)}",
        f"{sum(death.twice for death in deaths)}",
        f"{max(death.twice for death in deaths)}",
    )


def main() -> int:
    """Kill, go on, compare; 1 if anything was lost, or paid twice beyond what was under way."""
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=100, help="at random moments (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=400, help="articles (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=2, help="builds (default: %(default)s)")
    parser.add_argument("--failpoints", choices=("all", "none"), default="all", help="(default: %(default)s)")
    args = parser.parse_args()
    points = [(kind, point) for kind, points in KINDS.items() for point in points]
    rngs = [random.Random(f"{args.seed} {number}") for number in range(args.kills + len(points))]
    with (
        tempfile.TemporaryDirectory() as folder,
        ground(Path(folder), plain_environment(), args.rows) as place,
        ThreadPoolExecutor(args.at_once) as pool,
    ):
        expected = [place.fresh, *([place.extended, place.other] if args.failpoints == "all" else [])]
        assert expected  # they are built now, one after the other
        killed = [pool.submit(place.killed_at_random, f"r{i}", rngs[i]) for i in range(args.kills)]
        passed = [
            pool.submit(place.killed_at, kind, point, f"s{i}", rngs[args.kills + i])
            for i, (kind, point) in enumerate(points)
            if args.failpoints == "all"
        ]
        random_deaths = [future.result() for future in killed]
        other_deaths = [future.result() for future in passed]
    deaths = random_deaths + other_deaths
    table = [row("at a random moment", random_deaths, args.rows)] if random_deaths else []
    table += [row(d.moment, [d], args.rows) for d in other_deaths]
    table.append(row("in all", deaths, args.rows))
    show(
        ("killed", "kills", "while embedding", "under way", "same index", "billed twice", "most a kill"),
        table,
    )
    wrong = sum(not death.same for death in deaths)
    most = max(death.twice for death in deaths)
    print(f"{wrong} of {len(deaths)} indexes differ; {most} texts billed twice by one kill at most")
    return int(bool(wrong) or most > CONCURRENCY * BATCH)


if __name__ == "__main__":
    raise SystemExit(main())
