"""A build that dies at any failpoint goes on, and makes the very same index."""

import json
import multiprocessing
import signal
from pathlib import Path

import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.store.layout import NAMES, Failpoint, Home
from tests.dying import die_at
from tests.kills import KINDS
from tests.support import ListCorpus, TableEmbedder, articles

ROWS = 235


def run(home: Path, limit: int = ROWS, *, prefix: str = "a", restart: bool = False) -> list[str]:
    """Build; the texts that were paid for."""
    embedder = TableEmbedder(remote=True, concurrency=3)
    options = BuildOptions("made", limit=limit, restart=restart)
    build(ListCorpus(articles(ROWS, prefix)), embedder, Home(home), options)
    return embedder.asked


def run_and_die(home: Path, kind: str, point: Failpoint, times: int) -> None:
    """Build as `run` does, in a process that dies at a failpoint; a file says what was paid for."""
    die_at(point, times)
    embedder = TableEmbedder(remote=True, concurrency=3)
    ledger = (home.parent / "ledger").open("a")

    def pay(texts):
        ledger.write("".join(f"{text}\n" for text in texts))
        ledger.flush()

    embedder.before = pay
    options = BuildOptions("made", limit=ROWS, restart=kind == "replacing")
    build(ListCorpus(articles(ROWS)), embedder, Home(home), options)


def begun(home: Path, kind: str) -> None:
    """What lies there before the build that dies: nothing, an index to replace, or one to extend."""
    if kind == "replacing":
        run(home, prefix="old")
    if kind == "extending":
        run(home, 100)


def contents(home: Path) -> dict[str, bytes]:
    """Every file of the index, its manifest without dates."""
    folder = home / "made"
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(found[NAMES.manifest])
    for name in ("created", "changed", "checksum"):
        del manifest[name]
    found[NAMES.manifest] = json.dumps(manifest).encode()
    return found


@pytest.fixture(scope="module")
def processes():
    """Forks of a process without threads: they start at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["resizable_search.build.build", "tests.support", "tests.build.test_failpoints"]
    )
    return context


@pytest.mark.parametrize(
    ("kind", "point"),
    [
        pytest.param(kind, point, id=f"{kind}-{point.name.lower()}")
        for kind, points in KINDS.items()
        for point in points
    ],
)
def test_a_build_that_died_at_a_failpoint_goes_on_to_the_same_index(tmp_path, processes, kind, point):
    whole, home = tmp_path / "whole", tmp_path / "home"
    for folder in (whole, home):
        begun(folder, kind)
    run(whole, restart=kind == "replacing")
    times = 3 if point is Failpoint.ANSWERED else 1
    process = processes.Process(target=run_and_die, args=(home, kind, point, times))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    paid = (tmp_path / "ledger").read_text().splitlines() + run(home)
    assert contents(home) == contents(whole)
    assert not Home(home).building("made").exists()
    assert len(paid) - len(set(paid)) <= 3 * 10  # of the requests that were under way


def test_every_failpoint_is_died_at():
    from tests.build.changes.test_failpoints import CHANGES

    assert {point for points in (*KINDS.values(), *CHANGES.values()) for point in points} == set(Failpoint)
