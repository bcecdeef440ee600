"""Measures of relevance by their definitions, in plain Python, for tests of what computes them."""

import math
from collections.abc import Mapping, Sequence


def by_definition(name: str, grades: Mapping[str, int], found: Sequence[str]) -> float:
    """The value of nDCG, R, RR, P or AP, with or without a cut-off, of a ranking."""
    kind, _, cut = name.partition("@")
    hits = [max(0, grades.get(id_, 0)) for id_ in found][: int(cut) if cut else None]
    relevant = sum(grade > 0 for grade in grades.values())
    if kind == "P":
        return sum(grade > 0 for grade in hits) / int(cut)
    if not relevant:
        return 0.0
    if kind == "R":
        return sum(grade > 0 for grade in hits) / relevant
    if kind == "RR":
        return next((1 / rank for rank, grade in enumerate(hits, 1) if grade > 0), 0.0)
    if kind == "AP":
        precisions = [sum(g > 0 for g in hits[:rank]) / rank for rank, g in enumerate(hits, 1) if g > 0]
        return sum(precisions) / relevant
    if kind == "nDCG":
        best = sorted((max(0, grade) for grade in grades.values()), reverse=True)
        return _gain(hits) / _gain(best[: int(cut) if cut else None])
    raise ValueError(name)


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))
