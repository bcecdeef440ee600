"""That a build keeps the service's rate limit, and fills it.

    .venv/bin/python scripts/drills/pace.py [--rates 240,1200] [--seconds 60] [--latency 0.2]

Builds an index through Nomic's real client against a loopback API that answers a request in 200 ms, for
so many seconds at each rate, and tells from when the requests came: how many there were of those that the
rate permits, and the most within any window of 10 and of 60 s. Exit 1 below 95 % or above the limit.
"""

import contextlib
import os
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.embedders.nomic import NomicEmbedder
from resizable_search.errors import BuildStoppedError
from resizable_search.store.layout import Home
from scripts.benchmarks._measure import parser_of, show
from tests.servers.nomic_api import KEY, NomicServer
from tests.support import ListCorpus, articles

BATCH = 10


def most_within(times: list[float], seconds: float) -> int:
    """The most requests that came within any so many seconds."""
    most = first = 0
    for last in range(len(times)):
        while times[last] - times[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def arrivals(rate: float, seconds: float, latency: float) -> list[float]:
    """When requests came from a build of that rate, while it went on for so long."""
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder, NomicServer(latency=latency) as server:
        os.environ |= {"ATLAS_API_PATH": server.url, "NOMIC_API_KEY": KEY}
        corpus = ListCorpus(articles(int(2 * rate / 60 * seconds * BATCH)))
        embedder = NomicEmbedder()
        embedder.check()  # connecting is not embedding
        timer = threading.Timer(seconds + 2, stop.set)
        timer.start()
        with contextlib.suppress(BuildStoppedError):
            build(
                corpus,
                embedder,
                Home(Path(folder)),
                BuildOptions("pace", requests_per_minute=rate),
                stop=stop,
            )
        began = server.arrived[0]
        return [at - began for at in server.arrived if at - began <= seconds]


def main() -> int:
    """Measure and print; 1 if the rate is not kept, or not filled."""
    parser = parser_of(__doc__)
    parser.add_argument("--rates", default="240,1200", help="requests a minute (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="for each (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds a request (default: %(default)s)")
    args = parser.parse_args()
    rows, wrong = [], 0
    for rate in map(float, args.rates.split(",")):
        times = arrivals(rate, args.seconds, args.latency)
        permitted = rate / 60 * args.seconds
        share = len(times) / permitted
        in_10, in_60 = most_within(times, 10), most_within(times, 60)
        wrong += share < 0.95 or len(times) > permitted + rate / 60  # a second's worth is caught up
        rows.append(
            (f"{rate:.0f}", f"{permitted:.0f}", str(len(times)), f"{share:.1%}", f"{in_10} of {rate / 6:.0f}",
             f"{in_60} of {rate:.0f}", "")
        )  # fmt: skip
    show(("requests a minute", "permitted", "sent", "filled", "most in 10 s", "most in 60 s", ""), rows)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
