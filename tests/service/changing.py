"""An index that is rebuilt, changed, damaged and removed while clients ask for it over HTTP without a pause.

Every answer has to be one that some state of the index gives which it had between question and answer;
every refusal one that tells the truth at that time.
"""

import http.client
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from resizable_search.build.build import compact
from resizable_search.build.delete import delete
from resizable_search.search.index import open_index
from tests.service.conftest import built

TEXTS = ("tree leaf", "storm rain", "queue heap", "sand rock", "hash table", "snow ice")
K = 5
RankedHits = tuple[tuple[str, float], ...]


@dataclass
class State:
    """What is right in a phase: hits by text of each state of the index, and refusals by status."""

    name: str
    right: list[dict[str, RankedHits]]
    refusals: dict[int, str] = field(default_factory=dict)


def answers(home: Path) -> dict[str, RankedHits]:
    """What the index answers now, by text."""
    with open_index("made", home=home, engine="numpy") as index:
        return {
            text: tuple((hit.id, hit.score) for hit in index.query(text, K, dim=16, rerank=4))
            for text in TEXTS
        }


class Clients:
    """Threads that ask one question after the other, and check each answer by the phases it fell into."""

    def __init__(self, port: int, count: int, first: State) -> None:
        self._port = port
        self._phases = [first]
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.statuses: dict[str, Counter[int]] = {}
        self.wrong: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def enter(self, state: State) -> None:
        """From here on also what this state says is right."""
        with self._lock:
            self._phases.append(state)

    def stay(self, requests: int, seconds: float = 60) -> None:
        """Until so many requests that began in this phase were answered."""
        name = self._phases[-1].name
        until = time.monotonic() + seconds
        while sum(self.statuses.get(name, Counter()).values()) < requests:
            assert time.monotonic() < until, f"no answers any more in '{name}': {self.wrong[:3]}"
            time.sleep(0.005)

    def stop(self) -> None:
        """End them."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stop.is_set():
            text = TEXTS[number % len(TEXTS)]
            number += 1
            body = json.dumps({"query": text, "index": "made", "k": K, "dim": 16, "rerank": 4})
            begin = len(self._phases) - 1
            try:
                connection.request("POST", "/api/search", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                status, reply = answer.status, json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.wrong.append(f"{self._phases[-1].name}: no answer ({error!r})")
                connection.close()
                time.sleep(0.05)
                continue
            with self._lock:
                phases = self._phases[begin:]
                self.statuses.setdefault(phases[0].name, Counter())[status] += 1
            if status == 200:
                hits = tuple((hit["id"], hit["score"]) for hit in reply["hits"])
                if not any(hits == right[text] for phase in phases for right in phase.right):
                    self.wrong.append(f"{phases[0].name}: {text} found {[id for id, _ in hits]}")
            elif not any(phase.refusals.get(status, "\0") in reply["error"] for phase in phases):
                self.wrong.append(f"{phases[0].name}: {status} {reply['error']}")
        connection.close()


def change_all(home: Path, port: int, *, clients: int = 8, requests: int = 40, rebuilds: int = 2) -> Clients:
    """Go through every change while clients ask; each phase lasts for so many requests."""
    now = answers(home)
    asking = Clients(port, clients, State("before", [now]))
    try:
        asking.stay(requests)
        for turn in range(rebuilds):
            aside = home.parent / f"seed{turn}"
            built(aside, seed=100 + turn)
            after = answers(aside)
            now = _change(
                asking, f"rebuilt {turn}", now, lambda t=turn: built(home, seed=100 + t, restart=True), after
            )
            shutil.rmtree(aside)
            asking.stay(requests)
        gone = now[TEXTS[0]][0][0]
        aside = home.parent / "deleted"
        shutil.copytree(home / "made", aside / "made")
        delete(aside / "made", [gone])
        after = answers(aside)
        shutil.rmtree(aside)
        now = _change(asking, "deleted", now, lambda: delete(home / "made", [gone]), after)
        asking.stay(requests)
        now = _change(asking, "compacted", now, lambda: compact(home / "made"), now)
        asking.stay(requests)
        _damage(asking, home, now, requests)
        asking.enter(State("removing", [now], {404: "", 503: "made"}))
        shutil.rmtree(home / "made")
        asking.enter(State("removed", [], {404: ""}))
        asking.stay(requests)
        asking.enter(State("built again", [now := _answers_of(home.parent / "again")], {404: ""}))
        built(home, seed=500)
        asking.enter(State("back", [now]))
        asking.stay(requests)
    finally:
        asking.stop()
    return asking


def _answers_of(aside: Path) -> dict[str, RankedHits]:
    built(aside, seed=500)
    right = answers(aside)
    shutil.rmtree(aside)
    return right


def _change(
    asking: Clients,
    name: str,
    before: dict[str, RankedHits],
    change: Callable[[], object],
    after: dict[str, RankedHits],
) -> dict[str, RankedHits]:
    asking.enter(State(f"being {name}", [before, after]))
    change()
    asking.enter(State(name, [after]))
    return after


def _replace(path: Path, content: bytes) -> None:
    """Give a file another content. Files are replaced, never written to: a process may have them mapped."""
    beside = path.with_name("beside")
    beside.write_bytes(content)
    os.replace(beside, path)


def _damage(asking: Clients, home: Path, now: dict[str, RankedHits], requests: int) -> None:
    """Replace each kind of file by a part of it, take it away, and mend it."""
    folder = home / "made"
    full = max((path for path in folder.glob("*.npy")), key=lambda path: int(path.stem))
    for path in (full, folder / "tiers" / "16.int8.npy", folder / "16.npy", folder / "manifest.json"):
        if not path.exists():
            continue
        name = str(path.relative_to(folder))
        whole = path.read_bytes()
        asking.enter(State(f"cutting {name}", [now], {503: name}))
        _replace(path, whole[: len(whole) // 3])
        asking.enter(State(f"cut {name}", [], {503: name}))
        asking.stay(requests)
        asking.enter(State(f"mending {name}", [now], {503: name}))
        _replace(path, whole)
        asking.enter(State(f"mended {name}", [now]))
        asking.stay(requests)
        asking.enter(State(f"taking {name}", [now], {503: name, 404: "made"}))
        path.rename(home / "aside")
        asking.enter(State(f"without {name}", [], {503: name, 404: "made"}))
        asking.stay(requests)
        asking.enter(State(f"{name} put back", [now], {503: name, 404: "made"}))
        (home / "aside").rename(path)
        asking.enter(State(f"{name} is back", [now]))
        asking.stay(requests)
