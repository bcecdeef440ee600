"""Damaged, foreign and newer index folders: an IndexFormatError that names the file and the remedy."""

import contextlib
import gc
import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resizable_search.errors import IndexBusyError, IndexFormatError, RsearchError
from resizable_search.search.index import open_index
from resizable_search.store.manifest import FORMAT_VERSION, Manifest, _checksum, manifest_text, read_manifest
from resizable_search.store.reader import IndexReader
from tests.support import TableEmbedder, index_of

FILES = ["96.npy", "64.npy", "documents.sqlite", "manifest.json"]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    rows = np.random.default_rng(0).standard_normal((50, 96)).astype(np.float32)
    index_of(rows, home, dims=(64,)).close()
    return home / "made"


@pytest.fixture
def folder(good, tmp_path):
    return shutil.copytree(good, tmp_path / "made")


def read_all(folder):
    with open_index(folder, home=folder.parent, embedder=TableEmbedder()) as index:
        index.documents(range(index.rows))
        return index.scan(np.ones((1, 96)), k=50, dim=64, rerank=1)


def rewritten(folder, **changes):
    data = json.loads((folder / "manifest.json").read_text())
    data.pop("checksum")
    data.update(changes)
    (folder / "manifest.json").write_text(json.dumps({**data, "checksum": _checksum(data)}))


def test_a_whole_index_is_read(folder):
    assert read_all(folder).rows.shape == (1, 50)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(IndexFormatError, match=name):
        read_all(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [0, 1, 100, 3000])
def test_a_truncated_file_is_named(folder, name, size):
    path = folder / name
    content = path.read_bytes()
    path.write_bytes(content[: min(size, len(content) - 1)])
    with pytest.raises(IndexFormatError, match=name):
        read_all(folder)


@pytest.mark.parametrize(
    "foreign",
    [
        np.zeros((50, 65), np.float32),
        np.zeros((49, 64), np.float32),
        np.zeros((50, 64), np.float64),
        np.zeros((64, 50), np.float32).T,
        np.array(["text"]),
    ],
    ids=["width", "rows", "dtype", "order", "strings"],
)
def test_another_array_in_a_files_place_is_told(folder, foreign):
    np.save(folder / "64.npy", foreign)
    with pytest.raises(IndexFormatError, match="64.npy"):
        read_all(folder)


def test_a_pickle_is_never_loaded(folder):
    np.save(folder / "64.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(IndexFormatError, match="64.npy"):
        read_all(folder)


def test_a_newer_format_asks_for_an_upgrade(folder):
    rewritten(folder, format=FORMAT_VERSION + 1)
    with pytest.raises(IndexFormatError, match="upgrade"):
        read_all(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 51},
        {"dims": [96, 64]},
        {"dims": []},
        {"dims": [0, 96]},
        {"dims": [32, 64, 96]},
        {"parts": []},
        {"parts": "none"},
        {"files": {"../outside": {"bytes": 1, "sha256": ""}}},
        {"source": {"read": 1, "unknown": 2}},
        {"dims": [1e999]},
        {"corpus": 3},
        {"label": None},
        {"created": 7},
        {"files": {"a\0b": {"bytes": 1, "sha256": ""}}},
        {"files": {"\ud800": {"bytes": 1, "sha256": ""}}},
    ],
    ids=lambda c: json.dumps(c),
)
def test_a_manifest_that_makes_no_sense_is_refused(folder, changes):
    rewritten(folder, **changes)
    with pytest.raises(IndexFormatError, match="manifest.json"):
        read_all(folder)


def test_a_part_that_is_listed_twice_is_refused(folder):
    (part,) = read_manifest(folder).to_json()["parts"]
    rewritten(folder, rows=2 * part["rows"], parts=[part, {**part, "path": "parts/2"}])
    with pytest.raises(IndexFormatError, match="two of its parts have the same documents"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "embedder",
    [{}, {"kind": "x", "model": [], "width": 96}, {"kind": "x", "model": "x", "width": 96, "foo": 1}],
)
def test_an_embedder_that_is_none_is_refused(folder, embedder):
    rewritten(folder, embedder=embedder)
    with pytest.raises(IndexFormatError, match="describes no embedder"):
        read_all(folder)


@pytest.mark.parametrize("name", ["64.npy", "documents.sqlite"])
def test_what_is_no_file_is_told(folder, name):
    path = folder / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(IndexFormatError, match="not a file"):
        read_all(folder)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(IndexFormatError, match=name):
        read_all(folder)


def test_a_changed_manifest_fails_its_checksum(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"generation": 1', '"generation": 2'))
    with pytest.raises(IndexFormatError, match="checksum"):
        read_manifest(folder)


def test_a_manifest_is_written_to_the_byte_as_it_was_read(folder):
    content = (folder / "manifest.json").read_bytes()
    assert manifest_text(read_manifest(folder).to_json()) == content


@settings(max_examples=150)
@given(st.data())
def test_a_bit_flipped_in_the_manifest_is_never_believed(good, data):
    content = bytearray((good / "manifest.json").read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    folder = good.parent / "flipped"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    with contextlib.suppress(IndexFormatError):
        assert read_manifest(folder) == read_manifest(good)


@settings(max_examples=150)
@given(st.data())
def test_a_bit_flipped_in_a_header_or_database_is_an_error_or_an_answer(good, data):
    name = data.draw(st.sampled_from(["64.npy", "documents.sqlite"]))
    content = bytearray((good / name).read_bytes())
    at = data.draw(st.integers(0, 127 if name == "64.npy" else len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    folder = good.parent / "bits"
    if not folder.exists():
        shutil.copytree(good, folder)
    (folder / name).write_bytes(content)
    try:
        read_all(folder)
    except RsearchError as error:
        message = str(error)
    else:
        message = name
    finally:
        shutil.copy(good / name, folder / name)
    assert name in message


def test_an_id_of_a_database_that_was_overwritten_meanwhile_is_an_error(folder):
    with contextlib.closing(IndexReader(folder)) as reader:
        path = folder / "documents.sqlite"
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(bytes(path.stat().st_size - 4096))
        with pytest.raises(IndexFormatError, match=r"documents\.sqlite is damaged"):
            reader.row_of("any")


def test_a_manifest_survives_writing_and_reading(folder):
    manifest = read_manifest(folder)
    manifest.next_generation(plans={"10:0.99": {"plan": "64:100,96"}}).write(folder)
    after = read_manifest(folder)
    assert isinstance(after, Manifest)
    assert (after.generation, after.plans, after.created) == (
        2, {"10:0.99": {"plan": "64:100,96"}}, manifest.created,
    )  # fmt: skip
    read_all(folder)


def test_an_index_that_is_replaced_again_and_again_is_not_read_by_halves(folder, monkeypatch):
    monkeypatch.setattr(IndexReader, "_has_moved_on", lambda self, manifest: True)
    with pytest.raises(IndexBusyError, match="replaced again and again: try later"):
        IndexReader(folder)


def test_an_index_that_is_closed_or_forgotten_holds_nothing(folder):
    def held():
        paths = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # that of this very list
                paths.append(os.readlink(f"/proc/self/fd/{number}"))
        return [name for name in paths if name.startswith(str(folder))]

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("the open files of a process can be seen on Linux only")
    reader = IndexReader(folder)
    assert f"{folder}/documents.sqlite" in held()
    reader.close()
    del reader
    IndexReader(folder).close()
    gc.collect()
    assert held() == []
