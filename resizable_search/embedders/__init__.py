"""Texts to vectors."""

DEFAULT_EMBEDDER = "wordllama"  # of a new index: it needs no key, no download and no fitting
