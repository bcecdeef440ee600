"""What the cards of known embedding models say, so that nobody has to look it up.

A model goes by several names (`nomic-ai/nomic-embed-text-v1.5`, Ollama's `nomic-embed-text:latest`,
LM Studio's `text-embedding-nomic-embed-text-v1.5`, a GGUF file's); `find` knows them, and `canonical`
gives the one that an index keeps, so that vectors of one model are comparable wherever it ran.
Facts are those of the model cards on the hub unless a comment names another source; aliases are
Ollama's tags.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model's facts. `width` is the full dimension; `max_tokens` what is read of a text.

    The prefixes stand before a document's and a query's text. `trained_down_to` is the smallest
    dimension that the card vouches for, None if the model was not trained for truncation
    (Matryoshka); `centred`: whether the card asks for a layer norm before truncation. An endpoint
    takes up to `texts_per_request` and, where it says so, `tokens_per_request`. `aliases` are
    patterns of other names, in lower case.
    """

    name: str
    width: int
    max_tokens: int
    document_prefix: str = ""
    query_prefix: str = ""
    trained_down_to: int | None = None
    centred: bool = False
    texts_per_request: int = 32  # TEI refuses more unless told otherwise (--max-client-batch-size)
    tokens_per_request: int | None = None
    aliases: tuple[str, ...] = ()


_DOCUMENT, _QUERY = "search_document: ", "search_query: "
_PASSAGES = "Represent this sentence for searching relevant passages: "
_WEB_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"


def _nomic(name: str, tokens: int, down_to: int | None, *aliases: str, centred: bool = False) -> ModelCard:
    return ModelCard(name, 768, tokens, _DOCUMENT, _QUERY, down_to, centred, aliases=aliases)


def _openai(name: str, width: int, down_to: int | None) -> ModelCard:
    # platform.openai.com/docs/api-reference/embeddings: 8,192 tokens a text, 2,048 texts and 300,000 tokens a
    # request; fewer are asked for, so that one answer stays small and tokens, which are guessed, have room.
    return ModelCard(
        name, width, 8192, trained_down_to=down_to, texts_per_request=256, tokens_per_request=150_000
    )


def _qwen3(size: str, width: int, *aliases: str) -> ModelCard:
    # The card's prompt ends in "Query:", without a space.
    return ModelCard(
        f"qwen3-embedding-{size}", width, 32768, query_prefix=_WEB_SEARCH, trained_down_to=32,
        aliases=(f"qwen3-embedding:{size}*", *aliases),
    )  # fmt: skip


_CARDS = (
    # huggingface.co/nomic-ai/…; for v1.5 the card's own way to truncate begins with a layer norm.
    _nomic("nomic-embed-text-v1.5", 8192, 64, "nomic-embed-text", "nomic-embed-text:*", centred=True),
    _nomic("nomic-embed-text-v1", 8192, None),
    _nomic("nomic-embed-text-v2-moe", 512, 256, "nomic-embed-text-v2-moe:*"),
    _nomic("modernbert-embed-base", 8192, 256),
    # openai.com/index/new-embedding-models-and-api-updates shows 512 of the small and 256 of the large one.
    _openai("text-embedding-3-small", 1536, 512),
    _openai("text-embedding-3-large", 3072, 256),
    _openai("text-embedding-ada-002", 1536, None),
    # mixedbread.com/docs/embeddings/mxbai-embed-large-v1; the card truncates to 512.
    ModelCard(
        "mxbai-embed-large-v1",
        1024,
        512,
        query_prefix=_PASSAGES,
        trained_down_to=512,
        aliases=("mxbai-embed-large", "mxbai-embed-large:*"),
    ),  # fmt: skip
    # huggingface.co/Snowflake/snowflake-arctic-embed-…; v1.5 and v2.0 are trained for 256.
    ModelCard(
        "snowflake-arctic-embed-l-v2.0",
        1024,
        8192,
        query_prefix="query: ",
        trained_down_to=256,
        aliases=("snowflake-arctic-embed2", "snowflake-arctic-embed2:*"),
    ),  # fmt: skip
    ModelCard("snowflake-arctic-embed-m-v2.0", 768, 8192, query_prefix="query: ", trained_down_to=256),
    ModelCard("snowflake-arctic-embed-m-v1.5", 768, 512, query_prefix=_PASSAGES, trained_down_to=256),
    ModelCard(
        "snowflake-arctic-embed-l",
        1024,
        512,
        query_prefix=_PASSAGES,
        aliases=("snowflake-arctic-embed", "snowflake-arctic-embed:335m*", "snowflake-arctic-embed:l*"),
    ),  # fmt: skip
    ModelCard(
        "snowflake-arctic-embed-m",
        768,
        512,
        query_prefix=_PASSAGES,
        aliases=("snowflake-arctic-embed:110m*", "snowflake-arctic-embed:m"),
    ),  # fmt: skip
    # ai.google.dev/gemma/docs/embeddinggemma/model_card: 768, 512, 256 and 128.
    ModelCard(
        "embeddinggemma-300m",
        768,
        2048,
        "title: none | text: ",
        "task: search result | query: ",
        128,
        aliases=("embeddinggemma", "embeddinggemma:300m*"),
    ),  # fmt: skip
    # huggingface.co/jinaai/jina-embeddings-v3 (config_sentence_transformers.json): 32 to 1024.
    ModelCard(
        "jina-embeddings-v3",
        1024,
        8192,
        "Represent the document for retrieval: ",
        "Represent the query for retrieving evidence documents: ",
        32,
    ),  # fmt: skip
    ModelCard("jina-embeddings-v2-base-en", 768, 8192),
    # huggingface.co/Qwen/Qwen3-Embedding-…: any dimension from 32 on.
    _qwen3("0.6b", 1024),
    _qwen3("4b", 2560),
    _qwen3("8b", 4096, "qwen3-embedding"),
    # huggingface.co/BAAI/…
    ModelCard("bge-m3", 1024, 8192, aliases=("bge-m3:*",)),
    ModelCard("bge-large-en-v1.5", 1024, 512, query_prefix=_PASSAGES, aliases=("bge-large", "bge-large:*")),
    ModelCard("bge-base-en-v1.5", 768, 512, query_prefix=_PASSAGES),
    ModelCard("bge-small-en-v1.5", 384, 512, query_prefix=_PASSAGES),
    # huggingface.co/intfloat/…
    *(
        ModelCard(name, width, 512, "passage: ", "query: ")
        for name, width in (
            ("e5-small-v2", 384),
            ("e5-base-v2", 768),
            ("e5-large-v2", 1024),
            ("multilingual-e5-small", 384),
            ("multilingual-e5-base", 768),
            ("multilingual-e5-large", 1024),
        )
    ),  # fmt: skip
    ModelCard("multilingual-e5-large-instruct", 1024, 512, query_prefix=f"{_WEB_SEARCH} "),
    # huggingface.co/thenlper/… and huggingface.co/Alibaba-NLP/…; the multilingual one is elastic from 128 on.
    ModelCard("gte-small", 384, 512),
    ModelCard("gte-base", 768, 512),
    ModelCard("gte-large", 1024, 512),
    ModelCard("gte-base-en-v1.5", 768, 8192),
    ModelCard("gte-large-en-v1.5", 1024, 8192),
    ModelCard("gte-modernbert-base", 768, 8192),
    ModelCard("gte-multilingual-base", 768, 8192, trained_down_to=128),
    # huggingface.co/sentence-transformers/…
    ModelCard("all-minilm-l6-v2", 384, 256, aliases=("all-minilm", "all-minilm:22m*", "all-minilm:l6*")),
    ModelCard("all-minilm-l12-v2", 384, 128, aliases=("all-minilm:33m*", "all-minilm:l12*")),
    ModelCard("all-mpnet-base-v2", 768, 384),
    ModelCard(
        "paraphrase-multilingual-mpnet-base-v2",
        768,
        128,
        aliases=("paraphrase-multilingual", "paraphrase-multilingual:278m*"),
    ),  # fmt: skip
)

MODELS = {card.name: card for card in _CARDS}
"""The known models by their canonical name."""

OPENAI_MODELS = ("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002")
"""Those that OpenAI's own service runs."""

_QUANTISED = r"(?:i?q\d\w*|b?f16|f32|fp16|fp32)"
_PREFIX = "text-embedding-"
"""What LM Studio puts before a model's name."""


def find(name: str) -> ModelCard | None:
    """The card of a model, by any of its names; None if it is not known here."""
    plain = re.split(r"[/\\]", name.strip().lower().rstrip("/\\"))[-1].partition("@")[0]
    plain = re.sub(rf"(?:[-.]{_QUANTISED})?[-.]gguf(?=$|:)", "", plain)
    plain = re.sub(rf":(?:latest|{_QUANTISED})$", "", plain)
    for candidate in (plain, plain.removeprefix(_PREFIX)):
        if candidate in MODELS:
            return MODELS[candidate]
        for card in _CARDS:
            if any(fnmatchcase(candidate, alias) for alias in card.aliases):
                return card
    return None


def canonical(name: str) -> str:
    """The name that an index keeps for a model: the card's, or as it was given if it is not known."""
    card = find(name)
    return card.name if card else name


def task_of(prefix: str) -> str:
    """What a spec keeps of a prefix. Nomic's service is told the task, others are sent it as a prefix."""
    return prefix.removesuffix(": ") if prefix in (_DOCUMENT, _QUERY) else prefix


def unknown_remark(model: str) -> str:
    """One line for a model of which nothing is known here; '' for others."""
    if find(model):
        return ""
    return (
        f"whether {model} was trained for truncation (Matryoshka) is not known here: "
        "`rsearch bench` shows what smaller dimensions lose"
    )


def truncation_remark(model: str) -> str:
    """One line for a model whose cut dimensions lose more than one is used to; '' for others."""
    card = find(model)
    if card is None or (card.trained_down_to is not None and card.trained_down_to <= 64):
        return ""
    if card.trained_down_to is None:
        return (
            f"{card.name} was not trained for truncation (Matryoshka): cut dimensions lose more; "
            "`rsearch bench` shows how much"
        )
    return (
        f"{card.name} is trained for truncation down to {card.trained_down_to} dimensions: smaller ones "
        "lose more; `rsearch bench` shows how much"
    )
