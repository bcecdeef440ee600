"""Latent semantic analysis: an embedder that learns from the corpus itself, without a model or a key.

A text is the weighted sum of its words' rows in a truncated singular value decomposition of the
(documents, terms) matrix (Deerwester et al., "Indexing by latent semantic analysis", 1990). Dimensions are
ordered by singular value, so truncation keeps what matters most. It matches words and what occurs with
them, not meaning.

A word that occurs n times in a text weighs (1 + ln n) * ln((1 + documents) / documents with it) ** 1.5. A
text's weights have norm 1. Measured on 16,015 articles of English Wikipedia of 1,200 characters, fitted on
10,000 of them, with 1,500 of the others as queries: the share whose other half is among the 10 best (half
of the text as query, all second halves searched), and the same for title to article, each +- 0.013:

    dimensions             768            256            64
    power 1.5           0.684  0.725   0.583  0.547   0.409  0.345
    without stop words  0.671  0.727   0.573  0.561   0.403  0.360    and so below
    power 2             0.700  0.769   0.604  0.611   0.433  0.409    finds Cherry for `tree data structures`
    power 1             0.604  0.653   0.498  0.491   0.334  0.309
    scikit-learn's idf  0.565  0.573   0.447  0.431   0.291  0.280    with 3 passes of the SVD

More passes, log-entropy weights, centring, and scaling by singular values did not pay.
"""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.base import Embedder, Task
from resizable_search.embedders.lsa_state import LsaState, read_state, tokens, write_state
from resizable_search.errors import EmbedderError, UsageError
from resizable_search.progress import SILENT, Progress
from resizable_search.specs import EmbedderSpec

WIDTH = 768
SAMPLE = 10_000
"""Documents to learn from: a seeded sample of a larger corpus."""
SAMPLE_CHARS = 10_000
"""Characters of a document to learn from."""
MAX_TERMS = 30_000
"""The words in most documents; 92 MB of components at 768 dimensions."""
RARE_FROM = 1_000
"""From so many documents on, a word must be in two of them, since it relates to nothing otherwise."""
IDF_POWER = 1.5
PASSES = 1
"""Of the randomised SVD's power iteration."""
NEGLIGIBLE = 1e-5
"""Singular values below this share of the largest are rounding errors."""


class LsaEmbedder(Embedder):
    """TF-IDF and truncated SVD, fitted once; narrower than `width` if the corpus is too small.

    The same corpus and parameters give the same bits on one machine, and a text the same in every batch.
    """

    kind: ClassVar[str] = "lsa"
    needs_fit: ClassVar[bool] = True
    max_state_bytes: ClassVar[int] = MAX_TERMS * (4 * WIDTH + 24)
    remark: ClassVar[str] = "lsa matches words and what occurs with them in this corpus, not meaning"
    batch_size: int = 1_000

    def __init__(self, *, width: int = WIDTH, seed: int = 0, sample: int = SAMPLE) -> None:
        if width < 1 or sample < 1:
            raise UsageError("the lsa embedder needs a width and a sample of at least 1")
        self._width = self.widest = width
        self._seed = seed
        self._sample = sample
        self._state: LsaState | None = None

    @classmethod
    def load(cls, state: Path) -> "LsaEmbedder":
        """The frozen embedder whose files are in the folder `state`. Raises IndexFormatError."""
        fitted = read_state(state)
        embedder = cls(**fitted.parameters)
        embedder._state = fitted
        return embedder

    @property
    def spec(self) -> EmbedderSpec:
        """The fitted state. Raises EmbedderError before."""
        state = self._fitted
        width = state.components.shape[1]
        return EmbedderSpec(
            self.kind, "lsa-tfidf-svd", width, state_checksum=state.checksum, options=state.parameters
        )

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """(n, width) float32, whatever the task; zeros for a text without a known word."""
        state = self._fitted
        rows = np.zeros((len(texts), state.components.shape[1]), np.float32)
        for row, text in zip(rows, texts, strict=True):
            _project(state, text, row)
        return rows

    def fit(self, texts: Iterable[str], state: Path, progress: Progress = SILENT) -> None:
        """Learn from a sample of the texts, which are read once, and write the state.

        Raises EmbedderError if they have no word, StorageError if the disk refuses.
        """
        if self._state is not None:
            raise EmbedderError("this lsa embedder is fitted and frozen; make a new one to fit again")
        progress.stage("reading for lsa", None, "texts")
        sample = _reservoir(texts, self._sample, self._seed, progress)
        progress.stage("fitting lsa", None, "texts")
        terms, counts = _count(sample)
        idf, matrix = _weigh(counts)
        components = _decompose(matrix, self._width, self._seed)
        parameters = {"width": self._width, "seed": self._seed, "sample": self._sample}
        write_state(state, terms, idf, components, parameters)
        self._state = read_state(state)

    @property
    def _fitted(self) -> LsaState:
        if self._state is None:
            raise EmbedderError("the lsa embedder is not fitted yet; fit it on a corpus, or load a state")
        return self._state


def _project(state: LsaState, text: str, row: NDArray[np.float32]) -> None:
    """Put a text's vector into `row`, which is zeros.

    einsum adds the terms' rows in order; a BLAS product's bits may depend on the number of threads.
    """
    get = state.rows.get
    known = [number for term in tokens(text) if (number := get(term)) is not None]
    if not known:
        return
    terms, counts = np.unique(np.array(known, np.intp), return_counts=True)
    weights = (1 + np.log(counts)) * state.idf[terms]
    weights /= np.sqrt(np.square(weights).sum())
    np.einsum("t,td->d", weights.astype(np.float32), state.components[terms], out=row)


def _reservoir(texts: Iterable[str], size: int, seed: int, progress: Progress) -> list[str]:
    """`size` random texts, each with the same chance, in the order of the stream."""
    chance = random.Random(seed)
    sample: list[tuple[int, str]] = []
    seen = 0
    for seen, text in enumerate(texts, start=1):
        if len(sample) < size:
            sample.append((seen, text[:SAMPLE_CHARS]))
        elif (slot := chance.randrange(seen)) < size:
            sample[slot] = (seen, text[:SAMPLE_CHARS])
        if seen % 1_000 == 0:
            progress.advance(1_000)
    progress.advance(seen % 1_000)
    return [text for _, text in sorted(sample)]


def _count(texts: list[str]) -> tuple[list[str], Any]:
    """The terms of the vocabulary, sorted, and their counts in each text: sparse (texts, terms) float32."""
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(analyzer=tokens, dtype=np.float32)
    try:
        counts = counter.fit_transform(texts)
    except ValueError as error:  # there was no term
        raise EmbedderError(
            "the corpus has no word that lsa could learn from; use texts with words, or `embedder=nomic`"
        ) from error
    terms = counter.get_feature_names_out()
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    keep = np.flatnonzero(frequency >= 2) if len(texts) >= RARE_FROM else np.arange(len(terms))
    if len(keep) == 0:  # every word is in only one document
        keep = np.arange(len(terms))
    if len(keep) > MAX_TERMS:
        commonest = np.argsort(-frequency[keep], kind="stable")[:MAX_TERMS]
        keep = np.sort(keep[commonest])
    return terms[keep].tolist(), counts[:, keep]


def _weigh(counts: Any) -> tuple[NDArray[np.float32], Any]:
    """The terms' weights, and the counts weighed as in `_project`."""
    from sklearn.preprocessing import normalize

    texts, terms = counts.shape
    frequency = np.bincount(counts.indices, minlength=terms)
    idf = (np.log((1 + texts) / frequency) ** IDF_POWER).astype(np.float32)
    counts.data = (1 + np.log(counts.data)) * idf[counts.indices]
    return idf, normalize(counts, copy=False)


def _decompose(matrix: Any, width: int, seed: int) -> NDArray[np.float32]:
    """The right singular vectors, (terms, at most width) float32, largest singular values first."""
    # What TruncatedSVD calls. The class would also compute variances, which are 0 / 0 for one document.
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    wanted = min(width, *matrix.shape)
    with threadpool_limits(1, user_api="blas"):  # the bits depend on the number of threads
        _, values, vectors = randomized_svd(matrix, n_components=wanted, n_iter=PASSES, random_state=seed)
    worth = max(1, int((values > NEGLIGIBLE * values[0]).sum()))
    return np.ascontiguousarray(vectors[:worth].T, np.float32)
