"""Arrays of one part of an index, by the addresses in a table (`scan.parts`)."""

from typing import Any

from numba import carray, njit, types
from numba.extending import intrinsic

from resizable_search.scan.parts import (
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
