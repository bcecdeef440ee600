"""A process of a crowd: it builds, removes and queries one index, and tells what came of it.

    python -m tests.hostile.worker build HOME GATE      # begins when a line comes, embeds when GATE exists
    python -m tests.hostile.worker mixed HOME SEED SECONDS

Prints one JSON object.
"""

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from resizable_search.admin.remove import remove
from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.errors import IndexBusyError, IndexNotFoundError
from resizable_search.search.index import open_index
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import read_manifest
from resizable_search.store.verify import examine
from resizable_search.system import build_lock
from tests.support import ListCorpus, TableEmbedder, articles

NAME = "made"
DOCUMENTS = 60
PATIENCE = 60.0


def damage(home: Home) -> list[str]:
    """What is wrong with the index, if there is one: it is whole or absent."""
    folder = home.index(NAME)
    if not folder.exists():
        return []
    return [f"{found.file}: {found.wrong}" for found in examine(folder, read_manifest(folder), full=True)]


def _build_once(home: Home, gate: Path) -> dict[str, Any]:
    embedder = TableEmbedder(width=64, remote=True, concurrency=2)

    def wait(texts: Any) -> None:
        until = time.monotonic() + PATIENCE
        while not gate.exists() and time.monotonic() < until:
            time.sleep(0.01)

    embedder.before = wait
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    try:
        build(ListCorpus(articles(DOCUMENTS)), embedder, home, BuildOptions(NAME))
    except IndexBusyError as error:
        return {"refused": str(error), "asked": embedder.asked}
    return {"asked": embedder.asked}


LATE = 30.0


def _mix(home: Home, seed: int, seconds: float) -> dict[str, Any]:
    """Build, remove, look and query in any order for some time, and until each was done; counts what came.

    A busy machine has up to LATE seconds more.
    """
    chance = random.Random(seed)
    came: Counter[str] = Counter()
    wrong: list[str] = []
    until = time.monotonic() + seconds
    while (late := time.monotonic() - until) < 0 or (
        late < LATE and not all(came[f"{what}: done"] for what in ("build", "remove", "inspect", "query"))
    ):
        what = chance.choice(("build", "build", "remove", "inspect", "query"))
        try:
            came[f"{what}: {_do(what, home, wrong)}"] += 1
        except (IndexBusyError, IndexNotFoundError) as error:
            came[f"{what}: {type(error).__name__}"] += 1
            time.sleep(chance.random() * 0.005)
        except Exception as error:
            wrong.append(f"{what}: {type(error).__name__}: {error}")
    return {"came": came, "wrong": wrong}


def _do(what: str, home: Home, wrong: list[str]) -> str:
    if what == "build":
        report = build(ListCorpus(articles(DOCUMENTS)), TableEmbedder(width=64), home, BuildOptions(NAME))
        if report.manifest.rows != DOCUMENTS:
            wrong.append(f"a build of {report.manifest.rows} rows")
    elif what == "remove":
        remove(NAME, home)
    elif what == "query":
        with open_index(NAME, home=home.path, embedder=TableEmbedder(width=64), engine="numpy") as index:
            if len(index.query("anything", k=10)) != 10:
                wrong.append("a query with too few hits")
    else:
        with build_lock(home.state(NAME) / NAMES.lock, NAME):
            wrong.extend(damage(home))
    return "done"


if __name__ == "__main__":
    what, place, *rest = sys.argv[1:]
    if what == "build":
        result = _build_once(Home(Path(place)), Path(rest[0]))
    else:
        result = _mix(Home(Path(place)), int(rest[0]), float(rest[1]))
    sys.stdout.write(json.dumps(result) + "\n")
