"""Make a small test collection in BEIR's layout of what is at hand: titles as queries, texts without them.

    .venv/bin/python scripts/benchmarks/judged.py judged            # of this Python's documentation
    .venv/bin/python scripts/benchmarks/judged.py judged notes/ articles.parquet
    .venv/bin/python scripts/benchmarks/judged.py judged --index wiki100k

Each title asks for the document that it was taken from, and for every other of the same title. The title
is taken out of the texts wherever it stands, and the documents are left without one: what finds them has
to go by what they say. These judgements are poorer than people's, since whatever else answers a title
counts as wrong, so absolute figures are too low; they serve to compare dimensions and plans.
"""

import argparse
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from resizable_search.corpora.base import Document
from resizable_search.corpora.files import FilesCorpus
from resizable_search.corpora.pydoc import PydocCorpus
from resizable_search.evaluate.tune_mode import without
from resizable_search.search.index import open_index

LEAST = 100
"""Characters of a text that says something without its title."""

WORDS_OF_A_NAME = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def of_pydoc() -> Iterator[Document]:
    """What is documented: its name in words for a title, and its docstring alone for a text."""
    for block in PydocCorpus(chars=None).blocks():
        for document in block.documents:
            _, _, text = document.text.partition("\n\n")
            last = document.id.rpartition(".")[2]
            if document.metadata["kind"] != "topic" and not last.startswith("_"):
                yield Document(document.id, " ".join(WORDS_OF_A_NAME.findall(document.id)), last, text)


def of_files(paths: Iterable[str]) -> Iterator[Document]:
    """The documents of files and folders, as `rsearch build files` reads them."""
    for block in FilesCorpus(list(paths), chars=None).blocks():
        yield from block.documents


def of_index(name: str) -> Iterator[Document]:
    """The documents of an index."""
    with open_index(name) as index:
        rows = index.live_rows()
        for start in range(0, len(rows), 1000):
            for found in index.documents(rows[start : start + 1000]):
                yield Document(found.id, found.title, "", found.text)


def main() -> None:
    """Write corpus.jsonl, queries.jsonl and qrels/test.tsv."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("folder", type=Path, help="where to write; it must not have a collection yet")
    parser.add_argument("paths", nargs="*", help="files and folders; none: this Python's documentation")
    parser.add_argument("--index", help="the documents of this index instead")
    parser.add_argument("--queries", type=int, default=1000, help="titles that are asked")
    parser.add_argument("--limit", type=int, help="documents at most")
    parser.add_argument("--chars", type=int, default=1200, help="cut each text to so many characters")
    parser.add_argument("--seed", type=int, default=0, help="which titles are drawn")
    args = parser.parse_args()
    if (args.folder / "corpus.jsonl").exists():
        parser.error(f"{args.folder} has a corpus.jsonl: name another folder")

    documents = of_index(args.index) if args.index else of_files(args.paths) if args.paths else of_pydoc()
    (args.folder / "qrels").mkdir(parents=True, exist_ok=True)
    titled: dict[str, tuple[str, list[str]]] = {}  # by titles without regard to case
    count = 0
    with (args.folder / "corpus.jsonl").open("w") as corpus:
        for document in documents:
            name = document.url if not (args.index or args.paths) else ""
            text = without(document.text, document.title, name)[: args.chars]
            if len(text) < LEAST:
                continue
            corpus.write(json.dumps({"_id": document.id, "title": "", "text": text}) + "\n")
            if title := " ".join(document.title.split()):
                titled.setdefault(title.casefold(), (title, []))[1].append(document.id)
            count += 1
            if count == args.limit:
                break
    asked = sorted(random.Random(args.seed).sample(sorted(titled), min(args.queries, len(titled))))
    names = (args.folder / "queries.jsonl", args.folder / "qrels/test.tsv")
    with names[0].open("w") as queries, names[1].open("w") as qrels:
        qrels.write("query-id\tcorpus-id\tscore\n")
        for number, (title, ids) in enumerate(titled[key] for key in asked):
            queries.write(json.dumps({"_id": f"q{number}", "text": title}) + "\n")
            qrels.writelines(f"q{number}\t{id_}\t1\n" for id_ in ids)
    print(f"{args.folder}: {count:,} documents, {len(asked):,} titles as queries")


if __name__ == "__main__":
    main()
