"""An embedder that another package adds: it counts letters, and pairs of them."""

from collections.abc import Sequence

import numpy as np

from resizable_search.embedders.base import Embedder, Task
from resizable_search.specs import EmbedderSpec

WIDTH = 26 + 26 * 26


class LettersEmbedder(Embedder):
    """How often each letter and each pair of letters occurs; `model` says how much a pair counts."""

    kind = "letters"
    remark = "letters are all that it knows"
    batch_size = 50

    def __init__(self, *, model: str = "pairs") -> None:
        self._weight = {"single": 0.0, "pairs": 1.0}[model]
        self._spec = EmbedderSpec(self.kind, model, WIDTH)

    def embed(self, texts: Sequence[str], task: Task) -> np.ndarray:
        rows = np.full((len(texts), WIDTH), 1e-3, np.float32)
        for row, text in zip(rows, texts, strict=True):
            letters = [ord(c) - ord("a") for c in text.lower() if "a" <= c <= "z"]
            np.add.at(row, letters, 1.0)
            np.add.at(
                row, [26 + 26 * a + b for a, b in zip(letters, letters[1:], strict=False)], self._weight
            )
        return rows
