"""The vectors of the comparison: real ones first, and stand-ins that are said to be such.

The data lies in $RSEARCH_TEST_DATA: `wikipedia` has articles as Parquet, `vectors/minilm-384.npy` sentence
vectors of those articles.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from resizable_search.embedders.wordllama import TOKENS_MODEL, WordLlamaEmbedder
from resizable_search.engine import vectors

QUERIES = 1000
LEAST_CHARACTERS = 40  # of a sentence
AT_ONCE = 4096  # texts embedded in a call


@dataclass(frozen=True, slots=True)
class Vectors:
    """Unit rows (n, d) and queries (m, d) float32, and what they are.

    `documents` describes each row, for the index; `model` made the vectors, if it is one that embeds here.
    """

    name: str
    described: str
    rows: NDArray[np.float32]
    queries: NDArray[np.float32]
    documents: list[dict[str, str]] | None = None
    model: str | None = None

    def write_documents(self, path: Path) -> None:
        """The documents as JSON lines."""
        with path.open("w", encoding="utf-8") as file:
            for row in range(len(self.rows)):
                made = {"title": "", "text": str(row)} if self.documents is None else self.documents[row]
                file.write(json.dumps({"id": f"row{row}", **made}) + "\n")


def data_folder() -> Path:
    """Where the data lies."""
    folder = os.environ.get("RSEARCH_TEST_DATA")
    if not folder:
        raise SystemExit("set RSEARCH_TEST_DATA to the folder that has wikipedia/ and vectors/")
    return Path(folder)


def sentences(limit: int | None) -> Vectors:
    """Sentences of Wikipedia by WordLlama. Half of the queries are held-out sentences, half are titles.

    A title that is a query is not the title of a document, so that tuning does not see it.
    """
    titles: list[str] = []
    title_of: dict[str, str] = {}
    for path in sorted(data_folder().glob("wikipedia/*/*.parquet")):
        for row in pq.read_table(path, columns=["title", "text"]).to_pylist():
            titles.append(row["title"])
            for part in re.split(r"(?<=[.!?])\s+|\n", row["text"]):
                if len(part.strip()) > LEAST_CHARACTERS:
                    title_of.setdefault(part.strip(), row["title"])
    rng, texts, half = np.random.default_rng(0), list(title_of), QUERIES // 2
    order = rng.permutation(len(texts))
    kept = [texts[i] for i in np.sort(order[half:][:limit])]
    asked_titles = [titles[i] for i in rng.permutation(len(titles))[:half]]
    hidden = set(asked_titles)
    documents = [{"title": "" if title_of[text] in hidden else title_of[text], "text": text} for text in kept]
    queries = embed([texts[i] for i in order[:half]] + asked_titles)
    described = "sentences of Wikipedia by WordLlama, a real Matryoshka model; half of the queries are titles"
    return Vectors("sentences", described, embed(kept), queries, documents, TOKENS_MODEL)


def embed(texts: list[str]) -> NDArray[np.float32]:
    """Unit vectors (n, 256) of texts by the model of earlier figures, so that figures compare."""
    embedder = WordLlamaEmbedder(model=TOKENS_MODEL)
    blocks = [
        embedder.embed(texts[start : start + AT_ONCE], "search_document")
        for start in range(0, len(texts), AT_ONCE)
    ]
    return vectors.truncate(np.concatenate(blocks), blocks[0].shape[1])


def articles(limit: int | None) -> Vectors:
    """MiniLM's vectors of articles, of which some are held out as queries. Not a Matryoshka model."""
    rows, order = _minilm()
    described = "articles of Wikipedia by MiniLM, real vectors, not a Matryoshka model; queries are held out"
    return Vectors("articles", described, rows[np.sort(order[QUERIES:][:limit])], rows[order[:QUERIES]])


def stand_ins(limit: int | None) -> Vectors:
    """MiniLM's vectors, rotated into 768 dimensions and blended in pairs: they flatter sign bits."""
    base, _ = _minilm()
    rng, rows = np.random.default_rng(0), limit or 100_000
    rotation = np.linalg.qr(rng.standard_normal((768, base.shape[1])))[0].astype(np.float32)
    grown = max(0, rows - len(base))
    first, second = rng.integers(0, len(base), (2, grown))
    made = np.concatenate([base, np.float32(0.85) * base[first] + np.float32(0.53) * base[second]])[:rows]
    seeds = base[rng.choice(len(base), QUERIES)]
    noise = rng.standard_normal(seeds.shape, np.float32) * np.float32(0.6 / np.sqrt(base.shape[1]))
    described = "generated stand-ins, no model's vectors: those of articles, rotated and blended"
    whole = [vectors.truncate(each @ rotation.T, 768) for each in (made, seeds + noise)]
    return Vectors("stand-ins", described, whole[0], whole[1])


def _minilm() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors (n, 384) of articles, and their numbers in a random order."""
    raw = np.load(data_folder() / "vectors" / "minilm-384.npy").astype(np.float32)
    return vectors.truncate(raw, raw.shape[1]), np.random.default_rng(0).permutation(len(raw))


def of_files(rows: Path, queries: Path, limit: int | None) -> Vectors:
    """Vectors of two .npy files."""
    found, asked = (np.load(path, mmap_mode="r") for path in (rows, queries))
    width = found.shape[1]
    own = vectors.truncate(np.asarray(found[:limit], np.float32), width)
    return Vectors(rows.stem, f"{rows.name}", own, vectors.truncate(np.asarray(asked, np.float32), width))


SETS = {"sentences": sentences, "articles": articles, "stand-ins": stand_ins}
"""By the names that --sets takes: real ones first."""
