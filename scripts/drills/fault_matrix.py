"""What becomes of a build when the service fails, in each way that it can.

    .venv/bin/python scripts/drills/fault_matrix.py [--rows 600] [--at-once 6] [--only WORD]
    .venv/bin/python scripts/drills/fault_matrix.py --rates 240,1200 [--seconds 60]

Builds an index of `--rows` texts through Nomic's real client against a loopback API, 8 requests at once
and 20 ms each; calls are given up after 60 s (5 s for what hangs) instead of 120. Each fault befalls 10 %
of the requests, then all of them from some moment on, then all that can be cured befall 10 % together.
Where a build ends by an error, the service is healed and the same call is made again. Tells how each
ended, requests, repeats, seconds, texts billed twice, `late` requests (sent although the answer that ends
all was in), and whether the index is that of a build which nobody disturbed. Exit 1 if one is not.

With --rates, that a build keeps the service's rate limit, and fills it: it builds for so many seconds at each
rate against an API that answers in 200 ms, and tells from when the requests came how many there were of those
that the rate permits, and the most within any window of 10 and of 60 s. Exit 1 below 95 % or above the limit.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.embedders.nomic import NomicEmbedder
from resizable_search.errors import BuildStoppedError, RsearchError
from resizable_search.store.layout import NAMES, Home
from scripts.benchmarks._measure import parser_of, show
from tests.servers import nomic_api as api
from tests.servers.nomic_api import KEY, NomicServer, status
from tests.support import ListCorpus, articles

MARK = "text 123 of a"
NAME = "made"
TIMEOUT, SHORT_TIMEOUT = 60.0, 5.0
"""Seconds until a call is given up: the client's own repeats take 31; the short one is for what hangs."""

PACE_LATENCY = 0.2
"""Seconds of an answer while a rate is tried."""

CURABLE = {
    "429": status(429),
    "429, Retry-After": status(429, retry_after="2"),
    "500": status(500),
    "503, HTML body": status(503, body="<html>Bad gateway</html>"),
    "connection dropped": api.DROP,
    "HTML instead of JSON": api.HTML,
    "too few vectors": api.TOO_FEW,
    "NaN": api.NAN,
    "no embeddings": api.NO_ROWS,
    "hangs past the timeout": api.HANG,
}
FINAL = {
    "401": status(401),
    "402": status(402),
    "another model": api.OTHER_MODEL,
    "another width": api.WRONG_WIDTH,
}


@dataclass
class Outcome:
    """How a build went."""

    name: str
    ended: str
    requests: int
    repeats: int
    seconds: float
    twice: int
    late: int
    same: bool


def scenarios() -> dict[str, tuple[list[Any], float, str]]:
    """By name: the faults, the share of requests that they befall, and `--on-bad-text`."""
    found: dict[str, tuple[list[Any], float, str]] = {}
    for name, fault in CURABLE.items():
        found[f"{name}, 10 %"] = ([fault], 0.1, "skip")
    mixed = [fault for fault in CURABLE.values() if fault is not api.HANG]
    found["all that can be cured, 10 %"] = (mixed, 0.1 / len(mixed), "skip")
    for name, fault in (*CURABLE.items(), *FINAL.items()):
        found[f"{name}, always"] = ([fault], 1.0, "skip")
    found["422 for one text, skip"] = ([status(422, marker=MARK)], 1.0, "skip")
    found["422 for one text, fail"] = ([status(422, marker=MARK)], 1.0, "fail")
    return found


def run(name: str, rows: int) -> Outcome:
    """One scenario, in this process."""
    faults, share, on_bad_text = scenarios()[name]
    os.environ["NOMIC_API_KEY"] = KEY
    with tempfile.TemporaryDirectory() as folder, NomicServer(latency=0.02) as server:
        os.environ["ATLAS_API_PATH"] = server.url
        whole, home = Home(Path(folder) / "whole"), Home(Path(folder) / "home")
        build_once(whole, rows, "skip")
        server.answered.clear()
        server.arrived.clear()
        after = rows // 30 if share == 1.0 and on_bad_text == "skip" else 0  # a third goes well
        for fault in faults:
            server.spoil(fault, None, probability=share, after=0 if fault.marker else after)
        begun, report, ended = time.perf_counter(), None, "finished"
        try:
            timeout = SHORT_TIMEOUT if api.HANG in faults else TIMEOUT
            report = build_once(home, rows, on_bad_text, timeout)
        except RsearchError as error:
            ended = f"{type(error).__name__}: {error}"
        seconds = time.perf_counter() - begun
        final = server.first_fault
        late = sum(at > final + 0.05 for at in server.arrived) if final else 0
        told = json.loads((home.state(NAME) / NAMES.report).read_text()) if report else {}
        twice = sum(times - 1 for times in server.answered.values())
        requests = len(server.arrived)
        server.heal()
        if report is None:
            build_once(home, rows, "skip")
        left_out = 1 if "422" in name and report else 0
        same = left_out == len(report.left_out if report else ()) and (left_out or same_files(whole, home))
        return Outcome(name, ended, requests, told.get("repeats", 0), seconds, twice, late, bool(same))


def build_once(home: Home, rows: int, on_bad_text: Any, timeout: float = TIMEOUT) -> Any:
    """One build of the texts."""
    options = BuildOptions(NAME, dims=(64,), on_bad_text=on_bad_text)
    return build(ListCorpus(articles(rows)), NomicEmbedder(timeout=timeout), home, options)


def same_files(one: Home, other: Home) -> bool:
    """Whether both homes hold the same index, manifests apart."""
    held = [
        {
            str(path.relative_to(home.index(NAME))): path.read_bytes()
            for path in home.index(NAME).rglob("*")
            if path.is_file() and path.name != NAMES.manifest
        }
        for home in (one, other)
    ]
    return held[0] == held[1]


def most_within(times: list[float], seconds: float) -> int:
    """The most requests that came within any so many seconds."""
    most = first = 0
    for last in range(len(times)):
        while times[last] - times[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def arrivals(rate: float, seconds: float) -> list[float]:
    """When requests came from a build of that rate, while it went on for so long."""
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder, NomicServer(latency=PACE_LATENCY) as server:
        os.environ |= {"ATLAS_API_PATH": server.url, "NOMIC_API_KEY": KEY}
        corpus = ListCorpus(articles(int(2 * rate / 60 * seconds * NomicEmbedder.batch_size)))
        embedder = NomicEmbedder()
        embedder.check()  # connecting is not embedding
        timer = threading.Timer(seconds + 2, stop.set)
        timer.start()
        with suppress(BuildStoppedError):
            build(
                corpus,
                embedder,
                Home(Path(folder)),
                BuildOptions("pace", requests_per_minute=rate),
                stop=stop,
            )
        began = server.arrived[0]
        return [at - began for at in server.arrived if at - began <= seconds]


def keeps_pace(rates: str, seconds: float) -> bool:
    """Build at each rate, and print what came; whether each was kept and filled."""
    rows, wrong = [], 0
    for rate in map(float, rates.split(",")):
        times = arrivals(rate, seconds)
        permitted = rate / 60 * seconds
        share = len(times) / permitted
        in_10, in_60 = most_within(times, 10), most_within(times, 60)
        wrong += share < 0.95 or len(times) > permitted + rate / 60  # a second's worth is caught up
        windows = f"{in_10} of {rate / 6:.0f}", f"{in_60} of {rate:.0f}"
        rows.append((f"{rate:.0f}", f"{permitted:.0f}", str(len(times)), f"{share:.1%}", *windows, ""))
    show(("requests a minute", "permitted", "sent", "filled", "most in 10 s", "most in 60 s", ""), rows)
    return not wrong


def main() -> int:
    """Run every scenario in a process of its own; 1 if one came out wrong."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=600, help="texts (default: %(default)s)")
    parser.add_argument("--at-once", type=int, default=6, help="scenarios (default: %(default)s)")
    parser.add_argument("--only", default="", help="scenarios with this in their name")
    parser.add_argument("--one", help="run this one here, and print it as JSON")
    parser.add_argument("--rates", help="try these rates instead, in requests a minute: 240,1200")
    parser.add_argument("--seconds", type=float, default=60, help="for each rate (default: %(default)s)")
    args = parser.parse_args()
    if args.rates:
        return int(not keeps_pace(args.rates, args.seconds))
    if args.one:
        print(json.dumps(asdict(run(args.one, args.rows))))
        sys.stdout.flush()
        os._exit(0)  # requests that hang are left alone
    names = [name for name in scenarios() if args.only in name]

    def start(name: str) -> Outcome:
        command = [sys.executable, __file__, "--one", name, "--rows", str(args.rows)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=1800)
        return Outcome(**json.loads(done.stdout))

    with ThreadPoolExecutor(args.at_once) as pool:
        outcomes = list(pool.map(start, names))
    show(
        ("fault", "requests", "repeats", "seconds", "billed twice", "late", "same index", "ended"),
        [
            (
                o.name,
                str(o.requests),
                str(o.repeats) if o.ended == "finished" else "",
                f"{o.seconds:.1f}",
                str(o.twice),
                str(o.late) if o.name.split(",")[0] in FINAL else "",
                "yes" if o.same else "NO",
                o.ended.partition(":")[0],
            )
            for o in outcomes
        ],
    )
    for o in outcomes:
        print("" if o.ended == "finished" else f"\n{o.name}\n  {o.ended}", end="")
    print()
    return int(not all(o.same for o in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
