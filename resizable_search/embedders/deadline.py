"""Wait for a call no longer than one is willing to.

Some clients have no time-out, and a thread that hangs in a socket cannot be cancelled. What can be
done is to stop waiting: the call runs in a daemon thread, which is left alone once the deadline has
passed. A daemon thread keeps no process from ending.
"""

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

from resizable_search.errors import ServiceError

T = TypeVar("T")


def call_with_deadline(function: Callable[[], T], seconds: float, who: str = "the service") -> T:
    """Run `function` in a daemon thread and return what it returns, or raise what it raises.

    After `seconds` the call is abandoned with a ServiceError that names `who`; what it returns or
    raises later is dropped. Ctrl-C ends the waiting at once.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            result = function()
        except BaseException as error:  # handed to the caller, whatever it is: nobody else would see it
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    Thread(target=run, name="rsearch-deadline", daemon=True).start()
    if not wait([outcome], timeout=seconds).done:
        raise ServiceError(f"{who} did not answer within {seconds:g} s; try again later")
    return outcome.result()
