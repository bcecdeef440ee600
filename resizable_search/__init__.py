"""Embedding indexes on disk, with resizable (Matryoshka) embeddings."""

__version__ = "0.1.0"
