"""Documents that no one would wish for: they are cleaned, or left out and named, and never end a build."""

from pathlib import Path

from resizable_search.build.build import BuildOptions, build
from resizable_search.corpora.base import Document
from resizable_search.search.index import open_index
from resizable_search.store.layout import Home
from tests.cli.conftest import ESCAPES, LONG, Shelf
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
