"""Embedding indexes on disk, with resizable (Matryoshka) embeddings.

    from resizable_search import build_index, open_index

    index = build_index("notes", ["a text", "another text"])              # resumed, or brought up to date
    index = open_index("wiki100k")                                        # a name or a folder
    hits = index.query("tree data structures", k=10, dim=256, rerank=10)  # list[Hit]
    top = index.scan(vectors, k=10, dim=256, rerank=10)                   # (m, full) floats -> Top

`build.build.build` makes an index of a corpus, `build.build.build_vectors` of vectors you already have. The
command line is `rsearch`. Names are loaded when they are first used: importing the package costs little.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resizable_search.build.build import build_index as build_index
    from resizable_search.engine.base import Top as Top
    from resizable_search.engine.plan import Plan as Plan
    from resizable_search.engine.plan import Stage as Stage
    from resizable_search.errors import RsearchError as RsearchError
    from resizable_search.search.index import Index as Index
    from resizable_search.search.index import open_index as open_index
    from resizable_search.search.results import Answer as Answer
    from resizable_search.search.results import Hit as Hit
    from resizable_search.search.results import Timings as Timings

__version__ = "0.1.0"

_HOMES = {
    "Answer": "search.results",
    "Hit": "search.results",
    "Index": "search.index",
    "Plan": "engine.plan",
    "RsearchError": "errors",
    "Stage": "engine.plan",
    "Timings": "search.results",
    "Top": "engine.base",
    "build_index": "build.build",
    "open_index": "search.index",
}


__all__ = sorted(["__version__", *_HOMES])


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
