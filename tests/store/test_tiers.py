"""The tiers of an index: derived again without embedding, and missed by nobody."""

import errno
import shutil
from dataclasses import replace

import numpy as np
import pytest

from resizable_search.admin import doctor as warming
from resizable_search.errors import IndexFormatError, StorageError, UsageError
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from resizable_search.store.manifest import read_manifest
from resizable_search.store.writer import derive, derived_files
from tests.engine.test_engines import unit_rows
from tests.support import index_of


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.npy")}


def without_tiers(folder):
    """What an index looked like before there were tiers."""
    manifest = read_manifest(folder)
    parts = []
    for part in manifest.parts:
        shutil.rmtree(folder / part.path / "tiers")
        parts.append(replace(part, files={n: e for n, e in part.files.items() if "tiers" not in n}))
    replace(manifest, parts=tuple(parts)).write(folder)


@pytest.mark.parametrize("block", [7, 4096])
def test_deriving_is_the_same_however_it_is_cut(tmp_path, block, monkeypatch):
    rows = unit_rows(100, 96, 0, "outliers")
    with index_of(rows, tmp_path, dims=(16, 40)) as index:
        folder, dims = index.folder, index.dims
    before = contents(folder)
    assert len(before) == len(derived_files(0, dims))
    shutil.rmtree(folder / "tiers")
    (folder / "16.npy").unlink()
    monkeypatch.setattr("resizable_search.arrays.READ_ROWS", block)
    derive(folder, dims)
    assert contents(folder) == before


def test_an_index_without_tiers_is_searched_by_its_floats_and_gets_them_by_warm(tmp_path):
    rows = unit_rows(500, 96, 0, "plain")
    with index_of(rows, tmp_path) as index:
        folder, generation = index.folder, index.manifest.generation
        expected = index.scan(rows[:3], k=7, plan="64:1bit:70,64:int8:50,96:bits:20,96")
        exact = index.scan(rows[:3], k=7, dim=64)
    before = contents(folder)
    without_tiers(folder)
    with open_index(folder) as bare:
        np.testing.assert_array_equal(bare.scan(rows[:3], k=7, dim=64).rows, exact.rows)
        for plan in ("64:int8:50,96", "96:1bit:50,96", "96:bits:50,96"):
            with pytest.raises(UsageError, match="`warm`"):
                bare.scan(rows[:3], k=7, plan=plan)
    words = warming.warm(Home(tmp_path), "made")
    assert words[0] == "made: missing tiers derived"
    assert contents(folder) == before
    assert read_manifest(folder).generation == generation
    with open_index(folder) as index:
        np.testing.assert_array_equal(
            index.scan(rows[:3], k=7, plan="64:1bit:70,64:int8:50,96:bits:20,96").rows, expected.rows
        )
    assert warming.warm(Home(tmp_path), "made")[0] == "made: nothing is missing"


@pytest.mark.parametrize(
    "name", ["64.int8.npy", "64.scale.npy", "96.error.npy", "96.1bit.npy", "96.mean.npy", "96.bits.npy"]
)
def test_a_tier_that_is_damaged_is_told(tmp_path, name):
    with index_of(unit_rows(100, 96, 0, "plain"), tmp_path) as index:
        folder = index.folder
    path = folder / "tiers" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexFormatError, match=name):
        open_index(folder)
    path.unlink()
    with pytest.raises(IndexFormatError, match=f"{name} is missing"):
        open_index(folder)


def test_an_index_that_lacks_nothing_is_warmed_without_being_written(tmp_path):
    with index_of(unit_rows(20, 8, 0, "plain"), tmp_path) as index:
        folder = index.folder
    state = Home(tmp_path).state("made")
    shutil.rmtree(state)
    assert warming.warm(Home(tmp_path), "made")[0] == "made: nothing is missing"
    assert not state.exists()
    assert folder.exists()


@pytest.mark.parametrize("step", ["admin.doctor.list_files", "store.writer.Manifest.write"])
def test_tiers_that_could_not_be_finished_leave_the_index_as_it_was(tmp_path, monkeypatch, step):
    with index_of(unit_rows(50, 96, 0, "plain"), tmp_path) as index:
        folder = index.folder
    without_tiers(folder)
    before = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def refuse(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(f"resizable_search.{step}", refuse)
        with pytest.raises(StorageError, match="is full"):
            warming.warm(Home(tmp_path), "made")
    after = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert after == before
    assert not (folder / "tiers").exists()
    assert "missing tiers derived" in warming.warm(Home(tmp_path), "made")[0]
