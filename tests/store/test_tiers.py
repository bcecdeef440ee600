"""The tiers of an index: derived again without embedding, and missed by nobody."""

import errno
import shutil
from dataclasses import replace

import numpy as np
import pytest

from resizable_search.admin import doctor as warming
from resizable_search.build.build import build_vectors, compact
from resizable_search.build.workspace import BuildOptions
from resizable_search.engine import short_codes, vectors
from resizable_search.errors import IndexFormatError, StorageError, UsageError
from resizable_search.search.index import open_index
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import file_entry, read_manifest
from resizable_search.store.verify import repair, verify
from resizable_search.store.writer import derive, derived_files, derived_names
from tests.engine.test_engines import unit_rows
from tests.support import index_of, one_bit_scores


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
    assert set(before) == {*derived_files(0, dims), *NAMES.lexical}
    for name in derived_files(0, dims):
        if name.startswith("tiers"):
            (folder / name).unlink()
    (folder / "16.npy").unlink()
    monkeypatch.setattr("resizable_search.arrays.READ_ROWS", block)
    names = [name for name in derived_names(dims) if name not in NAMES.lexical]
    assert derive(folder, folder, 100, dims, names, None) == names
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
    "name",
    [
        "64.int8.npy",
        "64.scale.npy",
        "96.error.npy",
        "96.1bit.npy",
        "96.4bit.npy",
        "96.bounds.npy",
        "96.mean.npy",
    ],
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


@pytest.mark.parametrize("step", ["store.writer.list_files", "store.writer.Manifest.write"])
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


def with_signs(folder):
    """What an index looked like when there were sign bits in place of one-bit codes."""
    manifest = read_manifest(folder)
    full, parts = manifest.full_dim, []
    for part in manifest.parts:
        inside = folder / part.path
        np.save(inside / NAMES.signs(full), np.zeros((2, part.rows), np.uint64))
        made = {"tiers/96.mean.npy", "tiers/96.1bit.npy", "tiers/96.4bit.npy", "tiers/96.bounds.npy"}
        files = {name: entry for name, entry in part.files.items() if name not in made}
        for name in set(part.files) - set(files):
            (inside / name).unlink()
        files[NAMES.signs(full)] = file_entry(inside / NAMES.signs(full))
        parts.append(replace(part, files=files))
    replace(manifest, parts=tuple(parts), format=1).write(folder)


def test_an_index_with_sign_bits_answers_by_int8_and_gets_one_bit_codes_by_warm(tmp_path):
    rows = unit_rows(300, 96, 0, "plain")
    with index_of(rows, tmp_path) as index:
        folder = index.folder
    before = contents(folder)
    with_signs(folder)
    with open_index(folder) as old:
        np.testing.assert_array_equal(
            old.scan(rows[:3], k=5, plan="96:bits:20,96").rows,
            old.scan(rows[:3], k=5, plan="96:int8:20,96").rows,
        )
        with pytest.raises(UsageError, match="`warm`"):
            old.scan(rows[0], plan="96:1bit:20,96")
    assert verify("made", Home(tmp_path), full=True).damaged == ()
    (folder / NAMES.signs(96)).write_bytes(b"short")
    assert verify("made", Home(tmp_path)).damaged == ()
    assert repair("made", Home(tmp_path)).mended == []
    warming.warm(Home(tmp_path), "made")
    assert read_manifest(folder).format == 2
    assert {name: data for name, data in contents(folder).items() if "bits" not in name} == before
    with open_index(folder) as index:
        np.testing.assert_array_equal(
            index.scan(rows[:3], k=5, plan="96:bits:20,96").rows,
            index.scan(rows[:3], k=5, plan="96:1bit:20,96").rows,
        )


def grown(tmp_path, rows):
    """An index of two parts with these rows."""
    np.save(tmp_path / "rows.npy", rows)
    for limit in (130, None):
        build_vectors(tmp_path / "rows.npy", Home(tmp_path), BuildOptions("made", limit=limit))
    return tmp_path / "made"


def test_parts_that_come_later_have_the_mean_of_the_first_and_compacting_makes_it_again(tmp_path):
    rows = unit_rows(300, 96, 0, "plain")
    rows[130:, 0] += 1
    folder = grown(tmp_path, vectors.normalise(rows))
    parts = read_manifest(folder).parts
    assert [part.rows for part in parts] == [130, 170]
    means = [np.load(folder / part.file(NAMES.mean(96))) for part in parts]
    stored = [np.load(folder / part.file("96.npy")) for part in parts]
    np.testing.assert_array_equal(means[1], means[0])
    np.testing.assert_array_equal(means[0], short_codes.mean_of(short_codes.sum_of(stored[0]), 130))
    codes = np.load(folder / parts[1].file(NAMES.one_bit(96)))
    np.testing.assert_array_equal(codes, short_codes.one_bit(stored[1], means[0]))
    with open_index(folder) as index:
        top = index.scan(rows[:3], k=100, plan="40:1bit:100,96")
        for query, found in zip(vectors.truncate(rows[:3], 40), top.rows, strict=True):
            scores = one_bit_scores(np.concatenate(stored), means[0], query)
            assert set(found.tolist()) == set(np.lexsort((np.arange(300), -scores))[:100].tolist())
    home = Home(tmp_path)
    assert verify("made", home, full=True).damaged == ()
    compact(folder)
    build_vectors(tmp_path / "rows.npy", home, BuildOptions("fresh"))
    assert contents(folder) == contents(tmp_path / "fresh")


@pytest.mark.parametrize("kind", ["mean", "1bit", "4bit", "bounds"])
@pytest.mark.parametrize("part", [0, 1])
def test_codes_of_another_mean_are_found_and_mended(tmp_path, kind, part):
    folder = grown(tmp_path, unit_rows(300, 96, 0, "plain"))
    home, manifest = Home(tmp_path), read_manifest(folder)
    name = manifest.parts[part].file(f"tiers/96.{kind}.npy")
    sound = (folder / name).read_bytes()
    changed = bytearray(sound)
    changed[-3] ^= 64
    (folder / name).write_bytes(changed)
    assert [damage.file for damage in verify("made", home).damaged] == [name]
    parts = list(manifest.parts)
    entry = {f"tiers/96.{kind}.npy": file_entry(folder / name)}
    parts[part] = replace(parts[part], files={**parts[part].files, **entry})
    replace(manifest, parts=tuple(parts)).write(folder)
    assert name in [damage.file for damage in verify("made", home, full=True).damaged]
    manifest.write(folder)
    assert repair("made", home).mended == [name]
    assert (folder / name).read_bytes() == sound
    (folder / manifest.parts[0].file("96.npy")).write_bytes(b"short")
    assert [damage.kind for damage in verify("made", home, full=True).damaged] == ["vectors"]
