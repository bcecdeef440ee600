import json
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resizable_search.admin.overview import describe_index, overview
from resizable_search.admin.remove import remove
from resizable_search.build.build import build, build_vectors
from resizable_search.build.journal import Journal
from resizable_search.build.workspace import BuildOptions
from resizable_search.embedders import registry
from resizable_search.embedders.nomic import NomicEmbedder
from resizable_search.engine import vectors
from resizable_search.errors import (
    BuildStateError,
    BuildStoppedError,
    CorpusError,
    EmbedderError,
    EmbedderMismatchError,
    IndexBusyError,
    UsageError,
)
from resizable_search.evaluate.bench import BenchOptions, run_bench, sample_queries
from resizable_search.search.index import open_index
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.manifest import read_manifest
from resizable_search.store.writer import derived_files
from resizable_search.system import build_lock
from tests.support import ListCorpus, TableEmbedder, articles

N, WIDTH = 500, 96


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def small_blocks(monkeypatch):
    """64 rows at once, so that there are several blocks to be stopped between."""
    monkeypatch.setattr("resizable_search.corpora.inputs.MAX_BLOCK_ROWS", 64)


def made(n=N, width=WIDTH, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)


def saved(folder: Path, rows, name="given.npy") -> Path:
    np.save(folder / name, rows)
    return folder / name


def records(n=N):
    return [
        {
            "id": f"d{i}",
            "title": f"Title {i}",
            "url": f"http://x/{i}",
            "text": f"text {i}",
            "year": 1900 + i % 99,
        }
        for i in range(n)
    ]


def written(folder: Path, rows, name="docs.jsonl") -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=150)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(home, file, documents=None, stop=None, progress=None, model=None, embedder=None, **options):
    more = {} if progress is None else {"progress": progress}
    return build_vectors(
        file,
        home,
        BuildOptions(**{"name": "made", **options}),
        documents=documents,
        model=model,
        embedder=embedder,
        stop=stop,
        **more,
    )


class Notes:
    """A progress that keeps what the user is told, and calls `at` when a stage begins."""

    def __init__(self, at=lambda name: None):
        self.notes, self.at = [], at

    def stage(self, name, total, unit):
        self.at(name)

    def advance(self, amount):
        pass

    def note(self, message):
        self.notes.append(message)


def contents(folder):
    """Every file of an index but the manifest, which holds dates; of that, all but the dates."""
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    manifest = json.loads(files.pop(NAMES.manifest))
    for name in ("created", "changed", "checksum"):
        del manifest[name]
    return files, manifest


def stored(folder, columns="id, title, url, metadata, text"):
    with closing(sqlite3.connect(folder / NAMES.documents)) as db:
        return db.execute(f"SELECT {columns} FROM documents JOIN texts USING (row) ORDER BY row").fetchall()


def left_nothing(home):
    assert home.names() == home.unfinished() == []
    assert not home.building("made").exists()


# -- what is made


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
def test_the_rows_are_those_that_prepare_makes(home, tmp_path, small_blocks, kind, order):
    raw = np.asarray(made(), kind, order=order)
    report = run(home, saved(tmp_path, raw), dims=(16, 64))
    assert set(contents(report.folder)[0]) == {*derived_files(N, (16, 64, 96)), NAMES.documents}
    full = np.load(report.folder / "96.npy")
    assert full.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(full, vectors.prepare(raw, WIDTH, centred=False))
    for dim in (16, 64):
        np.testing.assert_array_equal(np.load(report.folder / f"{dim}.npy"), vectors.truncate(full, dim))
    assert (report.added, report.manifest.rows, report.manifest.source.exhausted) == (N, N, True)
    assert not home.building("made").exists()


def test_vectors_of_a_model_that_centres_are_centred(home, tmp_path):
    raw = made(40, 768) + 1
    report = run(home, saved(tmp_path, raw), model="nomic-embed-text-v1.5")
    expected = vectors.prepare(raw, 768, centred=True)
    np.testing.assert_array_equal(np.load(report.folder / "768.npy"), expected)
    assert report.manifest.embedder == NomicEmbedder().spec.to_json()


@pytest.mark.parametrize("shape", [(1, 1), (1, 768), (300, 1), (3, 5000)])
def test_any_width_and_number_of_rows(home, tmp_path, shape):
    report = run(home, saved(tmp_path, made(*shape)))
    assert np.load(report.folder / f"{shape[1]}.npy").shape == shape
    with open_index("made", home=home.path) as index:
        assert len(index.documents(range(shape[0]))) == shape[0]


@pytest.mark.parametrize("name", ["docs.jsonl", "docs.parquet"])
def test_row_i_of_the_documents_describes_vector_i(home, tmp_path, small_blocks, name):
    rows = records()
    report = run(home, saved(tmp_path, made()), written(tmp_path, rows, name))
    assert stored(report.folder) == [
        (r["id"], r["title"], r["url"], json.dumps({"year": r["year"]}), r["text"]) for r in rows
    ]


def test_without_documents_a_row_is_its_number(home, tmp_path):
    report = run(home, saved(tmp_path, made(3)))
    assert stored(report.folder) == [(str(i), f"row {i}", "", "{}", "") for i in range(3)]


def test_every_row_is_kept_though_its_document_has_no_text(home, tmp_path):
    rows = [{"id": "a", "text": ""}, {}, {"title": "only"}, {"text": " \n"}]
    report = run(home, saved(tmp_path, made(4)), written(tmp_path, rows))
    assert stored(report.folder, "id, title, text") == [
        ("a", "", ""),
        ("1", "", ""),
        ("2", "only", ""),
        ("3", "", " \n"),
    ]
    assert (report.manifest.rows, report.manifest.source.left_out) == (4, 0)


def test_long_texts_make_small_blocks(home, tmp_path, monkeypatch):
    monkeypatch.setattr("resizable_search.corpora.inputs.BLOCK_BYTES", 1000)
    rows = [{"text": "x" * (900 if i % 3 else 5)} for i in range(20)]
    report = run(home, saved(tmp_path, made(20, 2)), written(tmp_path, rows))
    assert [text for (text,) in stored(report.folder, "text")] == [row["text"] for row in rows]


def test_rows_without_direction_are_kept_as_zeros_and_told(home, tmp_path, small_blocks):
    raw = made()
    raw[[70, 71, 400]] = 0
    told = Notes()
    report = run(home, saved(tmp_path, raw), progress=told)
    full = np.load(report.folder / "96.npy")
    assert np.flatnonzero(~full.any(axis=1)).tolist() == [70, 71, 400]
    assert told.notes == ["3 rows are zero vectors (70, 71, 400); kept as is"]
    run(home, saved(tmp_path, raw[70:71], "one.npy"), progress=told, name="one")
    assert told.notes[1] == "1 row is a zero vector (0); kept as is"


def test_bytes_behind_the_array_are_told(home, tmp_path):
    file = saved(tmp_path, made())
    file.write_bytes(file.read_bytes() + b"more")
    told = Notes()
    run(home, file, progress=told)
    assert told.notes == [f"{file} has 4 bytes after its array: not read"]


# -- files that are not as they should be


@pytest.mark.parametrize("row", [0, 63, 64, 499])
def test_a_row_that_is_not_finite_ends_it_and_leaves_nothing(home, tmp_path, small_blocks, row):
    raw = made()
    raw[row, 5] = np.nan
    with pytest.raises(CorpusError, match=rf"given\.npy has NaN or infinity in row {row}:"):
        run(home, saved(tmp_path, raw))
    left_nothing(home)


@pytest.mark.parametrize("name", ["docs.jsonl", "docs.parquet"])
@pytest.mark.parametrize("count", [N - 1, N + 1, 0])
def test_both_numbers_are_told_where_they_differ(home, tmp_path, name, count):
    if name.endswith("parquet") and not count:
        pytest.skip("pyarrow makes no columns of no rows")
    documents = written(tmp_path, records(count), name)
    with pytest.raises(CorpusError, match=rf"{name} has {count} documents, and .*given\.npy has 500 vectors"):
        run(home, saved(tmp_path, made()), documents, limit=10)
    left_nothing(home)


@pytest.mark.parametrize(("first", "second"), [(3, 4), (3, 60), (3, 64), (100, 499)])
def test_an_id_that_is_there_twice_is_told_with_both_rows(home, tmp_path, small_blocks, first, second):
    rows = records()
    rows[second]["id"] = rows[first]["id"]
    with pytest.raises(CorpusError, match=rf"row {first} and row {second} both have the id 'd{first}'"):
        run(home, saved(tmp_path, made()), written(tmp_path, rows))
    left_nothing(home)


def test_the_number_of_a_row_may_be_the_id_of_another(home, tmp_path):
    with pytest.raises(CorpusError, match="row 0 and row 1 both have the id '1'"):
        run(home, saved(tmp_path, made(2)), written(tmp_path, [{"id": 1}, {}]))


def test_an_id_of_an_earlier_part_is_told_with_both_rows(home, tmp_path, small_blocks):
    rows = records()
    rows[450]["id"] = "d150"
    file, documents = saved(tmp_path, made()), written(tmp_path, rows)
    run(home, file, documents, limit=100)
    run(home, file, documents, limit=200)
    with pytest.raises(CorpusError, match="row 150 and row 450 both have the id 'd150'"):
        run(home, file, documents)
    assert home.unfinished() == []
    assert run(home, file, documents, limit=440).manifest.rows == 440


def test_a_bad_line_is_told_and_mended_files_start_again(home, tmp_path, small_blocks):
    file, documents = saved(tmp_path, made()), written(tmp_path, records())
    good = documents.read_text()
    documents.write_text(good.replace('{"id": "d333"', '{"id": "d333', 1))
    with pytest.raises(CorpusError, match=r"docs\.jsonl, line 334: it is not JSON"):
        run(home, file, documents)
    left_nothing(home)
    documents.write_text(good)
    assert run(home, file, documents).added == N


def test_a_file_that_is_written_to_meanwhile_is_told(home, tmp_path):
    file = saved(tmp_path, made())

    def touch(stage):
        if stage == "reading":
            os.utime(file, ns=(1, 1))

    with pytest.raises(CorpusError, match=r"given\.npy was changed while it was read"):
        run(home, file, progress=Notes(touch))
    left_nothing(home)


# -- which model made them


def test_a_model_that_is_not_told_or_not_known_is_given():
    for model, name in ((None, "unknown"), ("my-model", "my-model")):
        spec = registry.embedder_of_vectors(model, None, 96, Path("f.npy")).spec
        assert (spec.kind, spec.model, spec.width, spec.centred) == ("given", name, 96, False)
        assert registry.reopen(spec, Path()).spec == spec


def test_a_known_model_has_its_embedder_or_the_one_that_is_chosen():
    assert (
        registry.embedder_of_vectors("nomic-embed-text-v1.5", None, 768, Path()).spec == NomicEmbedder().spec
    )
    assert registry.embedder_of_vectors("nomic-embed-text-v1", None, 768, Path()).spec.centred is False
    local = registry.embedder_of_vectors("nomic-embed-text-v1.5", "nomic-local", 768, Path()).spec
    assert (local.kind, local.centred) == ("nomic-local", True)
    assert registry.embedder_of_vectors(None, "nomic", 768, Path()).spec == NomicEmbedder().spec
    assert registry.embedder_of_vectors("my-model", "given", 8, Path()).spec.model == "my-model"


def test_another_width_than_the_models_is_refused_with_both_numbers(home, tmp_path):
    with pytest.raises(EmbedderMismatchError, match=r"given\.npy holds vectors of 96 .* have 768"):
        run(home, saved(tmp_path, made()), model="nomic-embed-text-v1.5")
    left_nothing(home)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("lsa", "learns from the texts"), ("nomic", "unknown Nomic model"), ("no", "no embedder")],
)
def test_an_embedder_that_cannot_have_made_them_is_refused(kind, words):
    with pytest.raises(UsageError, match=words):
        registry.embedder_of_vectors("my-model", kind, 768, Path())


def test_nothing_is_embedded_by_given(home):
    with pytest.raises(UsageError, match="`build vectors`"):
        registry.create("given")
    assert "given" not in registry.names()


def test_an_index_of_unknown_vectors_is_searched_with_vectors(home, tmp_path):
    raw = made()
    run(home, saved(tmp_path, raw), written(tmp_path, records()))
    with open_index("made", home=home.path) as index:
        with pytest.raises(EmbedderError, match=r"`model` and `embedder`, .*index\.scan"):
            index.query("some words")
        top = index.scan(raw[[7, 300]] * 5, k=3, dim=64, rerank=10)
        assert top.rows[:, 0].tolist() == [7, 300]
        report = run_bench(index, sample_queries(index, 5), BenchOptions(dims=(64, 96)))
        assert {m.dim: m.overlap for m in report.measurements}[96] == 1.0
        info = describe_index(index)
        assert (info.rows, info.embed_cost) == (N, "this index embeds no texts")
        assert "index.scan" in info.remark
    assert [(entry.model, entry.corpus) for entry in overview(home)] == [("unknown", "given.npy")]
    assert remove("made", home).left == []
    left_nothing(home)


def test_an_embedder_of_the_callers_queries_it(home, tmp_path):
    raw = made()
    run(home, saved(tmp_path, raw), model="my-model")
    mine = TableEmbedder(model="my-model", width=WIDTH, table={"the seventh": raw[7]})
    with open_index("made", home=home.path, embedder=mine) as index:
        assert index.query("the seventh", k=1)[0].id == "7"
    for other in (TableEmbedder(model="other", width=WIDTH), TableEmbedder(model="my-model", width=8)):
        with pytest.raises(EmbedderMismatchError, match="my-model"):
            open_index("made", home=home.path, embedder=other)


def test_an_index_of_vectors_is_the_one_that_building_makes(home, tmp_path):
    documents = articles(95)
    embedder = TableEmbedder()
    built = build(ListCorpus(documents), embedder, home, BuildOptions("built"))
    rows = [{"id": d.id, "title": d.title, "url": d.url, "text": d.text} for d in documents]
    file = saved(tmp_path, np.stack([embedder.table[d.text] for d in documents]))
    stored = run(home, file, written(tmp_path, rows))
    assert contents(stored.folder)[0] == contents(built.folder)[0]


# -- again, more, other


def test_the_same_request_again_does_nothing(home, tmp_path):
    file, documents = saved(tmp_path, made()), written(tmp_path, records())
    run(home, file, documents)
    before = contents(home.index("made"))
    moved = file.rename(tmp_path / "elsewhere.npy")
    for limit in (None, 10, N, 10_000):
        report = run(home, moved, documents, limit=limit)
        assert (report.added, report.manifest.rows) == (0, N)
    assert contents(home.index("made")) == before


@pytest.mark.parametrize("limits", [(10, 500), (1, 65, 400, None), (100, 900)])
def test_a_larger_limit_extends(home, tmp_path, small_blocks, limits):
    raw = made()
    file, documents = saved(tmp_path, raw), written(tmp_path, records())
    for limit in limits:
        report = run(home, file, documents, limit=limit)
        assert report.manifest.rows == min(limit or N, N)
    assert len(report.manifest.parts) == len(limits)
    assert report.manifest.source.exhausted
    with open_index("made", home=home.path) as index:
        expected = vectors.prepare(raw, WIDTH, centred=False)
        np.testing.assert_array_equal(index.vectors(np.arange(N)), expected)
        assert [d.id for d in index.documents(range(N))] == [f"d{i}" for i in range(N)]


def test_what_lies_beyond_the_limit_is_not_looked_at(home, tmp_path, small_blocks):
    raw = made()
    raw[10] = np.inf
    rows = records()
    rows[11]["id"] = "d0"
    report = run(home, saved(tmp_path, raw), written(tmp_path, rows), limit=10)
    assert (report.manifest.rows, report.manifest.source.exhausted) == (10, False)


def test_another_content_under_the_name_is_refused(home, tmp_path):
    file, documents = saved(tmp_path, made()), written(tmp_path, records())
    run(home, file, documents)
    before = contents(home.index("made"))
    others = [
        ((saved(tmp_path, made(seed=1), "other.npy"), documents), "sha256"),
        ((saved(tmp_path, made(499), "short.npy"), None), "bytes"),
        ((file, written(tmp_path, [{}] * N, "other.jsonl")), "documents"),
        ((file, None), "documents"),
    ]
    for (vectors_, documents_), word in others:
        with pytest.raises(BuildStateError, match=f"with {word} .*`restart` .*`name`"):
            run(home, vectors_, documents_)
    with pytest.raises(BuildStateError, match="`model` unknown, not my-model"):
        run(home, file, documents, model="my-model")
    with pytest.raises(BuildStateError, match="dims"):
        run(home, file, documents, dims=(8,))
    assert contents(home.index("made")) == before
    assert run(home, others[0][0][0], restart=True).added == N


def test_names_limits_and_dims_that_cannot_be_are_refused(home, tmp_path):
    file = saved(tmp_path, made())
    for options in ({"name": "a/b"}, {"limit": 0}, {"dims": (0,)}, {"dims": (97,)}):
        with pytest.raises(UsageError):
            run(home, file, **options)
    left_nothing(home)


def test_a_name_that_is_being_built_is_refused(home, tmp_path):
    with (
        build_lock(home.state("made") / NAMES.lock, "made"),
        pytest.raises(IndexBusyError, match=str(os.getpid())),
    ):
        run(home, saved(tmp_path, made()))


# -- stopped and resumed


@pytest.fixture
def undisturbed(tmp_path, small_blocks):
    """The index as it is when nobody disturbs its making, and the files that it is made of."""
    raw = made()
    raw[[5, 490]] = 0
    file, documents = saved(tmp_path, raw), written(tmp_path, records())
    report = run(Home(tmp_path / "whole"), file, documents)
    return contents(report.folder), file, documents


@pytest.mark.parametrize("block", [0, 1, 4, 7])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_process_that_dies_at_a_block_goes_on(home, monkeypatch, undisturbed, block, before):
    expected, file, documents = undisturbed
    original, calls = Journal._set, iter(range(100))

    def dies(self, values):  # in the transaction that receives a block
        number = next(calls) if values.get("stream") else -1
        if not before:
            original(self, values)
        if number == block:
            raise SystemExit
        if before:
            original(self, values)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "_set", dies)
        with pytest.raises(SystemExit):
            run(home, file, documents)
    assert (home.names(), home.unfinished()) == ([], ["made"])
    told = Notes()
    report = run(home, file, documents, progress=told)
    assert report.added == N - 64 * block
    assert told.notes[0] == f"resuming made: {64 * block} documents are stored already"
    assert told.notes[1].startswith("2 rows are zero vectors (")
    assert contents(report.folder) == expected


@pytest.mark.parametrize(
    "step", ["build.write.derive", "build.write.list_files", "build.update.replace_folder"]
)
def test_a_process_that_dies_in_the_last_steps_goes_on(home, monkeypatch, undisturbed, step):
    expected, file, documents = undisturbed

    def crash(*args, **kwargs):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(f"resizable_search.{step}", crash)
        with pytest.raises(SystemExit):
            run(home, file, documents)
    report = run(home, file, documents)
    assert report.added == 0
    assert contents(report.folder) == expected


def test_stop_ends_it_after_the_block_and_tells_what_is_safe(home, undisturbed):
    expected, file, documents = undisturbed
    stop = threading.Event()
    with pytest.raises(BuildStoppedError, match="64 documents are stored and safe; the same command resumes"):
        run(home, file, documents, stop=stop, progress=Notes(lambda stage: stage == "reading" and stop.set()))
    assert home.names() == []
    assert contents(run(home, file, documents).folder) == expected


def test_stop_ends_the_check_of_a_large_file(home, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(BuildStoppedError):
        run(home, saved(tmp_path, made(1500, 768)), stop=stop)
    assert home.names() == []


def test_going_on_with_another_content_is_refused(home, tmp_path, undisturbed):
    _, file, documents = undisturbed
    stop = threading.Event()
    stop.set()
    with pytest.raises(BuildStoppedError):
        run(home, file, documents, stop=stop)
    with pytest.raises(BuildStateError, match="was begun with sha256"):
        run(home, saved(tmp_path, made(seed=2), "other.npy"), documents)
    assert run(home, saved(tmp_path, made(seed=2), "other.npy"), documents, restart=True).added == N


def test_a_restart_replaces_the_index_only_when_the_new_one_is_whole(home, tmp_path, small_blocks):
    run(home, saved(tmp_path, made(90)))
    bad = made(200)
    bad[150] = np.nan
    with pytest.raises(CorpusError):
        run(home, saved(tmp_path, bad, "bad.npy"), restart=True)
    assert read_manifest(home.index("made")).rows == 90
    assert run(home, saved(tmp_path, made(90))).added == 0
