"""The addresses that may get a secret.

An index says where its queries are embedded, and anybody may have made it. So a key is sent to an address
only after the user named both together, in a build or a query, which a file beside the indexes records.
"""

import json
from pathlib import Path

from resizable_search.embedders.base import Embedder
from resizable_search.errors import CredentialsError
from resizable_search.system import file_lock, replace_file

MAX_BYTES = 1 << 20
LOCK_SECONDS = 10.0
"""Others hold the lock for milliseconds."""


class TrustedEndpoints:
    """The pairs of address and variable that the user named, in the file at `path` (JSON)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, embedder: Embedder) -> None:
        """Record that the user chose where this embedder sends its secret. Raises OSError."""
        pair = embedder.key_destination
        if pair is None or pair in self._pairs():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._path.with_name(f"{self._path.name}.lock")
        with file_lock(lock).acquire(LOCK_SECONDS):
            replace_file(self._path, json.dumps(sorted({*self._pairs(), pair}), indent=1).encode())

    def require(self, embedder: Embedder, name: str) -> None:
        """Raise CredentialsError if the embedder of the index `name` would send a secret elsewhere."""
        pair = embedder.key_destination
        if pair is not None and pair not in self._pairs():
            address, variable = pair
            raise CredentialsError(
                f"{name} has its queries embedded at {address}, which would get the key in {variable}: "
                f"if you trust it, use `query base_url={address} api_key_env={variable}` once, "
                f"else unset {variable}"
            )

    def _pairs(self) -> set[tuple[str, str]]:
        try:
            if self._path.stat().st_size > MAX_BYTES:
                return set()
            pairs = json.loads(self._path.read_bytes())
            return {(str(address), str(variable)) for address, variable in pairs}
        except (OSError, ValueError, TypeError):  # an unreadable file trusts nobody
            return set()
