"""`rsearch build vectors` as it is installed: what it makes, what it refuses, and how it is stopped."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resizable_search.engine import vectors
from resizable_search.search.index import open_index
from tests.cli.conftest import Machine, errs, errs_at_last
from tests.servers.nomic_api import NomicServer


@pytest.fixture
def file(machine: Machine) -> Path:
    """200 vectors of 768 dimensions, where the commands run."""
    path = machine.folder / "my vectors.npy"
    np.save(path, np.random.default_rng(0).standard_normal((200, 768)).astype(np.float16))
    return path


def described(machine: Machine, count: int = 200) -> Path:
    path = machine.folder / "docs.jsonl"
    rows = [
        {"id": f"d{i}", "title": f"Title {i}", "text": f"text {i}" if i % 2 else ""} for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_vectors_alone_can_be_listed_measured_and_removed(machine: Machine, file: Path):
    ran = machine.run("build", "vectors", file.name, "--dims", "64,256")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "my vectors: 200 documents at 64, 256, 768 dimensions")
    assert "index.scan in Python" in ran.out
    assert ran.out.endswith("\nnext: rsearch bench --index 'my vectors'\n")
    again = machine.run("build", "vectors", file)
    assert again.out.startswith("my vectors is complete: 200 documents")

    assert [entry["model"] for entry in machine.run("list", "--json").json] == ["unknown"]
    info = machine.run("info", "--json").json
    assert (info["rows"], info["embedder"]["kind"], info["corpus"]["dtype"]) == (200, "given", "<f2")
    measured = machine.run("bench", "--dims", "768,100", "--sample", 5, "--json").json
    assert [m["dim"] for m in measured["measurements"]] == [768, 100]
    errs(machine.run("query", "some", "words"), 1, "--model and --embedder", "index.scan")
    assert machine.run("remove", "my vectors", "--yes").code == 0
    assert machine.holdings() == {}


def test_vectors_of_a_known_model_are_queried_with_texts(machine: Machine, file: Path, api: NomicServer):
    ran = machine.run(
        "build", "vectors", file, "--documents", described(machine), "--name", "mine",
        "--model", "nomic-embed-text-v1.5", NOMIC_API_KEY="",
    )  # fmt: skip
    assert ran.code == 0, ran
    assert ran.out.endswith('next: rsearch query "tree data structures" --index mine\n')
    answer = machine.run("query", "anything", "--index", "mine", "--dim", 256, "--rerank", 10, "--json").json
    assert len(answer["hits"]) == 10
    assert all(hit["id"] == f"d{hit['row']}" for hit in answer["hits"])
    with open_index("mine", home=machine.home) as index:
        expected = vectors.prepare(np.load(file), 768, centred=True)
        np.testing.assert_array_equal(index.vectors(np.arange(200)), expected)


def test_a_larger_limit_extends(machine: Machine, file: Path):
    documents = machine.folder / "docs.parquet"
    pq.write_table(pa.table({"id": [f"p{i}" for i in range(200)], "year": list(range(200))}), documents)
    command = ("build", "vectors", file, "--documents", documents, "--name", "mine")
    assert machine.run(*command, "--limit", 50).out.startswith("mine: 50 documents at")
    assert machine.run(*command).out.startswith("mine: 200 documents (150 of them now) at")
    assert machine.run(*command, "--limit", 70).out.startswith("mine is complete: 200 documents")
    with open_index("mine", home=machine.home) as index:
        assert [(d.id, d.metadata["year"]) for d in index.documents([0, 199])] == [("p0", 0), ("p199", 199)]


def refused(machine: Machine, code: int, args: tuple[object, ...], *words: str) -> None:
    """The command fails so, and leaves nothing."""
    errs_at_last(machine.run("build", "vectors", *args), code, *words)
    assert machine.holdings() == {}
    assert machine.unfinished() == []


def test_files_that_cannot_be_stored(machine: Machine, file: Path):
    rows = np.load(file).astype(np.float32)
    rows[123, 4] = np.nan
    np.save(machine.folder / "nan.npy", rows)
    np.save(machine.folder / "flat.npy", np.ones(3))
    (machine.folder / "cut.npy").write_bytes(file.read_bytes()[:-1])
    refused(machine, 1, ("nan.npy",), "nan.npy has NaN or infinity in row 123", "leave such rows out")
    refused(machine, 1, ("flat.npy",), "flat.npy holds an array of 1 dimensions", "one vector a row")
    refused(machine, 1, ("cut.npy",), "cut.npy is truncated", "write it again")
    refused(machine, 1, ("none.npy",), "cannot read none.npy", "name an existing file")


def test_documents_that_do_not_fit(machine: Machine, file: Path):
    documents = described(machine, 199)
    refused(machine, 1, (file, "--documents", documents), "has 199 documents", "has 200 vectors")
    documents.write_text(documents.read_text() + '{"id": "d7"}\n')
    refused(machine, 1, (file, "--documents", documents), "row 7 and row 199 both have the id 'd7'")
    documents.write_text("id,title\n" * 200)
    refused(machine, 1, (file, "--documents", documents), "docs.jsonl, line 1: it is not JSON")


def test_models_and_embedders_that_do_not_fit(machine: Machine, file: Path):
    small = machine.folder / "small.npy"
    np.save(small, np.ones((3, 64)))
    refused(machine, 1, (small, "--model", "nomic-embed-text-v1.5"), "64 numbers", "have 768")
    refused(machine, 2, (file, "--embedder", "lsa"), "lsa learns from the texts")
    refused(machine, 2, (file, "--embedder", "nomic", "--model", "x"), "unknown Nomic model 'x'")
    refused(machine, 2, (file, "--name", "a/b"), "--name")


def test_another_file_under_the_name_is_refused(machine: Machine, file: Path):
    machine.run("build", "vectors", file)
    before = machine.holdings()
    np.save(file, np.load(file) + 1)
    errs_at_last(machine.run("build", "vectors", file), 1, "was built with sha256", "--restart", "--name")
    assert machine.holdings() == before
    assert machine.run("build", "vectors", file, "--restart").code == 0


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_was_stopped_goes_on(machine: Machine, by: int):
    np.save(machine.folder / "large.npy", np.random.default_rng(1).standard_normal((12_000, 768), np.float32))
    command = ("build", "vectors", "large.npy", "--dims", 64)
    assert machine.run(*command, "--name", "whole").code == 0

    process = machine.start(*command)
    for line in process.stderr:
        if line.startswith("rsearch: reading"):
            break
    os.killpg(process.pid, by)
    stopped = machine.end(process)
    if by == signal.SIGINT:
        errs_at_last(stopped, 130, "documents are stored and safe", "the same command resumes")
    assert stopped.code in (130, -signal.SIGKILL)
    assert not (machine.home / "large").exists()

    ended = machine.run(*command)
    assert ended.code == 0, ended
    folders = [machine.home / name for name in ("large", "whole")]
    one, other = (
        {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in folders
    )
    manifests = [json.loads(files.pop("manifest.json")) for files in (one, other)]
    assert one == other
    assert [{**m, "created": "", "changed": "", "checksum": ""} for m in manifests[:1]] == [
        {**m, "created": "", "changed": "", "checksum": ""} for m in manifests[1:]
    ]
    assert machine.unfinished() == []
