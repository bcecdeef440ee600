"""Any value in any place of a JSON object."""

import copy
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

Data = dict[str, Any]

DEEP = "@deep@"
"""Stands for lists in lists that json.dumps could not write."""


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) below a node."""
    for key in node if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


def place(rng: Random, data: Data) -> tuple[Any, Any]:
    """A place in the object; each field of it has the same chance, however much it holds."""
    key = rng.choice(sorted(data))
    below = list(_places(data[key])) if isinstance(data[key], dict | list) else []
    return rng.choice(below) if below and rng.random() < 0.8 else (data, key)


def odd(rng: Random, old: Any) -> Any:
    """A value that does not belong where the old one stands."""
    anything: list[Any] = [
        None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**30, -(2**63), 0.5, 1e308, math.inf, math.nan,
        "", "x", "\0", "\ud800", "\x1b[31m", "..", "../..", "/nonexistent/rsearch", "a" * 300, "\n", [], {},
        [[]], {"": None}, nested(rng.choice((5, 50, 200, 700))), DEEP, "٣", "1" * 400,
    ]  # fmt: skip
    if isinstance(old, bool):
        return rng.choice([not old, int(old), *anything])
    if isinstance(old, int | float) and abs(old) < 1e300:
        near = [old + 1, old - 1, -old, old * 1000, float(old), old + 0.5, str(old), old + 10**12]
        return rng.choice([*near, *near, *anything])
    if isinstance(old, str):
        near_text = [old.upper(), old + "\0", f"../{old}", f"/nonexistent/{old}", f"{old}/", old[:-1], [old]]
        return rng.choice([*near_text, *anything])
    if isinstance(old, list):
        return rng.choice([old * 2, old[::-1], old[:-1], [*old, None], dict.fromkeys("ab", old), *anything])
    if isinstance(old, dict):
        return rng.choice([list(old), {**old, "": 1}, {key: old for key in old}, *anything])
    return rng.choice(anything)


def nested(depth: int) -> Any:
    node: Any = 1
    for number in range(depth):
        node = [node] if number % 2 else {"a": node}
    return node


def _replaced(rng: Random, data: Data) -> str:
    node, key = place(rng, data)
    old, node[key] = node[key], odd(rng, node[key])
    return f"{key} is {node[key]!r:.60}, not {old!r:.60}"


def _gone(rng: Random, data: Data) -> str:
    node, key = place(rng, data)
    del node[key]
    return f"{key} is gone"


def _copied(rng: Random, data: Data) -> str:
    (node, key), (other, its) = place(rng, data), place(rng, data)
    node[key] = copy.deepcopy(other[its])
    return f"{key} is a copy of {its}"


def _renamed(rng: Random, data: Data) -> str:
    node, key = place(rng, data)
    if isinstance(node, dict):
        node[str(odd(rng, key))[:500]] = node.pop(key)
    return f"{key} is called otherwise"


def _added(rng: Random, data: Data) -> str:
    node, key = place(rng, data)
    if isinstance(node, dict):
        node[rng.choice(("x", "kind", "rows", "checksum", "model", "parts"))] = odd(rng, None)
    else:
        node.insert(rng.randrange(len(node) + 1), odd(rng, node[key]))
    return f"something more beside {key}"


Edit = Callable[[Random, Data], str]
ANYWHERE: list[Edit] = [_replaced, _replaced, _replaced, _gone, _copied, _renamed, _added]
