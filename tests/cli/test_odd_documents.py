"""Documents that no one would wish for: they are cleaned, or left out and named, and never end a build."""

import json
import os
import sys
from pathlib import Path

import pyarrow.parquet
import pytest

from resizable_search.build import ingest
from resizable_search.build.build import BuildOptions, build
from resizable_search.corpora.base import Document
from resizable_search.export.export import FORMATS, export
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from tests.cli.conftest import ESCAPES, LONG, Inside, Shelf, errs, errs_at_last
from tests.support import ListCorpus, TableEmbedder


def test_documents_without_text_are_left_out_and_named(shelf: Shelf):
    out = shelf.builds["wiki-odd"].out
    assert out.startswith("wiki-odd: 7 documents at ")
    assert "left out 3 of 10: empty, blank and 1 other (no text)\n" in out


def test_the_others_are_stored_as_they_were_but_for_what_no_database_takes(shelf: Shelf):
    with open_index("wiki-odd", home=shelf.home) as index:
        documents = {document.id: document for document in index.documents(range(index.rows))}
    assert list(documents) == ["plain", "nul", "markup", "escapes", "long", "plain#2", ESCAPES]
    assert documents["nul"].text == "Before\ufffdafter the queue."
    assert documents["escapes"].title == ESCAPES
    assert len(documents["long"].text) == LONG


def test_lone_surrogates_are_replaced_wherever_they_stand(tmp_path: Path):
    odd = "a\ud800b\udfff"
    corpus = ListCorpus([Document(odd, odd, odd, odd, {"note": odd}), Document("x", "", "", "\ud83d\ude00")])
    embedder = TableEmbedder()
    build(corpus, embedder, Home(tmp_path), BuildOptions("odd"))
    assert embedder.asked == ["a\ufffdb\ufffd", "\U0001f600"]
    with open_index("odd", home=tmp_path, embedder=TableEmbedder()) as index:
        first, second = index.documents([0, 1])
        assert (first.id, first.title, first.url, first.text) == ("a\ufffdb\ufffd",) * 4
        assert second.text == "\U0001f600"
        assert index.query("any \udcff", k=1)[0].row in (0, 1)


FIELDS = {
    "tag": "x\ud83d\0",
    "list": '["\ud83d"]',
    "\udce9": "\ud83d\ude00",
    "path": "d\udce9/a.txt",
    "back": "\\ud83d",
}
SOUND = {
    "tag": "x\ufffd\ufffd",
    "list": '["\ufffd"]',
    "\ufffd": "\U0001f600",
    "path": "d\ufffd/a.txt",
    "back": "\\ud83d",
}


@pytest.mark.parametrize("is_old", [False, True], ids=["new", "of an earlier version"])
def test_metadata_with_lone_surrogates_is_shown_filtered_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_old: bool
):
    documents = [Document("a", "", "", "river", FIELDS), Document("b", "", "", "bread")]
    with monkeypatch.context() as patch:
        if is_old:  # which stored metadata as it was
            patch.setattr(ingest, "sound_json", lambda text: text)
        build(ListCorpus(documents), TableEmbedder(), Home(tmp_path), BuildOptions("odd"))
    with open_index("odd", home=tmp_path, embedder=TableEmbedder()) as index:
        assert dict(index.documents([0])[0].metadata) == SOUND
        assert [hit.id for hit in index.query("river", where="back = '\\ud83d'")] == ["a"]
        assert len(index.query("river", where="tag LIKE 'x_%' AND metadata LIKE '%u%'")) == 1
    for form in sorted(FORMATS.keys() - {"faiss-pq"}):
        path = export(tmp_path / "odd", tmp_path / f"made-{form}", form).path
        table = next(iter([path] if path.is_file() else path.rglob("*.parquet")))
        assert json.loads(pyarrow.parquet.read_table(table)["metadata"][0].as_py()) == SOUND
    # It is followed: metadata of earlier versions is no change, and nothing is embedded again.
    embedder = TableEmbedder()
    again = BuildOptions("odd")
    reports = [build(ListCorpus(documents, is_mutable=True), embedder, Home(tmp_path), again) for _ in "12"]
    assert [report.changes.changed for report in reports] == [0, 0]
    assert embedder.asked == []


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_files_whose_names_are_not_utf8_are_followed_added_and_exported(inside: Inside):
    folder = os.fsencode(inside.folder) + b"/caf\xe9"
    os.mkdir(folder)
    for name, text in {b"r\xe9.md": "river", b"r\xe8.md": "floods", b"plain.md": "bread"}.items():
        Path(os.fsdecode(folder + b"/" + name)).write_text(text)
    notes = os.fsdecode(folder)
    assert inside.run("build", "files", notes, "--name", "n").code == 0
    assert "no changes" in inside.run("build", "files", notes, "--name", "n").out
    Path(notes, os.fsdecode(b"r\xe8.md")).write_text("stars")
    assert inside.run("update", "n").code == 0
    hits = inside.run("query", "stars", "-i", "n", "--json").json["hits"]
    assert {hit["id"]: hit["text"] for hit in hits} == {
        "r\ufffd.md": "stars", "r\ufffd.md#2": "river", "plain.md": "bread",
    }  # fmt: skip
    assert hits[0]["url"].endswith("/caf%E9/r%E8.md")
    assert inside.run("export", "n", "n.parquet").code == 0
    errs_at_last(inside.run("export", "n", f"{notes}/n.parquet"), 2, "is not UTF-8", "export to another path")
    both = (Path(notes, os.fsdecode(name)) for name in (b"r\xe9.md", b"r\xe8.md"))
    errs_at_last(inside.run("add", *both, "-i", "n", "--replace"), 1, "comes twice")
    errs(inside.run("config", "set", "query.fields", "r\udce9"), 1, "the value is not UTF-8")
