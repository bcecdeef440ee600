import gzip
import json
import re
from pathlib import Path

import pytest

from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.corpora.base import Document
from resizable_search.corpora.beir import BeirCorpus, collection_files
from resizable_search.corpora.inputs import reopened
from resizable_search.errors import BuildStateError, CorpusError, UsageError
from resizable_search.progress import SILENT
from resizable_search.store.layout import Home
from tests.support import TableEmbedder

LINES = [
    {
        "_id": "1",
        "title": "Trees",
        "text": "They grow.",
        "metadata": {"year": 1990, "url": "https://x.org/1"},
    },
    {"_id": 2, "title": "", "text": "Untitled.", "metadata": {}},
    {"_id": "3", "title": "Bare", "text": ""},
]


def write(folder: Path, *lines, name: str = "corpus.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    return folder / name


def documents(corpus: BeirCorpus) -> list[Document]:
    return [document for block in corpus.blocks() for document in block.documents]


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_title_and_text_are_one_text_and_metadata_is_flat(tmp_path, name):
    corpus = BeirCorpus(write(tmp_path / "trees", *LINES, name=name))
    assert corpus.label == "trees"
    assert documents(corpus) == [
        Document(
            "1", "Trees", "https://x.org/1", "Trees They grow.", {"year": 1990, "url": "https://x.org/1"}
        ),
        Document("2", "", "", "Untitled."),
        Document("3", "Bare", "", "Bare"),
    ]
    assert [d.text for d in documents(BeirCorpus(write(tmp_path / "cut", *LINES), chars=6))] == [
        "Trees ",
        "Untitl",
        "Bare",
    ]


def test_an_encoding_that_is_given_counts_and_is_kept(tmp_path):
    path = write(tmp_path / "trees")
    path.write_bytes('{"_id": "1", "title": "Лес", "text": "растёт"}\n'.encode("koi8-r"))
    corpus = BeirCorpus(path, encoding="KOI8-R")
    assert [d.text for d in documents(corpus)] == ["Лес растёт"]
    again = reopened("trees", corpus.spec().to_json(), SILENT)
    assert again.spec() == corpus.spec()
    assert again.spec().options["encoding"] == "koi8-r"
    assert "encoding" not in BeirCorpus(path).spec().options


def test_a_line_that_is_no_document_is_left_out_and_reported(tmp_path):
    path = write(tmp_path, LINES[0], [], LINES[2])
    assert [d.problem for d in documents(BeirCorpus(path))] == ["", "it is not a JSON object", ""]
    with pytest.raises(CorpusError, match="it has no column '_id': its columns are id, text"):
        documents(BeirCorpus(write(tmp_path / "other", {"id": 1, "text": "x"})))


def test_the_same_corpus_is_known_where_it_was_moved_and_another_in_its_place_is_refused(tmp_path):
    embedder, options = TableEmbedder(), BuildOptions("trees", dims=(16,))
    path = write(tmp_path / "trees", *LINES)

    def made() -> int:
        return build(BeirCorpus(path), embedder, Home(tmp_path / "home"), options).added

    assert made() == 3
    path = (tmp_path / "trees").rename(tmp_path / "moved") / path.name
    assert made() == 0
    write(path.parent, *LINES, LINES[0])
    with pytest.raises(BuildStateError, match="trees was built with sha256 .* `restart` builds it again"):
        made()


def test_the_files_of_a_folder_are_found_packed_or_not(tmp_path):
    write(tmp_path, *LINES, name="corpus.jsonl.gz")
    write(tmp_path, name="queries.jsonl")
    (tmp_path / "qrels").mkdir()
    for name in ("test.tsv.gz", "dev.tsv"):
        (tmp_path / "qrels" / name).write_text("")
    names = [path.name for path in collection_files(tmp_path)]
    assert names == ["queries.jsonl", "test.tsv.gz", "corpus.jsonl.gz"]
    assert collection_files(tmp_path, "dev")[1].name == "dev.tsv"
    with pytest.raises(UsageError, match=r"qrels has no train.tsv, but has dev, test: .* `split`"):
        collection_files(tmp_path, "train")


def test_a_folder_of_another_layout_is_reported_with_what_it_has_and_should_have(tmp_path):
    def refused(folder: Path, words: str) -> None:
        with pytest.raises(UsageError, match=re.escape(words)):
            collection_files(folder)

    refused(
        tmp_path / "nowhere",
        "nowhere does not exist, or is no folder: BEIR's layout is corpus.jsonl, ",
    )
    refused(tmp_path, "has no file: BEIR's layout is")
    path = write(tmp_path, *LINES)
    refused(path, "corpus.jsonl does not exist, or is no folder")
    (tmp_path / "notes").mkdir()
    refused(tmp_path, "has corpus.jsonl, notes: BEIR's layout is")
    write(tmp_path, name="queries.jsonl")
    (tmp_path / "qrels").mkdir()
    refused(tmp_path, "qrels has no test.tsv, but has no split: name one")
