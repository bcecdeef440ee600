"""Indexes that prove themselves: every flipped bit is found, and what is derived is mended."""

import json
import shutil

import numpy as np
import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.errors import IndexFormatError
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import Manifest, file_entry, read_manifest
from resizable_search.store.verify import SAMPLED_AT_ONCE, last_verified, repair, verify
from tests.support import ListCorpus, TableEmbedder, articles, delete_rows, index_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A home with an index of two parts, of which some rows are deleted."""
    home = Home(tmp_path_factory.mktemp("whole"))
    for limit in (60, 95):
        build(ListCorpus(articles(95)), TableEmbedder(), home, BuildOptions("made", limit=limit))
    delete_rows(home.index("made"), [3, 70])
    return home


@pytest.fixture
def home(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "home")
    return Home(tmp_path / "home")


def files_of(home):
    folder = home.index("made")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def contents(home):
    folder = home.index("made")
    return {name: (folder / name).read_bytes() for name in files_of(home)}


def flip(path, rng):
    """Flip one random bit of a file."""
    data = bytearray(path.read_bytes())
    bit = int(rng.integers(0, 8 * len(data)))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def is_derived(name):
    return (
        name.rpartition("/")[2] not in ("96.npy", NAMES.documents, NAMES.manifest) and "deleted" not in name
    )


@pytest.mark.parametrize("full", [False, True])
def test_a_sound_index_is_sound_and_that_is_remembered(home, full):
    assert last_verified(home.index("made")) == "never"
    verified = verify("made", home, full=full)
    assert verified.damaged == ()
    assert verified.files == len(files_of(home))
    assert "all sound" in last_verified(home.index("made"))
    delete_rows(home.index("made"), [5])
    assert last_verified(home.index("made")).endswith("before it last changed")


def test_every_flipped_bit_is_found_and_what_is_derived_is_mended(home, whole):
    sound, rng = contents(whole), np.random.default_rng(0)
    folder = home.index("made")
    for name in files_of(home) * 2:
        flip(folder / name, rng)
        try:
            damaged = [damage.file for damage in verify("made", home).damaged]
        except IndexFormatError:
            damaged = [NAMES.manifest]
        assert damaged == [name]
        if is_derived(name):
            done = repair("made", home)
            assert (done.mended, done.lost) == ([name], {})
            assert contents(home) == sound
        else:
            (folder / name).write_bytes(sound[name])


def test_all_that_is_derived_comes_back_however_it_was_lost(home, whole):
    folder = home.index("made")
    shutil.rmtree(folder / NAMES.tiers)
    (folder / "64.npy").write_bytes(b"short")
    done = repair("made", home)
    assert done.lost == {}
    assert contents(home) == contents(whole)
    assert repair("made", home).mended == []


def test_what_cannot_be_brought_back_is_told(home):
    folder = home.index("made")
    for name in ("96.npy", "64.npy", NAMES.documents):
        flip(folder / name, np.random.default_rng(1))
    done = repair("made", home)
    assert done.mended == []
    assert list(done.lost) == ["96.npy", NAMES.documents, "64.npy"]
    assert all("`restart`" in remedy for remedy in done.lost.values())
    assert "full vectors" in done.lost["64.npy"]
    assert not list(folder.rglob("*.new"))


def relist(home, name):
    """Have the manifest list a file as it is now, as if it had been written so."""
    folder = home.index("made")
    manifest = read_manifest(folder)
    part = manifest.parts[0]
    files = {**part.files, name: file_entry(folder / name)}
    parts = (type(part)(part.path, part.rows, files, part.deleted, part.bitmap), *manifest.parts[1:])
    Manifest.write(manifest.next_generation(parts=parts), folder)


@pytest.mark.parametrize("name", ["64.npy", "tiers/96.int8.npy", "tiers/96.1bit.npy", "tiers/64.scale.npy"])
def test_a_file_that_does_not_follow_from_the_full_vectors_is_found(home, name):
    path = home.index("made") / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    relist(home, name)
    (damage,) = verify("made", home).damaged
    assert (damage.file, damage.kind) == (name, "derived")
    assert "does not follow" in damage.wrong
    done = repair("made", home)
    assert list(done.lost) == [name]
    assert "another index's" in done.lost[name]


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "length nan"), (np.inf, "length inf"), (3.0, "neither 1")]
)
def test_rows_that_are_no_unit_vectors_are_found(home, value, words):
    path = home.index("made") / "96.npy"
    np.load(path, mmap_mode="r+")[7, 0] = value
    relist(home, "96.npy")
    (damage,) = verify("made", home).damaged
    assert (damage.file, damage.kind) == ("96.npy", "vectors")
    assert "row 7" in damage.wrong
    assert words in damage.wrong


def test_of_a_large_part_a_sample_is_compared(tmp_path, monkeypatch):
    monkeypatch.setattr("resizable_search.store.verify.SAMPLED_ROWS", 2 * SAMPLED_AT_ONCE)
    rows = np.random.default_rng(0).standard_normal((4 * SAMPLED_AT_ONCE - 9, 8)).astype(np.float32)
    index_of(rows, tmp_path, dims=(4,)).close()
    home = Home(tmp_path)
    assert verify("made", home).damaged == ()
    derived = np.load(home.index("made") / "4.npy", mmap_mode="r+")
    derived[:] = np.roll(derived, 1, axis=0)
    relist(home, "4.npy")
    assert [(damage.file, damage.kind) for damage in verify("made", home).damaged] == [("4.npy", "derived")]


def test_a_folder_for_a_file_and_a_bitmap_of_other_rows_are_told(home):
    folder = home.index("made")
    bitmap = read_manifest(folder).parts[0].bitmap
    (folder / bitmap).write_bytes(bytes(len((folder / bitmap).read_bytes())))
    relist(home, bitmap)
    (folder / "64.npy").unlink()
    (folder / "64.npy").mkdir()
    wrong = {damage.file: damage.wrong for damage in verify("made", home).damaged}
    assert wrong[bitmap] == "it is no bitmap of 60 rows with 1 of them deleted"
    assert wrong["64.npy"] == "it is not a file"


def test_a_manifest_of_other_white_space_is_not_as_it_was_written(home, whole):
    path = home.index("made") / NAMES.manifest
    path.write_text(json.dumps(json.loads(path.read_bytes())))
    (damage,) = verify("made", home).damaged
    assert damage.file == NAMES.manifest
    assert repair("made", home).mended == [NAMES.manifest]
    assert contents(home) == contents(whole)
