"""Many at work on one index at once: builders that begin together, builders and removers mixed."""

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from resizable_search.store.layout import Home
from tests.cli.conftest import ARTICLES, PATIENCE, Machine, Ran, another_api
from tests.hostile import Row
from tests.hostile.worker import DOCUMENTS, damage
from tests.servers.nomic_api import HANG

ROOT = Path(__file__).parents[2]


def start(*words: object) -> "subprocess.Popen[str]":
    """Start a process of the crowd."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.worker", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def builders_at_once(folder: Path, count: int) -> Row:
    """So many processes that begin the same build in the same moment: one builds, the others are refused."""
    home, gate = Home(folder / "home"), folder / "gate"
    with ExitStack() as stack:
        crowd = [stack.enter_context(start("build", home.path, gate)) for _ in range(count)]
        for process in crowd:
            process.stdout.readline()
        for process in crowd:
            process.stdin.write("go\n")
            process.stdin.flush()
        until = time.monotonic() + PATIENCE
        while sum(process.poll() is None for process in crowd) > 1 and time.monotonic() < until:
            time.sleep(0.01)
        (builder,) = [process for process in crowd if process.poll() is None] or [crowd[0]]
        gate.touch()
        said = [json.loads(process.communicate(timeout=PATIENCE)[0]) for process in crowd]
    refused = [found["refused"] for found in said if "refused" in found]
    holder = f"being built by process {builder.pid} on {socket.gethostname()}:"
    asked = Counter(text for found in said for text in found["asked"])
    wrong = damage(home)
    if len(refused) != count - 1 or any(holder not in words for words in refused):
        wrong.append(f"refused: {refused}")
    if len(asked) != DOCUMENTS:
        wrong.append(f"{len(asked)} texts were embedded")
    return _at_once(count, wrong, asked)


def _at_once(count: int, wrong: list[str], asked: Counter[str]) -> Row:
    twice = sum(asked.values()) - len(asked)
    if twice:
        wrong.append("texts were billed twice")
    situation = f"{count} builds of the same index begin at once"
    return Row(situation, f"1 builds, {count - 1} are refused", None, twice, "; ".join(wrong))


def commands_at_once(machine: Machine, count: int) -> Row:
    """The same with the command and a service: the builder's first request hangs until all are refused."""
    with another_api(machine) as api:
        api.spoil(HANG, 1)
        crowd = [machine.start("build", "wiki100k", "--concurrency", 2) for _ in range(count)]
        until = time.monotonic() + PATIENCE
        while sum(process.poll() is None for process in crowd) > 1 and time.monotonic() < until:
            time.sleep(0.05)
        alive = [process.pid for process in crowd if process.poll() is None]
        api.release()
        ended: list[Ran] = [machine.end(process) for process in crowd]
        holder = f"process {alive[0] if alive else '?'} on {socket.gethostname()}:"
        refused = [ran for ran in ended if ran.code == 1 and ran.err.count("\n") == 1 and holder in ran.err]
        wrong = []
        if len(refused) != count - 1 or sum(ran.code == 0 for ran in ended) != 1:
            wrong.append(f"{[(ran.code, ran.last) for ran in ended]}")
        if machine.run("verify", "wiki100k", "--full").code:
            wrong.append("the index is damaged")
        if len(api.answered) != ARTICLES:
            wrong.append(f"{len(api.answered)} texts were embedded")
        return _at_once(count, wrong, api.answered)


def mixed(folder: Path, count: int, seconds: float) -> Row:
    """So many processes that build, remove, look at and query one index for some time."""
    home = Home(folder / "home")
    home.path.mkdir(parents=True)
    with ExitStack() as stack:
        crowd = [stack.enter_context(start("mixed", home.path, seed, seconds)) for seed in range(count)]
        said = [json.loads(process.communicate(timeout=PATIENCE + seconds)[0]) for process in crowd]
    wrong = [words for found in said for words in found["wrong"]] + damage(home)
    if home.unfinished():
        wrong.append("an unfinished build is left")
    came: Counter[str] = Counter()
    for found in said:
        came.update(found["came"])
    if not all(came[f"{what}: done"] for what in ("build", "remove", "inspect", "query")):
        wrong.append("not everything came to pass")
    told = ", ".join(f"{times} × {what}" for what, times in sorted(came.items()))
    situation = f"{count} processes build, remove and query for {seconds:g} s"
    return Row(situation, told, wrong="; ".join(sorted(set(wrong))[:5]))
