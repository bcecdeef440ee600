import pytest

import resizable_search
from resizable_search import build_index, open_index
from resizable_search.corpora.base import Document
from resizable_search.errors import BuildStoppedError, UsageError
from tests.support import TableEmbedder

TEXTS = ["tree structures", "sorting of lists", "walking a folder"]


def ids(index):
    return [document.id for document in index.documents(index.live_rows())]


def test_the_front_of_the_package_builds_and_opens_an_index(tmp_path):
    assert resizable_search.build_index is build_index
    with build_index("notes", TEXTS, home=tmp_path) as index:
        hit = index.query("sorting of lists", k=1)[0]
        assert (hit.id, hit.text) == ("1", "sorting of lists")
    with open_index("notes", home=tmp_path) as index:
        assert ids(index) == ["0", "1", "2"]


def test_texts_may_be_documents_and_mappings(tmp_path):
    texts = [
        Document("one", "One", "https://one", "first"),
        {"id": 7, "title": "Seven", "text": "second", "year": 1999},
        {"text": "third"},
        {"id": "none"},
    ]
    with build_index("notes", texts, embedder=TableEmbedder(), home=tmp_path, dims=[16]) as index:
        assert ids(index) == ["one", "7", "2"]
        assert index.dims == (16, 96)
        assert dict(index.documents([1])[0].metadata) == {"year": 1999}


@pytest.mark.parametrize(
    "text", [7, None, {"text": 7}, {"text": "a", "tags": ["b"]}, {"text": "a", "x": float("nan")}]
)
def test_what_is_no_text_is_refused(tmp_path, text):
    with pytest.raises(UsageError, match="text 1 must be a string, a Document, or a mapping"):
        build_index("notes", ["a", text], home=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_index_keeps_its_embedder_if_none_is_named(tmp_path):
    build_index("notes", TEXTS * 10, embedder="lsa", home=tmp_path).close()
    with build_index("notes", [*TEXTS * 10, "sorting of trees"], home=tmp_path) as index:
        assert index.manifest.embedder["kind"] == "lsa"
        assert len(ids(index)) == 31


def test_an_index_follows_its_texts_and_embeds_what_is_new(tmp_path):
    embedder = TableEmbedder()
    build_index("notes", TEXTS, embedder=embedder, home=tmp_path).close()
    embedder.asked.clear()
    with build_index("notes", [*TEXTS[:2], "a new text"], embedder=embedder, home=tmp_path) as index:
        assert (ids(index), embedder.asked) == (["0", "1", "2"], ["a new text"])
    embedder.asked.clear()
    build_index("notes", [*TEXTS[:2], "a new text"], embedder=embedder, home=tmp_path).close()
    assert embedder.asked == []


@pytest.mark.parametrize("texts", [250, 300], ids=["same", "more"])
def test_a_build_that_was_stopped_is_resumed(tmp_path, texts):
    all_texts = [f"text {number}" for number in range(300)]
    embedder = TableEmbedder(remote=True)

    def stop(asked):
        if "text 120" in asked:
            raise KeyboardInterrupt

    embedder.before = stop
    with pytest.raises(BuildStoppedError):
        build_index("notes", all_texts[:250], embedder=embedder, home=tmp_path)
    again = TableEmbedder(remote=True)
    with build_index("notes", all_texts[:texts], embedder=again, home=tmp_path) as index:
        assert index.rows == texts
    assert "text 0" not in again.asked
    assert len(again.asked) == len(set(again.asked)) < texts


def test_a_stop_while_the_index_follows_texts_that_changed_says_what_is_safe(tmp_path):
    embedder = TableEmbedder(remote=True)

    def stop_at(word):
        def stop(asked):
            if any(word in text for text in asked):
                raise KeyboardInterrupt

        return stop

    embedder.before = stop_at("text 120")
    with pytest.raises(BuildStoppedError):
        build_index("notes", [f"text {number}" for number in range(250)], embedder=embedder, home=tmp_path)
    changed = [f"text {number}" for number in range(50)] + ["new text"]
    embedder.before = stop_at("new text")
    with pytest.raises(BuildStoppedError, match="50 documents are embedded and safe"):
        build_index("notes", changed, embedder=embedder, home=tmp_path)
    again = TableEmbedder(remote=True)
    with build_index("notes", changed, embedder=again, home=tmp_path) as index:
        assert (len(index.live_rows()), again.asked) == (51, ["new text"])
