"""Readers of an index that is rebuilt and extended all the while: each answer is wholly of one content.

    python -m tests.hostile.readers fresh|kept HOME ANSWERS STOP    # until the file STOP exists

prints one JSON object: how many answers there were, and what was wrong.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.search.index import open_index
from resizable_search.store import writer
from resizable_search.store.layout import Home
from tests.cli.conftest import Machine
from tests.hostile import Row
from tests.servers.dataset import articles
from tests.support import ListCorpus

NAME = "made"
QUERY = "the planet and its orbit, seen by telescope"
HALF, ALL = 60, 120
PAUSE = 0.002
ROOT = Path(__file__).parents[2]

Answer = tuple[tuple[str, float], ...]


class Writer:
    """Builds and extends the index with one content or the other."""

    def __init__(self, home: Path) -> None:
        self.home = Home(home)
        self._contents = [
            [Document(f"{which}{a['id']}", a["title"], a["url"], a["text"]) for a in articles(ALL, seed)]
            for seed, which in enumerate("ab")
        ]

    def write(self, content: int, limit: int) -> None:
        """Build it again with half of a content, or extend it to all of it."""
        options = BuildOptions(NAME, limit=limit, restart=limit == HALF, dims=(16,))
        corpus = ListCorpus(self._contents[content], version=str(content))
        build(corpus, LsaEmbedder(), self.home, options)


def ask(home: Path) -> Answer:
    """The answer of the index that is there now."""
    with open_index(NAME, home=home, engine="numpy") as index:
        return _answer(index)


def _answer(index: Any) -> Answer:
    return tuple((hit.id, hit.score) for hit in index.query(QUERY, k=5))


def right_answers(home: Path) -> list[Answer]:
    """What may be answered, each found where nobody disturbs."""
    writes = Writer(home)
    found = []
    for content in (0, 1):
        for limit in (HALF, ALL):
            writes.write(content, limit)
            found.append(ask(home))
    return found


def read(kind: str, home: Path, right: list[Answer], stop: Callable[[], bool]) -> dict[str, Any]:
    """Ask until `stop`: an index that is opened `fresh` each time, or one that is `kept` for a while."""
    count, wrong = 0, set()
    while not stop():
        time.sleep(PAUSE)
        try:
            if kind == "fresh":
                answers = [ask(home)]
            else:
                with open_index(NAME, home=home, engine="numpy") as index:
                    answers = [_answer(index)]
                    until = time.monotonic() + 0.3
                    while time.monotonic() < until:
                        time.sleep(PAUSE)
                        answers.append(_answer(index))
                if len(set(answers)) > 1:
                    wrong.add("an index that was kept open gave another answer")
        except Exception as error:
            wrong.add(f"{type(error).__name__}: {error}")
            continue
        count += len(answers)
        if not set(answers) <= set(right):
            wrong.add("an answer that is of neither content")
    return {"answers": count, "wrong": sorted(wrong)}


def asking_commands(machine: Machine, folder: Path) -> Callable[[], list[str]]:
    """What asks the index in `folder` by the command, and tells what is wrong with the answer."""
    right: list[tuple[str, ...]] = []

    def ask_too() -> list[str]:
        if not right:
            right.extend(tuple(id_ for id_, _ in found) for found in json.loads(_answers(folder).read_text()))
        ran = machine.run("query", QUERY, "-k", 5, "--json", "-i", folder / "home" / NAME)
        if ran.code:
            return [f"rsearch query: exit code {ran.code}, {ran.last!r}"]
        ids = tuple(hit["id"] for hit in ran.json["hits"])
        return [] if ids in right else ["rsearch query: an answer of neither content"]

    return ask_too


def _answers(folder: Path) -> Path:
    return folder / "answers.json"


def through_rebuilds(
    folder: Path, rounds: int, *, exchanges: bool = True, processes: bool = False, ask_too: Any = None
) -> Row:
    """Rebuild and extend an index, readers asking all the while; `ask_too` is called between the writes."""
    home, stop = folder / "home", folder / "stop"
    right = right_answers(folder / "undisturbed")
    writes = Writer(home)
    writes.write(1, HALF)
    with ExitStack() as stack:
        if processes:
            _answers(folder).write_text(json.dumps(right))
            crowd = [_Process(stack, kind, folder) for kind in ("fresh", "kept")]
        else:
            crowd = [_Thread(kind, home, right, stop) for kind in ("fresh", "kept")]
        wrong: list[str] = []
        try:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            if not exchanges:
                patch.setattr(writer, "exchange", lambda one, other: False)
            for number in range(rounds):
                writes.write(number % 2, HALF)
                writes.write(number % 2, ALL)
                if ask_too is not None:
                    wrong += ask_too()
        finally:
            stop.touch()
            said = [reader.result() for reader in crowd]
    wrong += [words for found in said for words in found["wrong"]]
    count = sum(found["answers"] for found in said)
    if min(found["answers"] for found in said) < rounds:
        wrong.append("there were too few answers to tell")
    how = "in one step" if exchanges else "in two steps"
    situation = f"two readers through {rounds} rebuilds {how}, each extended"
    return Row(situation, f"{count} answers", wrong="; ".join(sorted(set(wrong))[:5]))


class _Thread:
    def __init__(self, kind: str, home: Path, right: list[Answer], stop: Path) -> None:
        self._found: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, args=(kind, home, right, stop.exists))
        self._thread.start()

    def _run(self, *args: Any) -> None:
        self._found = read(*args)

    def result(self) -> dict[str, Any]:
        self._thread.join()
        return self._found


class _Process:
    def __init__(self, stack: ExitStack, kind: str, folder: Path) -> None:
        words = [
            sys.executable,
            "-m",
            __name__,
            kind,
            folder / "home",
            folder / "answers.json",
            folder / "stop",
        ]
        self._process = stack.enter_context(
            subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        )
        self._process.stdout.readline()  # it has read once

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._process.communicate(timeout=60)[0])
        return found


def main(kind: str, home: str, answers: str, stop: str) -> None:
    """Be a reader of a process of one's own."""
    right = [tuple((id_, score) for id_, score in found) for found in json.loads(Path(answers).read_text())]
    ask(Path(home))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdout.write(json.dumps(read(kind, Path(home), right, Path(stop).exists)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
