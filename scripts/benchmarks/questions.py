"""Which embedder finds what people ask for: MRR@10 of the questions in questions.json, by collection.

    .venv/bin/python scripts/benchmarks/questions.py [--embedder wordllama,lsa] [--home DIR]

The collections: this Python's documentation, the articles under $RSEARCH_TEST_DATA/wikipedia (left out
without that variable), and this project's own README.md and docs/, by file and heading. Each is built by
`rsearch build`, as a user would. A question counts 1 / rank of the first of its answers among ten hits, and
0 if there is none; hits are documents, and sections in docs/. The questions were written before anything was
measured and are not changed afterwards. The ranks of each question follow the table. Indexes in --home are
used again, and follow what has changed.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _measure import machine, parser_of, show

from resizable_search.search.index import Index, open_index
from resizable_search.search.planning import SearchOptions
from resizable_search.search.results import Hit

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = Path(__file__).with_name("questions.json")
K = 10


def sources() -> dict[str, list[str]]:
    """What to build of each collection: words of the command."""
    commands = {"pydoc": ["pydoc"], "docs": ["files", "README.md", "docs", "--chunk", "400"]}
    data = os.environ.get("RSEARCH_TEST_DATA")
    if articles := sorted(map(str, Path(data).glob("wikipedia/*/*.parquet")) if data else []):
        commands["articles"] = ["files", *articles, "--chunk", "400"]
    return commands


def build(name: str, words: list[str], embedder: str, home: Path) -> Index:
    """Build an index by the command line, or follow its corpus, and open it."""
    command = [sys.executable, "-m", "resizable_search", "build", *words, "--embedder", embedder]
    subprocess.run([*command, "--name", name, "--home", str(home)], cwd=ROOT, check=True, stdout=sys.stderr)
    return open_index(name, home=home)


def is_answer(hit: Hit, answer: Mapping[str, str]) -> bool:
    """Whether a hit is the document of this id, or a chunk with this heading of this file."""
    if "id" in answer:
        return str(hit.metadata.get("document", hit.id)) == answer["id"]
    heading = re.escape(answer["heading"])
    is_below = str(hit.metadata.get("heading", "")).rpartition(" › ")[2] == answer["heading"]
    is_in = re.search(rf"^#+ {heading}$", hit.text, re.MULTILINE) is not None
    return answer["file"].endswith(str(hit.metadata.get("path"))) and (is_below or is_in)


def ranks(index: Index, questions: list[dict[str, Any]]) -> list[int | None]:
    """The rank of the first answer to each question; None if it is not among the first ten hits."""
    first_ranks = []
    for question in questions:
        is_by_section = "file" in question["answers"][0]
        options = SearchOptions(K, group=not is_by_section)
        hits = index.search([question["question"]], options)[0].hits
        right = (hit.rank for hit in hits if any(is_answer(hit, each) for each in question["answers"]))
        first_ranks.append(next(right, None))
    return first_ranks


def mrr(first_ranks: list[int | None]) -> float:
    """The mean reciprocal rank."""
    return sum(1 / rank for rank in first_ranks if rank) / len(first_ranks)


def main() -> None:
    """Build, ask, print."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--embedder", default="wordllama,lsa", help="names, with commas (default: %(default)s)"
    )
    parser.add_argument("--home", type=Path, help="keep the indexes here, not in a folder that goes")
    args = parser.parse_args()
    embedders = args.embedder.split(",")
    collections: dict[str, list[dict[str, Any]]] = json.loads(QUESTIONS.read_text())
    lines: list[list[str]] = []
    details: list[list[str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for collection, words in sources().items():
            questions, by_embedder, documents = collections[collection], [], 0
            for embedder in embedders:
                with build(
                    f"{collection}-{embedder}", words, embedder, args.home or Path(temporary)
                ) as index:
                    by_embedder.append(ranks(index, questions))
                    documents = index.rows
            figures = [f"{mrr(each):.2f}" for each in by_embedder]
            lines.append([collection, f"{documents:,}", str(len(questions)), *figures, ""])
            for question, *each in zip(questions, *by_embedder, strict=True):
                details.append([*(str(rank or "–") for rank in each), question["question"]])
    print(f"\nMRR@{K} by embedder; {machine()}\n")
    show(["collection", "rows", "questions", *embedders, ""], lines)
    print("\nrank of the first answer\n")
    show([*embedders, "question"], details, left=0)


if __name__ == "__main__":
    main()
