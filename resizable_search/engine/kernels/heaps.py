"""Heaps that keep the best: the worst entry is at the top, a lower row is better among equals.

Arrays of one part of an index, by the addresses in a table (`engine.parts`).
"""

from typing import Any

from numba import carray, njit, types
from numba.extending import intrinsic

from resizable_search.engine.parts import (
    ALLOWED,
    CODES,
    CODES_WIDTH,
    ERRORS,
    FIRST,
    ROWS,
    SIGNS,
    STEPS,
    STORED,
    WIDTH,
    WORDS,
)


@njit(nogil=True, inline="always")
def worse(key: float, row: int, other_key: float, other_row: int) -> bool:
    """Whether an entry is worse than another: by a lower key, or as good and in a later row."""
    return key < other_key or (key == other_key and row > other_row)


@njit(nogil=True)
def sink(keys: Any, rows: Any, size: int, key: float, row: int) -> None:
    """Put an entry in the place of the top one, and the heap in order again."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and worse(keys[right], rows[right], keys[child], rows[child]):
            child = right
        if not worse(keys[child], rows[child], key, row):
            break
        keys[at], rows[at] = keys[child], rows[child]
        at = child
    keys[at], rows[at] = key, row


@njit(nogil=True)
def offer(keys: Any, rows: Any, size: int, k: int, key: float, row: int) -> int:
    """Keep an entry if it is among the best k so far; returns how many there are now."""
    if size == k:
        if worse(keys[0], rows[0], key, row):
            sink(keys, rows, size, key, row)
        return size
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if not worse(key, row, keys[parent], rows[parent]):
            break
        keys[at], rows[at] = keys[parent], rows[parent]
        at = parent
    keys[at], rows[at] = key, row
    return size + 1


@njit(nogil=True)
def unload(keys: Any, rows: Any, size: int) -> None:
    """Turn the heap into a list, best first."""
    for last in range(size - 1, 0, -1):
        key, row = keys[last], rows[last]
        keys[last], rows[last] = keys[0], rows[0]
        sink(keys, rows, last, key, row)


@njit(nogil=True)
def raise_lows(lows: Any, size: int, k: int, low: float) -> int:
    """Keep `low` in the heap of the k highest; returns the heap's size."""
    if size == k:
        if low <= lows[0]:
            return size
        at = 0
        while True:
            child = 2 * at + 1
            if child >= size:
                break
            if child + 1 < size and lows[child + 1] < lows[child]:
                child += 1
            if lows[child] >= low:
                break
            lows[at] = lows[child]
            at = child
        lows[at] = low
        return size
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if lows[parent] <= low:
            break
        lows[at] = lows[parent]
        at = parent
    lows[at] = low
    return size + 1


@njit(nogil=True)
def compact(rows: Any, keys: Any, count: int, bound: float) -> int:
    """Drop the candidates whose key is below the bound; returns how many are left."""
    left = 0
    for i in range(count):
        if keys[i] >= bound:
            rows[left], keys[left] = rows[i], keys[i]
            left += 1
    return left


def _pointer_to(kind: Any) -> Any:
    """An intrinsic: an address as a pointer to numbers of that kind."""

    @intrinsic
    def pointer(context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


_int8, _uint8 = _pointer_to(types.int8), _pointer_to(types.uint8)
_float32, _uint64 = _pointer_to(types.float32), _pointer_to(types.uint64)


@njit(nogil=True)
def stored_of(parts: Any, part: int) -> Any:
    """(n, width) float32: the stored rows of a part."""
    return carray(_float32(parts[part, STORED]), (parts[part, ROWS], parts[part, WIDTH]))


@njit(nogil=True)
def codes_of(parts: Any, part: int) -> Any:
    """(n, width) int8: the codes of its rows."""
    return carray(_int8(parts[part, CODES]), (parts[part, ROWS], parts[part, CODES_WIDTH]))


@njit(nogil=True)
def steps_of(parts: Any, part: int) -> Any:
    """(n,) float32: what the codes are multiplied by."""
    return carray(_float32(parts[part, STEPS]), (parts[part, ROWS],))


@njit(nogil=True)
def errors_of(parts: Any, part: int) -> Any:
    """(n,) float32: how far its rows are from what their codes say."""
    return carray(_float32(parts[part, ERRORS]), (parts[part, ROWS],))


@njit(nogil=True)
def signs_of(parts: Any, part: int) -> Any:
    """(words, n) uint64: the sign bits of its rows."""
    return carray(_uint64(parts[part, SIGNS]), (parts[part, WORDS], parts[part, ROWS]))


@njit(nogil=True)
def allowed_of(parts: Any, part: int) -> Any:
    """(n,) uint8: which of its rows may be found; (0,) if all may."""
    count = parts[part, ROWS] if parts[part, ALLOWED] != 0 else 0
    return carray(_uint8(parts[part, ALLOWED]), (count,))


@njit(nogil=True)
def part_of(parts: Any, row: int, guess: int) -> int:
    """The part that a row of the index lies in; `guess` is looked at first."""
    part = guess
    while row < parts[part, FIRST]:
        part -= 1
    while row >= parts[part, FIRST] + parts[part, ROWS]:
        part += 1
    return part


@njit(nogil=True)
def span_of(rows: Any, count: int, at: int, first: int, stop: int) -> Any:
    """Where, from `at` on, those of `count` ascending rows lie that are at least `first` and below `stop`."""
    while at < count and rows[at] < first:
        at += 1
    end = at
    while end < count and rows[end] < stop:
        end += 1
    return at, end
