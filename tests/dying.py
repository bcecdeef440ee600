"""The command, in a process that dies by SIGKILL as soon as it has passed a failpoint so many times.

    python -m tests.dying FAILPOINT TIMES build wiki100k …

FAILPOINT is the name of a `resizable_search.store.layout.Failpoint`.
"""

import os
import signal
import sys

from resizable_search.store import layout
from resizable_search.store.layout import Failpoint


def die_at(point: Failpoint, times: int = 1) -> None:
    """Let this process die when it passes the failpoint for that time."""
    left = times

    def look(passed: Failpoint) -> None:
        nonlocal left
        left -= passed is point
        if passed is point and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    layout.on_failpoint = look


def main() -> None:
    """Run the command until then."""
    from resizable_search.cli.main import main as run

    name, times, *arguments = sys.argv[1:]
    die_at(Failpoint[name], int(times))
    sys.argv[1:] = arguments
    run()


if __name__ == "__main__":
    main()
