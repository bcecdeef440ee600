"""What is exported is the index: read with each library as its users read it, and asked."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from resizable_search.export.export import FORMATS, export
from tests.build.changes.conftest import WIDTH
from tests.export.conftest import METADATA

FOLDERS = [name for name, form in FORMATS.items() if form.is_folder]


def needed(name: str) -> None:
    for module in FORMATS[name].modules:
        pytest.importorskip(module, reason=f"{module} is not installed: the extra `export` brings it")


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    """An export of each format and dimension, made once."""
    folder, done = tmp_path_factory.mktemp("exports"), {}

    def of(name: str, dim: int = WIDTH):
        needed(name)
        if (name, dim) not in done:
            path = folder / f"{name}-{dim}{'' if FORMATS[name].is_folder else '.parquet'}"
            done[name, dim] = export(made.folder, path, name, dim=dim)
        return done[name, dim]

    return of


def read(path: Path, name: str) -> tuple[list[dict], np.ndarray]:
    """The documents and rows of an export, read as its library's users would."""
    if name == "parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        rows = table.column("embedding").combine_chunks().flatten().to_numpy()
        return table.drop_columns("embedding").to_pylist(), rows.reshape(len(table), -1)
    if name == "datasets":
        import datasets

        loaded = datasets.load_dataset(str(path), split="train", cache_dir=str(path.with_name("cache")))
        rows = loaded.with_format("numpy")["embedding"][:]
        return loaded.remove_columns("embedding").to_list(), rows
    import pyarrow.parquet

    documents = pyarrow.parquet.read_table(path / "documents.parquet").to_pylist()
    if name == "usearch":
        from usearch.index import Index

        index = Index.restore(str(path / "index.usearch"))
        return documents, np.stack([index.get(key) for key in range(len(index))])
    import faiss

    index = faiss.read_index(str(path / "index.faiss"))
    return documents, np.stack([index.reconstruct(row) for row in range(index.ntotal)])


@pytest.mark.parametrize("dim", [WIDTH, 16, 33], ids=["full", "stored", "not stored"])
@pytest.mark.parametrize("name", FORMATS)
def test_an_export_holds_each_document_beside_its_row(exported, rows, made, name, dim):
    done = exported(name, dim)
    ids, expected = rows(dim)
    documents, vectors = read(done.path, name)
    assert [document["id"] for document in documents] == ids
    assert (vectors.dtype, vectors.shape) == (np.float32, (295, dim))
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    with made.open() as index:
        stored = index.documents(index.live_rows())
    for document, other in zip(documents, stored, strict=True):
        assert document["title"] == other.title
        assert document["url"] == other.url
        assert document["text"] == other.text
        assert json.loads(document["metadata"]) == other.metadata
    assert json.loads(documents[ids.index("a4")]["metadata"]) == METADATA


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_was_asked_and_says_how_it_answered(exported, name):
    done = exported(name)
    assert (done.documents, done.dim, done.asked, done.k) == (295, WIDTH, 100, 10)
    assert done.overlap == 1.0 if FORMATS[name].is_exact else done.overlap >= 0.99
    assert done.overlap_low <= done.overlap


@pytest.mark.parametrize("name", FOLDERS)
def test_the_code_of_a_folders_card_runs_and_finds_what_a_scan_finds(
    exported, made, name, monkeypatch, tmp_path
):
    done = exported(name)
    code = re.search(r"```python\n(.*?)```", (done.path / "README.md").read_text(), re.DOTALL)[1]
    query = np.random.default_rng(1).standard_normal(WIDTH).astype(np.float32)
    with made.open() as index:
        expected = [document.id for document in index.documents(index.scan(query, k=10).rows[0])]
    monkeypatch.chdir(done.path)
    if name == "datasets":
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    names: dict = {"query": query}
    exec(code, names)
    ids = [document["id"] for document in names["nearest"]]
    assert ids == expected if FORMATS[name].is_exact else len({*ids} & {*expected}) >= 9


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_says_what_its_rows_are(exported, name):
    import pyarrow.parquet

    done = exported(name, 16)
    if name in ("parquet", "datasets"):
        table = done.path if name == "parquet" else next(done.path.rglob("*.parquet"))
    else:
        table = done.path / "documents.parquet"
    facts = json.loads(pyarrow.parquet.read_schema(table).metadata[b"rsearch"])
    assert (facts["model"], facts["dim"], facts["full_dim"]) == ("table", 16, WIDTH)
    assert (facts["centred"], facts["normalised"], facts["documents"]) == (False, True, 295)
    if FORMATS[name].is_folder:
        written = json.loads((done.path / "export.json").read_text())
        assert written["checked"]["overlap"] == done.overlap
        lying = {path.relative_to(done.path).as_posix() for path in done.path.rglob("*") if path.is_file()}
        assert {*written["files"], "export.json"} == lying


def test_large_exports_are_written_in_row_groups_and_shards(made, tmp_path, monkeypatch, rows):
    from resizable_search.export import parquet

    monkeypatch.setattr(parquet, "GROUP_ROWS", 40)
    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 20)
    monkeypatch.setattr(parquet, "SHARD_BYTES", 30_000)
    done = export(made.folder, tmp_path / "sharded", "datasets")
    shards = sorted(path.name for path in (done.path / "data").iterdir())
    assert len(shards) > 2
    assert shards[-1] == f"train-{len(shards) - 1:05}-of-{len(shards):05}.parquet"
    documents, _ = read(done.path, "datasets")
    assert [document["id"] for document in documents] == rows(WIDTH)[0]


def test_long_texts_make_smaller_row_groups(made, tmp_path, monkeypatch):
    import pyarrow.parquet

    from resizable_search.export import parquet

    monkeypatch.setattr(parquet, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(parquet, "GROUP_BYTES", 50_000)
    done = export(made.folder, tmp_path / "made.parquet")
    metadata = pyarrow.parquet.read_metadata(done.path)
    assert metadata.row_group(0).num_rows < 8
    assert metadata.num_rows == 295
