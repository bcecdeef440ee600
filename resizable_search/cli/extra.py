"""What the commands of the extra `serve` share: what is said without it, and words on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from resizable_search.errors import RsearchError
from resizable_search.text import plain


@contextmanager
def extra_serve() -> Iterator[None]:
    """Around the imports of what the extra brings. Raises RsearchError, which says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("resizable_search"):
            raise
        raise RsearchError(
            f'{error.name} is not installed: `pip install "resizable_search[serve]"` brings it'
        ) from None


def say(words: str) -> None:
    """Tell something on stderr, now."""
    sys.stderr.write(f"rsearch: {plain(words)}\n")
    sys.stderr.flush()
