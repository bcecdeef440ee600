"""The command, in a process that dies by SIGKILL as soon as a build's step was reached so many times.

    python -m tests.dying STEP TIMES build wiki100k …

STEP is the name of a `resizable_search.store.failpoints.Step`.
"""

import os
import signal
import sys

from resizable_search.store import failpoints as steps
from resizable_search.store.failpoints import Step


def die_at(step: Step, times: int = 1) -> None:
    """Have this process die when it reaches the step for that time."""
    left = times

    def look(reached: Step) -> None:
        nonlocal left
        left -= reached is step
        if reached is step and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    steps.on_reached = look


def main() -> None:
    """Run the command until then."""
    from resizable_search.cli.main import main as run

    name, times, *arguments = sys.argv[1:]
    die_at(Step[name], int(times))
    sys.argv[1:] = arguments
    run()


if __name__ == "__main__":
    main()
