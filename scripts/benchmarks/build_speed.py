"""What a build of many texts costs: seconds and peak memory, against a loopback API of Nomic.

    .venv/bin/python scripts/benchmarks/build_speed.py [--rows 100000] [--rounds 1] [--rsearch PATH ...]

Builds an index of so many short texts in JSON lines with the real command and the real client: 10 texts a
request, 8 requests at once, answers of 768 numbers that are made beforehand. The same rows are then built
from a .npy file (`build vectors`), added to the index and compacted. --rsearch names the command of another
installation, to be measured turn about. Prints the best seconds, the most memory (RSS) of each, and the
bytes that the home had at its largest.
"""

import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from _measure import machine, parser_of, show

MODEL, WIDTH, BATCH = "nomic-embed-text-v1.5", 768, 10
POLL_SECONDS = 0.2


def answer_of(count: int) -> bytes:
    """The whole response to a request of so many texts."""
    vectors = np.random.default_rng(count).standard_normal((count, WIDTH)).round(6).tolist()
    answer = {"embeddings": vectors, "model": MODEL, "usage": {"total_tokens": 10 * count}}
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def serve(listener: socket.socket) -> None:
    """Answer every request with as many vectors as it has texts."""
    answers = [answer_of(count) for count in range(BATCH + 1)]

    def talk(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as requests:
            while requests.readline():
                length = 0
                while (line := requests.readline().lower()) not in (b"\r\n", b""):
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                body = requests.read(length)
                connection.sendall(answers[len(json.loads(body)["texts"]) if body else 0])

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=talk, args=(connection,), daemon=True).start()


def bytes_below(folder: Path) -> int:
    """The bytes of the files below a folder, which may change meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def run(command: list[str], env: dict[str, str], home: Path) -> tuple[float, float, float]:
    """Seconds, peak MB of memory, and peak MB of the home, of a command that must succeed."""
    began, most = time.perf_counter(), 0
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    done = threading.Event()
    usage = []

    def wait() -> None:
        _, status, resources = os.wait4(process.pid, 0)
        usage.append((status, resources.ru_maxrss / 1e3, time.perf_counter() - began))
        done.set()

    threading.Thread(target=wait).start()
    while not done.wait(POLL_SECONDS):
        most = max(most, bytes_below(home))
    status, memory, seconds = usage[0]
    if status:
        raise SystemExit(f"{' '.join(command)}: {process.stderr.read().decode() if process.stderr else ''}")
    return seconds, memory, most / 1e6


def main() -> int:
    """Build, store, add and compact with each installation, and print the table."""
    own = str(Path(sysconfig.get_path("scripts"), "rsearch"))
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="texts (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--rsearch", action="append", default=[], help="another installation's command")
    args = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    figures: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        texts, more, rows = (Path(folder, name) for name in ("texts.jsonl", "more.jsonl", "rows.npy"))
        for path, prefix, count in ((texts, "t", args.rows), (more, "m", args.rows // 10)):
            lines = (
                json.dumps({"id": f"{prefix}{i}", "text": f"text {i} of {prefix}"}) for i in range(count)
            )
            path.write_text("\n".join(lines) + "\n")
        np.save(rows, np.random.default_rng(0).standard_normal((args.rows, WIDTH), np.float32))
        for _ in range(args.rounds):
            for command in (own, *args.rsearch):
                home = Path(folder, "home")
                env = {
                    **os.environ,
                    "RSEARCH_HOME": str(home),
                    "ATLAS_API_PATH": address,
                    "NOMIC_API_KEY": "nk-x",
                }
                steps = {
                    "build files": ["build", "files", str(texts), "--name", "texts", "--embedder", "nomic"],
                    "add a tenth": ["add", "texts", str(more)],
                    "compact": ["compact", "texts"],
                    "build vectors": ["build", "vectors", str(rows)],
                }
                for step, words in steps.items():
                    if step.startswith("build"):
                        words += ["--rate", "100000"] if step == "build files" else []
                    figures.setdefault((step, command), []).append(run([command, *words], env, home))
                subprocess.run(["rm", "-rf", str(home)], check=True)
    print(f"{args.rows:,} texts of {WIDTH} dimensions, best of {args.rounds}; {machine('nomic')}\n")
    table = [
        (step, Path(command).parents[2].name, *(f"{min(column):,.1f}" for column in zip(*runs, strict=True)))
        for (step, command), runs in sorted(figures.items())
    ]
    show(("step", "of", "seconds", "memory MB", "home MB"), table, left=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
