import json
import random
import threading
from dataclasses import replace

import numpy as np
import pytest

from resizable_search.build.build import build, compact
from resizable_search.build.delete import delete
from resizable_search.build.dry_run import dry_run
from resizable_search.build.report import Changes
from resizable_search.build.workspace import BuildOptions
from resizable_search.cli.render_build import change_line, dry_run_lines
from resizable_search.corpora.base import Document
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.errors import BuildStoppedError, CorpusError, ServiceError
from resizable_search.store.layout import NAMES
from resizable_search.store.manifest import read_manifest
from resizable_search.store.verify import verify
from resizable_search.store.writer import array_bytes
from tests.support import ListCorpus, TableEmbedder, articles


class Living:
    """An index of a list that changes."""

    def __init__(self, place):
        self.place = place
        self.asked: list[str] = []

    def build(self, documents, *, embedder=None, **options):
        embedder = embedder or TableEmbedder(width=96)
        try:
            return self.place.build(
                [], corpus=ListCorpus(list(documents), is_mutable=True), embedder=embedder, **options
            )
        finally:
            self.asked = getattr(embedder, "asked", [])

    def held(self):
        """What the index has of each document, by id."""
        with self.place.open() as index:
            rows = index.live_rows()
            return {
                d.id: (d.title, d.url, d.metadata, d.text, vector.tobytes())
                for d, vector in zip(index.documents(rows), index.vectors(rows), strict=True)
            }


@pytest.fixture
def living(place):
    found = Living(place)
    found.build(articles(40))
    return found


def test_only_what_is_new_or_changed_is_embedded(living):
    documents = articles(43)
    documents[5] = replace(documents[5], text="another text")
    del documents[7]
    report = living.build(documents)
    assert report.changes == Changes(added=3, changed=1, removed=1, unchanged=38)
    assert sorted(living.asked) == sorted(["another text", *(f"text {i} of a" for i in (40, 41, 42))])
    assert set(living.held()) == {document.id for document in documents}
    assert living.held()["a5"][3] == "another text"
    manifest = read_manifest(report.folder)
    assert (len(manifest.parts), manifest.documents, manifest.generation) == (2, 42, 2)
    assert verify("made", living.place.home, full=True).damaged == ()
    kept = json.loads((living.place.home.state("made") / NAMES.report).read_text())
    assert kept["changes"] == {
        "added": 3,
        "changed": 1,
        "removed": 1,
        "renamed": 0,
        "unchanged": 38,
        "excluded": 0,
    }
    assert change_line(report) == "3 added, 1 changed, 1 removed, 38 unchanged; 4 texts embedded"


def test_nothing_is_written_where_nothing_has_changed(living):
    before = {path: path.read_bytes() for path in living.place.home.path.rglob("*.json")}
    report = living.build(articles(40))
    assert report.changes == Changes(unchanged=40)
    assert living.asked == []
    assert {path: path.read_bytes() for path in living.place.home.path.rglob("*.json")} == before
    assert not living.place.home.building("made").exists()
    assert change_line(report) == "no changes: nothing was written"


def test_a_renamed_document_keeps_its_vector_and_costs_nothing(living):
    vector = living.held()["a3"][-1]
    documents = articles(40)
    documents[3] = replace(documents[3], id="moved", url="elsewhere")
    report = living.build(documents)
    assert report.changes == Changes(renamed=1, unchanged=39)
    assert living.asked == []
    assert living.held()["moved"] == ("Title 3", "elsewhere", {}, "text 3 of a", vector)
    assert "a3" not in living.held()


def test_another_title_or_metadata_is_a_change_that_costs_nothing(living):
    documents = articles(40)
    documents[3] = replace(documents[3], title="New")
    documents[4] = replace(documents[4], metadata={"year": 1999})
    report = living.build(documents)
    assert report.changes == Changes(changed=2, unchanged=38)
    assert living.asked == []
    assert living.held()["a4"][2] == {"year": 1999}


def test_a_text_that_comes_twice_is_asked_for_once(living):
    twice = [Document("x", "", "", "the same"), Document("y", "", "", "the same")]
    report = living.build([*articles(40), *twice])
    assert report.changes == Changes(added=2, unchanged=40)
    assert living.asked == ["the same"]
    assert living.held()["x"][-1] == living.held()["y"][-1]


def test_documents_alone_may_vanish(living):
    report = living.build(articles(12))
    assert report.changes == Changes(removed=28, unchanged=12)
    assert (len(report.manifest.parts), report.manifest.documents) == (1, 12)
    assert len(living.held()) == 12


def test_a_corpus_that_is_empty_now_leaves_the_index_as_it_was(living):
    with pytest.raises(CorpusError, match=r"no document with text .*: made is left as it was"):
        living.build([])
    assert len(living.held()) == 40
    assert not living.place.home.building("made").exists()


def test_a_limit_does_not_make_what_lies_behind_it_vanish(living):
    report = living.build([Document("new", "", "", "new"), *articles(40)], limit=5)
    assert report.changes == Changes(added=1, unchanged=40)
    assert len(living.held()) == 41


def test_ids_that_the_corpus_has_twice_follow_their_own_document(living):
    twice = [Document("x", "", "", "one"), Document("x", "", "", "two")]
    living.build([*articles(40), *twice])
    assert living.held()["x#2"][3] == "two"
    report = living.build([*articles(40), *twice])
    assert not report.changes.any
    report = living.build([*articles(40), twice[0]])
    assert report.changes == Changes(removed=1, unchanged=41)


def test_what_was_deleted_comes_back_if_the_corpus_still_has_it(living):
    delete(living.place.folder, ["a3"])
    report = living.build(articles(40))
    assert report.changes == Changes(added=1, unchanged=39)


def test_a_text_that_is_refused_takes_its_old_version_along_and_is_told(living):
    class Picky(TableEmbedder):
        def embed(self, texts, task):
            from resizable_search.errors import RefusedTextError

            if "bad" in texts:
                raise RefusedTextError("it is bad")
            return super().embed(texts, task)

    documents = articles(41)
    documents[3] = replace(documents[3], text="bad")
    documents[4] = replace(documents[4], text=" ")
    report = living.build(documents, embedder=Picky(width=96))
    assert report.changes == Changes(added=1, removed=2, unchanged=38)
    assert {entry["id"] for entry in report.left_out} == {"a3", "a4"}
    assert not {"a3", "a4"} & set(living.held())


def test_what_was_embedded_before_a_failure_is_not_paid_again_even_if_the_corpus_moves_on(living):
    documents = [*articles(40), *articles(60, "b")]
    embedder = TableEmbedder(width=96, remote=True)

    def fail(texts):
        if len(embedder.asked) >= 30:
            raise ServiceError("gone; try later")

    embedder.before = fail
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resizable_search.embedders.request_pool.FIRST_PAUSE", 0.001)
        with pytest.raises(ServiceError, match="made is as it was, 30 new texts are embedded and safe"):
            living.build(documents, embedder=embedder)
    assert len(living.held()) == 40
    paid = set(embedder.asked)
    documents.insert(0, Document("first", "", "", "first"))
    report = living.build(documents, embedder=TableEmbedder(width=96, remote=True))
    assert report.changes == Changes(added=61, unchanged=40)
    assert not paid & set(living.asked)
    assert len(living.asked) == 31


def test_after_many_syncs_and_compacting_it_holds_what_a_new_build_holds(place, tmp_path):
    rng = random.Random(5)
    living, documents = Living(place), articles(50)
    living.build(documents)
    for turn in range(5):
        documents = [d for d in documents if rng.random() > 0.1]
        documents = [replace(d, text=f"{d.text} {turn}") if rng.random() < 0.1 else d for d in documents]
        documents = [replace(d, id=f"{d.id}-{turn}") if rng.random() < 0.1 else d for d in documents]
        documents += articles(rng.randrange(5), f"n{turn}-")
        rng.shuffle(documents)
        living.build(documents)
        if turn == 2:
            compact(place.folder)
    held = living.held()
    other = Living(type(place)(type(place.home)(tmp_path / "other")))
    other.build(documents)
    assert held == other.held()
    assert verify("made", place.home, full=True).damaged == ()


def test_an_open_reader_sees_the_old_index_whole(living):
    query = np.ones((1, 96), np.float32)
    with living.place.open() as index:
        before = index.scan(query, k=40)
        living.build(articles(45)[5:])
        np.testing.assert_array_equal(index.scan(query, k=40).rows, before.rows)
        assert len(index.documents(before.rows[0])) == 40
    assert "a44" in living.held()


def test_a_change_that_was_stopped_lends_its_answers_to_an_extension(place):
    place.parts(articles(99), 40)
    embedder = TableEmbedder(remote=True)

    def stop(texts):
        if "text 70 of a" in texts:
            raise KeyboardInterrupt

    embedder.before = stop
    with pytest.raises(BuildStoppedError):
        place.build([], corpus=ListCorpus(articles(99), is_mutable=True), embedder=embedder)
    answered, again = set(embedder.asked), TableEmbedder(remote=True)
    assert answered
    place.build(articles(99), limit=99, embedder=again)
    assert not answered & set(again.asked)
    assert not place.home.building("made").exists()


def test_lsa_projects_what_comes_into_the_space_that_it_was_fitted_on(place):
    words = [Document(f"d{i}", "", "", f"tree{i % 5} data structure{i % 3}") for i in range(30)]
    living = Living(place)
    living.build(words, embedder=LsaEmbedder(width=8), dims=(4,))
    before = read_manifest(place.folder)
    more = [*words, Document("new", "", "", "tree1 structure2 unheard")]
    report = living.build(more, embedder=LsaEmbedder(width=8), dims=(4,))
    assert report.changes == Changes(added=1, unchanged=30)
    assert (report.manifest.embedder, report.manifest.fitted_rows) == (before.embedder, 30)
    with_lsa = np.load(place.folder / f"parts/2/{before.full_dim}.npy")
    assert np.linalg.norm(with_lsa[0]) == pytest.approx(1)


def test_what_a_build_would_do_is_told_and_nothing_is_written(living):
    def told(documents, embedder):
        corpus = ListCorpus(documents, is_mutable=True)
        found = dry_run(corpus, embedder, living.place.home, BuildOptions("made", dims=(16,)))
        return found, dict(dry_run_lines(found))

    documents = [*articles(15)[:10], *articles(45)[12:]]
    documents[0] = replace(documents[0], text="another text")
    before = living.place.contents()
    found, lines = told(documents, TableEmbedder(width=96, remote=True))
    assert (found.state, found.requests, found.texts, found.documents) == ("follows", 1, 6, 43)
    assert found.chars == len("another text" + "".join(d.text for d in articles(45)[40:]))
    of_texts = {"documents.sqlite", "tiers/lexical"}
    assert {name: size for name, size in found.files.items() if name not in of_texts} == array_bytes(
        6, (16, 96)
    )
    assert lines["changes"] == "5 added, 1 changed, 2 removed, 37 unchanged; 6 texts to embed"
    assert living.place.contents() == before
    assert not living.place.home.building("made").exists()
    assert "on disk" not in told(articles(40), TableEmbedder(width=96))[1]

    embedder, stop = TableEmbedder(width=96, remote=True), threading.Event()
    embedder.before = lambda texts: stop.set()
    corpus = ListCorpus([*articles(40), *articles(30, "b")], is_mutable=True)
    with pytest.raises(BuildStoppedError):
        build(corpus, embedder, living.place.home, BuildOptions("made", dims=(16,)), stop=stop)
    found, _ = told([*articles(40), *articles(30, "b")], TableEmbedder(width=96, remote=True))
    assert found.texts == 30 - len(embedder.asked) < 30
