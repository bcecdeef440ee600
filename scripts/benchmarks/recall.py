"""What truncation loses: overlap@10 with the full dimension, with 95 % intervals, on three corpora.

    .venv/bin/python scripts/benchmarks/recall.py [--vectors vectors.npy --queries queries.npy] [--home DIR]

Prints a table of 512, 256, 128, 64 and 256 + rerank 10 for each of
(a) real Wikipedia articles, first 1,200 characters, embedded by lsa: the Parquet files under
    $RSEARCH_TEST_DATA/wikipedia, through the real
    build; and the titles that "tree data structures" finds there with --dim 256 --rerank 10;
(b) given vectors and queries, such as nomic_shaped.py makes;
(c) the documentation of this Python's standard library, embedded by lsa.
What is absent is left out, and said so. In (a) and (c) rows of the index are the queries, each left
out of its own answers. The overlaps are those of `rsearch bench`; indexes in --home are used again.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from _measure import given_vectors, index_of_matrix, machine, parser_of, show
from numpy.typing import NDArray

from resizable_search.build.build import BuildOptions, build
from resizable_search.corpora.base import Block, Corpus, Document, in_blocks
from resizable_search.corpora.pydoc import PydocCorpus
from resizable_search.embedders.lsa import LsaEmbedder
from resizable_search.engine.base import NO_ROW
from resizable_search.evaluate.bench import Queries, overlap_at_k, sample_queries
from resizable_search.search.index import Index, open_index
from resizable_search.search.results import SearchOptions
from resizable_search.specs import CorpusSpec
from resizable_search.store.layout import Home

K = 10
CHARS = 1200
TEXT = "tree data structures"
WAYS = ((512, 0), (256, 0), (128, 0), (64, 0), (256, 10))


class ParquetArticles(Corpus):
    """The articles of Parquet files in the layout of the hub's wikimedia/wikipedia, in order."""

    kind = "parquet"

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)

    @property
    def label(self) -> str:
        """How many files."""
        return f"{len(self.files)} Parquet files of Wikipedia articles"

    def spec(self) -> CorpusSpec:
        """The files' names and the cut."""
        return CorpusSpec(self.kind, {"files": [file.name for file in self.files], "chars": CHARS})

    def blocks(self, position: int | None = None) -> Iterator[Block]:
        """The articles after the first `position`."""
        start = position or 0
        documents = (document for i, document in enumerate(self._documents()) if i >= start)
        yield from in_blocks(documents, start)

    def _documents(self) -> Iterator[Document]:
        import pyarrow.parquet as pq

        for file in self.files:
            for batch in pq.ParquetFile(file).iter_batches(1000, columns=["id", "title", "url", "text"]):
                for row in batch.to_pylist():
                    yield Document(row["id"], row["title"], row["url"], row["text"][:CHARS])


def overlaps(index: Index, queries: Queries) -> list[tuple[str, ...]]:
    """A line for each way to search: its overlap with the full dimension and the 95 % interval."""
    truth = answers(index, queries, index.full_dim, 0)
    lines = []
    for dim, rerank in WAYS:
        if dim >= index.full_dim:
            continue
        mean, (low, high) = overlap_at_k(truth, answers(index, queries, dim, rerank))
        interval = f"{low:.3f} – {high:.3f}"
        lines.append((str(dim), f"×{rerank}" if rerank else "–", f"{mean:.3f}", interval, ""))
    return lines


def answers(index: Index, queries: Queries, dim: int, rerank: int) -> list[NDArray[np.int64]]:
    """The rows that each query finds, its own left out if it is one."""
    plan = index.plan(SearchOptions(K, dim, rerank))
    top, _ = index.run(queries.vectors, plan, K, queries.own_rows)
    return [rows[rows != NO_ROW] for rows in top.rows]


def report(what: str, index: Index, queries: Queries) -> None:
    """Print the table of one index."""
    which = "of its own rows" if queries.own_rows is not None else "given vectors"
    print(f"\n{what}: {index.rows:,} × {index.full_dim}, {len(queries.vectors)} {which} as queries, k {K}")
    show(("dim", "rerank", f"overlap@{K}", "95 % interval", ""), overlaps(index, queries), left=0)


def wikipedia(home: Path, sample: int) -> None:
    """(a): real articles by lsa, and the query of the README."""
    data = os.environ.get("RSEARCH_TEST_DATA")
    files = sorted((Path(data) / "wikipedia").glob("*/train-*.parquet")) if data else []
    if not files:
        print("\nno articles under $RSEARCH_TEST_DATA/wikipedia: real articles are left out")
        return
    build(ParquetArticles(files), LsaEmbedder(), Home(home), BuildOptions("articles-lsa"))
    with open_index("articles-lsa", home=home) as index:
        report("real Wikipedia articles by lsa", index, sample_queries(index, sample))
        print(f'\n"{TEXT}" --dim 256 --rerank 10 there:')
        for hit in index.query(TEXT, k=K, dim=256, rerank=10):
            print(f"  {hit.rank:>2}  {hit.score:.4f}  {hit.title}")


def given(home: Path, vectors: Path | None, queries: Path | None) -> None:
    """(b): vectors and queries from files."""
    if vectors is None or queries is None:
        print("\nno --vectors and --queries: given vectors are left out")
        return
    rows, made_of = given_vectors(vectors, 10_000_000)
    with index_of_matrix(rows, made_of, home, f"given-{vectors.stem}-{len(rows)}") as index:
        asked = Queries(np.load(queries).astype(np.float32), str(queries))
        report("given vectors", index, asked)
        print(
            "vectors of nomic_shaped.py stand in for a Matryoshka model and are not one: real sentence\n"
            "embeddings, turned so that every prefix carries a share of the energy as the model's does"
        )


def pydoc(home: Path, sample: int) -> None:
    """(c): the standard library's documentation by lsa."""
    build(PydocCorpus(), LsaEmbedder(), Home(home), BuildOptions("pydoc"))
    with open_index("pydoc", home=home) as index:
        report("this Python's documentation by lsa", index, sample_queries(index, sample))


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--vectors", type=Path, help="(n, 768) float32 .npy")
    parser.add_argument("--queries", type=Path, help="(m, 768) float32 .npy")
    parser.add_argument("--sample", type=int, default=1000, help="own rows as queries in (a) and (c)")
    parser.add_argument("--home", type=Path, help="keep the indexes here; default: a folder that is deleted")
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        home = args.home or Path(temporary)
        wikipedia(home, args.sample)
        given(home, args.vectors, args.queries)
        pydoc(home, args.sample)


if __name__ == "__main__":
    main()
