"""What the cards of known embedding models say, so that users need not look it up.

A model has several names: `nomic-ai/nomic-embed-text-v1.5`, Ollama's `nomic-embed-text:latest`, LM Studio's
`text-embedding-nomic-embed-text-v1.5`, a GGUF file's. An index stores the `canonical` one, so that vectors of
one model are comparable wherever it ran.
Facts are from the model cards on the hub unless a comment names another source. Aliases are Ollama's tags.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from resizable_search.specs import EmbedderSpec


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model's facts."""

    name: str
    width: int
    max_tokens: int
    document_prefix: str = ""
    query_prefix: str = ""
    trained_down_to: int | None = None  # the smallest dimension it vouches for; None: not Matryoshka
    centred: bool = False  # the card asks for a layer norm before truncation
    texts_per_request: int = 32  # TEI's limit unless configured (--max-client-batch-size)
    tokens_per_request: int | None = None
    aliases: tuple[str, ...] = ()  # patterns of lower-case names; `name:*` also matches `name`


_DOCUMENT, _QUERY = "search_document: ", "search_query: "
_PASSAGES = "Represent this sentence for searching relevant passages: "
_WEB_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


# platform.openai.com/docs/api-reference/embeddings: 8,192 tokens a text, 2,048 texts and 300,000 tokens a
# request. Less is asked for, to keep an answer small, and because the tokens are guessed.
_openai = partial(ModelCard, max_tokens=8192, texts_per_request=256, tokens_per_request=150_000)
_for_passages = partial(ModelCard, max_tokens=512, query_prefix=_PASSAGES)
_qwen3 = partial(ModelCard, max_tokens=32768, query_prefix=_WEB_SEARCH, trained_down_to=32)
_SIZES = (("small", 384), ("base", 768), ("large", 1024))

# fmt: off
_CARDS = (
    # The card's own way to truncate v1.5 begins with a layer norm.
    ModelCard(
        "nomic-embed-text-v1.5", 768, 8192, _DOCUMENT, _QUERY, 64, True, aliases=("nomic-embed-text:*",)
    ),
    ModelCard("nomic-embed-text-v1", 768, 8192, _DOCUMENT, _QUERY),
    ModelCard(
        "nomic-embed-text-v2-moe", 768, 512, _DOCUMENT, _QUERY, 256, aliases=("nomic-embed-text-v2-moe:*",)
    ),
    ModelCard("modernbert-embed-base", 768, 8192, _DOCUMENT, _QUERY, 256),
    # openai.com/index/new-embedding-models-and-api-updates shows 512 of the small and 256 of the large one.
    _openai("text-embedding-3-small", 1536, trained_down_to=512),
    _openai("text-embedding-3-large", 3072, trained_down_to=256),
    _openai("text-embedding-ada-002", 1536),
    # mixedbread.com/docs/embeddings/mxbai-embed-large-v1; the card truncates to 512.
    _for_passages("mxbai-embed-large-v1", 1024, trained_down_to=512, aliases=("mxbai-embed-large:*",)),
    # v1.5 and v2.0 are trained for 256.
    ModelCard(
        "snowflake-arctic-embed-l-v2.0", 1024, 8192, "", "query: ", 256,
        aliases=("snowflake-arctic-embed2:*",),
    ),
    ModelCard("snowflake-arctic-embed-m-v2.0", 768, 8192, "", "query: ", 256),
    _for_passages("snowflake-arctic-embed-m-v1.5", 768, trained_down_to=256),
    _for_passages(
        "snowflake-arctic-embed-m", 768, aliases=("snowflake-arctic-embed:110m*", "snowflake-arctic-embed:m")
    ),
    _for_passages(
        "snowflake-arctic-embed-l", 1024,
        aliases=("snowflake-arctic-embed", "snowflake-arctic-embed:335m*", "snowflake-arctic-embed:l*"),
    ),
    # ai.google.dev/gemma/docs/embeddinggemma/model_card: 768, 512, 256 and 128.
    ModelCard(
        "embeddinggemma-300m", 768, 2048, "title: none | text: ", "task: search result | query: ", 128,
        aliases=("embeddinggemma", "embeddinggemma:300m*"),
    ),
    # huggingface.co/jinaai/jina-embeddings-v3 (config_sentence_transformers.json): 32 to 1024.
    ModelCard(
        "jina-embeddings-v3", 1024, 8192, "Represent the document for retrieval: ",
        "Represent the query for retrieving evidence documents: ", 32,
    ),
    ModelCard("jina-embeddings-v2-base-en", 768, 8192),
    # huggingface.co/Qwen/Qwen3-Embedding-…: any dimension from 32 on; the prompt ends without a space.
    _qwen3("qwen3-embedding-0.6b", 1024, aliases=("qwen3-embedding:0.6b*",)),
    _qwen3("qwen3-embedding-4b", 2560, aliases=("qwen3-embedding:4b*",)),
    _qwen3("qwen3-embedding-8b", 4096, aliases=("qwen3-embedding:8b*", "qwen3-embedding")),
    ModelCard("bge-m3", 1024, 8192, aliases=("bge-m3:*",)),
    _for_passages("bge-large-en-v1.5", 1024, aliases=("bge-large:*",)),
    _for_passages("bge-base-en-v1.5", 768),
    _for_passages("bge-small-en-v1.5", 384),
    *(ModelCard(f"e5-{size}-v2", width, 512, "passage: ", "query: ") for size, width in _SIZES),
    *(ModelCard(f"multilingual-e5-{size}", width, 512, "passage: ", "query: ") for size, width in _SIZES),
    ModelCard("multilingual-e5-large-instruct", 1024, 512, query_prefix=f"{_WEB_SEARCH} "),
    # The multilingual one is elastic from 128 on.
    *(ModelCard(f"gte-{size}", width, 512) for size, width in _SIZES),
    ModelCard("gte-base-en-v1.5", 768, 8192),
    ModelCard("gte-large-en-v1.5", 1024, 8192),
    ModelCard("gte-modernbert-base", 768, 8192),
    ModelCard("gte-multilingual-base", 768, 8192, trained_down_to=128),
    ModelCard("all-minilm-l6-v2", 384, 256, aliases=("all-minilm", "all-minilm:22m*", "all-minilm:l6*")),
    ModelCard("all-minilm-l12-v2", 384, 128, aliases=("all-minilm:33m*", "all-minilm:l12*")),
    ModelCard("all-mpnet-base-v2", 768, 384),
    ModelCard(
        "paraphrase-multilingual-mpnet-base-v2", 768, 128,
        aliases=("paraphrase-multilingual", "paraphrase-multilingual:278m*"),
    ),
)
# fmt: on

MODELS = {card.name: card for card in _CARDS}  # the known models by their canonical name
_QUANTISED = r"(?:i?q\d\w*|b?f16|f32|fp16|fp32)"


def find(name: str) -> ModelCard | None:
    """The card of a model, by any of its names; None if it is unknown."""
    plain = re.split(r"[/\\]", name.strip().lower().rstrip("/\\"))[-1].partition("@")[0]
    plain = re.sub(rf"(?:[-.]{_QUANTISED})?[-.]gguf(?=$|:)", "", plain)
    plain = re.sub(rf":(?:latest|{_QUANTISED})$", "", plain)
    for candidate in (plain, plain.removeprefix("text-embedding-")):  # LM Studio's prefix
        for card in _CARDS:
            names = (card.name, *card.aliases)
            if any(fnmatchcase(candidate, name) or f"{candidate}:*" == name for name in names):
                return card
    return None


def canonical(name: str) -> str:
    """The name that an index stores for a model: the card's, or the given one if it is unknown."""
    card = find(name)
    return card.name if card else name


def spec_of(
    kind: str, model: str, width: int, prefixes: Mapping[str, str], centred: bool, options: Mapping[str, Any]
) -> EmbedderSpec:
    """The spec of a model with the prefix of each task. Its options are all that reopens it."""
    document, query = prefixes["search_document"], prefixes["search_query"]
    facts = {"document_prefix": document, "query_prefix": query, "width": width, "centred": centred}
    tasks = {_DOCUMENT: "search_document", _QUERY: "search_query"}  # as Nomic's service names them
    document, query = tasks.get(document, document), tasks.get(query, query)
    return EmbedderSpec(kind, model, width, document, query, centred, options={**options, **facts})


def truncation_remark(model: str) -> str:
    """One line about a model that may lose more than usual when truncated; '' for others."""
    if (card := find(model)) is None:
        trained = f"whether {model} was trained for truncation (Matryoshka) is unknown"
    elif card.trained_down_to is None:
        trained = f"{card.name} was not trained for truncation (Matryoshka)"
    elif card.trained_down_to > 64:
        trained = f"{card.name} is trained for truncation down to {card.trained_down_to} dimensions"
    else:
        return ""
    return f"{trained}: `bench` shows what smaller dimensions lose"
