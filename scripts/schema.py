"""That whatever the HTTP API is asked, its answer is one that its description knows.

    .venv/bin/python scripts/schema.py [--minutes 10] [--seed 0]

Builds a small index, serves it with `rsearch serve`, and has schemathesis make requests from the OpenAPI
description: the limits of every field, then random ones, valid and not, until the time is over. Wrong is a
5xx, a status, content type or form that is not described, or a request that should have been refused and
was not. Exit 1 if there was one; schemathesis says how to make it again.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from _measure import parser_of

HERE = Path(sys.executable).parent


def main() -> int:
    """Serve, ask, and say what was wrong."""
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "RSEARCH_HOME": f"{folder}/home"}
        subprocess.run(
            [str(HERE / "rsearch"), "build", "pydoc", "--limit", "400"], env=environment, check=True
        )
        server = subprocess.Popen(
            [str(HERE / "rsearch"), "serve", "--port", "0"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            return asked(address_of(server), arguments.minutes, arguments.seed, Path(folder))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


def address_of(server: "subprocess.Popen[str]") -> str:
    """Where the service listens, from what it says once it does."""
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r" at (http://\S+)", line):
            return found[1]
    raise SystemExit("the service did not start")


def asked(address: str, minutes: float, seed: int, folder: Path) -> int:
    """Have schemathesis ask for so long; its exit code."""
    command = [str(HERE / "schemathesis"), "run", f"{address}/openapi.json", "--mode", "all"]
    command += ["--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"]
    command += ["--max-examples", "1000000", "--max-time", str(round(minutes * 60)), "--seed", str(seed)]
    # Valid by its form may still be refused: a text without a known word, a plan beside a dimension.
    command += ["--exclude-checks", "positive_data_acceptance", "--generation-database", "none"]
    return subprocess.run(command, cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
