import pytest

from resizable_search.embedders import models
from resizable_search.embedders.nomic import MODELS, NomicEmbedder, nomic_spec
from resizable_search.embedders.openai import OpenAIEmbedder
from resizable_search.specs import EmbedderSpec


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("nomic-embed-text", "nomic-embed-text-v1.5"),
        ("nomic-embed-text:latest", "nomic-embed-text-v1.5"),
        ("nomic-embed-text:137m-v1.5-fp16", "nomic-embed-text-v1.5"),
        ("nomic-ai/nomic-embed-text-v1.5", "nomic-embed-text-v1.5"),
        ("nomic-ai/nomic-embed-text-v1", "nomic-embed-text-v1"),
        ("hf.co/nomic-ai/nomic-embed-text-v1.5-GGUF:Q8_0", "nomic-embed-text-v1.5"),
        ("text-embedding-nomic-embed-text-v1.5@q4_k_m", "nomic-embed-text-v1.5"),
        ("/models/nomic-embed-text-v1.5.Q4_K_M.gguf", "nomic-embed-text-v1.5"),
        ("nomic-embed-text-v2-moe", "nomic-embed-text-v2-moe"),
        ("mxbai-embed-large:335m-v1-fp16", "mxbai-embed-large-v1"),
        ("snowflake-arctic-embed2", "snowflake-arctic-embed-l-v2.0"),
        ("snowflake-arctic-embed:110m", "snowflake-arctic-embed-m"),
        ("qwen3-embedding", "qwen3-embedding-8b"),
        ("Qwen/Qwen3-Embedding-0.6B", "qwen3-embedding-0.6b"),
        ("qwen3-embedding:4b-q8_0", "qwen3-embedding-4b"),
        ("all-minilm:33m", "all-minilm-l12-v2"),
        ("sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2"),
        ("BAAI/bge-m3", "bge-m3"),
        ("text-embedding-3-large", "text-embedding-3-large"),
    ],
)
def test_a_model_is_known_by_each_of_its_names(name, known):
    assert models.canonical(name) == known
    assert models.find(name) is models.MODELS[known]


@pytest.mark.parametrize("name", ["my-model", "org/My-Model:7b", "", "nomic", "bge", "text-embedding-"])
def test_any_other_keeps_its_name(name):
    assert models.canonical(name) == name
    assert models.find(name) is None


@pytest.mark.parametrize("card", models.MODELS.values(), ids=models.MODELS)
def test_a_cards_facts_can_be(card):
    assert models.canonical(card.name) == card.name
    assert card.width in (384, 768, 1024, 1536, 2560, 3072, 4096)
    assert 128 <= card.max_tokens <= 32768
    assert card.trained_down_to is None or 32 <= card.trained_down_to < card.width
    for alias in card.aliases:
        assert models.find(alias.replace("*", "")) is card


@pytest.mark.parametrize("model", MODELS)
def test_nomics_models_are_the_same_wherever_they_run(model):
    assert OpenAIEmbedder(model=model).spec.space == nomic_spec("nomic", model).space


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nomic-embed-text-v1.5", ""),
        ("qwen3-embedding-0.6b", ""),
        ("bge-m3", "bge-m3 was not trained for truncation"),
        ("embeddinggemma-300m", "down to 128 dimensions"),
        ("my-model", "is unknown"),
    ],
)
def test_what_truncation_costs_is_told_in_a_line(model, words):
    remark = OpenAIEmbedder.remark_on(EmbedderSpec("openai", model, 768))
    assert words in remark
    assert bool(remark) == bool(words)
    assert "\n" not in remark


def test_it_is_told_of_nomics_first_model_too():
    assert "not trained" in NomicEmbedder.remark_on(NomicEmbedder(model="nomic-embed-text-v1").spec)
    assert NomicEmbedder.remark_on(NomicEmbedder().spec) == ""
