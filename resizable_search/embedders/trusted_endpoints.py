"""Where secrets may be sent: an index says where its queries are embedded, and anybody may have made it.

A key goes to an address only after its owner named both together, at a build or a query. That is
remembered beside the indexes of the home, in a file without any secret.
"""

import json
from pathlib import Path

from resizable_search.embedders.base import Embedder
from resizable_search.errors import CredentialsError

_MOST_BYTES = 1 << 20


class TrustedEndpoints:
    """The pairs of address and variable that were named, in the file at `path` (JSON)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def give(self, embedder: Embedder) -> None:
        """Remember that the user chose where this embedder sends which secret. Raises OSError."""
        pair = embedder.entrusts
        if pair is None or pair in (pairs := self._pairs()):
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = json.dumps(sorted({*pairs, pair}), indent=1) + "\n"
        beside = self._path.with_suffix(".new")
        beside.write_text(written, encoding="utf-8")
        beside.replace(self._path)

    def ask(self, embedder: Embedder, name: str) -> None:
        """Raise CredentialsError if the embedder of the index `name` would send a secret to a stranger."""
        pair = embedder.entrusts
        if pair is not None and pair not in self._pairs():
            address, variable = pair
            raise CredentialsError(
                f"{name} has its queries embedded at {address}, which would get the key in {variable}: "
                f"if you trust it, say so once with `rsearch query … --base-url {address} "
                f"--api-key-env {variable}`, else unset {variable}"
            )

    def _pairs(self) -> set[tuple[str, str]]:
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                return set()
            return {
                (str(address), str(variable)) for address, variable in json.loads(self._path.read_bytes())
            }
        except (OSError, ValueError, TypeError):  # what cannot be read entitles nobody
            return set()
