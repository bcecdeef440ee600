"""Edits of a database file byte by byte, by one who knows SQLite's format.

https://www.sqlite.org/fileformat2.html: a header of 100 bytes on page 1; a page of a tree begins with
its kind (13: leaf and 5: inner node of a table, 10 and 2 of an index), the number of cells at 3, and the
cells' offsets from 8 (leaf) or 12 on. A cell of a table's leaf is its payload's size, its row and the
payload; one of an inner node a page and a row.
"""

import struct
from collections.abc import Callable
from random import Random

PAGE = 4096


def _pages(content: bytes) -> int:
    return len(content) // PAGE


def _cells(content: bytes, page: int) -> tuple[int, list[int]]:
    """Where the list of cell offsets of a page begins in the file, and where each cell does."""
    start = page * PAGE + (100 if page == 0 else 0)
    kind = content[start]
    if kind not in (2, 5, 10, 13):
        return start, []
    places = start + (8 if kind in (10, 13) else 12)
    count = min(struct.unpack(">H", content[start + 3 : start + 5])[0], 500)
    offsets = struct.unpack(f">{count}H", content[places : places + 2 * count])
    return places, [page * PAGE + offset for offset in offsets]


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and how many bytes it has."""
    value = 0
    for length in range(9):
        byte = content[at + length]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, length + 1
    return value, 9


def _put(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def _odd_number(rng: Random, wide: int) -> bytes:
    value = rng.choice(
        (0, 1, 2, 3, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, rng.getrandbits(32))
    )
    return (value % (1 << 8 * wide)).to_bytes(wide, "big")


def _tree_page(rng: Random, content: bytes) -> int:
    found = [page for page in range(_pages(content)) if _cells(content, page)[1]]
    return rng.choice(found or [0])


def _any_byte(rng: Random, content: bytes) -> bytes:
    return _put(content, rng.randrange(len(content)), bytes([rng.randrange(256)]))


def _any_bit(rng: Random, content: bytes) -> bytes:
    at = rng.randrange(len(content))
    return _put(content, at, bytes([content[at] ^ 1 << rng.randrange(8)]))


def _file_header(rng: Random, content: bytes) -> bytes:
    at, wide = rng.choice(
        ((0, 1), (16, 2), (18, 1), (19, 1), (20, 1), (21, 1), (24, 4), (28, 4), (32, 4), (36, 4), (40, 4),
         (44, 4), (52, 4), (56, 4), (60, 4), (64, 4), (72, 4), (92, 4), (96, 4))
    )  # fmt: skip
    return _put(content, at, _odd_number(rng, wide))


def _page_header(rng: Random, content: bytes) -> bytes:
    page = _tree_page(rng, content)
    start = page * PAGE + (100 if page == 0 else 0)
    at, wide = rng.choice(((0, 1), (1, 2), (3, 2), (5, 2), (7, 1), (8, 4)))
    new = bytes([rng.choice((2, 5, 10, 13, 0))]) if at == 0 else _odd_number(rng, wide)
    return _put(content, start + at, new)


def _cell_offset(rng: Random, content: bytes) -> bytes:
    places, cells = _cells(content, _tree_page(rng, content))
    if not cells:
        return content
    return _put(content, places + 2 * rng.randrange(len(cells)), _odd_number(rng, 2))


def _cells_swapped(rng: Random, content: bytes) -> bytes:
    places, cells = _cells(content, _tree_page(rng, content))
    if len(cells) < 2:
        return content
    one, other = (places + 2 * place for place in rng.sample(range(len(cells)), 2))
    first, second = content[one : one + 2], content[other : other + 2]
    return _put(_put(content, one, second), other, first)


def _row_number(rng: Random, content: bytes) -> bytes:
    """Another row number in a leaf of a table, of the same length; or two that change places."""
    leaves = [page for page in range(1, _pages(content)) if content[page * PAGE] == 13]
    _, cells = _cells(content, rng.choice(leaves)) if leaves else (0, [])
    found = [cell + _varint(content, cell)[1] for cell in cells if cell + 20 < len(content)]
    found = [at for at in found if _varint(content, at)[1] == 1]
    if len(found) < 2:
        return content
    one, other = rng.sample(found, 2)
    if rng.random() < 0.5:
        return _put(content, one, bytes([rng.randrange(128)]))
    first, second = content[one : one + 1], content[other : other + 1]
    return _put(_put(content, one, second), other, first)


def _cell_head(rng: Random, content: bytes) -> bytes:
    """A byte of a cell's first numbers: its size, its row, its columns' types."""
    _, cells = _cells(content, _tree_page(rng, content))
    if not cells:
        return content
    at = min(rng.choice(cells) + rng.randrange(12), len(content) - 1)
    return _put(
        content, at, bytes([rng.choice((0, 1, 7, 8, 9, 10, 12, 13, 0x7F, 0x80, 0xFF, rng.randrange(256)))])
    )


def _overflow(rng: Random, content: bytes) -> bytes:
    """Another first page for what of a cell goes on elsewhere, or another next one."""
    pages = _pages(content)
    at = rng.randrange(1, pages) * PAGE + rng.choice((0, PAGE - 4))
    return _put(
        content, at, struct.pack(">I", rng.choice((0, 1, rng.randrange(1, pages + 1), pages + 9, 2**32 - 1)))
    )


def _pages_swapped(rng: Random, content: bytes) -> bytes:
    if _pages(content) < 3:
        return content
    one, other = rng.sample(range(1, _pages(content)), 2)
    first, second = (content[page * PAGE : (page + 1) * PAGE] for page in (one, other))
    return _put(_put(content, one * PAGE, second), other * PAGE, first)


def _page_copied(rng: Random, content: bytes) -> bytes:
    one, other = rng.choices(range(_pages(content)), k=2)
    return _put(content, one * PAGE, content[other * PAGE : (other + 1) * PAGE])


def _page_blank(rng: Random, content: bytes) -> bytes:
    page = rng.randrange(_pages(content))
    return _put(content, page * PAGE, bytes([rng.choice((0, 0, 255))]) * PAGE)


def _of_another_size(rng: Random, content: bytes) -> bytes:
    size = rng.choice(
        (0, 1, 99, 100, 512, PAGE, len(content) - PAGE, len(content) - 1, rng.randrange(len(content)))
    )
    return rng.choice(
        (content[:size], content + b"\0" * PAGE, content + content, content[:size] + b"\xff" * 100)
    )


PAGE_EDITS: list[tuple[str, Callable[[Random, bytes], bytes]]] = [
    ("a byte changed", _any_byte),
    ("a bit flipped", _any_bit),
    ("the file's header changed", _file_header),
    ("a page's header changed", _page_header),
    ("a cell's offset changed", _cell_offset),
    ("two cells swapped", _cells_swapped),
    ("two cells swapped", _cells_swapped),
    ("a row number changed", _row_number),
    ("a row number changed", _row_number),
    ("a cell's head changed", _cell_head),
    ("a cell's head changed", _cell_head),
    ("the next page changed", _overflow),
    ("two pages swapped", _pages_swapped),
    ("a page copied over another", _page_copied),
    ("a page blank", _page_blank),
    ("of another size", _of_another_size),
]
