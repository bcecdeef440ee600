"""The sentence-transformers embedder, on a real model where there is one (see CONTRIBUTING.md)."""

import importlib.util
import sys
from types import SimpleNamespace
from typing import ClassVar

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


def test_a_folder_of_the_hubs_cache_is_the_model_that_it_holds(tmp_path):
    folder = (
        tmp_path / "models--intfloat--e5-base-v2" / "snapshots" / "f52bf8ec8c7124536f0efb74aca902b2995e5bcd"
    )
    folder.mkdir(parents=True)
    embedder = SentenceTransformersEmbedder(
        model=str(folder), document_prefix="passage: ", query_prefix="query: ", width=768
    )
    assert embedder.spec.model == "e5-base-v2"
    assert embedder.spec.options["load_from"] == str(folder)


def test_where_it_is_not_installed_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(EmbedderError, match=r"`.*pip install .*\[sentence-transformers\]"):
        SentenceTransformersEmbedder(model="bge-m3").check()


def test_its_spec_is_read_from_the_model_and_reopens_it(minilm):
    spec = SentenceTransformersEmbedder(model=str(minilm)).spec
    assert (spec.model, spec.width, spec.centred) == ("all-minilm-l6-v2", 384, False)
    assert (spec.document_task, spec.query_task) == ("document: ", "query: ")
    assert spec.options["load_from"] == str(minilm)
    again = registry.reopen(spec, minilm)
    assert again.spec == spec
    assert again._loaded is None


def test_the_prompts_reach_the_model_and_may_be_ones_own(minilm):
    plain = SentenceTransformersEmbedder(model=str(minilm), document_prefix="", query_prefix="")
    prompted = SentenceTransformersEmbedder(model=str(minilm))
    for task, prompt in (("search_document", PROMPTS["passage"]), ("search_query", PROMPTS["query"])):
        row = prompted.embed(["a tree"], task)
        np.testing.assert_allclose(row, plain.embed([f"{prompt}a tree"], task), atol=1e-6)
        assert np.abs(row - plain.embed(["a tree"], task)).max() > 1e-3


class Letters:
    """Stands for the library's model where it is not installed: a letter is a token, and eight are taken."""

    max_seq_length, prompts = 8, {}

    def tokenizer(self, texts, **options):
        return {"input_ids": [list(text) for text in texts]}

    def encode_document(self, texts, **options):
        return np.ones((len(texts), 4), np.float32)

    def get_embedding_dimension(self):
        return 4


def test_a_text_that_the_model_cuts_is_told():
    embedder, notes = SentenceTransformersEmbedder(model="letters", document_prefix="d: "), []
    embedder._loaded, embedder.on_note = Letters(), notes.append
    assert embedder.embed(["short", "a longer one"], "search_document").shape == (2, 4)
    assert notes == ["a text is too long for letters: only the first 8 of its 15 tokens are embedded"]
    embedder.embed(["a longer one"] * 10, "search_document")
    assert notes[1:] == [
        "the 10th text is too long for letters: only the first 8 of its 15 tokens are embedded"
    ]


def test_a_model_of_another_kind_tells_no_tokens():
    embedder, notes = SentenceTransformersEmbedder(model="letters"), []
    embedder._loaded, embedder.on_note = Letters(), notes.append
    embedder._loaded.tokenizer = None
    embedder.embed(["a longer one"], "search_document")
    assert notes == []


def test_it_says_where_it_runs_and_writes_nothing(minilm, capfd):
    embedder = SentenceTransformersEmbedder(model=str(minilm))
    assert embedder.check().startswith("all-minilm-l6-v2 runs on ")
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


class Library:
    """A stand-in for `SentenceTransformer`: what the library does with these models, as it says it."""

    prompts: ClassVar[dict[str, str]] = {"query": "query: ", "document": ""}
    device, max_seq_length, tokenizer = "cpu", None, None

    def __init__(self, where: str) -> None:
        if where == "own-code":
            raise ValueError("Loading own-code requires you to set\n`trust_remote_code=True` to run its code")
        if where == "gone":
            raise OSError("gone is not a local folder,\nand no model on the hub")
        self.where = where

    def get_embedding_dimension(self) -> int | None:
        return None if self.where == "clip" else 4

    def encode_query(self, texts, prompt, **_):
        if self.where == "large":
            raise RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")
        return np.array([[len(prompt + text), 1, 2, 3] for text in texts], np.float32)

    encode_document = encode_query


@pytest.fixture
def library(monkeypatch):
    """Instead of the library and its gigabyte of torch; its own progress bars are turned off."""
    silenced = []
    logging = SimpleNamespace(
        disable_progress_bar=lambda: silenced.append("bars"),
        set_verbosity_error=lambda: silenced.append("warnings"),
    )
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Library))
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(utils=SimpleNamespace(logging=logging)))
    monkeypatch.setitem(sys.modules, "transformers.utils", SimpleNamespace(logging=logging))
    return silenced


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            "own-code",
            "own-code brings its own code, which rsearch does not run: serve it and use `embedder=opena",
        ),
        (
            "gone",
            "cannot load gone: gone is not a local folder, and no model on the hub; check `model`, and the",
        ),
        ("clip", "clip makes no vectors of texts: choose another `model`"),
        (
            "large",
            "large cannot embed: CUDA out of memory. Tried to allocate 2 GiB; free memory, or choose a sm",
        ),
    ],
)
def test_what_the_library_cannot_do_is_told_in_one_line(library, model, words):
    with pytest.raises(EmbedderError) as caught:
        SentenceTransformersEmbedder(model=model).embed(["a text"], "search_query")
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_texts_are_embedded_with_the_prompt_of_their_task_and_without_the_librarys_noise(library):
    embedder = SentenceTransformersEmbedder(model="mine")
    assert embedder.check() == "mine runs on cpu"
    assert library == ["bars", "warnings"]
    assert embedder.embed(["ab"], "search_query")[0, 0] == len("query: ab")
    assert embedder.embed(["ab"], "search_document")[0, 0] == len("ab")
    assert embedder.spec.width == 4
