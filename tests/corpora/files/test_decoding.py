"""Packed files are unpacked up to a limit, encodings are told apart, and what is not text is refused."""

import gzip
import io
import os
import random

import pyarrow
import pytest

from resizable_search.corpora import decoding
from resizable_search.corpora.decoding import SourceFile, UnreadableError, codec_of

DATA = b"some words of a text\n" * 5000


def zst(data: bytes) -> bytes:
    return pyarrow.compress(data, "zstd", asbytes=True)


PACKED = [("", bytes), (".gz", gzip.compress), (".zst", zst)]


def read_whole(path, packing):
    with SourceFile(path, packing).open(whole=True) as file:
        return file.read()


@pytest.mark.parametrize(("packing", "pack"), PACKED, ids=["none", "gz", "zst"])
def test_a_file_is_read_whole(tmp_path, packing, pack):
    path = tmp_path / "file"
    path.write_bytes(pack(DATA))
    assert read_whole(str(path), packing) == DATA
    path.write_bytes(pack(DATA) + pack(DATA))  # as `cat` makes one of two
    assert read_whole(str(path), packing) == DATA + DATA


@pytest.mark.parametrize(("packing", "pack"), PACKED[1:], ids=["gz", "zst"])
def test_a_packed_file_that_is_cut_or_is_none_is_reported(tmp_path, packing, pack):
    path = tmp_path / "file"
    path.write_bytes(pack(DATA)[:-9])
    with pytest.raises(UnreadableError, match="it is cut short|cannot be read"):
        read_whole(str(path), packing)
    path.write_bytes(b"no such thing" * 10)
    with pytest.raises(UnreadableError, match="cannot be read"):
        read_whole(str(path), packing)


@pytest.mark.parametrize(("packing", "pack"), PACKED, ids=["none", "gz", "zst"])
def test_a_file_that_is_too_large_is_not_read_into_memory(tmp_path, monkeypatch, packing, pack):
    monkeypatch.setattr(decoding, "MAX_BYTES", 1 << 20)
    path = tmp_path / "file"
    path.write_bytes(pack(DATA * 20))
    with pytest.raises(UnreadableError, match="it is larger than 1 MB"):
        read_whole(str(path), packing)


def pieces_of(path, packing):
    with SourceFile(str(path), packing).open() as file:
        while piece := file.read(1 << 16):
            yield piece


@pytest.mark.parametrize(("packing", "pack"), PACKED[1:], ids=["gz", "zst"])
def test_a_stream_that_unpacks_without_an_end_is_left(tmp_path, monkeypatch, packing, pack):
    monkeypatch.setattr(decoding, "MAX_BYTES", 1 << 16)
    path = tmp_path / "file"
    path.write_bytes(pack(bytes(50 << 20)))
    pieces: list[bytes] = []
    with pytest.raises(UnreadableError, match="unpacks to more than 200 times"):
        pieces.extend(pieces_of(path, packing))
    read = sum(map(len, pieces))
    assert read <= 200 * path.stat().st_size + (2 << 20)


def test_a_stream_has_what_a_text_reader_needs(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(DATA))
    with SourceFile(str(path), ".gz").open() as file:
        assert file.peek(4)[:4] == b"some"
        assert io.TextIOWrapper(file).readline() == "some words of a text\n"


def test_what_is_gone_or_no_file_is_reported(tmp_path):
    with pytest.raises(UnreadableError, match="it is gone"):
        read_whole(str(tmp_path / "none"), "")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableError, match="not a file any more"):
        read_whole(str(tmp_path / "pipe"), "")


@pytest.mark.parametrize("garbage", [b"x", b"\0\0words", b"\n"], ids=["byte", "zeros", "line"])
def test_what_lies_behind_a_gzip_files_end_is_ignored(tmp_path, garbage):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(DATA) + gzip.compress(DATA) + garbage)
    source = SourceFile(str(path), ".gz")
    with source.open(whole=True) as file:
        assert file.read() == DATA + DATA
    path.write_bytes(gzip.compress(DATA)[:-8] + bytes(8) + garbage)
    with pytest.raises(UnreadableError, match="CRC check failed"):
        read_whole(str(path), ".gz")


def decode(data: bytes, encoding: str = "") -> str:
    return SourceFile("", encoding=encoding).decode(data)


GERMAN = "Die Äpfel sind größer als die Birnen."
POLISH = "Zażółć gęślą jaźń. Wszyscy ludzie rodzą się wolni i równi pod względem swej godności."
RUSSIAN = "Съешь ещё этих мягких французских булок, да выпей чаю."
JAPANESE = "自然言語処理は人工知能と言語学の一分野である。"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((GERMAN, e) for e in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1")),
        ("He said \u201cwell\u201d \u2014 it\u2019s 5\u20ac for na\u00efve caf\u00e9s.", "cp1252"),
        ("caf\u00e9", "cp1252"),
        ("The quick brown fox jumps. " * 5000 + "na\u00efve", "cp1252"),
        (POLISH, "cp1250"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "utf-16"),
        ("", "utf-8"),
    ],
    ids=lambda value: value[:12],
)
def test_a_text_is_read_in_the_encoding_that_it_was_written_in(text: str, encoding: str):
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("damage", [b"\xff", b"\xe9 ", "é".encode()[:1]], ids=["byte", "latin-1", "cut"])
def test_utf8_with_a_damaged_byte_stays_utf8(damage: bytes):
    text = "Äpfel sind größer und süßer als Käse, Öl und Würste; Bären mögen Früchte. "
    assert decode(text.encode() + damage).rstrip() == f"{text}\ufffd"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (GERMAN, "latin1"),
        (POLISH, "windows-1250"),
        ("ночь", "koi8-r"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "iso-2022-jp"),
        (GERMAN, "utf-16le"),
        (JAPANESE, "utf-16be"),
    ],
)
def test_an_encoding_that_is_stated_counts_for_what_is_not_utf8(text: str, label: str):
    codec = codec_of(label)
    data = text.encode(codec)
    source = SourceFile("", encoding=codec)
    assert source.decode(data) == text
    assert not source.guessed
    for mark in ("utf-8", "utf-8-sig", "utf-16"):
        assert decode(text.encode(mark), codec) == text
    assert decode(b"plain words", codec) == "plain words"


def test_bytes_that_a_stated_encoding_lacks_are_replaced():
    assert decode(b"caf\xe9 \x81", codec_of("windows-1252")) == "caf\xe9 \ufffd"
    with pytest.raises(UnreadableError, match="begins as utf-16-le"):
        decode(b"\x41\xd8\0\0\0\0", codec_of("utf-16le"))
    with pytest.raises(UnreadableError, match="it is not text"):
        decode(b"\x89PNG\r\n\x1a\n" + bytes(90), codec_of("latin1"))


def test_labels_of_encodings_are_those_of_browsers():
    labels = ("LATIN1", " us-ascii ", "cp1250", "nosuch", "idna", "utf-7", "hz-gb-2312")
    assert [codec_of(label) for label in labels] == ["cp1252", "cp1252", "cp1250", "", "", "", ""]


def test_a_guess_is_kept():
    source = SourceFile("")
    source.decode(POLISH.encode("cp1250"))
    assert source.guessed == "cp1250"


def test_lines_beyond_the_sample_have_the_stated_encoding_too(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a" * (1 << 20) + b"\ncaf\xe9\n")
    assert [line for _, line in SourceFile(str(path), encoding="cp1252").lines()][1] == "caf\xe9\n"
    assert [line for _, line in SourceFile(str(path)).lines()][1] == "caf\udce9\n"


def test_ends_of_lines_become_line_feeds():
    assert decode(b"a\r\nb\rc\n\n") == "a\nb\nc\n\n"


def test_a_nul_in_a_text_is_a_slip():
    assert decode(b"Before\0after, and more of it.") == "Before\0after, and more of it."


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + random.Random(0).randbytes(900),
        random.Random(1).randbytes(5000),
        b"\x7fELF\x02\x01\x01" + bytes(50) + b"some words",
        bytes(100),
        b"\xff\xfe" + b"\x00\xd8" * 3,
        b"words and then \xff\x00\x00",
    ],
    ids=["picture", "noise", "program", "zeros", "half a pair", "late"],
)
def test_what_is_no_text_is_refused(data: bytes):
    with pytest.raises(UnreadableError):
        decode(data)


def test_noise_is_hardly_ever_taken_for_text():
    for seed in range(300):
        with pytest.raises(UnreadableError):
            SourceFile("").encoding_of(random.Random(seed).randbytes(200), whole=True)


def test_a_sample_may_end_within_a_character():
    data = JAPANESE.encode() * 100
    for cut in (1000, 1001, 1002):
        assert SourceFile("").encoding_of(data[:cut], whole=False) == "utf-8"
