"""Rebuild, change, damage and remove an index under load: what each request was answered.

    .venv/bin/python scripts/changes.py [--clients 16] [--requests 500] [--rebuilds 10]

`rsearch serve` runs in a process of its own; the clients ask without a pause over kept connections and
check each answer against what the index holds at that time, and each refusal against what is wrong with it.
Prints the answers by phase: requests are counted in the phase in which they began, so that the last of a
phase may have been answered in the next.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _measure import parser_of, show  # noqa: E402 - of this folder; the others are of the suite

from tests.service.changing import change_all
from tests.service.conftest import built


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = parser_of(__doc__)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--rebuilds", type=int, default=10)
    return parser.parse_args()


def main() -> None:
    """Run, and print."""
    args = arguments()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) / "home"
        built(home)
        command = [sys.executable, "-m", "resizable_search", "serve", "--home", str(home), "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stderr.readline())
            assert found, "the service did not start"
            try:
                done = change_all(
                    home, int(found[1]), clients=args.clients, requests=args.requests, rebuilds=args.rebuilds
                )
            finally:
                process.send_signal(signal.SIGTERM)
                said = process.stderr.read()
        print(f"the service left with {process.returncode}, saying: {said.strip()}\n")
    codes = sorted({code for counter in done.statuses.values() for code in counter})
    show(
        ["phase", *map(str, codes), ""],
        [[name, *(f"{counter[code]:,}" for code in codes), ""] for name, counter in done.statuses.items()],
    )
    print(
        f"\n{sum(map(sum, (c.values() for c in done.statuses.values()))):,} answers, {len(done.wrong)} wrong"
    )
    for line in done.wrong[:20]:
        print(f"  {line}")
    sys.exit(bool(done.wrong))


if __name__ == "__main__":
    main()
