"""Runs Python in a process whose hub clients talk to a loopback hub.

The clients read HF_ENDPOINT when they are imported, so a test that needs another hub needs another
process; and since importing them takes seconds, one process serves many tests.
"""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOP = """
import json, sys
for line in sys.stdin:
    space = {}
    try:
        exec(json.loads(line), space)
        answer = {"value": space.get("value")}
    except Exception as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer), flush=True)
"""

PRELUDE = """
import json, os
from resizable_search.corpora.hub import HubCorpus
class Notes(list):
    note = list.append
def corpus(repo="wikimedia/wikipedia", config="20231101.en", **options):
    return HubCorpus(repo=repo, config=config, **options)
def rows(blocks):
    return [[d.id, d.title, d.url, d.text] for b in blocks for d in b.documents]
"""


class Failed(Exception):
    """What the client process raised: the name of the error, then its message."""


class Client:
    """A process that runs Python against one hub."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, source: str) -> object:
        """Execute `source` there; the value of its variable `value`."""
        self._process.stdin.write(json.dumps(PRELUDE + textwrap.dedent(source)) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise Failed(f"{answer['error']}: {answer['message']}")
        return answer["value"]


def environment(hub: str, home: Path) -> dict[str, str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    root = str(Path(__file__).parents[2])
    return variables | {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(home),
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        "PYTHONPATH": root,
    }


@contextmanager
def running_client(hub: str, home: Path) -> Iterator[Client]:
    """A client of `hub` with its caches under `home`; asserts at the end that it wrote nothing to stderr."""
    with (
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", _LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment(hub, home),
        ) as process,
    ):
        yield Client(process)
        process.stdin.close()
        process.wait(30)
        stderr.seek(0)
        assert stderr.read() == ""


def run_alone(source: str, endpoint: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(source)],
        capture_output=True,
        text=True,
        env=environment(endpoint, home),
        timeout=60,
    )
