import sys

import nomic.embed
import numpy as np
import pytest

from resizable_search.embedders.nomic import NomicEmbedder, NomicLocalEmbedder
from resizable_search.errors import BadAnswerError, EmbedderError, UsageError

FILE = "nomic-embed-text-v1.5.f16.gguf"


def test_its_vectors_may_be_compared_with_the_services():
    local, hosted = NomicLocalEmbedder().spec, NomicEmbedder().spec
    assert local.kind == "nomic-local"
    assert local.space == hosted.space
    assert NomicLocalEmbedder(model="nomic-embed-text-v1").spec.space != hosted.space


def test_its_limits():
    embedder = NomicLocalEmbedder()
    assert (embedder.remote, embedder.batch_size, embedder.concurrency) == (False, 64, 1)
    assert embedder.requests_per_minute is None


def test_an_unknown_model_is_refused():
    with pytest.raises(UsageError, match="'ada'"):
        NomicLocalEmbedder(model="ada")


def test_without_gpt4all_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(nomic.embed, "Embed4All", None)
    with pytest.raises(EmbedderError, match=r"not installed: `.*pip install .*\[local\]"):
        NomicLocalEmbedder().embed(["a text"], "search_document")


def test_a_gpt4all_that_cannot_be_imported(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "nomic.embed":
                raise OSError("libllmodel.so: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "nomic.embed")
    monkeypatch.delattr(nomic, "embed")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(EmbedderError, match="does not work on this machine"):
        NomicLocalEmbedder().embed(["a text"], "search_document")


def test_vectors_in_the_texts_order_with_one_load(gpt4all):
    embedder = NomicLocalEmbedder()
    vectors = embedder.embed(["abc", "a"], "search_query")
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.repeat([[3.0], [1.0]], 768, axis=1))
    texts, options = gpt4all.calls[0]
    assert texts == ["abc", "a"]
    assert (options["prefix"], options["dimensionality"]) == ("search_query", 768)
    assert options["long_text_mode"] == "truncate"
    embedder.embed(["x"] * 64, "search_document")
    assert (gpt4all.fetched, gpt4all.loaded, len(gpt4all.calls)) == ([FILE], [FILE], 2)


def test_no_bar_is_drawn(gpt4all, capfd):
    NomicLocalEmbedder().embed(["a text"] * 64, "search_document")
    assert capfd.readouterr() == ("", "")


def test_a_model_that_cannot_be_fetched(gpt4all):
    gpt4all.fetch_error = ConnectionError("a long story")
    gpt4all.fetch_error.__cause__ = OSError(-2, "Name or service not known")
    embedder = NomicLocalEmbedder()
    with pytest.raises(EmbedderError, match=": Name or service not known; connect to the network"):
        embedder.embed(["a text"], "search_document")
    assert gpt4all.loaded == []
    gpt4all.fetch_error = None
    assert embedder.embed(["a text"], "search_document").shape == (1, 768)


def test_a_model_that_cannot_be_loaded(gpt4all):
    gpt4all.load_error = RuntimeError("Unable to instantiate model:\nUnsupported file format")
    with pytest.raises(EmbedderError) as caught:
        NomicLocalEmbedder().embed(["a text"], "search_document")
    assert str(caught.value) == (
        f"gpt4all cannot embed with {FILE}: Unable to instantiate model: Unsupported file format; "
        "connect to the network to fetch it, or delete it from ~/.cache/gpt4all if it is damaged"
    )


def test_vectors_of_another_width(gpt4all):
    gpt4all.width = 384
    with pytest.raises(BadAnswerError, match="gpt4all answered vectors of 384 dimensions"):
        NomicLocalEmbedder().embed(["a text"], "search_document")
