"""Which columns of a table make a document, and what their values are as text and as metadata."""

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from resizable_search.corpora.base import Document
from resizable_search.errors import UsageError
from resizable_search.text import counted

FIELDS = ("text", "id", "title", "url")
OTHER = object()
"""What is neither text nor number nor time."""

_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,17})\.\d{1,17}(?:[eE][-+]?\d{1,3})?", re.ASCII)
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that hold a document's fields, and those that become its metadata.

    None is the field's own name, as far as there is such a column; the text must have one. Raises
    UsageError for a metadata column that is named twice, or not at all.
    """

    text: str | None = None
    id: str | None = None
    title: str | None = None
    url: str | None = None
    metadata: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "" in (*self.metadata, *(getattr(self, field) for field in FIELDS)):
            raise UsageError("a column's name is empty: name one that is there")
        if len(set(self.metadata)) < len(self.metadata):
            raise UsageError("--metadata names a column more than once: name each once")

    def to_json(self) -> dict[str, Any]:
        """As a corpus's spec keeps it, from which `Columns(**…)` makes it again."""
        return {**asdict(self), "metadata": list(self.metadata)}

    def named(self, field: str) -> str:
        """The column that holds a field."""
        return getattr(self, field) or field

    @property
    def wanted(self) -> list[str]:
        """Every column that is read if it is there, each once."""
        return list(dict.fromkeys((*map(self.named, FIELDS), *self.metadata)))

    def missing(self, known: Collection[str]) -> list[str]:
        """The columns that must be there and are not: those that were named, and the text's."""
        needed = [self.named("text"), *(getattr(self, field) for field in FIELDS[1:]), *self.metadata]
        return [column for column in dict.fromkeys(needed) if column is not None and column not in known]

    def document(self, values: Mapping[str, Any], id_: str, place: Mapping[str, str | int]) -> Document:
        """The document of a record; `id_` where it has none of its own, `place` its own metadata."""
        text, own, title, url = (as_text(values.get(self.named(field))) for field in FIELDS)
        metadata = dict(place)
        for column in self.metadata:
            if (value := as_metadata(values.get(column))) is not OTHER:
                metadata[column] = value
        return Document(own or id_, title, url, text, metadata)


def lacking(missing: Sequence[str], known: Sequence[str]) -> str:
    """What to say of a table that lacks columns: `it has no column 'body': its columns are a, b`."""
    lacks = ", ".join(map(repr, missing))
    more = f" and {counted(len(known) - _SHOWN, 'other')}" if len(known) > _SHOWN else ""
    return f"it has no column {lacks}: its columns are {', '.join(known[:_SHOWN])}{more}"


def as_text(value: Any) -> str:
    """A value as a field of a document: '' for nothing, lists and objects as JSON."""
    if isinstance(value, str):
        return value
    plain = as_plain(value)
    if plain is OTHER:
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if plain is None else str(plain)


def as_metadata(value: Any) -> Any:
    """A value as metadata: a number, a text, a truth value, a time in ISO 8601; lists and objects as JSON.

    OTHER for bytes.
    """
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    plain = as_plain(value)
    if plain is OTHER and isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return plain


def as_plain(value: Any) -> Any:
    """The value as flat JSON; None for NaN, which pandas writes where there is nothing; else OTHER."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else OTHER


def typed(word: str) -> str | int | float | bool | None:
    """What a word of a text file says: a number or truth value if it is written as one, None if empty.

    What begins with a zero, as postal codes do, stays text.
    """
    if not word:
        return None
    if _INTEGER.fullmatch(word):
        return int(word)
    return float(word) if _DECIMAL.fullmatch(word) else _TRUTH.get(word, word)
