"""Addresses of endpoints, and the names of variables that hold their keys: checked, kept, compared.

An index keeps both, so neither may hold a secret.
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from resizable_search.errors import UsageError

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_VARIABLE = "OPENAI_API_KEY"
URL_VARIABLE = "OPENAI_BASE_URL"
"""Holds the address that is meant where none is given, as for OpenAI's own client."""

_PORTS = {"http": 80, "https": 443}


def checked_url(url: str) -> str:
    """A base URL as it is kept: without `/` or `/embeddings` at its end. Raises UsageError.

    One with a user, a password or a query is refused: a secret in it would come into the index.
    """
    parts = parts_of(url.strip())
    if parts is None or parts.scheme not in _PORTS or not parts.hostname or re.search(r"\s", url.strip()):
        raise UsageError(
            f"--base-url: {_shown(url)!r} is no address; give one like http://127.0.0.1:11434/v1"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            "--base-url must hold no user, password, query or fragment, since the index keeps it: leave them "
            "out, and name the variable that holds a key with --api-key-env"
        )
    path = parts.path.rstrip("/").removesuffix("/embeddings").rstrip("/")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def checked_variable(name: str) -> str:
    """The name of an environment variable. Raises UsageError, which does not show what may be a key."""
    like_a_key = len(name) >= 20 and re.search(r"[a-z]", name) and re.search(r"[A-Z0-9]", name)  # hf_…, gsk_…
    if like_a_key or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise UsageError(
            "--api-key-env takes the name of an environment variable that holds the key, such as "
            f"{DEFAULT_VARIABLE}, not the key itself"
        )
    return name


def is_local(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parts_of(url: str) -> SplitResult | None:
    """The parts of a URL, None if it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is no number
    except ValueError:
        return None
    return parts


def same_server(here: SplitResult, there: SplitResult) -> bool:
    """Whether a redirect stays at one server; it may lead from http to https, not back."""
    if there.scheme not in _PORTS or here.hostname != there.hostname or "@" in there.netloc:
        return False
    if here.scheme == "http" and there.scheme == "https":
        return (here.port, there.port) in ((None, None), (80, None), (None, 443), (80, 443))
    return here.scheme == there.scheme and (here.port or _PORTS[here.scheme]) == (
        there.port or _PORTS[there.scheme]
    )


def origin(parts: SplitResult) -> str:
    """Scheme, host and port, without a user."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _shown(url: str) -> str:
    """A would-be URL for a message: short, without what may be a password."""
    return re.sub(r"(?:(?<=//)|^)[^/@]*@", "", url)[:80]
