"""Calls that may block, beside the event loop, in threads that an exit does not wait for."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

from anyio import CapacityLimiter

T = TypeVar("T")


async def aside(call: Callable[[], T], limiter: CapacityLimiter) -> T:
    """Make a call in a daemon thread, so many at once as the limiter has: an exit would wait for anyio's.

    Whoever waits for it may be cancelled; the call then goes on, and keeps its place until it ends.
    """
    loop = asyncio.get_running_loop()
    wanted: asyncio.Future[T] = loop.create_future()

    def done(outcome: T | None, error: BaseException | None) -> None:
        limiter.release_on_behalf_of(wanted)
        if wanted.done():  # whoever asked has gone
            return
        if error is not None:
            wanted.set_exception(error)
        else:
            wanted.set_result(cast(T, outcome))

    def work() -> None:
        outcome, failure = None, None
        try:
            outcome = call()
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(done, outcome, failure)

    await limiter.acquire_on_behalf_of(wanted)
    try:
        threading.Thread(target=work, name="aside", daemon=True).start()
    except BaseException:
        limiter.release_on_behalf_of(wanted)
        raise
    return await wanted
