"""The lexical tier on disk: always the same bytes, checked, rebuilt, and without words of deleted texts."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from resizable_search.build.build import build, compact
from resizable_search.build.delete import delete
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.engine.lexical import HEADING, TITLE, Postings, term_hash
from resizable_search.errors import IndexFormatError
from resizable_search.search.index import open_index
from resizable_search.store import lexical
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.lexical import derive_lexical
from resizable_search.store.manifest import file_entry, read_manifest
from resizable_search.store.verify import repair, verify
from tests.support import ListCorpus, TableEmbedder, articles

DOCUMENTS = [
    *articles(40),
    Document("x", "A Title", "", "the secretword and a_name of the.dotted", {"heading": "Chapter › Part"}),
    Document("y", "", "", "word " * 300, {"heading": 7}),
]


@pytest.fixture
def folder(tmp_path):
    build(ListCorpus(DOCUMENTS), TableEmbedder(width=16), Home(tmp_path), BuildOptions("made", dims=(8,)))
    return tmp_path / "made"


def contents(folder):
    return {name: (folder / name).read_bytes() for name in NAMES.lexical}


def postings(folder) -> Postings:
    return Postings(*(np.load(folder / name) for name in NAMES.lexical))


def hits(folder, query="secretword", **options):
    with open_index(folder, embedder=TableEmbedder(width=16)) as index:
        return index.query(query, mode="lexical", **options)


def test_the_files_hold_the_terms_of_each_row_as_often_as_they_count(folder):
    found = postings(folder)
    assert (np.diff(found.terms.astype(object)) > 0).all()
    assert found.starts[0] == 0
    assert found.starts[-1] == len(found.rows) == len(found.counts)
    for term, row, count in [
        ("title", 40, TITLE),
        ("chapter", 40, HEADING),
        ("a_name", 40, 1),
        ("dotted", 40, 1),
        ("the", 40, 2),
        ("word", 41, 255),
        ("text", 7, 1),
    ]:
        rows, counts = found.of(term_hash(term))
        assert counts[rows.tolist().index(row)] == count
    assert found.lengths[7] == 2 * TITLE + 4
    assert found.lengths[41] == 300
    assert found.of(term_hash("nowhere"))[0].tolist() == []


@pytest.mark.parametrize(("run", "cached"), [(1, 10**9), (60, 1), (10**9, 1)])
def test_the_bytes_do_not_depend_on_how_the_documents_are_cut(folder, monkeypatch, run, cached):
    before = contents(folder)
    shutil.rmtree(folder / "tiers")
    (folder / "tiers").mkdir()
    monkeypatch.setattr(lexical, "RUN_CHARACTERS", run)
    monkeypatch.setattr(lexical, "CACHED_CHARACTERS", cached)
    assert derive_lexical(folder, folder, len(DOCUMENTS)) == NAMES.lexical
    assert contents(folder) == before
    assert len(list((folder / "tiers").iterdir())) == len(before)


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("change", ["cut", "other", "gone"])
def test_a_damaged_file_is_told_in_one_line_and_rebuilt(folder, number, change):
    before, path = contents(folder), folder / NAMES.lexical[number]
    content = before[NAMES.lexical[number]]
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if change == "cut" else content[:-1] + bytes([content[-1] ^ 255]))
    if change != "other":
        with pytest.raises(IndexFormatError, match=r"lexical\.\w+\.npy.*`repair "):
            hits(folder)
    home = Home(folder.parent)
    assert [damage.file for damage in verify("made", home).damaged] == [NAMES.lexical[number]]
    done = repair("made", home)
    assert (done.mended, done.lost) == ([NAMES.lexical[number]], {})
    assert contents(folder) == before
    assert [hit.id for hit in hits(folder)] == ["x"]


def test_numbers_that_make_no_sense_are_told_with_the_remedy(folder):
    path = folder / NAMES.lexical[2]
    rows = np.load(path)
    np.save(path, rows + np.uint32(1000))
    with pytest.raises(IndexFormatError, match="lexical tier of made is damaged .*`repair made`"):
        hits(folder)


def test_a_tier_of_other_documents_is_not_rebuilt(folder, tmp_path):
    path = folder / NAMES.documents
    (folder / NAMES.lexical[0]).unlink()
    path.write_bytes(path.read_bytes()[:-1])
    done = repair("made", Home(tmp_path))
    assert done.mended == []
    assert "the documents that it follows from are damaged" in done.lost[NAMES.lexical[0]]


def test_damaged_documents_give_no_tier(folder):
    path = folder / NAMES.documents
    content = path.read_bytes()
    path.write_bytes(content.replace(b'{"heading": 7}', b'{"heading": 7['))
    with pytest.raises(IndexFormatError, match="documents.sqlite is damaged"):
        derive_lexical(folder, folder, len(DOCUMENTS))


@pytest.mark.parametrize("number", range(5))
def test_a_tier_that_does_not_follow_from_the_documents_is_found(folder, tmp_path, number):
    name, home = NAMES.lexical[number], Home(tmp_path)
    (folder / name).write_bytes(contents(folder)[name][:-1] + b"\7")
    manifest = read_manifest(folder)
    (part,) = manifest.parts
    part = replace(part, files={**part.files, name: file_entry(folder / name)})
    replace(manifest, parts=(part,)).write(folder)
    assert verify("made", home).damaged == ()
    (damage,) = verify("made", home, full=True).damaged
    assert (damage.file, damage.kind) == (name, "derived")
    assert damage.wrong == "it does not follow from the documents"
    assert list(repair("made", home).lost) == [name]


def test_words_of_a_deleted_document_are_gone_after_compact(folder):
    assert [hit.id for hit in hits(folder)] == ["x"]
    delete(folder, ["x"])
    assert hits(folder) == []
    needle = term_hash("secretword").to_bytes(8, "little")
    assert needle in (folder / NAMES.lexical[0]).read_bytes()
    compact(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"secretword" not in path.read_bytes()
            assert needle not in path.read_bytes()
    assert hits(folder) == []


def test_documents_without_any_text_have_no_tier(tmp_path):
    from resizable_search.build.build import build_vectors

    np.save(tmp_path / "v.npy", np.eye(4, 16, dtype=np.float32))
    build_vectors(tmp_path / "v.npy", Home(tmp_path), BuildOptions("vectors"))
    (part,) = read_manifest(tmp_path / "vectors").parts
    assert not set(NAMES.lexical) & set(part.files)
