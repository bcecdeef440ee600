"""That whatever lies on disk in an index's place is refused in one line, or answered rightly.

    .venv/bin/python scripts/drills/fuzz.py [--target manifest|npy|sqlite|all] [--seconds 600] [--seed 0]

Takes two sound indexes (one of given vectors, of two parts with deleted rows and tuned plans; one of lsa)
and changes, by what it knows of the formats, manifest.json (mostly with a checksum that fits again), the
.npy headers and sizes, or documents.sqlite (by SQL, or in its pages), with or without the manifest listing
the file as changed. Each case is opened, searched by plans of every precision on both engines, read,
described, listed, verified, examined as `doctor` does, repaired and removed, in a process of its own with
a time limit and a limit of memory. Right is an answer that is computed apart from the sound vectors
(tests/fuzzing/oracle.py), or an error of ours; a traceback, a crash, a hang, memory beyond the limit,
another row, or damage that `verify` does not name is a failure. Each kind of failure is saved with its
files; `--seed N --case M` runs one case again. Exit 1 if there was a failure.
"""

import argparse
import faulthandler
import multiprocessing
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from resizable_search.engine.kernel_cache import is_warm
from scripts.benchmarks._measure import machine, parser_of, show
from tests.fuzzing.cases import Case, Wrong
from tests.fuzzing.commands import COMMANDS
from tests.fuzzing.judge import TARGETS, Judge, no_case
from tests.fuzzing.sound import FITTED, GIVEN, Sound, scratch

STATM = Path("/proc/self/statm")

MEMORY = 1 << 30
"""Bytes of address space that a case may take beyond what the sound index does."""

STARTING = 600.0
"""Seconds that a worker may take until it is ready."""

SAVED = 3
"""Failures of one kind that are saved."""


def work(pipe: Connection, folder: Path, trace: Path) -> None:
    """Judge the cases that come through the pipe, until it is closed."""
    with trace.open("w") as file:
        faulthandler.enable(file)
        judge = Judge.in_room(folder, ("numpy", "numba") if is_warm() else ("numpy",))
        for sound in judge.sound.values():
            for command in (None, *range(len(COMMANDS))):
                judge.judge(no_case(sound), command)
        if STATM.exists():  # Linux
            limit = int(STATM.read_text().split()[0]) * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        warnings.simplefilter("error")  # a warning is a line that no user shall see
        pipe.send("ready")
        while True:
            try:
                case, command = pipe.recv()
            except EOFError:
                return
            try:
                pipe.send((judge.judge(case, command), ""))
            except Wrong as wrong:
                pipe.send(("wrong", str(wrong)))


class Worker:
    """A process that judges one case after the other, started again after one that kills it."""

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder = folder
        self.limit = limit
        self._process: multiprocessing.process.BaseProcess | None = None

    def send(self, case: Case, command: int | None) -> None:
        """Give it a case."""
        self.start()
        with suppress(BrokenPipeError):  # `outcome` tells
            self._pipe.send((case, command))

    def outcome(self) -> tuple[str, str]:
        """What came of the case: 'right', 'refused' or 'wrong', and words."""
        assert self._process is not None
        if not self._pipe.poll(self.limit):
            self.stop()
            return "wrong", f"it takes more than {self.limit:g} seconds"
        try:
            found: tuple[str, str] = self._pipe.recv()
        except EOFError:
            self._process.join()
            words = f"the process ends with {self._process.exitcode}: {self._trace.read_text()[:1000]}"
            self.stop()
            return "wrong", words
        if "was harmed" in found[1]:
            self.stop()
        return found

    def stop(self) -> None:
        """End the process, and what it has on disk."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """See that there is a process, and wait until it is ready."""
        if self._process is not None:
            return
        self._trace = self.folder.with_suffix(".trace")
        context = multiprocessing.get_context("spawn")
        self._pipe, its_end = context.Pipe()
        self._process = context.Process(target=work, args=(its_end, self.folder, self._trace), daemon=True)
        self._process.start()
        its_end.close()
        if not self._pipe.poll(STARTING) or self._pipe.recv() != "ready":
            raise SystemExit("the worker does not start")


@dataclass
class Tally:
    """What came of the cases of one target, and the failures by kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def made(target: str, seed: int, number: int, sound: dict[str, Sound]) -> tuple[Case, int | None]:
    """A case by its number, and which command is run on it: one in four has one."""
    rng = Random(f"{target}:{seed}:{number}")
    case = TARGETS[target](rng, sound[rng.choice((GIVEN, GIVEN, FITTED))])
    command = rng.randrange(4 * len(COMMANDS))
    return case, command if command < len(COMMANDS) else None


def kind_of(words: str) -> str:
    """The words of a failure without what differs from case to case."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|[\d.,]+|/\S+", "#", words.removeprefix("tests."))[-160:]


def run(target: str, args: argparse.Namespace, worker: Worker, sound: dict[str, Sound], tally: Tally) -> None:
    """Judge cases of a target until the time is over, or the one that was asked for."""
    worker.start()
    until = time.monotonic() + args.seconds
    number = 0 if args.case is None else args.case
    case, command = made(target, args.seed, number, sound)
    while True:
        worker.send(case, command)
        following = made(target, args.seed, number + 1, sound)
        outcome, words = worker.outcome()
        tally.outcomes[outcome] += 1
        if outcome == "wrong":
            said = words if words.startswith(f"{target} of") else f"{case}: {words}"
            found = tally.failures[kind_of(words.removeprefix(f"{case}: "))]
            found.append(f"--target {target} --seed {args.seed} --case {number}: {said}")
            if len(found) <= SAVED:
                save(args.failures / f"{target}-{args.seed}-{number}", case, command, found[-1])
        if args.case is not None or time.monotonic() > until:
            if args.case is not None:
                print(f"{case}\n{outcome} {words}")
            return
        number += 1
        case, command = following


def save(folder: Path, case: Case, command: int | None, words: str) -> None:
    """Keep a case that failed: what it is, how it is run again, and its files."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, change in case.changes.items():
        if change.kind == "bytes":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(change.content)
    folder.mkdir(parents=True, exist_ok=True)
    others = {name: change.kind for name, change in case.changes.items() if change.kind != "bytes"}
    command_words = "" if command is None else f"command: {' '.join(COMMANDS[command])}\n"
    (folder / "failure.txt").write_text(
        f".venv/bin/python scripts/drills/fuzz.py {words}\n{command_words}{others or ''}\n",
        "utf-8",
        "backslashreplace",
    )


def main() -> int:
    """Fuzz and print; 1 if anything failed."""
    parser = parser_of(__doc__)
    parser.add_argument("--target", choices=(*TARGETS, "all"), default="all", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=600, help="of each target (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--case", type=int, help="run this case alone")
    parser.add_argument("--limit", type=float, default=20, help="seconds a case (default: %(default)g)")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="(default: %(default)s)")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it runs behind ignore it
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(dir=scratch()) as temporary:
        sound = Judge.in_room(Path(temporary) / "own").sound
        worker = Worker(Path(temporary) / "room", args.limit)
        try:
            for target in TARGETS if args.target == "all" else (args.target,):
                tallies[target] = Tally()
                run(target, args, worker, sound, tallies[target])
        except KeyboardInterrupt:
            pass
        finally:
            worker.stop()
    print(f"{args.seconds:g} s a target, seed {args.seed}; {machine()}\n")
    rows = []
    for target, tally in tallies.items():
        counts = [tally.outcomes[outcome] for outcome in ("refused", "right", "wrong")]
        rows.append((target, *(f"{count:,}" for count in (sum(counts), *counts)), ""))
    show(("target", "cases", "refused", "answered rightly", "failures", ""), rows)
    for tally in tallies.values():
        for found in sorted(tally.failures.values(), key=len, reverse=True):
            print(f"\n{len(found)} like {found[0][:700]}")
    failed = sum(tally.outcomes["wrong"] for tally in tallies.values())
    if failed:
        print(f"\n{failed:,} failures; the first of each kind are in {args.failures}")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
