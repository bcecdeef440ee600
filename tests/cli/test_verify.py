"""`rsearch verify` and `rsearch repair` as people run them."""

import pytest

from tests.cli.conftest import Machine, Shelf, errs_at_last


@pytest.fixture
def copy(shelf: Shelf, machine: Machine):
    """A copy of an index, in a home of its own."""
    machine.take(shelf, "pydoc")
    return machine


def test_a_sound_index_is_told_and_info_knows(copy: Machine):
    assert copy.run("info", "pydoc", "--json").json["verified"] == "never"
    ran = copy.run("verify", "pydoc")
    assert ran.code == 0
    assert "all sound" in ran.out
    assert "all sound" in copy.run("info", "pydoc").out
    assert copy.run("verify", "pydoc", "--full", "--json").json["damaged"] == []


def test_a_damaged_file_is_named_and_mended(copy: Machine):
    path = copy.home / "pydoc" / "64.npy"
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    ran = copy.run("verify", "pydoc")
    assert ran.out.startswith("damaged 64.npy: its SHA-256")
    errs_at_last(ran, 1, "1 damaged file", "rsearch repair pydoc")
    ran = copy.run("repair", "pydoc")
    assert (ran.code, ran.out) == (0, "rebuilt 64.npy\n")
    assert path.read_bytes() == sound
    assert copy.run("repair", "pydoc").out == "pydoc has no damaged file\n"


def test_what_is_lost_is_told(copy: Machine):
    (copy.home / "pydoc" / "documents.sqlite").unlink()
    ran = copy.run("repair", "pydoc")
    assert ran.out.startswith("lost documents.sqlite: put it back")
    errs_at_last(ran, 1, "cannot be rebuilt", "--restart")
