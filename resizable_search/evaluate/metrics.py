"""Metrics of relevance, computed by ir-measures: their names, and their values for each query."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resizable_search.errors import RsearchError, UsageError
from resizable_search.text import quoted

USUAL = ("nDCG@10", "R@10", "R@100", "RR@10")
"""The default metrics. The mean of RR@10, the reciprocal rank of the first relevant hit, is MRR."""

MOST_CUT = 10_000
"""The largest cut-off: each query holds this many hits."""

_SIMPLE = re.compile(r"(\w+)(?:@(\d{1,5}))?")
_SEPARATOR = re.compile(r"[,\s]+(?![^(]*\))")
"""Commas and spaces outside parentheses."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics in order. Made by `parse`."""

    names: tuple[str, ...]
    depth: int | None
    """The largest cut-off; None if a metric has none and needs all hits."""
    _measures: tuple[Any, ...]

    @classmethod
    def parse(cls, words: str | Sequence[str] = USUAL) -> "Metrics":
        """Metrics by their names in ir-measures, such as `nDCG@10,P(rel=2)@5`.

        Raises UsageError for an unknown name, RsearchError if ir-measures is not installed.
        """
        if isinstance(words, str):
            words = [word for word in _SEPARATOR.split(words) if word]
        if not words:
            raise UsageError(f"`measures` is empty: name some, e.g. {','.join(USUAL)}")
        measures = tuple(dict.fromkeys(_measure(word) for word in words))
        cuts = [measure.params.get("cutoff") for measure in measures]
        for cut in cuts:
            if cut is not None and not 1 <= cut <= MOST_CUT:
                raise UsageError(f"`measures`: a cut-off must be 1 to {MOST_CUT:,}, not {cut}")
        depth = None if None in cuts else max(cuts)
        return cls(tuple(map(str, measures)), depth, measures)

    def of(
        self, relevance: Mapping[str, Mapping[str, int]], found: Mapping[str, Sequence[str]]
    ) -> NDArray[np.float64]:
        """The values (queries, metrics) of the documents found for each query, best first.

        The queries are those of `relevance`, in its order; one without hits has 0. Only ranks count:
        ir-measures gets scores that fall strictly, so that it has no ties to break.
        """
        run = {
            query: {id_: float(len(ids) - rank) for rank, id_ in enumerate(ids)}
            for query, ids in found.items()
            if ids
        }
        grades = {query: dict(of_query) for query, of_query in relevance.items()}
        row = {query: number for number, query in enumerate(relevance)}
        column = {measure: number for number, measure in enumerate(self._measures)}
        values = np.zeros((len(row), len(column)))
        for metric in _provider().iter_calc(self._measures, grades, run):
            values[row[metric.query_id], column[metric.measure]] = metric.value
        return values


def _measure(word: str) -> Any:
    """The metric of that name, if ir-measures can compute it here."""
    try:
        import ir_measures
    except ImportError:
        raise RsearchError(
            'ir-measures is not installed: `pip install "resizable_search[eval]"` brings it'
        ) from None
    try:
        if (simple := _SIMPLE.fullmatch(word)) and simple[1] in ir_measures.measures.registry:
            # The parser needs names of `ast` that Python 3.14 no longer has.
            made = ir_measures.measures.registry[simple[1]]
            measure = made(**({made.AT_PARAM: int(simple[2])} if simple[2] else {}))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about those names
                measure = ir_measures.parse_measure(word)
        measure.validate_params()
        sums = isinstance(measure.aggregator(), ir_measures.measures.SumAgg)
        if not sums and _provider().supports(measure):
            return measure
    except (ValueError, NameError, AssertionError, AttributeError, TypeError, KeyError):
        pass
    raise UsageError(
        f"`measures`: {quoted(word)} is not a supported measure: use names of ir-measures, such as "
        f"{', '.join(USUAL)}, P@5, AP"
    )


def _provider() -> Any:
    """All providers of ir-measures but gdeval, a Perl script that needs numbers as ids."""
    import ir_measures

    others = [each for each in ir_measures.DefaultPipeline.providers if each is not ir_measures.gdeval]
    return ir_measures.providers.FallbackProvider(others)
