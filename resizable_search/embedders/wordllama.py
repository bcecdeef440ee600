"""WordLlama: a static Matryoshka model that lies in its package: texts are embedded on this machine, at once.

A text's vector is the mean of its tokens' rows in a table of 32,000 x 256 numbers, which was trained for 256,
128 and 64 dimensions (https://github.com/dleemiller/WordLlama, MIT). `wordllama-l2-supercat-words` counts the
tokens of words alone, without stop words and punctuation, and one that is there n times weighs n ** 0.9.
`wordllama-l2-supercat`, the model of earlier indexes, counts all tokens alike. Only the two data files of the
package are read: its own loader looks for them in a folder that the wheel lacks, and pads each batch.
"""

import hashlib
import re
import threading
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, PackagePath, distribution
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from resizable_search.embedders.base import Embedder, Task
from resizable_search.errors import EmbedderError, UsageError
from resizable_search.specs import EmbedderSpec
from resizable_search.text import MARKS, STOP_WORDS

PACKAGE, WIDTH = "wordllama", 256
MODEL, TOKENS_MODEL = "wordllama-l2-supercat-words", "wordllama-l2-supercat"
WEIGHTS = "wordllama/weights/l2_supercat_256.safetensors"
TOKENIZER = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"

FEW_TEXTS = 4  # up to so many texts, as of a query, only the rows of their tokens are read
CHARS_A_TOKEN = 2  # with fewer, words fall apart into characters and bytes; English has 4 or more
REPEATS = 0.9  # the exponent of a token's count: a word said twice says less than two words
NOTED_FROM = 100  # texts that are looked at before the user is told that their language is not the model's
_WORD = re.compile(rf"[\w{MARKS}]+(?:['’]\w+)?[+#]*")  # C++ is one
_SKIPPED = STOP_WORDS | {word.capitalize() for word in STOP_WORDS}  # IT is a word


class WordLlamaEmbedder(Embedder):
    """The table and the tokenizer of the package, for any thread. A text is the same in every batch."""

    kind: ClassVar[str] = "wordllama"
    known_models: ClassVar[Sequence[str]] = (MODEL, TOKENS_MODEL)
    remark: ClassVar[str] = "it knows words, not their order"
    batch_size: int = 64

    def __init__(self, *, model: str = MODEL, weights: str = "", tokenizer: str = "") -> None:
        if model not in self.known_models:
            raise UsageError(f"the wordllama embedder has the model {MODEL} alone: leave `model` out")
        files = _files()
        options = {"weights": _checksum(files[WEIGHTS]), "tokenizer": _checksum(files[TOKENIZER])}
        self._paths = Path(str(files[WEIGHTS].locate())), Path(str(files[TOKENIZER].locate()))
        self._spec = EmbedderSpec(self.kind, model, WIDTH, options=options)
        self._lock = threading.Lock()
        self._seen = self._foreign = 0

    def embed(self, texts: Sequence[str], task: Task) -> NDArray[np.float32]:
        """(n, 256) float32, whatever the task; zeros for a text without a token."""
        is_by_word = self._spec.model == MODEL
        counted = [words_of(text) for text in texts] if is_by_word else list(texts)
        encoded = self._loaded[1].encode_batch_fast(counted, add_special_tokens=False)
        ids = [np.array(text.ids, np.int64) for text in encoded]
        lengths = np.array([len(tokens) for tokens in ids])
        self._note_foreign(counted, lengths)
        rows_of = self._few_rows if len(texts) <= FEW_TEXTS else self._table.__getitem__
        weighed = map(_weighed, ids) if is_by_word else ((tokens, np.float32(1)) for tokens in ids)
        # Over the first axis numpy adds row after row, so a sum does not depend on the other texts.
        sums = np.array([(rows_of(tokens) * weights).sum(axis=0) for tokens, weights in weighed])
        means: NDArray[np.float32] = sums / np.maximum(lengths, 1)[:, None].astype(np.float32)
        return means

    def _few_rows(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = [self._loaded[0][token : token + 1][0] for token in tokens.tolist()]
        return np.array(rows, np.float32).reshape(-1, WIDTH)

    @cached_property
    def _table(self) -> NDArray[np.float32]:
        table: NDArray[np.float32] = self._loaded[0][:].astype(np.float32)
        return table

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The file of the table, of which rows can be read one by one, and the tokenizer."""
        from safetensors import safe_open
        from tokenizers import Tokenizer

        try:
            file: Any = safe_open(self._paths[0], "numpy")
            rows, tokenizer = file.get_slice("embedding.weight"), Tokenizer.from_file(str(self._paths[1]))
        except Exception as error:  # tokenizers raises no class of its own
            problem = f"cannot read the data of the package {PACKAGE} ({error}): reinstall it"
            raise EmbedderError(problem) from None
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return rows, tokenizer

    def _note_foreign(self, texts: Sequence[str], lengths: NDArray[np.int64]) -> None:
        """Tell the user once if most of the first texts are not in a language of the model."""
        if self._seen >= NOTED_FROM:
            return
        foreign = sum(len(text) < CHARS_A_TOKEN * tokens for text, tokens in zip(texts, lengths, strict=True))
        with self._lock:
            before, self._seen = self._seen, self._seen + len(texts)
            self._foreign += foreign
        if before < NOTED_FROM <= self._seen and 2 * self._foreign > self._seen:
            self.on_note(
                "most of these texts are not in a language that wordllama knows: expect poor answers; "
                "build again with another `embedder` and `restart`"
            )


def _weighed(tokens: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The different tokens, and the weight of each, (n, 1)."""
    tokens, counts = np.unique(tokens, return_counts=True)
    return tokens, np.array([count**REPEATS for count in counts.tolist()], np.float32)[:, None]


def words_of(text: str) -> str:
    """The words of a text but stop words; all words if there are no others, the text if it has no word."""
    words = _WORD.findall(text)
    return " ".join([word for word in words if word not in _SKIPPED] or words) or text


def _files() -> dict[str, PackagePath]:
    """The files of the installed package by their names in it. Raises EmbedderError."""
    try:
        files = {str(path): path for path in distribution(PACKAGE).files or ()}
    except PackageNotFoundError:
        files = {}
    if not {WEIGHTS, TOKENIZER} <= set(files):
        raise EmbedderError(f"the package {PACKAGE} is missing or has other files: reinstall it")
    return files


def _checksum(path: PackagePath) -> str:
    """The SHA-256 of a file of the package, as its installation recorded it."""
    if path.hash is not None and path.hash.mode == "sha256":
        return path.hash.value
    content = Path(str(path.locate())).read_bytes()
    return urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
