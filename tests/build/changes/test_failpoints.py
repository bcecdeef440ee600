"""A change that dies at any failpoint goes on, or begins again, and makes the very same index.

Until then, readers find the old index whole, or the new one.
"""

import json
import multiprocessing
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from resizable_search.build.build import add, compact
from resizable_search.build.delete import delete
from resizable_search.build.workspace import BuildOptions
from resizable_search.store.layout import Failpoint, Home
from resizable_search.store.manifest import read_manifest
from resizable_search.store.verify import examine
from tests.build.changes.conftest import Place, contents
from tests.dying import die_at
from tests.support import ListCorpus, TableEmbedder, articles

NEW_PART = (
    Failpoint.READ, Failpoint.ANSWERED, Failpoint.DOCUMENTS, Failpoint.PLACED,
    Failpoint.MARKED, Failpoint.MANIFEST, Failpoint.DISCARDED,
)  # fmt: skip
CHANGES = {
    "delete": (Failpoint.MARKED, Failpoint.MANIFEST),
    "delete_where": (Failpoint.MARKED, Failpoint.MANIFEST),
    "compact": (Failpoint.DOCUMENTS, Failpoint.MANIFEST, Failpoint.EXCHANGED, Failpoint.PLACED),
    "sync": NEW_PART,
    "add": NEW_PART,
}
TIMES = {
    ("sync", Failpoint.ANSWERED): 3,
    # The first is that of looking for what an earlier change has left.
    ("sync", Failpoint.DISCARDED): 2,
    ("add", Failpoint.DISCARDED): 2,
}


def embedder(ledger: Path | None = None) -> TableEmbedder:
    made = TableEmbedder(width=96, remote=True, concurrency=2)
    if ledger is not None:

        def pay(texts):
            with ledger.open("a") as file:
                file.write("".join(f"{text}\n" for text in texts))

        made.before = pay
    return made


def synced() -> list:
    documents = [*articles(90)[10:], *articles(45, "new")]
    documents[3] = replace(documents[3], text="changed")
    documents[5] = replace(documents[5], id="renamed")
    return documents


def begun(home: Path) -> None:
    """Two parts, of which some rows are deleted, and a file to add."""
    place = Place(Home(home))
    place.parts(articles(90), 60, 90)
    delete(place.folder, ["a1", "a70"])
    documents = [*articles(30, "b"), replace(articles(8)[7], text="in the place of another")]
    (home / "more.jsonl").write_text(
        "".join(json.dumps({"id": d.id, "text": d.text}) + "\n" for d in documents)
    )


def change(what: str, home: Path, ledger: Path | None = None) -> None:
    place = Place(Home(home))
    if what == "delete":
        delete(place.folder, ["a2", "a80"], missing_ok=True)
    elif what == "delete_where":
        delete(place.folder, where="id IN ('a2', 'a80')")
    elif what == "compact":
        compact(place.folder)
    elif what == "sync":
        place.build([], corpus=ListCorpus(synced(), is_mutable=True), embedder=embedder(ledger))
    else:
        options = BuildOptions("made", concurrency=2)
        add(place.folder, [home / "more.jsonl"], replace=True, embedder=embedder(ledger), options=options)


def change_and_die(what: str, home: Path, point: Failpoint, times: int) -> None:
    die_at(point, times)
    change(what, home, home / "ledger")


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["resizable_search.build.build", "tests.support", "tests.build.changes.test_failpoints"]
    )
    return context


@pytest.fixture(scope="module")
def grounds(tmp_path_factory):
    """A home before any change, and what each change makes of it undisturbed."""
    before = tmp_path_factory.mktemp("before") / "home"
    begun(before)
    found = {}
    for what in CHANGES:
        home = tmp_path_factory.mktemp(what) / "home"
        shutil.copytree(before, home)
        change(what, home)
        found[what] = contents(home / "made")
    return before, found


@pytest.mark.parametrize(
    ("what", "point"),
    [
        pytest.param(what, point, id=f"{what}-{point.name.lower()}")
        for what, points in CHANGES.items()
        for point in points
    ],
)
def test_a_change_that_died_is_made_by_the_same_command(tmp_path, processes, grounds, what, point):
    before, whole = grounds
    home = tmp_path / "home"
    shutil.copytree(before, home)
    times = TIMES.get((what, point), 1)
    process = processes.Process(target=change_and_die, args=(what, home, point, times))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    manifest = read_manifest(home / "made")
    assert list(examine(home / "made", manifest)) == []
    listed = {name: (home / "made" / name).read_bytes() for name in manifest.all_files()}
    old = contents(before / "made")
    assert any(
        listed == {n: data for n, data in files.items() if n in listed} for files in (old, whole[what])
    )
    again = home / "again"
    change(what, home, again)
    assert contents(home / "made") == whole[what]
    assert not Home(home).building("made").exists()
    paid = [
        line for path in (home / "ledger", again) if path.exists() for line in path.read_text().splitlines()
    ]
    assert len(paid) - len(set(paid)) <= 2 * 10  # of the requests that were under way
    if what in ("sync", "add") and point in NEW_PART[NEW_PART.index(Failpoint.DOCUMENTS) :]:
        assert not again.exists()
