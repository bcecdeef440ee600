"""The names of the embedders, and where each is: nothing is imported by looking."""

from importlib.metadata import entry_points

BUILT_IN = {
    "nomic": "resizable_search.embedders.nomic:NomicEmbedder",
    "nomic-local": "resizable_search.embedders.nomic_local:NomicLocalEmbedder",
    "openai": "resizable_search.embedders.openai:OpenAIEmbedder",
    "sentence-transformers": "resizable_search.embedders.sentence_transformers:SentenceTransformersEmbedder",
    "lsa": "resizable_search.embedders.lsa:LsaEmbedder",
}

KEPT = {"given": "resizable_search.embedders.precomputed:PrecomputedEmbedder"}
"""Kinds that an index may have been made with, and that embed nothing."""

GROUP = "resizable_search.embedders"
"""Another package adds an embedder by an entry point of this group: its name, and its class."""


def names() -> list[str]:
    """The kinds that there are: our own, then those of installed packages."""
    others = sorted(point.name for point in entry_points(group=GROUP))
    return [*BUILT_IN, *(name for name in others if name not in BUILT_IN)]
