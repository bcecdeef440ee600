"""Rows of an index that ask an export for their neighbours, and what rsearch answers exactly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resizable_search import vectors
from resizable_search.exporting.source import Source
from resizable_search.plan import Plan
from resizable_search.scan.choose import Chooser
from resizable_search.stages import Executor

ASKED = 100
"""Rows that ask."""

K = 10
"""Neighbours that each asks for."""

SEED = 0

TIE = 5e-6
"""Scores nearer than that are tied for a library that adds up float32 numbers in an order of its own.

They are sums of products of unit rows: on 768 dimensions faiss is off by some 3e-7.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """`places` (m,) that ask, their own rows `queries` (m, dim), and their ids.

    `k` neighbours are wanted, themselves left out; `least` (m,) float32 is the score that the last of
    these has by the exact scan.
    """

    source: Source
    places: NDArray[np.int64]
    queries: NDArray[np.float32]
    ids: list[str]
    k: int
    least: NDArray[np.float32]

    @classmethod
    def of(cls, source: Source) -> "Sample":
        """Draw some rows and answer them. Raises IndexFormatError."""
        draw = np.random.default_rng(SEED).choice(source.count, min(ASKED, source.count), replace=False)
        places = np.sort(draw).astype(np.int64)
        rows = source.found[places]
        k = min(K, source.count - 1)
        least = np.full(len(places), -np.inf, np.float32)
        if k:
            # Stored rows are centred already, if they are.
            executor = Executor(source.reader, Chooser().pick, centred=False)
            plan = Plan.of(source.dim, 0, k, source.reader.manifest.full_dim)
            top, _ = executor.run(source.reader.vectors(rows), plan, k, skip=rows)
            least = top.scores[:, -1]
        found = source.reader.documents(rows.tolist())
        ids = [found[row].id for row in rows.tolist()]
        return cls(source, places, source.rows(places), ids, k, least)

    def shares(self, nearest: NDArray[np.int64]) -> NDArray[np.float64]:
        """The share of each one's k nearest that an export found, (m,): 1 is all of them, up to ties.

        `nearest` (m, c) are places, best first, one's own among them perhaps; -1 is none.
        """
        shares = np.ones(len(self.places))
        if not self.k:
            return shares
        for i, (own, query) in enumerate(zip(self.places, self.queries, strict=True)):
            others = nearest[i][(nearest[i] != own) & (nearest[i] >= 0) & (nearest[i] < self.source.count)]
            _, first = np.unique(others, return_index=True)
            others = others[np.sort(first)][: self.k]
            scores = vectors.dot(self.source.rows(others), query)
            shares[i] = np.count_nonzero(scores >= self.least[i] - TIE) / self.k
        return shares
