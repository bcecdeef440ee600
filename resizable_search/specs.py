"""What a manifest records of others: the corpus, the embedder, and how far the corpus was read."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from resizable_search.errors import IndexFormatError


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """What the manifest keeps of an embedder, and what rebuilds it.

    `width` is the full dimension; `document_task` and `query_task` are what the model is told (or
    what is put before the text); `centred` is whether rows are centred before truncation;
    `state_checksum` is that of a fitted embedder's state, else ''.
    """

    kind: str
    model: str
    width: int
    document_task: str = ""
    query_task: str = ""
    centred: bool = False
    state_checksum: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """16 hex digits over everything that the numbers depend on."""
        plain = {**asdict(self), "options": dict(self.options)}
        text = json.dumps(plain, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def space(self) -> tuple[str, int, str, str, bool, str]:
        """What must be equal for vectors to be comparable: not `kind`, since two places may run one model."""
        return (
            self.model,
            self.width,
            self.document_task,
            self.query_task,
            self.centred,
            self.state_checksum,
        )

    def to_json(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "EmbedderSpec":
        """Read what `to_json` wrote. Raises IndexFormatError if it is something else."""
        try:
            spec = cls(**data)
            sound = (
                all(isinstance(v, str) for v in (spec.kind, spec.model, spec.document_task, spec.query_task))
                and type(spec.width) is int
                and spec.width > 0
                and isinstance(spec.centred, bool)
                and isinstance(spec.state_checksum, str)
                and isinstance(spec.options, dict)
            )
        except TypeError:
            sound = False
        if not sound:
            raise IndexFormatError(
                "the manifest describes no embedder that this rsearch knows: upgrade rsearch, "
                "or build again with `restart`"
            )
        return spec


Json = Any
"""Whatever `json.dumps` takes."""


@dataclass(frozen=True, slots=True)
class CorpusSpec:
    """How to open a corpus again: its kind, and that kind's options (plain JSON, no secrets)."""

    kind: str
    options: Mapping[str, Json]

    def to_json(self) -> dict[str, Json]:
        """As the manifest keeps it."""
        return {"kind": self.kind, **self.options}

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> "CorpusSpec":
        """Read what `to_json` wrote."""
        return cls(data["kind"], {key: value for key, value in data.items() if key != "kind"})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the corpus was left, so that a larger limit can go on.

    `read` source rows in all, the last of them `last_id`; the stream is reopened at `position` and
    `inside` more are passed over, the last of which must be that one; `exhausted`: it had ended there;
    `left_out` of the rows read have no text or were refused.
    """

    read: int = 0
    position: Any = None
    inside: int = 0
    exhausted: bool = False
    left_out: int = 0
    last_id: str = ""
