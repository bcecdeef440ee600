"""That a Ray cluster makes the same indexes and gives the same answers, whatever dies.

    .venv/bin/python scripts/drills/cluster.py [--only same,driver,…] [--rows 16015]

A cluster of three nodes runs on this machine, and an endpoint that answers each request of 32 texts after
--latency seconds, 6 requests a worker at once. The corpus are the articles of $RSEARCH_TEST_DATA.

same     the corpus built plain, with 1, 2 and 4 workers, and as 5 merged shards compacted
driver   SIGKILL of the build, ten times, which is begun again each time
workers  SIGKILL of a random worker process every 5 s of a build
raylet   SIGKILL of a raylet that is not the head's, during a build and 1,000 queries; another joins
search   1,000 queries over 4 parts of 100,000 x 256, a worker process is killed every 5 s
scaling  texts a second with 1, 2 and 4 workers, and what share of the cores each process takes: at the first
         of --requests the latency must be the bound, and 4 workers 0.9 x 4 as fast; more fill small machines
ratio    a query over 4 parts of --scanned x 256 by 2 actors, beside one process with 2 threads: at most 1.3
         times as long and a fixed cost, which 10,000 rows show

Prints a line of each, with the texts that were asked twice and the longest wait. Exit 1 if an index or an
answer differs, or if a kill cost more than 200 texts a worker.
"""

import asyncio
import base64
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "benchmarks")]

from _measure import alternate, clustered, machine, median_ms, parser_of, show, verdict
from _vectors import data_folder

from resizable_search.build.build import build, build_vectors
from resizable_search.build.workspace import BuildOptions
from resizable_search.cluster.connection import RayOptions, connected
from resizable_search.cluster.embedder import on_cluster
from resizable_search.cluster.search import RayEngines
from resizable_search.corpora.inputs import TextsCorpus
from resizable_search.embedders import registry
from resizable_search.errors import ClusterError
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from tests.build.changes.conftest import contents
from tests.cli.conftest import COMMAND

KINDS = ("same", "driver", "workers", "raylet", "search", "scaling", "ratio")
WIDTH, TABLE = 256, 1 << 12
KILL_SECONDS = 5.0
DRIVER_KILLS = 10
MOST_TWICE = 200
"""The texts that the death of a worker may cost."""
MOST_TIMES = 1.3
"""How many times as long as by one process a query may take by actors, beside the fixed cost."""
PAUSE_SECONDS = 0.1
"""Before each query of `ratio`: BLAS's threads spin after theirs, and take a core from whoever comes next."""
TEXTS = 32
"""Texts of a request."""
LINEAR = 0.9
"""How much of a linear growth by workers is required."""
STEADY_SECONDS, SETTLING_SECONDS = 15.0, 2.0
"""How long `scaling` asks for texts if only the latency counts, and what it leaves out at both ends."""


# -- an endpoint that costs next to nothing: vectors are made before, a text has one by its checksum


class Endpoint(asyncio.Protocol):
    """A connection of a client that speaks `POST /v1/embeddings` in base64."""

    rows: list[bytes] = []
    asked: Counter[int] = Counter()
    latency = 0.0
    arrivals: list[tuple[float, int]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport: Any = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        """Answer each whole request, after the latency."""
        self.received += data
        head, blank, body = self.received.partition(b"\r\n\r\n")
        size = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        if not blank or len(body) < size:
            return
        self.received = body[size:]
        sums = [zlib.crc32(text.encode()) for text in json.loads(body[:size])["input"]]
        Endpoint.asked.update(sums)
        Endpoint.arrivals.append((time.monotonic(), len(sums)))
        items = [b'{"index":%d,"embedding":"%b"}' % (i, self.rows[one % TABLE]) for i, one in enumerate(sums)]
        content = b'{"model":"drill","data":[%b]}' % b",".join(items)
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
            content
        )
        asyncio.get_running_loop().call_later(Endpoint.latency, self.transport.write, answer + content)


def serve(orders: Connection) -> None:
    """Run the endpoint, and follow orders: a latency forgets what was asked, None asks for it."""
    vectors = np.random.default_rng(0).standard_normal((TABLE, WIDTH)).astype("<f4")
    Endpoint.rows = [base64.b64encode(row.tobytes()) for row in vectors]

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Endpoint, "0.0.0.0", 0)
        orders.send(server.sockets[0].getsockname()[1])
        while True:
            order = await loop.run_in_executor(None, orders.recv)
            if order is None:
                orders.send((dict(Endpoint.asked), Endpoint.arrivals))
            else:
                Endpoint.latency = order
                Endpoint.asked, Endpoint.arrivals = Counter(), []
                orders.send(None)

    asyncio.run(run())


# -- what runs, and what dies


@dataclass
class Ground:
    """A cluster, the endpoint and a home; `lines` are those of the table."""

    args: Namespace
    folder: Path
    cluster: Any
    port: int
    orders: Connection
    server: int
    lines: list[tuple[str, ...]] = field(default_factory=list)
    held: bool = True

    def tell(self, what: str, kills: int, seconds: float, same: bool, cost: str, note: str = "") -> None:
        """Add a line."""
        self.held &= same
        self.lines.append((what, str(kills), f"{seconds:.1f}", "yes" if same else "NO", cost, note))
        print(" · ".join(self.lines[-1]), flush=True)

    def begin(self, latency: float | None = None) -> None:
        """Count from here on, and answer so late."""
        self.orders.send(self.args.latency if latency is None else latency)
        self.orders.recv()

    def asked(self) -> tuple[int, int, list[tuple[float, int]]]:
        """The texts that were asked, those asked once more, and when each request of how many arrived."""
        self.orders.send(None)
        counts, arrivals = self.orders.recv()
        return len(counts), sum(count - 1 for count in counts.values()), arrivals

    def command(self, name: str, *more: str, corpus: Path | None = None) -> "subprocess.Popen[bytes]":
        """A build that runs."""
        host = self.cluster.address.partition(":")[0]
        words = [str(COMMAND), "build", "files", str(corpus or self.folder / "corpus"), "--chunk", "0"]
        words += ["--home", str(self.folder / "home"), "--name", name, "--dims", "64", "--embedder", "openai"]
        words += ["--model", "drill", "--base-url", f"http://{host}:{self.port}/v1", *more]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=(self.folder / name).open("ab"))

    def build(self, name: str, *more: str, corpus: Path | None = None) -> float:
        """Build, and the seconds."""
        began = time.perf_counter()
        if self.command(name, *more, corpus=corpus).wait():
            raise SystemExit((self.folder / name).read_text())
        return time.perf_counter() - began

    def on_ray(self, workers: int) -> tuple[str, ...]:
        """Options of a build on the cluster."""
        return "--ray", self.cluster.address, "--workers", str(workers)

    def is_plain(self, name: str) -> bool:
        """Whether an index is that of the undisturbed build, which is made when it is first asked for."""
        home = self.folder / "home"
        if not (home / "plain").exists():
            self.begin(0.0)
            self.build("plain")
        merged = ("generation", "source") if name == "merged" else ()
        return contents(home / name, merged) == contents(home / "plain", merged)

    def workers(self) -> list[int]:
        """The worker processes of the cluster that do something."""
        raylets = {node.all_processes["raylet"][0].process.pid for node in self.cluster.list_all_nodes()}
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words, status = (path / "cmdline").read_bytes(), (path / "stat").read_text()
            except OSError:
                continue
            parent = int(status.rpartition(")")[2].split()[1])
            if parent in raylets and words.startswith((b"ray::EmbedWorker", b"ray::ScanWorker")):
                found.append(int(path.name))
        return found

    def kill_workers(self, is_done: Callable[[float], bool]) -> int:
        """Kill a worker process every 5 s until all is done; how many."""
        rng, kills = random.Random(0), 0
        while not is_done(KILL_SECONDS):
            if found := self.workers():
                os.kill(rng.choice(found), signal.SIGKILL)
                kills += 1
        return kills

    def kill_raylet(self, is_done: Callable[[float], bool]) -> int:
        """Kill the raylet of a node that works, after a while; another joins later."""
        is_lost = False
        while not is_lost:
            if is_done(KILL_SECONDS):
                raise SystemExit("it was done before a raylet was killed: take more rows")
            is_lost = self._lose_node()
        if not is_done(KILL_SECONDS):
            self.cluster.add_node(wait=False, num_cpus=2)
        while not is_done(KILL_SECONDS):
            pass
        return 1

    def _lose_node(self) -> bool:
        busy = set(self.workers())
        for node in self.cluster.list_all_nodes():
            raylet = node.all_processes["raylet"][0].process
            if node is self.cluster.head_node or raylet.poll() is not None:
                continue
            own = Path(f"/proc/{raylet.pid}/task/{raylet.pid}/children").read_text().split()
            if busy.intersection(map(int, own)):
                raylet.kill()
                return True
        return False


def ended(process: "subprocess.Popen[bytes]") -> Callable[[float], bool]:
    """Whether a process has ended within so many seconds."""

    def is_done(seconds: float) -> bool:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    return is_done


def same(ground: Ground) -> None:
    """Five ways to one index."""
    ground.begin()
    for workers in (1, 2, 4):
        seconds = ground.build(f"by-{workers}", *ground.on_ray(workers))
        ground.tell(f"{workers} workers", 0, seconds, ground.is_plain(f"by-{workers}"), "")
    shards = [f"shard-{number}" for number in range(1, 6)]
    began = time.perf_counter()
    for number, name in enumerate(shards, 1):
        ground.build(name, "--shard", f"{number}/5")
    home = ("--home", str(ground.folder / "home"))
    subprocess.run([COMMAND, "merge", "merged", *shards, *home], check=True, capture_output=True)
    subprocess.run([COMMAND, "compact", "merged", *home], check=True, capture_output=True)
    ground.tell("5 shards, merged", 0, time.perf_counter() - began, ground.is_plain("merged"), "")


def driver(ground: Ground) -> None:
    """A build that is killed ten times."""
    began, twice, most, workers = time.perf_counter(), 0, 0, 2
    ground.begin()
    kills = 0
    while True:
        process = ground.command("driven", *ground.on_ray(workers))
        goal = ground.args.rows * (kills + 1) // (DRIVER_KILLS + 1)
        is_done = ended(process)
        while not is_done(0.05) and (kills == DRIVER_KILLS or ground.asked()[0] < goal):
            pass
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
        again = ground.asked()[1]
        most, twice = max(most, again - twice), again
    most = max(most, ground.asked()[1] - twice)
    is_sound = process.returncode == 0 and kills == DRIVER_KILLS and most <= MOST_TWICE * workers
    cost = f"{ground.asked()[1]} twice, {most} by a kill at most"
    seconds = time.perf_counter() - began
    ground.tell("driver killed", kills, seconds, is_sound and ground.is_plain("driven"), cost)


def disturbed(ground: Ground, name: str, kill: Callable[..., int], latency: float, workers: int = 3) -> None:
    """A build during which something dies."""
    began = time.perf_counter()
    ground.begin(latency)
    process = ground.command(name, *ground.on_ray(workers))
    kills = kill(ended(process))
    twice = ground.asked()[1]
    is_sound = process.returncode == 0 and twice <= MOST_TWICE * max(kills, 1)
    seconds = time.perf_counter() - began
    ground.tell(f"{name}, build", kills, seconds, is_sound and ground.is_plain(name), f"{twice} texts twice")


def workers(ground: Ground) -> None:
    """A build whose workers die."""
    disturbed(ground, "workers", ground.kill_workers, 10 * ground.args.latency)


def raylet(ground: Ground) -> None:
    """A build and queries during which a node is lost."""
    disturbed(ground, "raylet", ground.kill_raylet, 10 * ground.args.latency)
    search(ground, "raylet", ground.kill_raylet)


def search(ground: Ground, name: str = "search", kill: Callable[..., int] | None = None) -> None:
    """A thousand queries, some 60 ms apart, during which something dies."""
    folder = parted(ground, 100_000)
    queries = np.random.default_rng(1).standard_normal((ground.args.queries, WIDTH)).astype(np.float32)
    waits: list[float] = []
    wrong: list[bool] = []
    refused: list[str] = []
    done = threading.Event()
    options = RayOptions(ground.cluster.address, workers=2)
    with (
        open_index(folder, engine="numpy") as alone,
        open_index(folder, engine=RayEngines(options)) as spread,
    ):
        spread.scan(queries[:1])

        def ask() -> None:
            try:
                ask_all()
            finally:
                done.set()

        def ask_all() -> None:
            for query in queries[:, None]:
                began = time.perf_counter()
                plan = ("256", "64:100,256", "256:1bit:400,256")[len(waits) % 3]
                try:
                    found = spread.scan(query, plan=plan)
                except ClusterError as error:  # an actor that is killed twice at one scan
                    refused.append(str(error))
                    continue
                finally:
                    waits.append(time.perf_counter() - began)
                expected = alone.scan(query, plan=plan)
                same = [np.array_equal(getattr(found, x), getattr(expected, x)) for x in ("rows", "scores")]
                wrong.append(not all(same))
                time.sleep(max(0.0, 0.06 - (time.perf_counter() - began)))

        threading.Thread(target=ask, daemon=True).start()
        kills = (kill or ground.kill_workers)(done.wait)
    note = f"median {np.median(waits) * 1e3:.0f} ms, slowest {max(waits):.1f} s"
    is_sound = len(wrong) + len(refused) == len(queries) and not any(wrong)
    ground.tell(f"{name}, queries", kills, sum(waits), is_sound, f"{len(refused)} refused", note)


def parted(ground: Ground, rows: int) -> Path:
    """An index of four parts of random vectors."""
    home, name, vectors = Home(ground.folder / "home"), f"parted-{rows}", ground.folder / f"{rows}.npy"
    if not home.index(name).exists():
        np.save(vectors, clustered(rows, WIDTH))
        for limit in range(rows // 4, rows + 1, rows // 4):
            build_vectors(vectors, home, BuildOptions(name, limit=limit, dims=(WIDTH,)))
    return home.index(name)


def ratio(ground: Ground) -> None:
    """The time of a query by two actors, beside one process with two threads."""
    queries = np.random.default_rng(1).standard_normal((100, WIDTH)).astype(np.float32)
    fixed: dict[str, float] = {}
    for rows in (10_000, ground.args.scanned):
        folder = parted(ground, rows)
        engines = RayEngines(RayOptions(ground.cluster.address, workers=2))
        with (
            open_index(folder, engine="auto", threads=2) as alone,
            open_index(folder, engine=engines) as spread,
        ):
            alone.warm()
            for plan in ("256", "256:float32", "256:1bit:400,256:int8:30,256"):
                ways = {
                    "alone": lambda i, p=plan: alone.scan(queries[i % 100, None], plan=p),
                    "spread": lambda i, p=plan: spread.scan(queries[i % 100, None], plan=p),
                }
                spent = alternate(ways, 60, warm_up=20, before=lambda _: time.sleep(PAUSE_SECONDS))
                one, two = (median_ms(spent[name]) for name in ways)
                note, times = f"{two:.1f} beside {one:.1f} ms", 0.0
                if plan not in fixed:  # so few rows that what is more is what each query costs
                    fixed[plan] = max(0.0, two - one)
                    note += f": a fixed cost of {fixed[plan]:.1f} ms"
                else:
                    times = (two - fixed[plan]) / one
                    note += f": {times:.2f} times and the fixed cost, {verdict(times, at_most=MOST_TIMES)}"
                ground.tell(f"{rows:,} rows, {plan}", 0, sum(spent["spread"]), times <= MOST_TIMES, "", note)


def scaling(ground: Ground) -> None:
    """Texts a second with more and more workers, all of which are ready before the first text."""
    judged, *further = map(int, ground.args.requests.split(","))
    for requests in (judged, *further):
        one = 0.0
        for count in (1, 2, 4):
            rate, cores = throughput(ground, count, requests)
            one = one or rate
            growth = rate / count / one
            most = count * requests * TEXTS / ground.args.latency
            is_linear = requests != judged or growth >= LINEAR
            words = verdict(growth, at_least=LINEAR) if requests == judged else "(not judged)"
            note = f"{growth:.2f} × linear {words}; {rate / most:.0%} of the latency's bound; cores: {cores}"
            what = f"{count} workers, {requests} requests each"
            ground.tell(what, 0, STEADY_SECONDS, is_linear, f"{rate:,.0f} texts a second", note)


def throughput(ground: Ground, count: int, requests: int) -> tuple[float, str]:
    """Texts a second in the steady state of a build, and the cores that each kind of process took then."""
    host = ground.cluster.address.partition(":")[0]
    openai = registry.create("openai", "drill", {"base_url": f"http://{host}:{ground.port}/v1"})
    number = int(count * requests * TEXTS / ground.args.latency * STEADY_SECONDS)
    texts = TextsCorpus(f"text {i} of some words" for i in range(number))
    options = BuildOptions(f"scaled-{requests}-{count}", dims=(64,), concurrency=count * requests)
    with on_cluster(openai, RayOptions(ground.cluster.address, count)) as embedder:
        embedder.check()
        while "starting" in embedder.status():
            time.sleep(0.1)
        ground.begin()
        home = Home(ground.folder / "home")
        builder = threading.Thread(target=build, args=(texts, embedder, home, options))
        builder.start()
        samples = []
        while builder.is_alive():
            pids = {"build": [os.getpid()], "workers": ground.workers(), "endpoint": [ground.server]}
            used = {kind: sum(map(cpu_seconds, of_kind)) for kind, of_kind in pids.items()}
            samples.append((time.monotonic(), used | {"all": busy_seconds()}))
            builder.join(0.2)
    asked, _, arrivals = ground.asked()
    if asked < number:
        raise SystemExit(f"{number - asked} texts were not asked")
    begin, end = arrivals[0][0] + SETTLING_SECONDS, arrivals[-1][0] - SETTLING_SECONDS
    steady = sum(texts for when, texts in arrivals if begin <= when < end)
    inside = [sample for sample in samples if begin <= sample[0] < end]
    (first, before), (last, after) = inside[0], inside[-1]
    cores = ", ".join(f"{kind} {(after[kind] - before[kind]) / (last - first):.2f}" for kind in after)
    return steady / (end - begin), cores


def busy_seconds() -> float:
    """What all processes have taken of the cores, those of others too."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(numbers[:8]) - numbers[3] - numbers[4]) / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """What a process has taken of the cores; 0 once it has ended."""
    try:
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def prepared(args: Namespace) -> Iterator[Ground]:
    """The cluster, the endpoint and the corpus."""
    os.environ |= {"PYTHONPATH": str(ROOT), "RAY_raylet_start_wait_time_s": "120"}
    os.environ |= {"RAY_DEDUP_LOGS_SKIP_REGEX": ".", "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ |= {"RAY_worker_niceness": "0"}  # as the endpoint and the build: they share this machine
    import pyarrow.parquet as pq
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        left = args.rows
        for path in sorted((data_folder() / "wikipedia").rglob("*.parquet")):
            table = pq.read_table(path).slice(0, left)
            left -= len(table)
            pq.write_table(table, corpus / path.name, row_group_size=500)
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("fork").Process(target=serve, args=(theirs,), daemon=True)
        server.start()
        port = ours.recv()
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **args.ray}
        )
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=2)
            cluster.wait_for_nodes()
            with connected(RayOptions(cluster.address)):
                yield Ground(args, Path(folder), cluster, port, ours, server.pid)
        finally:
            cluster.shutdown()
            server.kill()


def main() -> int:
    """Run what is asked for; 1 if something differs."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", default=",".join(KINDS), help="(default: %(default)s)")
    parser.add_argument("--rows", type=int, default=16_015, help="articles (default: %(default)s)")
    parser.add_argument(
        "--latency", type=float, default=0.2, help="seconds of a request (default: %(default)s)"
    )
    parser.add_argument(
        "--requests", default="2,6", help="at once by a worker of scaling (default: %(default)s)"
    )
    parser.add_argument("--queries", type=int, default=1000, help="while workers die (default: %(default)s)")
    parser.add_argument("--scanned", type=int, default=1_000_000, help="rows (default: %(default)s)")
    parser.add_argument("--temp", help="folder of Ray's logs (default: /tmp/ray)")
    args = parser.parse_args()
    args.ray = {"temp_dir": args.temp} if args.temp else {}
    Path("/tmp/ray").mkdir(exist_ok=True)  # where Ray notes the address in any case
    print(machine("ray"))
    with prepared(args) as ground:
        for kind in args.only.split(","):
            globals()[kind](ground)
    head: Sequence[str] = ("what", "kills", "seconds", "same", "cost", "")
    show(head, ground.lines)
    return int(not ground.held)


if __name__ == "__main__":
    raise SystemExit(main())
