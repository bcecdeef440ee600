"""Builds that die by SIGKILL, from outside at any moment or from inside at a failpoint, and go on.

The real command, with the real clients, against a loopback hub and a loopback Nomic API. What the suite
runs a few of, scripts/drills/kill_matrix.py runs a hundred of.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from resizable_search.corpora.base import DEFAULT_CHARS
from resizable_search.store.layout import NAMES, Failpoint
from tests.cli.conftest import COMMAND, KEY, Machine, Milestones
from tests.servers.dataset import write_wikipedia
from tests.servers.hub import HubServer

NAME = "wiki100k"
CONCURRENCY = 8
BATCH = 10
LATENCY = 0.05
"""Seconds that the API takes for a request."""

KINDS = {
    "fresh": [point for point in Failpoint if point not in (Failpoint.MARKED, Failpoint.EXCHANGED)],
    "replacing": [Failpoint.EXCHANGED],
    "extending": [Failpoint.PLACED, Failpoint.MANIFEST],
}
"""The failpoints that each kind of build passes: of a new index, in the place of one, or of further rows."""


@dataclass(frozen=True, slots=True)
class Death:
    """A build that was killed and went on.

    `moment` says when; `embedded` of the texts had been answered then, and `under_way` requests were not
    answered yet. `same`: the index is that of a build that nobody disturbed, manifest dates apart.
    `twice`: how many texts were billed once more.
    """

    moment: str
    embedded: int
    under_way: int
    same: bool
    twice: int
    seconds: float


class Ground:
    """Where builds die: a hub with `rows` articles, and the index as it must come out.

    `folder` keeps everything; `env` is the environment of a command, without services.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], hub: HubServer, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self._env = {**env, "HF_ENDPOINT": hub.url, "NOMIC_API_KEY": KEY, "OPENBLAS_NUM_THREADS": "1"}
        self._build = ("build", NAME, "--limit", str(rows), "--concurrency", str(CONCURRENCY))

    @cached_property
    def fresh(self) -> Machine:
        """A whole index."""
        return self._undisturbed("fresh")

    @cached_property
    def part(self) -> Machine:
        """One of a third of the articles."""
        return self._undisturbed("part", "--limit", str(self.rows // 3))

    @cached_property
    def other(self) -> Machine:
        """One of other texts."""
        return self._undisturbed("other", "--chars", "300")

    @cached_property
    def extended(self) -> Machine:
        """A third that was extended to the whole."""
        return self._undisturbed("extended", begun=self.part)

    def _machine(self, name: str) -> Machine:
        return Machine(self.folder / name, dict(self._env))

    def _undisturbed(self, name: str, *more: str, begun: Machine | None = None) -> Machine:
        machine = self._machine(name)
        if begun is not None:
            shutil.copytree(begun.home, machine.home)
        with Milestones() as api:
            machine.env["ATLAS_API_PATH"] = api.url
            ran = machine.run(*self._build, *more)
        assert ran.code == 0, ran
        return machine

    def killed_at_random(self, name: str, rng: random.Random) -> Death:
        """Kill a build after some of its requests, or a little later, and let it go on."""
        machine = self._machine(name)
        requests = self.rows // BATCH - CONCURRENCY  # others are still to come
        with Milestones(latency=LATENCY) as api:
            machine.env["ATLAS_API_PATH"] = api.url
            api.expect(rng.randrange(1, requests))
            process = machine.start(*self._build)
            api.wait()
            time.sleep(rng.uniform(0, LATENCY))
            under_way, embedded = api.under_way, len(api.answered)
            os.killpg(process.pid, signal.SIGKILL)
            machine.end(process)
            return self._go_on(machine, api, "at random", embedded, under_way, self.fresh)

    def killed_at(self, kind: str, point: Failpoint, name: str, rng: random.Random) -> Death:
        """Let a build die at a failpoint, and go on."""
        machine, begun, expected, more = self._machine(name), None, self.fresh, ()
        if kind == "replacing":
            begun, more = self.other, ("--restart", "--chars", str(DEFAULT_CHARS))
        if kind == "extending":
            begun, expected = self.part, self.extended
        if begun is not None:
            shutil.copytree(begun.home, machine.home)
        times = rng.randrange(1, self.rows // BATCH // 2) if point is Failpoint.ANSWERED else 1
        with Milestones(latency=LATENCY) as api:
            machine.env["ATLAS_API_PATH"] = api.url
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.dying", point.name, str(times), *self._build, *more],
                env={**machine.env, "PYTHONPATH": str(Path(__file__).parents[1])},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=machine.folder,
            )
            code = process.wait(120)
            assert code == -signal.SIGKILL, f"{point.name} was not passed: exit code {code}"
            return self._go_on(machine, api, f"{kind}: {point}", len(api.answered), api.under_way, expected)

    def _go_on(
        self, machine: Machine, api: Milestones, moment: str, embedded: int, under_way: int, expected: Machine
    ) -> Death:
        began = time.perf_counter()
        ran = machine.run(*self._build)
        seconds = time.perf_counter() - began
        same = ran.code == 0 and not machine.unfinished() and index_files(machine) == index_files(expected)
        twice = sum(times - 1 for times in api.answered.values())
        shutil.rmtree(machine.folder)
        return Death(moment, embedded, under_way, same, twice, seconds)


def index_files(machine: Machine) -> dict[str, bytes]:
    """The files of the finished index, its manifest without dates."""
    found = {name: content for name, content in machine.holdings().items() if name.startswith(f"{NAME}/")}
    manifest = json.loads(found[f"{NAME}/{NAMES.manifest}"])
    for name in ("created", "changed", "checksum"):
        del manifest[name]
    return {**found, f"{NAME}/{NAMES.manifest}": json.dumps(manifest, sort_keys=True).encode()}


@contextmanager
def ground(folder: Path, env: Mapping[str, str], rows: int) -> Iterator[Ground]:
    """A hub with so many articles, and undisturbed indexes of them."""
    write_wikipedia(folder / "hub", rows, shards=3, rows_per_group=50)
    with HubServer({"wikimedia/wikipedia": folder / "hub"}) as hub:
        yield Ground(folder, {**env, "HF_HOME": str(folder / "hf")}, hub, rows)


def plain_environment() -> dict[str, str]:
    """The environment of a command, without what the user may have set for it."""
    assert COMMAND.exists()
    foreign = ("HF_", "HUGGING", "NOMIC", "ATLAS", "RSEARCH", "XDG_", "COLUMNS", "LINES", "NO_COLOR", "FORCE")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
