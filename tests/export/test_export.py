"""An export is put in place whole and right, or not at all."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from resizable_search.build.build import build, compact
from resizable_search.build.delete import delete
from resizable_search.build.workspace import BuildOptions
from resizable_search.errors import BuildStoppedError, IndexBusyError, RsearchError, StorageError, UsageError
from resizable_search.export.base import SearchCheck
from resizable_search.export.export import FORMATS, export, staging
from resizable_search.export.parquet import ParquetFormat
from resizable_search.store.layout import Home
from tests.build.changes.conftest import Place
from tests.hostile.disk import cannot_mount, mounted
from tests.support import ListCorpus, TableEmbedder, articles, index_of


def lying(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("dim", [0, -1, 97])
def test_a_dimension_that_there_is_not_is_refused(made, tmp_path, dim):
    with pytest.raises(UsageError, match=f"dimension {dim} is not within 1 to 96"):
        export(made.folder, tmp_path / "made.parquet", dim=dim)
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_there_is_not_is_refused_with_those_that_there_are(made, tmp_path):
    with pytest.raises(UsageError, match="unknown `format` 'csv': choose one of parquet, datasets"):
        export(made.folder, tmp_path / "x", "csv")
    with pytest.raises(UsageError, match="name a `format`"):
        export(made.folder, tmp_path / "x")


def test_an_index_is_not_written_into(made, tmp_path):
    for target in (made.folder / "x.parquet", made.folder / "tiers" / "x.parquet", made.folder):
        with pytest.raises(UsageError, match="is in the folder of the index made"):
            export(made.folder, target, "parquet", force=True)
    (tmp_path / "link").symlink_to(made.folder)
    with pytest.raises(UsageError, match="is in the folder of the index made"):
        export(made.folder, tmp_path / "link" / "x.parquet")


def test_no_export_is_written_into_another_index(made, tmp_path):
    index_of(np.eye(9, 8, dtype=np.float32), tmp_path, "other").close()
    words = f"{tmp_path / 'other' / 'x.parquet'} is in the folder of the index other: "
    with pytest.raises(UsageError, match=words):
        export(made.folder, tmp_path / "other" / "x.parquet")


def test_the_readme_of_a_centred_index_says_so(tmp_path):
    home = Home(tmp_path)
    build(ListCorpus(articles(30)), TableEmbedder(centred=True), home, BuildOptions("made", dims=(16,)))
    readme = (export(home.index("made"), tmp_path / "x", "datasets", dim=16).path / "README.md").read_text()
    assert "subtract the mean of its numbers, take the first 16" in " ".join(readme.split())


def test_a_place_that_cannot_be_is_refused(made, tmp_path):
    with pytest.raises(StorageError, match="there is no folder .*: make it first"):
        export(made.folder, tmp_path / "no" / "x.parquet")
    with pytest.raises(UsageError, match="is too long"):
        export(made.folder, tmp_path / f"{'x' * 250}.parquet")


def test_what_is_there_is_replaced_by_force_alone_and_only_if_it_is_an_export(made, tmp_path):
    file, folder = tmp_path / "x.parquet", tmp_path / "x"
    for path, name in ((file, "parquet"), (folder, "datasets")):
        export(made.folder, path, name)
        before = lying(tmp_path)
        with pytest.raises(RsearchError, match="exists: .* `force`"):
            export(made.folder, path, name, dim=16)
        assert lying(tmp_path) == before
        assert export(made.folder, path, name, dim=16, force=True).dim == 16
        assert lying(tmp_path).keys() == before.keys()
        assert lying(tmp_path) != before


@pytest.mark.parametrize("what", ["file", "folder", "link", "notes in an export"])
def test_what_is_no_export_is_never_replaced(made, tmp_path, what):
    path = tmp_path / "mine"
    if what == "file":
        path.write_text("mine")
    elif what == "folder":
        path.mkdir()
        (path / "notes.txt").write_text("mine")
    elif what == "link":
        export(made.folder, tmp_path / "real", "datasets")
        path.symlink_to(tmp_path / "real")
    else:
        export(made.folder, path, "datasets")
        (path / "notes.txt").write_text("mine")
    before = lying(tmp_path)
    for name in ("parquet", "datasets"):
        with pytest.raises(RsearchError, match="remove it yourself"):
            export(made.folder, path, name, force=True)
    assert lying(tmp_path) == before


def test_what_appears_while_it_is_made_is_not_replaced(made, tmp_path, monkeypatch):
    path = tmp_path / "x.parquet"

    class Slow(ParquetFormat):
        def look(self, *args):
            path.write_text("somebody else's")
            return super().look(*args)

    monkeypatch.setitem(FORMATS, "parquet", Slow())
    with pytest.raises(RsearchError, match="exists"):
        export(made.folder, path)
    assert lying(tmp_path) == {"x.parquet": b"somebody else's"}


WRONG = {
    "other documents": lambda check: SearchCheck(check.ids[::-1], check.rows, check.nearest),
    "other numbers": lambda check: SearchCheck(check.ids, check.rows + np.float32(1e-7), check.nearest),
    "of what the exact scan finds": lambda check: SearchCheck(check.ids, check.rows, check.nearest[::-1]),
}


@pytest.mark.parametrize("message", WRONG)
def test_an_export_that_does_not_answer_as_the_index_is_not_put_in_place(
    made, tmp_path, monkeypatch, message
):
    class Wrong(ParquetFormat):
        def look(self, *args):
            return WRONG[message](super().look(*args))

    monkeypatch.setitem(FORMATS, "parquet", Wrong())
    with pytest.raises(RsearchError, match=f"pyarrow checked.* {message}.*nothing was written"):
        export(made.folder, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_cannot_read_what_was_made_is_told_in_a_line(made, tmp_path, monkeypatch):
    class Cut(ParquetFormat):
        def look(self, path, *args):
            path.write_bytes(path.read_bytes()[:-100])
            return super().look(path, *args)

    monkeypatch.setitem(FORMATS, "parquet", Cut())
    with pytest.raises(RsearchError, match="it cannot read the export"):
        export(made.folder, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_is_missing_is_told_with_what_installs_it(made, tmp_path, monkeypatch):
    class Missing(ParquetFormat):
        name, modules = "missing", ("no_such_library",)

    monkeypatch.setitem(FORMATS, "missing", Missing())
    with pytest.raises(RsearchError, match=r"no_such_library cannot be imported.*pip install .*\[export\]"):
        export(made.folder, tmp_path / "x", "missing")
    assert list(tmp_path.iterdir()) == []


def test_more_rows_than_a_format_takes_are_refused(made, tmp_path, monkeypatch):
    monkeypatch.setattr(ParquetFormat, "most_rows", 294)
    with pytest.raises(UsageError, match="made has 295 documents, and parquet takes 294"):
        export(made.folder, tmp_path / "x.parquet")


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_that_is_stopped_leaves_nothing(made, tmp_path, name, monkeypatch):
    for module in FORMATS[name].modules:
        pytest.importorskip(module)
    stop = threading.Event()

    class Progress:
        def stage(self, *args):
            pass

        def advance(self, amount):
            stop.set()

    with pytest.raises(BuildStoppedError, match="is unchanged; the same command starts again"):
        export(made.folder, tmp_path / "x", name, progress=Progress(), stop=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_has_left_is_deleted_by_the_next(made, tmp_path):
    left = tmp_path / ".x.parquet.exporting"
    (left / "export").mkdir(parents=True)
    (left / "export" / "half").write_text("half")
    export(made.folder, tmp_path / "x.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_two_exports_to_one_place_do_not_meet(made, tmp_path):
    with (
        staging(tmp_path / "x.parquet"),
        pytest.raises(IndexBusyError, match=r"x\.parquet is being exported by process \d+"),
    ):
        export(made.folder, tmp_path / "x.parquet")
    export(made.folder, tmp_path / "x.parquet")


def test_an_index_that_moves_on_meanwhile_is_exported_as_it_was(tmp_path, monkeypatch):
    index = Place(Home(tmp_path / "home"))
    index.parts(articles(60), 40, 60)

    class MovesOn(ParquetFormat):
        def write(self, *args):
            delete(index.folder, [f"a{i}" for i in range(50)])
            compact(index.folder)
            return super().write(*args)

    monkeypatch.setitem(FORMATS, "parquet", MovesOn())
    assert export(index.folder, tmp_path / "x.parquet").documents == 60
    assert len(index.ids()) == 10


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("name", FORMATS)
def test_few_documents_are_exported_too_or_told_to_be_too_few(tmp_path, name, count):
    for module in FORMATS[name].modules:
        pytest.importorskip(module)
    rows = np.random.default_rng(0).standard_normal((count, 7)).astype(np.float32)
    index_of(rows, tmp_path / "home").close()
    folder = tmp_path / "home" / "made"
    if name == "faiss-pq":
        with pytest.raises(RsearchError, match="takes 16 documents or more"):
            export(folder, tmp_path / "x", name)
    else:
        assert export(folder, tmp_path / "x", name).overlap == 1.0


@pytest.mark.parametrize("name", FORMATS)
def test_equal_and_empty_rows_are_ties_and_no_mistake(tmp_path, name):
    for module in FORMATS[name].modules:
        pytest.importorskip(module)
    rows = np.repeat(np.random.default_rng(0).standard_normal((4, 12)), 20, axis=0).astype(np.float32)
    index_of(np.concatenate([rows, np.zeros((2, 12), np.float32)]), tmp_path / "home").close()
    assert export(tmp_path / "home" / "made", tmp_path / "x", name).overlap >= 0.9


def test_an_index_without_a_document_is_not_exported(tmp_path):
    index = Place(Home(tmp_path / "home"))
    index.parts(articles(3), 3)
    delete(index.folder, ["a0", "a1", "a2"])
    with pytest.raises(RsearchError, match="every document of made is deleted"):
        export(index.folder, tmp_path / "x.parquet")


def test_a_disk_that_has_no_room_is_told_before_anything_is_written(made, tmp_path, monkeypatch):
    monkeypatch.setattr("resizable_search.system.free_bytes", lambda folder: 1000)
    with pytest.raises(StorageError, match="takes 113 kB more at least, and 1.0 kB are free"):
        export(made.folder, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(bool(cannot_mount()), reason=cannot_mount())
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kib", [60, 100])
def test_a_disk_that_fills_up_is_told_and_left_as_it_was(made, tmp_path, monkeypatch, name, kib):
    for module in FORMATS[name].modules:
        pytest.importorskip(module)
    monkeypatch.setattr("resizable_search.system.free_bytes", lambda folder: 1 << 40)
    with mounted(tmp_path / "disk", kib) as disk:
        if kib == 60:
            disk.fill()
        with pytest.raises(StorageError, match="is full; nothing is lost: .* the same command starts again"):
            export(made.folder, disk.folder / "x", name)
        assert [path.name for path in disk.folder.iterdir() if path.name != "ballast"] == []
        disk.empty()
        disk.grow()
        export(made.folder, disk.folder / "x", name)


def test_facts_tell_no_address_and_no_key(made, tmp_path):
    done = export(made.folder, tmp_path / "x", "datasets")
    facts = json.loads((done.path / "export.json").read_text())
    assert "base_url" not in str(facts)
    assert "api_key_env" not in str(facts)
