"""What a manifest records of others: the corpus, the embedder, and how far the corpus was read."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from resizable_search.errors import IndexFormatError
from resizable_search.text import clipped

FileFormat = Literal["text", "markdown", "rst", "html", "pdf", "json", "jsonl", "csv", "tsv", "parquet"]

_WORDS: dict[Any, str] = {
    int: "whole number of 0 or more",
    float: "number",
    str: "text",
    bool: "true or false",
    tuple: "list",
    Mapping: "object",
}


def from_json(kind: Any, value: Any, name: str = "it") -> Any:
    """Make a value of this type out of parsed JSON. Raises ValueError that says what `name` is not.

    `kind` is a dataclass, int, float, str, bool, Any, a tuple, a Mapping from str, or one of these with None.
    """
    if kind is Any or (value is None and isinstance(kind, UnionType)):
        return value
    if isinstance(kind, UnionType):
        kind = get_args(kind)[0]
    base, inner = get_origin(kind) or kind, get_args(kind)
    if is_dataclass(kind) or base is Mapping:
        _refuse_unless(type(value) is dict, name, Mapping)
    elif base is tuple:
        _refuse_unless(type(value) is list and (inner[-1] is ... or len(value) == len(inner)), name, tuple)
    elif kind is float:
        _refuse_unless(type(value) in (int, float) and abs(value) < 2**63, name, float)
        return float(value)
    else:  # not isinstance: true and false are integers to it
        _refuse_unless(type(value) is kind and (kind is not int or value >= 0), name, kind)
        return value
    if base is Mapping:
        return {key: from_json(inner[1], item, f"{name} {clipped(key)}") for key, item in value.items()}
    if base is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is ... else inner
        pairs = zip(kinds, value, strict=True)
        return tuple(from_json(of, item, f"{name} {number}") for number, (of, item) in enumerate(pairs, 1))
    values = {}
    for part in fields(kind):
        if part.name in value:
            values[part.name] = from_json(part.type, value[part.name], f"{name}: its {part.name}")
    try:
        return kind(**values)
    except TypeError:
        raise ValueError(f"{name} lacks a field of {kind.__name__}") from None


def _refuse_unless(is_sound: bool, name: str, kind: Any) -> None:
    if not is_sound:
        raise ValueError(f"{name} is no {_WORDS[kind]}")


@dataclass(frozen=True, slots=True)
class EmbedderSpec:
    """An embedder as the manifest records it, enough to open it again."""

    kind: str
    model: str
    width: int  # the full dimension
    document_task: str = ""  # a task of the model, or a prefix of the text
    query_task: str = ""  # likewise
    centred: bool = False  # rows are centred before truncation
    state_checksum: str = ""  # of a fitted embedder's state
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """16 hex digits over everything that the numbers depend on."""
        import hashlib  # which takes long

        text = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def space(self) -> tuple[str, int, str, str, bool, str]:
        """What must be equal for vectors to be comparable. Not `kind`: two services may run one model."""
        tasks = self.document_task, self.query_task
        return self.model, self.width, *tasks, self.centred, self.state_checksum

    def to_json(self) -> dict[str, Any]:
        """The object that the manifest records."""
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "EmbedderSpec":
        """Read what `to_json` wrote. Raises IndexFormatError for anything else."""
        try:
            spec: EmbedderSpec = from_json(cls, data)
            if set(data) - set(cls.__slots__) or not spec.width:
                raise ValueError("it has other fields")
        except ValueError:
            unknown = "the manifest describes no embedder that this rsearch knows"
            raise IndexFormatError(f"{unknown}: upgrade, or build again with `restart`") from None
        return spec


Json = Any  # whatever `json.dumps` takes


@dataclass(frozen=True, slots=True)
class CorpusSpec:
    """How to open a corpus again: its kind, and that kind's options (plain JSON, no secrets)."""

    kind: str
    options: Mapping[str, Json]

    def to_json(self) -> dict[str, Json]:
        """The object that the manifest records."""
        return {"kind": self.kind, **self.options}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the corpus was read, so that a larger limit can resume."""

    read: int = 0  # source rows in all
    position: Any = None  # where the stream is reopened
    inside: int = 0  # rows that are skipped then, the last of which must have `last_id`
    exhausted: bool = False  # the corpus ended there
    left_out: int = 0  # of the rows: without text, or refused
    last_id: str = ""  # of the last row read
