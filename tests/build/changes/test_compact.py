import shutil

import numpy as np
import pytest

from resizable_search.build.build import compact
from resizable_search.build.delete import delete
from resizable_search.corpora.base import Document
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.engine import vectors
from resizable_search.errors import BuildStoppedError, RsearchError, StorageError
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import read_manifest
from resizable_search.store.verify import repair, verify
from tests.support import ListCorpus, TableEmbedder, articles

SECRET = [
    Document(
        "id-of-hers", "title-of-hers", "https://hers.example/", "text-of-hers", {"note": "note-of-hers"}
    ),
    Document("last-of-all", "t", "u", "text of the last"),
]


@pytest.fixture
def made(place):
    """Three parts, of which the first and the last have deleted rows."""
    place.parts([*articles(95), *SECRET], 60, 80, 97)
    delete(place.folder, ["a0", "a59", "a82", "id-of-hers", "last-of-all"])
    return place


def test_answers_stay_and_one_part_without_deleted_rows_remains(made):
    before, ids = made.answers(k=92), made.ids()
    with made.open() as index:
        rows = index.vectors(index.live_rows())
    old, new = compact(made.folder)
    assert (new.documents, len(old.parts), old.rows - old.documents) == (92, 3, 5)
    assert new == read_manifest(made.folder)
    assert made.answers(k=92) == before
    assert made.ids() == ids
    manifest = read_manifest(made.folder)
    assert (manifest.rows, manifest.documents, len(manifest.parts), manifest.generation) == (92, 92, 1, 5)
    assert np.load(made.folder / f"{manifest.full_dim}.npy").tobytes() == rows.tobytes()
    assert set(made.contents()) - {NAMES.manifest} == set(manifest.all_files())
    assert verify("made", made.home, full=True).damaged == ()
    assert not made.home.building("made").exists()


def test_it_is_the_very_index_that_a_build_of_what_is_left_makes(made, tmp_path):
    compact(made.folder)
    gone = {"a0", "a59", "a82"}
    other = type(made)(type(made.home)(tmp_path / "other"))
    other.build([d for d in articles(95) if d.id not in gone])
    without = ("generation", "source")
    assert made.contents(without=without) == other.contents(without=without)


def test_no_byte_of_a_deleted_document_remains(made):
    # A build that leaves a document out names it in its log and report.
    made.build([*articles(95), *SECRET, Document("id-of-hers", "", "", " ")], limit=98)
    needles = [
        b"text-of-hers",
        b"title-of-hers",
        b"hers.example",
        b"note-of-hers",
        b"id-of-hers",
        b"last-of-all",
    ]
    raw = TableEmbedder(width=96).vector("text-of-hers")
    rows = [vectors.prepare(raw[None], 96, centred=False)]
    rows.append(vectors.truncate(rows[0], 16))
    needles += [row.astype("<f4").tobytes() for row in rows]
    assert all(made.bytes_hold(needle) for needle in needles)
    compact(made.folder)
    assert {needle: made.bytes_hold(needle) for needle in needles} == {needle: [] for needle in needles}


def test_an_index_that_is_compact_is_left_alone(made):
    compact(made.folder)
    before = made.contents()
    old, new = compact(made.folder)
    assert old == new
    assert made.contents() == before


def test_an_open_reader_goes_on_with_what_it_has(made):
    queries = np.random.default_rng(1).standard_normal((2, 96)).astype(np.float32)
    with made.open() as index:
        before = index.scan(queries, k=9)
        compact(made.folder)
        after = index.scan(queries, k=9)
        np.testing.assert_array_equal(before.rows, after.rows)
        assert len(index.documents(after.rows[0])) == 9


def test_a_compacted_index_is_extended_where_its_corpus_was_left(place):
    more = articles(120)
    place.parts(more, 60, 80)
    delete(place.folder, ["a7"])
    compact(place.folder)
    place.build(more, limit=120)
    assert place.ids() == [f"a{i}" for i in range(120) if i != 7]
    assert len(read_manifest(place.folder).parts) == 2


def test_a_stop_leaves_the_index_as_it_was(made):
    import threading

    stop = threading.Event()
    stop.set()
    before = made.contents()
    with pytest.raises(BuildStoppedError, match="made is as it was"):
        compact(made.folder, stop=stop)
    assert made.contents() == before
    assert not made.home.building("made").exists()


def test_room_is_looked_for_first(made, monkeypatch):
    monkeypatch.setattr("resizable_search.system.free_bytes", lambda folder: 1000)
    before = made.contents()
    with pytest.raises(StorageError, match=r"compacting made takes .* and 1\.0 kB are free"):
        compact(made.folder)
    assert made.contents() == before


def test_an_unfinished_extension_goes_on_after_a_compaction(made):
    documents = [*articles(95), *SECRET, *articles(200, "more")]
    with pytest.raises(ConnectionError):
        made.build([], corpus=ListCorpus(documents, break_at=120), limit=150)
    compact(made.folder)
    again = TableEmbedder()
    report = made.build(documents, limit=150, embedder=again)
    assert (len(again.asked), len(report.manifest.parts), report.manifest.rows) == (43, 2, 145)
    assert verify("made", made.home, full=True).damaged == ()


def test_an_index_without_any_document_left_is_to_be_removed(place):
    place.build(articles(3))
    delete(place.folder, ["a0", "a1", "a2"])
    with pytest.raises(RsearchError, match="`remove made`"):
        compact(place.folder)


def test_a_fitted_embedder_stays_and_it_is_told_how_many_rows_it_was_fitted_on(place):
    texts = [Document(f"d{i}", "", "", f"word{i % 7} other{i} common words") for i in range(40)]
    place.build(texts[:30], embedder=LsaEmbedder(width=8), dims=(4,))
    assert read_manifest(place.folder).fitted_rows == 30
    delete(place.folder, ["d1", "d2"])
    before = {path.name: path.read_bytes() for path in (place.folder / "embedder").iterdir()}
    old, _ = compact(place.folder)
    assert set(old.files) == {f"embedder/{name}" for name in before}
    assert read_manifest(place.folder).fitted_rows == 28
    assert {path.name: path.read_bytes() for path in (place.folder / "embedder").iterdir()} == before
    assert verify("made", place.home, full=True).damaged == ()


def test_a_damaged_derived_file_of_many_parts_is_mended(made):
    path = made.folder / NAMES.parts / "2" / "16.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert [damage.file for damage in verify("made", made.home).damaged] == ["parts/2/16.npy"]
    assert repair("made", made.home).mended == ["parts/2/16.npy"]
    shutil.rmtree(made.home.path)
