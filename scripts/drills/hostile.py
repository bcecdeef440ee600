"""That builds and queries come to no harm on hostile machines, and say in one line what stands in their way.

    .venv/bin/python scripts/drills/hostile.py [--only WORDS] [--rounds 20] [--seconds 30]

Builds on disks of many small sizes and few inodes, and on disks that turn full before each step; runs
every command on a full and on a read-only disk, under limits of open files, file sizes and memory, with a
clock that runs backwards, and in odd folders; lets eight processes build at once, and build, remove and
query mixed; reads an index that is rebuilt all the while. Prints for each situation what came of it,
whether the index that was resumed is, byte for byte, that of an undisturbed build (dates apart), and how
many texts were billed twice. --only takes the situations with these words in their section. Mounting
small disks takes root or a user namespace (it enters one of its own); where there is neither, those
situations are skipped. Exit 1 if something was not as it should be. Linux only; takes some ten minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.benchmarks._measure import parser_of, show
from tests.cli import conftest
from tests.cli.conftest import Machine, a_hub, environment
from tests.hostile import Row, crowd, machine, readers
from tests.hostile.commands import where_nothing_can_be_written
from tests.hostile.disk import cannot_mount, mounted
from tests.hostile.full import (
    PHASES,
    command_on_a_small_disk,
    fills_before,
    fills_by_its_size,
    lacks_inodes,
    limits_files,
    undated,
    undisturbed,
)
from tests.hostile.machine import backwards, limited, odd
from tests.servers.nomic_api import NomicServer

PATIENCE = 300.0
"""Seconds that a command may take; the machine may be busy with other things."""

ENTERED = "RSEARCH_HOSTILE_NAMESPACE"
WIKI = ("build", "wiki100k", "--limit", 300, "--concurrency", 2, "--name", "made")
PYDOC = ("build", "pydoc", "--limit", 120, "--name", "made")


def enter_a_namespace() -> None:
    """Go on in a mount namespace of our own, where mounts end with us; as root of it if we are not root."""
    how = ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-root-user"]
    if ENTERED in os.environ or shutil.which("unshare") is None:
        return
    if subprocess.run(["unshare", *how, "true"], capture_output=True).returncode == 0:
        os.environ[ENTERED] = "1"
        os.execvp("unshare", ["unshare", *how, sys.executable, *sys.argv])


@dataclass
class Bench:
    """What the situations need: a folder of their own, services, and indexes that nobody disturbed."""

    folder: Path
    env: dict[str, str]
    rounds: int
    seconds: float

    def place(self) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def machine(self) -> Machine:
        """An empty machine."""
        return Machine(self.place(), dict(self.env))

    def whole(self, words: tuple[object, ...]) -> dict[str, Any]:
        """The index of a command, built where nothing is in its way."""
        machine = self.machine()
        ran = machine.run(*words)
        if ran.code:
            raise SystemExit(f"{ran.last}")
        return undated(machine.home / "made")

    def shelf(self) -> Machine:
        """A machine with an index `pydoc`."""
        machine = self.machine()
        machine.run("build", "pydoc", "--limit", 400, "--dims", "64,256")
        return machine


def small_builds(bench: Bench) -> Iterator[Row]:
    """Builds in this process, on disks that turn full before each step, or are small."""
    for kind in ("new", "extended", "restarted", "fitted"):
        whole = undisturbed(bench.place(), kind)
        for phase in PHASES:
            if phase != (
                "record" if kind == "fitted" else "fit"
            ):  # the one has no answers, the others no fit
                yield fills_before(bench.place(), whole, phase, kind)
    whole = undisturbed(bench.place())
    for kib in range(4, 1800, 36):
        yield fills_by_its_size(bench.place(), whole, kib)
    for inodes in range(2, 26):
        yield lacks_inodes(bench.place(), whole, inodes)


def commands_on_small_disks(bench: Bench) -> Iterator[Row]:
    """The command itself, through real clients and services."""
    whole = bench.whole(WIKI)
    for kib in (60, 100, 200, 300, 600, 900, 1500, 2500, 3500, 4500, 5200, 5600, 6000, 6400, 6800, 7200):
        yield command_on_a_small_disk(bench.place(), bench.env, kib, WIKI[1:-2], whole)
    whole = bench.whole(PYDOC)
    for kib in (100, 200, 500, 700, 900, 1000, 1100, 1200):
        yield command_on_a_small_disk(bench.place(), bench.env, kib, PYDOC[1:-2], whole)


def unwritable_disks(bench: Bench) -> Iterator[Row]:
    """Every command on a full disk, and on a read-only one."""
    shelf = bench.shelf()
    for how in ("full", "read-only"):
        with mounted(bench.place(), 1 << 16) as disk:
            yield from where_nothing_can_be_written(Machine(disk.folder, dict(bench.env)), shelf, disk, how)


def limits(bench: Bench) -> Iterator[Row]:
    """Limits of open files, of file sizes and of memory."""
    small = undisturbed(bench.place())
    for kib in (1, 4, 16, 40, 80, 120, 200, 400, 800, 1200):
        yield limits_files(bench.place(), small, kib)
    shelf = bench.shelf()
    whole, fitted = bench.whole(WIKI), bench.whole(PYDOC)
    query = ("query", "walk a directory tree", "-i", "pydoc", "--json")
    for limit, remedy in [
        *((f"-n {most}", "ulimit -n") for most in (8, 12, 16, 20, 30, 40, 64)),
        *((f"-f {most}", "ulimit -f") for most in (16, 64, 400)),
        *((f"-v {most}", "ulimit -") for most in (300_000, 600_000, 1_000_000)),
    ]:
        machine = bench.machine()
        machine.take(shelf, "pydoc")
        yield limited(machine, limit, remedy, query)
        yield limited(bench.machine(), limit, remedy, WIKI, whole)
        yield limited(bench.machine(), limit, remedy, PYDOC, fitted)


def clocks(bench: Bench) -> Iterator[Row]:
    """A clock that runs backwards."""
    row = backwards(bench.machine(), bench.whole(WIKI), WIKI)
    if row is not None:
        yield row


def oddities(bench: Bench) -> Iterator[Row]:
    """Odd folders and variables."""
    yield from odd(bench.machine(), bench.shelf())


def crowds(bench: Bench) -> Iterator[Row]:
    """Many at once."""
    for _ in range(5):
        yield crowd.builders_at_once(bench.place(), 8)
    yield crowd.commands_at_once(bench.machine(), 8)
    yield crowd.mixed(bench.place(), 8, bench.seconds)


def reading(bench: Bench) -> Iterator[Row]:
    """Readers of an index that is rebuilt all the while."""
    for exchanges in (True, False):
        yield readers.through_rebuilds(bench.place(), bench.rounds, exchanges=exchanges)
        place = bench.place()
        commands = readers.asking_commands(Machine(place, dict(bench.env)), place)
        yield readers.through_rebuilds(
            place, bench.rounds, exchanges=exchanges, processes=True, ask_too=commands
        )


SECTIONS: dict[str, tuple[Callable[[Bench], Iterator[Row]], bool]] = {
    "small builds on small disks": (small_builds, True),
    "commands on small disks": (commands_on_small_disks, True),
    "commands on unwritable disks": (unwritable_disks, True),
    "limits": (limits, False),
    "clocks": (clocks, False),
    "odd machines": (oddities, False),
    "crowds": (crowds, False),
    "readers": (reading, False),
}
"""The situations, and whether they need disks to be mounted."""


def told(section: str, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows of a section; what breaks it off is the last of them."""
    try:
        yield from rows
    except Exception as error:
        yield Row(section, "broke off", wrong=f"{type(error).__name__}: {error}")


def main() -> int:
    """Try each situation; 1 if something was not as it should be."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", default="", help="sections with these words, such as disks")
    parser.add_argument(
        "--rounds", type=int, default=20, help="rebuilds under readers (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of a mixed crowd (default: %(default)s)")
    args = parser.parse_args()
    enter_a_namespace()
    conftest.PATIENCE = machine.PATIENCE = PATIENCE
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "hub").mkdir()
        hub = stack.enter_context(a_hub(folder / "hub"))
        api = stack.enter_context(NomicServer())
        bench = Bench(folder, environment(hub.url, api.url, folder / "hf"), args.rounds, args.seconds)
        for section, (situations, mounts) in SECTIONS.items():
            if args.only not in section:
                continue
            if mounts and cannot_mount():
                rows.append(Row(section, f"skipped: {cannot_mount()}"))
                continue
            for row in told(section, situations(bench)):
                sys.stderr.write(f"{'not ' if row.wrong else ''}as it should be: {row.situation}\n")
                rows.append(row)
    show(
        ("situation", "outcome", "resumed identically", "billed twice", "wrong"),
        [_cells(row) for row in rows],
    )
    wrong = sum(bool(row.wrong) for row in rows)
    print(f"{len(rows)} situations, {wrong} not as they should be")
    return int(bool(wrong))


def _cells(row: Row) -> tuple[str, ...]:
    identical = "–" if row.identical is None else "yes" if row.identical else "NO"
    return row.situation, row.outcome, identical, "–" if row.twice is None else str(row.twice), row.wrong


if __name__ == "__main__":
    raise SystemExit(main())
