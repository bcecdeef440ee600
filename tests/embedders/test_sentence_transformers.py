"""The sentence-transformers embedder, with a model of random weights that is made on the spot."""

import importlib.util
import sys

import numpy as np
import pytest

from resizable_search.embedders import registry
from resizable_search.embedders.models import MODELS, ModelCard
from resizable_search.embedders.sentence_transformers import SentenceTransformersEmbedder, prompts_of
from resizable_search.errors import EmbedderError, UsageError
from tests.conftest import PROMPTS

UNKNOWN = ModelCard("mine", 0, 0)


@pytest.mark.parametrize(
    ("prompts", "document", "query"),
    [
        ({"query": "q: ", "document": "d: "}, "d: ", "q: "),
        ({"query": "q: ", "document": "", "passage": "p: "}, "p: ", "q: "),
        ({"query": "q: ", "document": ""}, "", "q: "),
        ({"retrieval.query": "q: ", "retrieval.passage": "p: "}, "p: ", "q: "),
        ({"query": "", "document": ""}, "", ""),
        ({"classification": "c: "}, "", ""),
    ],
)
def test_the_models_own_prompts_stand_before_the_texts(prompts, document, query):
    assert prompts_of(prompts, UNKNOWN) == {"search_document": document, "search_query": query}


def test_a_model_without_prompts_gets_those_of_its_card():
    card = MODELS["e5-base-v2"]
    assert prompts_of({"query": "", "document": ""}, card) == {
        "search_document": "passage: ",
        "search_query": "query: ",
    }


def test_without_a_model_it_says_so():
    with pytest.raises(UsageError, match="needs `model`"):
        SentenceTransformersEmbedder()


def test_where_it_is_not_installed_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(EmbedderError, match=r"`.*pip install .*\[sentence-transformers\]"):
        SentenceTransformersEmbedder(model="bge-m3").check()


def test_its_spec_is_read_from_the_model_and_reopens_it(tiny_model):
    spec = SentenceTransformersEmbedder(model=str(tiny_model)).spec
    assert (spec.model, spec.width, spec.centred) == ("tiny", 32, False)
    assert (spec.document_task, spec.query_task) == ("document: ", "query: ")
    assert spec.options["load_from"] == str(tiny_model)
    again = registry.reopen(spec, tiny_model)
    assert again.spec == spec
    assert again._loaded is None


def test_the_prompts_reach_the_model_and_may_be_ones_own(tiny_model):
    plain = SentenceTransformersEmbedder(model=str(tiny_model), document_prefix="", query_prefix="")
    prompted = SentenceTransformersEmbedder(model=str(tiny_model))
    for task, prompt in (("search_document", PROMPTS["passage"]), ("search_query", PROMPTS["query"])):
        row = prompted.embed(["a tree"], task)
        np.testing.assert_allclose(row, plain.embed([f"{prompt}a tree"], task), atol=1e-6)
        assert np.abs(row - plain.embed(["a tree"], task)).max() > 1e-3


def test_it_says_where_it_runs_and_writes_nothing(tiny_model, capfd):
    embedder = SentenceTransformersEmbedder(model=str(tiny_model))
    assert embedder.check().startswith("tiny runs on ")
    embedder.embed(["a tree"] * 64, "search_document")
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_a_known_model_is_that_model(tmp_path):
    (tmp_path / "nomic-embed-text-v1.5").mkdir()
    embedder = SentenceTransformersEmbedder(
        model=str(tmp_path / "nomic-embed-text-v1.5"), document_prefix="search_document: ",
        query_prefix="search_query: ", width=768,
    )  # fmt: skip
    assert embedder.spec.model == "nomic-embed-text-v1.5"
    assert embedder.spec.centred


def test_a_model_that_cannot_be_loaded_is_told(tmp_path):
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is not installed")
    with pytest.raises(EmbedderError, match="cannot load .*; check `model`, and the network") as caught:
        SentenceTransformersEmbedder(model=str(tmp_path)).check()
    assert "\n" not in str(caught.value)
