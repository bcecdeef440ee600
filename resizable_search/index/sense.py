"""Whether what a manifest's file holds makes sense: each field by itself, and what they say together.

The checksum tells that it is what somebody wrote, not that it was us. What is found here is refused
before anything is opened, measured or deleted by it.
"""

import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from resizable_search.index.layout import NAMES
from resizable_search.wording import clipped, quoted

MOST = 2**62
"""Above any number of rows, bytes or changes."""

MOST_DEEP = 40
"""Lists and objects in one another: corpora and embedders keep a few, and Python copies some hundred."""

LONGEST_PATH = 1000
"""Bytes of a file's path inside the index."""

_FIELDS: Mapping[str, type] = {
    "format": int,
    "generation": int,
    "rows": int,
    "dims": list,
    "corpus": dict,
    "label": str,
    "source": dict,
    "embedder": dict,
    "parts": list,
    "files": dict,
    "plans": dict,
    "created": str,
    "changed": str,
    "written_by": str,
}
_SOURCE: Mapping[str, type] = {"read": int, "inside": int, "left_out": int, "exhausted": bool, "last_id": str}
_PART: Mapping[str, type] = {"path": str, "rows": int, "files": dict, "deleted": int, "bitmap": str}
_ENTRY: Mapping[str, type] = {"bytes": int, "sha256": str}

_WORDS: Mapping[type, str] = {
    int: "whole number of 0 or more",
    str: "text",
    bool: "true or false",
    list: "list",
    dict: "object",
}
_PATH = re.compile(rf"(?:{NAMES.parts}/[1-9][0-9]{{0,8}})?", re.ASCII)
_BITMAP = re.compile(r"deleted\.[0-9]{1,19}\.npy", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def check_manifest(data: Mapping[str, Any]) -> None:
    """Raise ValueError, with what is wrong in a few words, for an object that describes no index."""
    _check_values(data)
    _check_fields(data, _FIELDS, "its")
    _check_fields(data, {"fitted_rows": int}, "its", optional=True)
    _check_fields(data["source"], _SOURCE, "its source's", optional=True)
    if set(data["source"]) - {*_SOURCE, "position"}:
        raise ValueError("its source has a field of another format")
    dims = data["dims"]
    if not all(type(dim) is int and 0 < dim < MOST for dim in dims):
        raise ValueError("its dims are no numbers of 1 or more")
    if not dims or dims != sorted(set(dims)):
        raise ValueError("its dims do not ascend")
    width = data["embedder"].get("width")
    if type(width) is int and width != dims[-1]:
        raise ValueError("its full dimension is not its embedder's width")
    if not data["generation"]:
        raise ValueError("its generation is 0")
    parts = data["parts"]
    for number, part in enumerate(parts, 1):
        _check_part(part, dims, f"part {number}'s")
    if not parts or data["rows"] != sum(part["rows"] for part in parts):
        raise ValueError("its rows do not add up")
    if len({part["path"] for part in parts}) < len(parts):
        raise ValueError("two of its parts are the same")
    if len({part["files"][NAMES.documents]["sha256"] for part in parts}) < len(parts):
        raise ValueError("two of its parts have the same documents")
    for name, entry in data["files"].items():
        path = PurePosixPath(name)
        if (
            len(path.parts) < 2
            or path.parts[0] != NAMES.embedder
            or ".." in path.parts
            or str(path) != name
            or not name.isprintable()
            or len(name.encode()) > LONGEST_PATH
        ):
            raise ValueError(f"it lists {quoted(name)}, which is no file of an index")
        _check_entry(entry, clipped(name))


def _check_values(data: Any) -> None:
    """Refuse numbers that JSON does not have, and nesting that nobody needs."""
    level = [data]
    for _ in range(MOST_DEEP):
        below: list[Any] = []
        for node in level:
            for value in node.values() if isinstance(node, dict) else node:
                if isinstance(value, dict | list):
                    below.append(value)
                elif isinstance(value, float) and not math.isfinite(value):
                    raise ValueError(f"it holds {value}, which is no number")
        if not below:
            return
        level = below
    raise ValueError(f"it nests more than {MOST_DEEP} deep")


def _check_fields(data: Any, kinds: Mapping[str, type], whose: str, *, optional: bool = False) -> None:
    if type(data) is not dict:
        raise ValueError(f"{whose} fields are no object's")
    for name, kind in kinds.items():
        value = data.get(name)
        if optional and name not in data:
            continue
        # Not isinstance: true and false are integers to it.
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < MOST):
            raise ValueError(f"{whose} {name} is no {_WORDS[kind]}")


def _check_entry(entry: Any, name: str) -> None:
    _check_fields(entry, _ENTRY, f"{name}'s")
    if not _SHA256.fullmatch(entry["sha256"]):
        raise ValueError(f"{name}'s sha256 is none")


def _check_part(part: Any, dims: list[int], whose: str) -> None:
    _check_fields(part, _PART, whose)
    files, bitmap = part["files"], part["bitmap"]
    if not _PATH.fullmatch(part["path"]):
        raise ValueError(f"{whose} path is {quoted(part['path'])}, which is no folder of an index")
    if not part["rows"]:
        raise ValueError(f"{whose} rows are 0")
    if part["deleted"] > part["rows"] or bool(part["deleted"]) != bool(bitmap):
        raise ValueError(f"{whose} deleted rows make no sense")
    if bitmap and not _BITMAP.fullmatch(bitmap):
        raise ValueError(f"{whose} bitmap is {quoted(bitmap)}, which is none")
    needed = {NAMES.documents, *map(NAMES.vectors, dims), *({bitmap} if bitmap else ())}
    for dim in dims:
        tier = {NAMES.codes(dim), NAMES.steps(dim), NAMES.errors(dim)}
        if tier & set(files):
            needed |= tier
    if lacking := sorted(needed - set(files)):
        raise ValueError(f"it lists no {lacking[0]}")
    if strange := sorted(set(files) - needed - {NAMES.signs(dims[-1])}):
        raise ValueError(f"it lists {quoted(strange[0])}, which is no file of a part")
    for name, entry in files.items():
        _check_entry(entry, name)
