"""Functions of ours that expressions call, in place of SQLite's or beside them."""

import json
import sqlite3
from functools import partial

from resizable_search.index.expressions import KEY_FUNCTION

Value = str | int | float | bytes | None
"""What SQLite hands to a function."""

TRIMS = {"trim": (True, True), "ltrim": (True, False), "rtrim": (False, True)}
"""The ends at which each cuts. SQLite's own, of two texts, take the product of their lengths in one call."""


def add_functions(connection: sqlite3.Connection) -> None:
    """Let the statements of this connection call them."""
    connection.create_function(KEY_FUNCTION, 2, _value_of_key, deterministic=True)
    for name, sides in TRIMS.items():
        connection.create_function(name, 2, partial(_trimmed, sides), deterministic=True)


def _value_of_key(metadata: str, key: str) -> str | int | float | None:
    """As json_extract, of a key that no path can name."""
    value = json.loads(metadata).get(key)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


def _trimmed(sides: tuple[bool, bool], value: Value, characters: Value) -> str | None:
    """As SQLite's trim(X, Y), ltrim and rtrim do it, in time that grows with the lengths."""
    if value is None or characters is None:
        return None
    text, cut = _text(value), set(_text(characters))
    begin, end = 0, len(text)
    while sides[0] and begin < end and text[begin] in cut:
        begin += 1
    while sides[1] and begin < end and text[end - 1] in cut:
        end -= 1
    return text[begin:end]


def _text(value: Value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
