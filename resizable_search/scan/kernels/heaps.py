"""Heaps that keep the best: the worst entry is at the top, a lower row is better among equals."""

from typing import Any

from numba import njit


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
