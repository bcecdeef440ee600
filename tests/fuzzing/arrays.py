"""Array files whose headers, versions and sizes lie; what numbers follow the header stays as it was."""

import copy
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import manifest_text
from tests.fuzzing.cases import OUTSIDE, Case, Change
from tests.fuzzing.sound import Sound, relist, with_checksum

FIELDS = re.compile(rb"\{'descr': '(.*)', 'fortran_order': (\w+), 'shape': \((.*)\), \}")


def mutated(rng: Random, sound: Sound) -> Case:
    """A case of one or two array files that are not as they were written."""
    changes: dict[str, Change] = {}
    words = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        name = rng.choice(sound.arrays)
        what, edit = rng.choice(EDITS)
        changes[name] = edit(rng, sound.files[name], name, sound)
        words.append(f"{name}: {what}")
    held = {name: change.content for name, change in changes.items() if change.kind == "bytes"}
    relisted = len(held) == len(changes) and rng.random() < 0.4
    if relisted:
        data = copy.deepcopy(sound.manifest)
        for name, content in held.items():
            relist(data, name, content)
        changes[NAMES.manifest] = Change("bytes", manifest_text(with_checksum(data)))
    return Case("npy", sound.name, tuple(words), changes, relisted)


def _header(
    text: bytes, version: tuple[int, int] = (1, 0), pad: int = 64, length: int | None = None
) -> bytes:
    """A .npy header with that text, whose length may lie."""
    wide = 2 if version == (1, 0) else 4
    padded = text + b" " * (-(len(text) + 9 + wide) % pad) + b"\n"
    count = len(padded) if length is None else length
    packed = struct.pack("<H" if wide == 2 else "<I", count % (1 << 8 * wide))
    return b"\x93NUMPY" + bytes(version) + packed + padded


def _apart(content: bytes) -> tuple[bytes, bytes]:
    """A sound file's header text, without its padding, and its numbers."""
    end = 10 + struct.unpack("<H", content[8:10])[0]
    return content[10:end].rstrip(), content[end:]


def _dtype(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    text, numbers = _apart(content)
    old = FIELDS.match(text)[1]  # type: ignore[index]
    new = rng.choice(
        (b"<f8", b">f4", b"<f2", b"|O", b"<i4", b"<u4", b"|V4", b"<c8", b"<U1", b"|S4", b"=f4", b"f4", b"",
         b"<f4, <f4", b"<M8[s]", b"|u1", b"|b1", b"|i1", b"x" * 5000, b"<f99")
    )  # fmt: skip
    return Change("bytes", _header(text.replace(b"'%s'" % old, b"'%s'" % new, 1)) + numbers)


def _shape(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    text, numbers = _apart(content)
    old = FIELDS.match(text)[3]  # type: ignore[index]
    axes = [int(axis) for axis in old.split(b",") if axis.strip()]
    n = axes[0]
    others: list[list[Any]] = [
        [n + 1, *axes[1:]], [n - 1, *axes[1:]], axes[::-1], [n, 1, *axes[1:]], [0, *axes[1:]],
        [-n, *axes[1:]], [10**12, *axes[1:]], [2**63, *axes[1:]], [10**30], [], [float(n), *axes[1:]],
        [True], ["x"], [2**31, 2**31], [1] * 64, [0] * 40,
    ]  # fmt: skip
    new = rng.choice(others)
    written = ", ".join(map(str, new)) + ("," if len(new) == 1 else "")
    data = numbers
    if rng.random() < 0.5 and new in others[:2]:  # with as many numbers as it says
        row = len(numbers) // n
        data = numbers + numbers[:row] if new == others[0] else numbers[:-row]
    return Change("bytes", _header(text.replace(b"(%s)" % old, b"(%s)" % written.encode(), 1)) + data)


def _fortran(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    text, numbers = _apart(content)
    new = rng.choice((b"True", b"1", b"0", b"None", b"'False'", b"[]", b"Fals"))
    return Change("bytes", _header(text.replace(b"False", new)) + numbers)


def _version(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    text, numbers = _apart(content)
    version = rng.choice(((2, 0), (3, 0), (4, 0), (1, 1), (0, 0), (255, 255)))
    if rng.random() < 0.5:
        return Change("bytes", content[:6] + bytes(version) + content[8:])
    return Change("bytes", _header(text, version) + numbers)


def _length(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    text, numbers = _apart(content)
    pad, length = rng.choice(
        ((16, None), (4096, None), (1, None), (64, 0), (64, 1), (64, 65535), (64, len(text)), (32768, None))
    )
    return Change("bytes", _header(text, rng.choice(((1, 0), (2, 0))), pad, length) + numbers)


def _expression(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    _, numbers = _apart(content)
    text = rng.choice(
        (b"__import__('os').abort()", b"{}", b"{'descr': '<f4'}", b"(" * 5000, b"[" * 30_000,
         b"{'descr': lambda: 0, 'fortran_order': False, 'shape': (1,), }", b"\xff\xfe", b"", b"'" * 9,
         b"-" * 9000 + b"1", b"{'descr': '<f4', " * 500,
         b"{'descr': '<f4', 'fortran_order': False, 'shape': (60L, 96L), }", b"1" * 5000, b"\0" * 100,
         b"{'descr': [('a', '<f4', (9999999,))], 'fortran_order': False, 'shape': (60, 96), }", b"9**9**9",
         b"{'descr': '<f4', 'fortran_order': False, 'shape': (60, 96), 'more': 1, }")
    )  # fmt: skip
    return Change("bytes", _header(text, rng.choice(((1, 0), (2, 0), (3, 0)))) + numbers)


def _bytes(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(min(128, len(content)))] = rng.randrange(256)
    return Change("bytes", bytes(changed))


def _cut(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    size = rng.choice((0, 1, 9, 10, 64, 127, 128, len(content) - 1, rng.randrange(len(content))))
    return Change("bytes", content[: min(size, len(content) - 1)])


def _longer(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    more = rng.choice((b"\0", b"\0" * 4, b"\0" * 4096, content, b"x" * 96 * 4))
    return Change("bytes", content + more)


def _sparse(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    """A file of terabytes that takes no room; the header may be one to match."""
    first, size = content, rng.choice((10**9, 10**12))
    if rng.random() < 0.5:
        text, _ = _apart(content)
        old = FIELDS.match(text)[3]  # type: ignore[index]
        first = _header(text.replace(b"(%s)" % old, b"(%d, 96)" % (size // 384), 1))
    return Change("sparse", (first, size))


def _another(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    # One of the same shape is another content, which `verify` is there to find.
    others = [found for found in sound.files.values() if found[:128] != content[:128]]
    return Change("bytes", rng.choice(others))


def _no_file(rng: Random, content: bytes, name: str, sound: Sound) -> Change:
    target = rng.choice(
        ("/dev/zero", "/dev/null", name.rpartition("/")[2], ".", "nowhere", f"{OUTSIDE}/{sound.name}/{name}")
    )
    return rng.choice((Change("gone"), Change("folder"), Change("fifo"), Change("link", target)))


Edit = Callable[[Random, bytes, str, Sound], Change]
EDITS: list[tuple[str, Edit]] = [
    ("another dtype", _dtype),
    ("another shape", _shape),
    ("another order", _fortran),
    ("another version", _version),
    ("a header of another length", _length),
    ("an expression for a header", _expression),
    ("bytes of the header changed", _bytes),
    ("cut", _cut),
    ("longer", _longer),
    ("sparse", _sparse),
    ("another file's content", _another),
    ("no file, or a link", _no_file),
]
