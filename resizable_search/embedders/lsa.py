"""Latent semantic analysis: an embedder that learns from the corpus itself, without a model or a key.

A text is the weighted sum of its words' rows in a truncated singular value decomposition of the
(documents, terms) matrix (Deerwester et al., "Indexing by latent semantic analysis", 1990). Dimensions are
ordered by singular value, so truncation keeps what matters most.

A word that occurs n times in a text weighs (1 + ln n) * ln((1 + documents) / documents with it) ** 1.5. A
text's weights have norm 1. Measured with 1,500 halves of articles of English Wikipedia as queries: the other
half is among the 10 best of 0.684 of them, of 0.604 with power 1 (+- 0.013). With power 2 it is 0.700, but
`tree data structures` finds Cherry.

A term is a word in lower case, without accents and English plural. A compound (`OrderedDict`, `move_to_end`)
counts as a whole and by its parts. No word is left out, neither `C` nor `with`. Han and kana, written
without spaces, are cut into overlapping pairs, as is usual.

The fitted state is four files (docs/format.md). Its checksum covers lsa.json, and by its hashes all files.
Reading verifies all but components.npy: hashing 92 MB would cost a query more than the search.
"""

import hashlib
import json
import random
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.arrays import file_size, map_array, npy_header
from resizable_search.embedders.base import Embedder, Task
from resizable_search.errors import EmbedderError, IndexFormatError, UsageError
from resizable_search.specs import EmbedderSpec
from resizable_search.system import replace_file, unreadable
from resizable_search.text import BACK, MARKS, clipped

Floats = NDArray[np.float32]

WIDTH = 768
SAMPLE = 10_000  # documents to learn from: a seeded sample of a larger corpus
SAMPLE_CHARS = 10_000  # characters of a document to learn from
MAX_TERMS = 30_000  # the words in most documents; 92 MB of components at 768 dimensions
RARE_FROM = 1_000  # documents from which on a word must be in two of them: else it relates to nothing
IDF_POWER = 1.5
PASSES = 1  # of the randomised SVD's power iteration
NEGLIGIBLE = 1e-5  # singular values below this share of the largest are rounding errors
RULES = 1  # the version of the tokenizer's rules. A state that was fitted by other rules is refused.
LONGEST_WORD = 64  # characters; longer words are cut, so that nothing stores a blob
CACHED_WORDS = 1 << 16  # words whose terms are cached, in some 12 MB
_WORD = re.compile(rf"[\w'\u2019{MARKS}]{{1,{LONGEST_WORD}}}")
_PART = re.compile(rf"(?:[^\W_]|[{MARKS}])+")
_SUFFIX = re.compile(r"['\u2019](?:s|t|d|m|ll|re|ve)?$", re.IGNORECASE)
_HUMP = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][^\W\d_A-Z])")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
FORMAT = "rsearch-lsa"
VERSION = 1
HEAD, TERMS, IDF, COMPONENTS = "lsa.json", "terms.json", "idf.npy", "components.npy"
MAX_BYTES = 256_000_000  # of a file that is read whole. 30,000 words have less than a megabyte.


@dataclass(frozen=True, slots=True)
class LsaState:
    """`rows` gives a term's row in `idf`, (terms,) float32, and `components`, (terms, width) float32."""

    rows: dict[str, int]
    idf: Floats
    components: Floats
    parameters: dict[str, Any]
    checksum: str


class LsaEmbedder(Embedder):
    """TF-IDF and truncated SVD, fitted once; narrower than `width` if the corpus is too small.

    The same corpus and parameters give the same bits on one machine, and a text the same in every batch.
    """

    kind: ClassVar[str] = "lsa"
    needs_fit: ClassVar[bool] = True
    max_state_bytes: ClassVar[int] = MAX_TERMS * (4 * WIDTH + 24)
    remark: ClassVar[str] = "it matches words and what occurs with them in this corpus, not meaning"
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

    def embed(self, texts: Sequence[str], task: Task) -> Floats:
        """(n, width) float32, whatever the task; zeros for a text without a known word."""
        state = self._fitted
        rows = np.zeros((len(texts), state.components.shape[1]), np.float32)
        for row, text in zip(rows, texts, strict=True):
            if known := [state.rows[term] for term in tokens(text) if term in state.rows]:
                terms, counts = np.unique(np.array(known, np.intp), return_counts=True)
                weights = (1 + np.log(counts)) * state.idf[terms]
                weights /= np.sqrt(np.square(weights).sum())
                # It adds the terms' rows in order; a BLAS product's bits may depend on the number of threads.
                np.einsum("t,td->d", weights.astype(np.float32), state.components[terms], out=row)
        return rows

    def fit(self, texts: Iterable[str], state: Path) -> None:
        """Learn from a sample of the texts; write the state. Raises EmbedderError if they have no word."""
        from sklearn.preprocessing import normalize

        if self._state is not None:
            raise EmbedderError("this lsa embedder is fitted and frozen; make a new one to fit again")
        terms, counts = _count(_reservoir(texts, self._sample, self._seed))
        frequency = np.bincount(counts.indices, minlength=len(terms))
        idf = (np.log((1 + counts.shape[0]) / frequency) ** IDF_POWER).astype(np.float32)
        counts.data = (1 + np.log(counts.data)) * idf[counts.indices]
        matrix = normalize(counts, copy=False)  # as texts are weighed
        components = _decompose(matrix, self._width, self._seed)
        parameters = {"width": self._width, "seed": self._seed, "sample": self._sample}
        write_state(state, terms, idf, components, parameters)
        self._state = read_state(state)

    @property
    def _fitted(self) -> LsaState:
        if self._state is None:
            raise EmbedderError("the lsa embedder is not fitted yet; fit it on a corpus, or load a state")
        return self._state


def _reservoir(texts: Iterable[str], size: int, seed: int) -> list[str]:
    """`size` random texts, each with the same chance, in the order of the stream."""
    chance = random.Random(seed)
    sample: list[tuple[int, str]] = []
    for seen, text in enumerate(texts, start=1):
        if len(sample) < size:
            sample.append((seen, text[:SAMPLE_CHARS]))
        elif (slot := chance.randrange(seen)) < size:
            sample[slot] = (seen, text[:SAMPLE_CHARS])
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
    least = 2 if len(texts) >= RARE_FROM and frequency.max() > 1 else 1
    commonest = np.argsort(-frequency, kind="stable")[:MAX_TERMS]
    keep = np.sort(commonest[frequency[commonest] >= least])
    return terms[keep].tolist(), counts[:, keep]


def _decompose(matrix: Any, width: int, seed: int) -> Floats:
    """The right singular vectors, (terms, at most width) float32, largest singular values first."""
    # What TruncatedSVD calls. The class would also compute variances, which are 0 / 0 for one document.
    from sklearn.utils.extmath import randomized_svd
    from threadpoolctl import threadpool_limits

    wanted = min(width, *matrix.shape)
    with threadpool_limits(1, user_api="blas"):  # the bits depend on the number of threads
        _, values, vectors = randomized_svd(matrix, n_components=wanted, n_iter=PASSES, random_state=seed)
    worth = max(1, int((values > NEGLIGIBLE * values[0]).sum()))
    return np.ascontiguousarray(vectors[:worth].T, np.float32)


def tokens(text: str) -> list[str]:
    """The terms of a text, in order, as often as they occur."""
    return list(chain.from_iterable(map(_terms_of, _WORD.findall(text))))


@lru_cache(CACHED_WORDS)
def _terms_of(word: str) -> tuple[str, ...]:
    lowered = word.lower()
    if word.isascii():
        if word.isalnum() and (word[1:] == lowered[1:] or word.isupper()):  # nearly all words
            return (_singular(lowered),)
    else:
        word = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
        word = unicodedata.normalize("NFC", word)  # Hangul was split too
    parts = _PART.findall(_HUMP.sub("_", _SUFFIX.sub("", word)))
    if len(parts) > 1 and "'" not in word and "\u2019" not in word:
        parts.append(word.strip("_"))
    terms: list[str] = []
    for part in map(str.lower, parts):
        if _UNSPACED.search(part):
            terms.extend(part[i : i + 2] for i in range(max(1, len(part) - 1)))
        else:
            terms.append(_singular(part))
    return tuple(terms)


def _singular(word: str) -> str:
    """The word without English plural: Harman's S stemmer (1991), but `movies` and `movie` are one term."""
    if len(word) < 4:
        return word
    if word[-1] == "s" and word[-2] not in "us":
        if word.endswith("ies") and len(word) > 4:
            return word[:-3] + "y"
        word = word[:-2] if word.endswith(("sses", "shes", "ches", "xes")) else word[:-1]
    return word[:-2] + "y" if word.endswith("ie") else word


def write_state(
    folder: Path, terms: list[str], idf: Floats, components: Floats, parameters: dict[str, Any]
) -> None:
    """Write the four files, lsa.json last: without it, the folder has no state. Raises OSError."""
    contents = {
        TERMS: json.dumps(terms).encode(),
        IDF: npy_header(idf.shape) + idf.astype("<f4").tobytes(),
        COMPONENTS: npy_header(components.shape) + components.astype("<f4").tobytes(),
    }
    head: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "rules": RULES,
        "terms": len(terms),
        "width": components.shape[1],
        "parameters": parameters,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    head["checksum"] = _checksum(head)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HEAD).unlink(missing_ok=True)
    for name, content in contents.items():
        replace_file(folder / name, content)
    replace_file(folder / HEAD, json.dumps(head, indent=1).encode())


def _checksum(head: dict[str, Any]) -> str:
    rest = {key: value for key, value in head.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_state(folder: Path) -> LsaState:
    """What `write_state` wrote, with the components mapped. Raises IndexFormatError."""
    path = folder / HEAD
    try:
        head: dict[str, Any] = json.loads(_read(path))
        checksum = _checksum(head)
    except (ValueError, RecursionError, AttributeError):
        head = {}
    if head.get("format") != FORMAT:
        raise IndexFormatError(f"{path} is not the state of an lsa embedder; {BACK}")
    version, rules = head.get("version"), head.get("rules")
    if (version, rules) != (VERSION, RULES):
        raise IndexFormatError(
            f"{path} is of format {clipped(str(version))} with word rules {clipped(str(rules))}, "
            f"this rsearch reads {VERSION} with {RULES}; use the version that wrote it, "
            "or build the index again with `restart`"
        )
    if head.get("checksum") != checksum:
        raise _damaged(path, "its checksum does not fit")
    try:
        terms = json.loads(_read(folder / TERMS, head["files"][TERMS]))
        rows = dict(zip(terms, range(len(terms)), strict=True))
        _read(folder / IDF, head["files"][IDF])
        idf = map_array(folder / IDF, (len(terms),), "<f4").copy()
        components = map_array(folder / COMPONENTS, (len(terms), head["width"]), "<f4")
        parameters = {name: head["parameters"][name] for name in ("width", "seed", "sample")}
        LsaEmbedder(**parameters)
    except (KeyError, TypeError, ValueError, UsageError):  # a checksum that fits may be anybody's
        raise _damaged(path, "it describes no state") from None
    return LsaState(rows, idf, components, parameters, head["checksum"])


def _read(path: Path, digest: str | None = None) -> bytes:
    if (size := file_size(path)) > MAX_BYTES:
        raise _damaged(path, f"it has {size:,} bytes")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise _damaged(path, f"its hash does not fit {HEAD}")
    return content


def _damaged(path: Path, why: str) -> IndexFormatError:
    return IndexFormatError(f"{path} is damaged: {why}; {BACK}")
