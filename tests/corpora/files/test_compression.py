"""Packed files are unpacked, up to what is sane."""

import gzip
import io
import os

import pyarrow
import pytest

from resizable_search.corpora.files import decoding
from resizable_search.corpora.files.decoding import Packing, UnreadableError, open_unpacked, read_whole

DATA = b"some words of a text\n" * 5000


def zst(data: bytes) -> bytes:
    return pyarrow.compress(data, "zstd", asbytes=True)


PACKED = [(Packing.none, bytes), (Packing.gz, gzip.compress), (Packing.zst, zst)]


@pytest.mark.parametrize(("packing", "pack"), PACKED, ids=lambda value: getattr(value, "name", ""))
def test_a_file_is_read_whole(tmp_path, packing, pack):
    path = tmp_path / "file"
    path.write_bytes(pack(DATA))
    assert read_whole(str(path), packing) == DATA
    path.write_bytes(pack(DATA) + pack(DATA))  # as `cat` makes one of two
    assert read_whole(str(path), packing) == DATA + DATA


@pytest.mark.parametrize(("packing", "pack"), PACKED[1:], ids=lambda value: getattr(value, "name", ""))
def test_a_packed_file_that_is_cut_or_is_none_is_told(tmp_path, packing, pack):
    path = tmp_path / "file"
    path.write_bytes(pack(DATA)[:-9])
    with pytest.raises(UnreadableError, match="it is cut short|cannot be read"):
        read_whole(str(path), packing)
    path.write_bytes(b"no such thing" * 10)
    with pytest.raises(UnreadableError, match="cannot be read"):
        read_whole(str(path), packing)


@pytest.mark.parametrize(("packing", "pack"), PACKED, ids=lambda value: getattr(value, "name", ""))
def test_a_file_that_is_too_large_is_not_read_into_memory(tmp_path, monkeypatch, packing, pack):
    monkeypatch.setattr(decoding, "MAX_BYTES", 1 << 20)
    path = tmp_path / "file"
    path.write_bytes(pack(DATA * 20))
    with pytest.raises(UnreadableError, match="it is larger than 1 MB"):
        read_whole(str(path), packing)


def pieces_of(path, packing):
    with open_unpacked(str(path), packing) as file:
        while piece := file.read(1 << 16):
            yield piece


@pytest.mark.parametrize(("packing", "pack"), PACKED[1:], ids=lambda value: getattr(value, "name", ""))
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
    with open_unpacked(str(path), Packing.gz) as file:
        assert file.peek(4)[:4] == b"some"
        assert io.TextIOWrapper(file).readline() == "some words of a text\n"


def test_what_is_gone_or_no_file_is_told(tmp_path):
    with pytest.raises(UnreadableError, match="it is gone"):
        read_whole(str(tmp_path / "none"), Packing.none)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableError, match="not a file any more"):
        read_whole(str(tmp_path / "pipe"), Packing.none)
