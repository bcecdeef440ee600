"""Heaps of the best entries, and the arrays of one part by their addresses in a table (`engine.parts`).

The worst entry is at the top of a heap; of equal entries the one in a later row is worse.
"""

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
def worse(key, row, other_key, other_row):
    """Whether an entry is worse than another: a lower key, or the same key in a later row."""
    return key < other_key or (key == other_key and row > other_row)


@njit(nogil=True)
def sink(keys, rows, size, key, row):
    """Replace the top entry, and restore the order of the heap."""
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
def offer(keys, rows, size, k, key, row):
    """Add an entry if it is among the best k so far. Returns the size of the heap."""
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
def sort_heap(keys, rows, size):
    """Turn a heap into a list, best first."""
    for last in range(size - 1, 0, -1):
        key, row = keys[last], rows[last]
        keys[last], rows[last] = keys[0], rows[0]
        sink(keys, rows, last, key, row)


@njit(nogil=True)
def offer_lower(lower, size, k, value):
    """Add a lower bound to the heap of the k highest. Returns the size of the heap."""
    if size == k:
        if value <= lower[0]:
            return size
        at = 0
        while True:
            child = 2 * at + 1
            if child >= size:
                break
            if child + 1 < size and lower[child + 1] < lower[child]:
                child += 1
            if lower[child] >= value:
                break
            lower[at] = lower[child]
            at = child
        lower[at] = value
        return size
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if lower[parent] <= value:
            break
        lower[at] = lower[parent]
        at = parent
    lower[at] = value
    return size + 1


@njit(nogil=True)
def compact(rows, keys, count, bound):
    """Drop the candidates whose key is below the bound. Returns the number left."""
    left = 0
    for i in range(count):
        if keys[i] >= bound:
            rows[left], keys[left] = rows[i], keys[i]
            left += 1
    return left


def _pointer_to(kind):
    """An intrinsic that turns an address into a pointer to numbers of a kind."""

    @intrinsic
    def pointer(context, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


_int8, _uint8 = _pointer_to(types.int8), _pointer_to(types.uint8)
_float32, _uint64 = _pointer_to(types.float32), _pointer_to(types.uint64)


def _matrix(pointer, address, lines, width):
    @njit(nogil=True)
    def matrix_of(table, part):
        return carray(pointer(table[part, address]), (table[part, lines], table[part, width]))

    return matrix_of


def _vector(pointer, address):
    @njit(nogil=True)
    def vector_of(table, part):
        return carray(pointer(table[part, address]), (table[part, ROWS],))

    return vector_of


stored_of = _matrix(_float32, STORED, ROWS, WIDTH)
"""(n, width) float32: the stored rows of a part."""
codes_of = _matrix(_int8, CODES, ROWS, CODES_WIDTH)
"""(n, width) int8: the codes of its rows."""
signs_of = _matrix(_uint64, SIGNS, WORDS, ROWS)
"""(words, n) uint64: the sign bits of its rows."""
steps_of = _vector(_float32, STEPS)
"""(n,) float32: what the codes are multiplied by."""
errors_of = _vector(_float32, ERRORS)
"""(n,) float32: the distance of its rows from their codes."""


@njit(nogil=True)
def allowed_of(table, part):
    """(n,) uint8: which of its rows a search may return; (0,) if all."""
    count = table[part, ROWS] if table[part, ALLOWED] != 0 else 0
    return carray(_uint8(table[part, ALLOWED]), (count,))


@njit(nogil=True)
def part_of(table, row, guess):
    """The part that holds a row of the index. The search starts at `guess`."""
    part = guess
    while row < table[part, FIRST]:
        part -= 1
    while row >= table[part, FIRST] + table[part, ROWS]:
        part += 1
    return part


@njit(nogil=True)
def span_of(rows, count, at, first, stop):
    """The range, from `at` on, of those of `count` ascending rows that are within first … stop - 1."""
    while at < count and rows[at] < first:
        at += 1
    end = at
    while end < count and rows[end] < stop:
        end += 1
    return at, end
