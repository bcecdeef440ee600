"""What `embedders.base` says, held by every embedder there is."""

import nomic.cli
import nomic.embed
import numpy as np
import pytest

from resizable_search.embedders import registry
from resizable_search.embedders.base import Embedder
from resizable_search.embedders.request_pool import embed_all
from resizable_search.errors import UsageError
from resizable_search.specs import EmbedderSpec
from tests.servers.nomic_api import NomicServer
from tests.servers.openai_api import OpenAIServer
from tests.support import TableEmbedder

TEXTS = [
    "A tree is a data structure of nodes.",
    "A binary tree has nodes with two children.",
    "The violin is played with a bow.",
    "Orchestras tune to the oboe, not the violin.",
    "Glaciers carve valleys out of rock; ¿verdad? 日本語 😀",
]


class OtherPackage:
    """An entry point as the metadata of another package gives it."""

    name = "table"

    def load(self):
        return TableEmbedder


@pytest.fixture
def service(monkeypatch, tmp_path):
    """Nomic's API on loopback, and a key that it takes."""
    with NomicServer() as server:
        monkeypatch.setenv("ATLAS_API_PATH", server.url)
        monkeypatch.setenv("NOMIC_API_KEY", "nk-test")
        monkeypatch.setattr(nomic.cli, "nomic_base_path", tmp_path / ".nomic")
        monkeypatch.setattr(nomic.embed, "atlas_class", None)
        yield server


@pytest.fixture
def endpoint(monkeypatch):
    """An endpoint in OpenAI's form on loopback, which needs no key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with OpenAIServer() as server:
        yield server


@pytest.fixture(params=["nomic", "nomic-local", "openai", "sentence-transformers", "lsa", "table"])
def made(request, monkeypatch, tmp_path) -> tuple[Embedder, Embedder]:
    """An embedder ready to embed, and the same one opened again from its spec."""
    kind = request.param
    entry_points = registry.entry_points
    monkeypatch.setattr(registry, "entry_points", lambda group: [*entry_points(group=group), OtherPackage()])
    monkeypatch.setenv("HOME", str(tmp_path))
    if kind == "nomic-local":
        request.getfixturevalue("gpt4all")
    if kind == "nomic":
        request.getfixturevalue("service")
    model, options = None, {}
    if kind == "openai":
        model, options = "mine", {"base_url": request.getfixturevalue("endpoint").base_url}
    if kind == "sentence-transformers":
        model = str(request.getfixturevalue("minilm"))
    embedder = registry.create(kind, model, options)
    if embedder.needs_fit:
        embedder.fit(iter(TEXTS), tmp_path / "state")
    spec = EmbedderSpec.from_json(embedder.spec.to_json())
    return embedder, registry.reopen(spec, tmp_path / "state")


def noise_of(embedder):
    """How far two answers to one text may be apart: a model pads the texts of a batch to one length."""
    return 1e-5 if embedder.kind == "sentence-transformers" else 0


@pytest.mark.parametrize("task", ["search_document", "search_query"])
def test_texts_become_finite_float32_rows_in_their_order(made, task):
    embedder, _ = made
    rows = embedder.embed(TEXTS, task)
    assert rows.shape == (len(TEXTS), embedder.spec.width)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    for text, row in zip(TEXTS, rows, strict=True):
        np.testing.assert_allclose(embedder.embed([text], task)[0], row, atol=noise_of(embedder))


def test_opened_again_it_gives_the_same(made):
    embedder, again = made
    assert again.spec == embedder.spec
    assert again.spec.fingerprint == embedder.spec.fingerprint
    np.testing.assert_array_equal(
        again.embed(TEXTS[:2], "search_document"), embedder.embed(TEXTS[:2], "search_document")
    )


def test_its_limits_and_words_are_told(made):
    embedder, _ = made
    assert embedder.batch_size >= 1
    assert embedder.concurrency >= 1
    assert embedder.spec.kind == embedder.kind
    assert embedder.kind in registry.names()
    assert isinstance(embedder.check(), str)
    assert "\n" not in embedder.remark_on(embedder.spec)


def test_many_texts_are_embedded_in_batches_and_order(made):
    embedder, _ = made
    texts = [f"{text} {i}" for i in range(23) for text in TEXTS]
    np.testing.assert_allclose(
        embed_all(embedder, texts, "search_query")[[0, 57, 114]],
        embedder.embed([texts[0], texts[57], texts[114]], "search_query"),
        atol=noise_of(embedder),
    )
    assert 1 <= embedder.fit_in(texts) <= embedder.batch_size


def test_an_embedder_that_there_is_not_names_those_there_are():
    with pytest.raises(UsageError, match="nomic, nomic-local, openai, sentence-transformers, lsa"):
        registry.create("bert")


def test_a_model_is_refused_where_there_is_no_choice():
    with pytest.raises(UsageError, match="no option `model`"):
        registry.create("lsa", "large")


def test_an_option_is_refused_where_there_is_none():
    with pytest.raises(UsageError, match="'lsa' has no option `base_url`"):
        registry.create("lsa", None, {"base_url": "http://x/v1", "query_prefix": None})


def test_an_entry_point_that_is_no_embedder_is_refused(monkeypatch):
    class Odd:
        name = "odd"

        def load(self):
            return dict

    monkeypatch.setattr(registry, "entry_points", lambda group: [Odd()])
    with pytest.raises(UsageError, match="no Embedder"):
        registry.create("odd")
