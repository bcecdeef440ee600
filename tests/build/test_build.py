import contextlib
import errno
import json
import os
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from resizable_search.admin.overview import overview
from resizable_search.build.build import build
from resizable_search.build.ingest import Ingest
from resizable_search.build.workspace import BuildOptions, choose_dims
from resizable_search.corpora.base import Document
from resizable_search.engine import short_codes, vectors
from resizable_search.engine.vectors import quantise
from resizable_search.errors import (
    BuildStateError,
    BuildStoppedError,
    CorpusError,
    IndexBusyError,
    IndexFormatError,
    IndexNotFoundError,
    NoCredentialsError,
    QuotaError,
    RefusedTextError,
    ServiceError,
    StorageError,
    UsageError,
)
from resizable_search.progress import Progress
from resizable_search.search.index import open_index
from resizable_search.store import writer
from resizable_search.store.layout import NAMES, Home, resolve_index
from resizable_search.store.manifest import read_manifest
from resizable_search.system import build_lock
from tests.support import ListCorpus, TableEmbedder, articles


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("resizable_search.embedders.request_pool.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("resizable_search.build.embed.GRACE_SECONDS", 1.0)


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def run(home, documents=None, embedder=None, corpus=None, stop=None, **options):
    corpus = corpus or ListCorpus(articles(95) if documents is None else documents)
    embedder = embedder or TableEmbedder()
    return build(corpus, embedder, home, BuildOptions(**{"name": "made", **options}), stop=stop)


def contents(folder):
    """Every file of an index but the manifest, which holds dates."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != NAMES.manifest
    }


def stored_ids(folder):
    with closing(sqlite3.connect(folder / NAMES.documents)) as db:
        return [id_ for (id_,) in db.execute("SELECT id FROM documents ORDER BY row")]


# -- what is made


@pytest.mark.parametrize("centred", [False, True])
def test_every_file_is_what_the_format_says(home, centred):
    embedder = TableEmbedder(width=96, centred=centred)
    report = run(home, embedder=embedder, dims=(16, 64))
    kinds = [f"tiers/{dim}.{kind}.npy" for dim in (16, 64, 96) for kind in ("error", "int8", "scale")]
    names = [
        "16.npy",
        "64.npy",
        "96.npy",
        "documents.sqlite",
        *kinds,
        *(f"tiers/96.{kind}.npy" for kind in ("1bit", "4bit", "bounds", "mean")),
        *NAMES.lexical,
    ]
    assert sorted(contents(report.folder)) == sorted(names)
    full = np.load(report.folder / "96.npy", mmap_mode="r")
    raw = np.stack([embedder.table[d.text] for d in articles(95)]).astype(np.float64)
    raw -= raw.mean(1, keepdims=True) if centred else 0
    for dim in (16, 64, 96):
        rows = np.load(report.folder / f"{dim}.npy", mmap_mode="r")
        assert rows.shape == (95, dim)
        assert rows.dtype == np.float32
        assert rows.flags.c_contiguous
        cut = raw[:, :dim] / np.linalg.norm(raw[:, :dim], axis=1, keepdims=True)
        np.testing.assert_allclose(rows, cut, atol=1e-6)
        np.testing.assert_array_equal(rows, vectors.truncate(np.asarray(full), dim) if dim < 96 else full)
        tier = [np.load(report.folder / f"tiers/{dim}.{kind}.npy") for kind in ("int8", "scale", "error")]
        for found, meant in zip(tier, quantise(np.asarray(rows)), strict=True):
            np.testing.assert_array_equal(found, meant)
            assert found.dtype == meant.dtype
    mean, codes = (np.load(report.folder / f"tiers/96.{kind}.npy") for kind in ("mean", "1bit"))
    assert (mean.shape, mean.dtype) == ((96,), np.float32)
    np.testing.assert_allclose(mean, full.mean(axis=0), atol=1e-7)
    assert (codes.shape, codes.dtype) == ((2, 14, 64), np.uint8)
    centred = full - mean
    four_bit, bounds = (np.load(report.folder / f"tiers/96.{kind}.npy") for kind in ("4bit", "bounds"))
    for found, meant in zip((four_bit, bounds), short_codes.four_bit(np.asarray(full), mean), strict=True):
        np.testing.assert_array_equal(found, meant)
        assert found.dtype == meant.dtype
    for row in range(128):
        block, at = divmod(row, 64)
        signs = [int(codes[block, 2 + i // 8, at]) >> i % 8 & 1 for i in range(96)]
        half = codes[block, :2].tobytes()[2 * at : 2 * at + 2]
        factor = np.frombuffer(b"\0\0" + half, "<f4")[0]
        if row < 95:
            assert signs == (centred[row] > 0).tolist()
            assert factor == pytest.approx((centred[row] ** 2).sum() / np.abs(centred[row]).sum(), rel=0.004)
        else:
            assert (signs, factor) == ([0] * 96, 0.0)
    assert stored_ids(report.folder) == [f"a{i}" for i in range(95)]


def test_the_manifest_tells_all_and_no_more_files_are_there(home):
    report = run(home)
    manifest = read_manifest(report.folder)
    assert (manifest.rows, manifest.dims, manifest.generation) == (95, (64, 96), 1)
    assert manifest.corpus == {"kind": "list", "version": "1"}
    assert manifest.embedder["kind"] == "table"
    assert manifest.source.exhausted
    assert set(manifest.all_files()) == set(contents(report.folder))
    assert not home.building("made").exists()


def test_dims_are_those_below_the_width_and_itself():
    assert choose_dims(None, 768) == (64, 128, 256, 512, 768)
    assert choose_dims(None, 1024) == (64, 128, 256, 512, 768, 1024)
    assert choose_dims(None, 40) == (40,)
    assert choose_dims((256, 64), 768) == (64, 256, 768)
    assert choose_dims((256, 512), 300) == (256, 300)


@pytest.mark.parametrize("dim", [0, 97])
def test_a_dimension_that_the_embedder_does_not_have_is_refused(home, dim):
    with pytest.raises(UsageError, match=f"{dim} is not within 1 to 96"):
        run(home, dims=(dim, 16))
    assert home.unfinished() == []


def test_colliding_ids_get_the_documented_suffix(home):
    documents = [Document("x", "t", "u", f"text {i}") for i in range(12)]
    documents += [Document("x#3", "t", "u", "text of x#3"), Document("x", "t", "u", "again")]
    report = run(home, documents)
    assert stored_ids(report.folder) == ["x", *(f"x#{i}" for i in range(2, 13)), "x#3#2", "x#13"]


def test_a_suffix_that_another_document_has_is_passed_over(home):
    documents = [Document(id_, "", "", f"text {n}") for n, id_ in enumerate(["x", "x#2", "x", "x"])]
    run(home, documents)
    assert stored_ids(home.index("made")) == ["x", "x#2", "x#3", "x#4"]


def test_odd_texts_are_cleaned_or_left_out(home):
    documents = [
        Document("nul", "a\0b", "u", "with \0 inside"),
        Document("lone", "t", "u", "half \ud800 pair"),
        Document("empty", "t", "u", ""),
        Document("blank", "t", "u", " \n\t"),
        Document("long", "t", "u", "word " * 2_000_000),
        Document("emoji", "t", "u", "whole \U0001f600 pair"),
    ]
    embedder = TableEmbedder()
    report = run(home, documents, embedder)
    assert stored_ids(report.folder) == ["nul", "lone", "long", "emoji"]
    assert [entry["id"] for entry in report.left_out] == ["empty", "blank"]
    assert embedder.asked[:2] == ["with \ufffd inside", "half \ufffd pair"]
    with open_index("made", home=home.path, embedder=embedder) as index:
        assert index.documents([3])[0].text == "whole \U0001f600 pair"
        assert len(index.documents([2])[0].text) == 10_000_000
    assert read_manifest(report.folder).source.left_out == 2


def test_a_blank_text_ends_a_strict_build(home):
    with pytest.raises(CorpusError, match="`on_bad_text=skip`"):
        run(home, [Document("e", "", "", " ")], on_bad_text="fail")
    assert not home.building("made").exists()


@pytest.mark.parametrize("documents", [[], [Document("e", "", "", " ")]], ids=["none", "blank"])
def test_a_corpus_without_a_text_makes_no_index(home, documents):
    with pytest.raises(CorpusError, match="no document with text"):
        run(home, documents)
    assert home.names() == home.unfinished() == []


def test_a_corpus_of_one_document(home):
    run(home, articles(1))
    with open_index("made", home=home.path, embedder=TableEmbedder()) as index:
        assert [hit.id for hit in index.query("anything", k=10, dim=64, rerank=10)] == ["a0"]


# -- again, more, other


def test_the_same_request_again_embeds_nothing(home):
    run(home, limit=30)
    embedder = TableEmbedder()
    report = run(home, embedder=embedder, limit=30)
    assert (report.added, embedder.asked, report.manifest.rows) == (0, [], 30)
    assert run(home, embedder=embedder, limit=20).added == 0


@pytest.mark.parametrize("limits", [(30, 95), (1, 7, 33, 95), (25, 60, None)])
def test_a_larger_limit_extends_and_answers_as_if_built_at_once(home, tmp_path, limits):
    embedder = TableEmbedder()
    documents = [*articles(90), *articles(5)]  # the last five repeat ids of the first part
    for limit in limits:
        report = run(home, documents, embedder, limit=limit)
    assert sorted(embedder.asked) == sorted(d.text for d in documents)
    assert len(report.manifest.parts) == len(limits)
    assert report.manifest.generation == len(limits)
    assert report.manifest.source.read == 95
    whole = Home(tmp_path / "whole")
    run(whole, documents, embedder)
    with (
        open_index("made", home=home.path, embedder=embedder) as parts,
        open_index("made", home=whole.path, embedder=embedder) as one,
    ):
        queries = np.random.default_rng(0).standard_normal((5, 96)).astype(np.float32)
        for dim, rerank, k in ((None, 0, 10), (64, 0, 95), (40, 5, 7)):
            got, expected = parts.scan(queries, k, dim, rerank), one.scan(queries, k, dim, rerank)
            np.testing.assert_array_equal(got.rows, expected.rows)
            np.testing.assert_array_equal(got.scores, expected.scores)
        assert [d.id for d in parts.documents(range(95))] == [d.id for d in one.documents(range(95))]
        np.testing.assert_array_equal(parts.vectors(np.arange(95)), one.vectors(np.arange(95)))


@pytest.mark.parametrize(
    ("documents", "now"),
    [([*articles(30), *articles(40, "b")], "is 'b4'"), (articles(30), "is gone")],
    ids=["changed", "shorter"],
)
def test_a_corpus_that_is_not_what_was_read_is_not_extended(home, documents, now):
    run(home, articles(70), limit=35)
    embedder = TableEmbedder()
    changed = (
        f"a list has changed since it was read: its document 35 was 'a34' and {now} now: `restart` builds"
    )
    with pytest.raises(BuildStateError, match=f"^{changed}"):
        run(home, documents, embedder, limit=60)
    assert embedder.asked == []
    assert read_manifest(home.index("made")).rows == 35
    assert run(home, documents, limit=60, restart=True).manifest.rows == min(60, len(documents))


def test_an_extension_that_brings_nothing_records_the_end(home):
    run(home, articles(20), limit=20)
    assert not read_manifest(home.index("made")).source.exhausted
    report = run(home, articles(20), limit=50)
    assert (report.added, report.manifest.source.exhausted, len(report.manifest.parts)) == (0, True, 1)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"corpus": ListCorpus(articles(95), version="2")}, ["`version` 1", "2 as asked"]),
        ({"embedder": TableEmbedder(model="else")}, ["`model` table", "else"]),
        ({"dims": (32,)}, ["`dims` 64,96", "32,96"]),
    ],
    ids=["corpus", "model", "dims"],
)
def test_other_options_for_a_name_that_is_taken_are_refused_with_both_values(home, other, words):
    run(home, limit=10)
    with pytest.raises(BuildStateError, match="`restart`") as caught:
        run(home, limit=20, **other)
    for word in words:
        assert word in str(caught.value)
    assert read_manifest(home.index("made")).rows == 10


def test_without_a_key_another_embedder_is_proposed_for_a_new_index_alone(home):
    class Locked(TableEmbedder):
        def check(self):
            raise NoCredentialsError("no key", "set KEY", "log in")

    with pytest.raises(
        NoCredentialsError, match="^no key: add `embedder=wordllama`, which needs none, set KEY, or"
    ):
        run(home, embedder=Locked())
    run(home, limit=20)
    for options in ({"limit": 40}, {"limit": 30}):
        with pytest.raises(NoCredentialsError, match="^no key: set KEY, or log in$"):
            run(home, embedder=Locked(), **options)
    with pytest.raises(NoCredentialsError, match="add `embedder=wordllama`"):
        run(home, embedder=Locked(), restart=True)


def test_restart_replaces_the_index_only_when_the_new_one_is_whole(home):
    run(home, articles(30))
    failing = TableEmbedder(model="new")
    failing.before = raise_after(1, QuotaError("pay"))
    with pytest.raises(QuotaError):
        run(home, articles(40, "b"), failing, restart=True)
    assert read_manifest(home.index("made")).rows == 30
    report = run(home, articles(40, "b"), TableEmbedder(model="new"))  # goes on with the restarted build
    assert (report.manifest.rows, report.manifest.embedder["model"]) == (40, "new")
    assert stored_ids(report.folder)[0] == "b0"
    assert not home.building("made").exists()


# -- stopped and resumed


def raise_after(calls, error):
    count = iter(range(10_000))

    def before(texts):
        if next(count) >= calls:
            raise error

    return before


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("calls", [0, 1, 4, 9])
def test_a_build_that_failed_goes_on_without_embedding_twice(home, tmp_path, remote, calls):
    first = TableEmbedder(remote=remote, concurrency=3 if remote else 1)
    first.before = raise_after(calls, QuotaError("used up"))
    with pytest.raises(QuotaError):
        run(home, embedder=first)
    second = TableEmbedder(remote=remote, concurrency=3 if remote else 1)
    report = run(home, embedder=second)
    assert sorted(first.asked + second.asked) == sorted(d.text for d in articles(95))
    assert report.added == len(second.asked)
    whole = Home(tmp_path / "whole")
    run(whole)
    assert contents(home.index("made")) == contents(whole.index("made"))


def test_a_stream_that_breaks_keeps_what_it_brought(home):
    broken = ListCorpus(articles(95), break_at=57)
    embedder = TableEmbedder(remote=True, concurrency=2)
    with pytest.raises(ConnectionError):
        run(home, corpus=broken, embedder=embedder)
    mended = ListCorpus(articles(95))
    report = run(home, corpus=mended, embedder=embedder)
    assert mended.opened == [40]  # the last block is looked at again
    assert report.manifest.rows == 95
    assert len(embedder.asked) == 95


def test_stop_ends_the_build_with_everything_answered_kept(home):
    stop = threading.Event()
    embedder = TableEmbedder(remote=True, concurrency=2)
    embedder.before = lambda texts: stop.set() if len(embedder.asked) >= 30 else None
    with pytest.raises(BuildStoppedError, match="the same command resumes") as caught:
        run(home, embedder=embedder, stop=stop)
    assert caught.value.exit_code == 130
    first = len(embedder.asked)
    assert 30 <= first < 95
    assert f"{first} documents" in str(caught.value)
    embedder.before = lambda texts: None
    assert run(home, embedder=embedder).added == 95 - first
    assert len(embedder.asked) == 95


def test_ctrl_c_in_the_middle_of_a_commit_loses_no_row(home, monkeypatch, tmp_path):
    original = Ingest.unique
    calls = iter(range(10_000))

    def interrupted(self, id_, **options):
        if next(calls) == 25:
            raise KeyboardInterrupt
        return original(self, id_, **options)

    monkeypatch.setattr(Ingest, "unique", interrupted)
    with pytest.raises(BuildStoppedError):
        run(home)
    run(home)
    whole = Home(tmp_path / "whole")
    run(whole)
    assert contents(home.index("made")) == contents(whole.index("made"))


@pytest.mark.parametrize(
    "step", ["build.write.derive", "build.write.list_files", "build.update.replace_folder"]
)
def test_a_crash_in_the_last_steps_is_recovered(home, monkeypatch, tmp_path, step):
    def crash(*args, **kwargs):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(f"resizable_search.{step}", crash)
        with pytest.raises(SystemExit):
            run(home)
    embedder = TableEmbedder()
    run(home, embedder=embedder)
    assert embedder.asked == []
    whole = Home(tmp_path / "whole")
    run(whole)
    assert contents(home.index("made")) == contents(whole.index("made"))


def test_a_reader_waits_for_an_index_that_is_replaced_in_two_steps_but_not_for_ever(home, monkeypatch):
    run(home, articles(20))
    aside = home.building("made") / NAMES.replaced
    aside.parent.mkdir(parents=True)
    home.index("made").rename(aside)
    back = threading.Timer(0.02, lambda: aside.rename(home.index("made")))
    back.start()
    assert resolve_index("made", home) == home.index("made")
    back.join()
    home.index("made").rename(aside)
    monkeypatch.setattr("resizable_search.store.layout.REPLACED_SECONDS", 0.01)
    with pytest.raises(IndexNotFoundError, match="^no index in"):
        resolve_index("made", home)


def test_an_index_that_was_put_aside_by_a_build_that_died_is_back_after_the_next(home):
    """Without an exchange of folders in one step, there is a moment without the index."""
    run(home, articles(20), limit=20)
    home.building("made").mkdir(parents=True)
    home.index("made").rename(home.building("made") / NAMES.replaced)
    embedder = TableEmbedder()
    assert run(home, articles(20), embedder, limit=20).manifest.rows == 20
    assert embedder.asked == []
    assert stored_ids(home.index("made")) == [f"a{number}" for number in range(20)]


def test_an_extension_that_died_before_its_manifest_is_recovered(home, monkeypatch):
    from resizable_search.store.manifest import Manifest

    run(home, limit=40)

    def crash(*args, **kwargs):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(Manifest, "write", crash)
        with pytest.raises(SystemExit):
            run(home, limit=80)
    with open_index("made", home=home.path, embedder=TableEmbedder()) as index:
        assert index.rows == 40
    embedder = TableEmbedder()
    report = run(home, limit=80, embedder=embedder)
    assert (embedder.asked, report.manifest.rows, len(report.manifest.parts)) == ([], 80, 2)
    assert set(report.manifest.all_files()) == set(contents(report.folder))


def test_a_build_that_died_before_clearing_up_is_complete(home, monkeypatch):
    import shutil

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        run(home)
    assert home.building("made").exists()
    report = run(home)
    assert (report.added, home.building("made").exists()) == (0, False)


def test_resuming_under_other_options_is_refused(home):
    failing = TableEmbedder()
    failing.before = raise_after(2, QuotaError("used up"))
    with pytest.raises(QuotaError):
        run(home, embedder=failing)
    with pytest.raises(BuildStateError, match="`model` table, not else"):
        run(home, embedder=TableEmbedder(model="else"))
    assert run(home, restart=True, embedder=TableEmbedder(model="else")).manifest.rows == 95


def test_looking_at_a_build_that_died_while_it_was_put_in_place_changes_nothing(home, monkeypatch):
    run(home)

    def crash(folder):
        if folder == home.path:  # what comes after the exchange
            raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("resizable_search.store.writer.sync_folder", crash)
        with pytest.raises(SystemExit):
            run(home, articles(40), TableEmbedder(model="new"), restart=True)
    assert [(entry.name, entry.state, entry.rows) for entry in overview(home)] == [
        ("made", "ready", 40),
        ("made", "unfinished", 40),
    ]
    embedder = TableEmbedder(model="new")
    assert run(home, articles(40), embedder).manifest.rows == 40
    assert embedder.asked == []
    assert not home.building("made").exists()


@pytest.mark.parametrize("exchanges", [True, False])
def test_whoever_looks_while_an_index_is_replaced_finds_one(home, monkeypatch, exchanges):
    run(home)
    seen = []
    rename = Path.rename

    def watched(path, target):
        result = rename(path, target)
        with contextlib.suppress(IndexFormatError, FileNotFoundError):
            seen.append(read_manifest(home.index("made")).rows)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", watched)
        if not exchanges:
            patched.setattr(writer, "exchange", lambda one, other: False)
        elif not writer.exchange(home.path, home.path):
            pytest.skip("this system cannot exchange folders")
        run(home, articles(40), TableEmbedder(model="new"), restart=True)
    assert seen == [40] if exchanges else seen[-1] == 40
    assert read_manifest(home.index("made")).rows == 40


def test_a_build_that_died_between_exchange_and_clearing_up_is_complete(home, monkeypatch):
    run(home)

    def crash(*args):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", crash)  # what comes right after the exchange
        with pytest.raises(SystemExit):
            run(home, articles(40), TableEmbedder(model="new"), restart=True)
    embedder = TableEmbedder(model="new")
    assert run(home, articles(40), embedder).manifest.rows == 40
    assert embedder.asked == []
    assert not home.building("made").exists()


def test_a_replacement_that_died_before_the_exchange_keeps_what_was_paid(home, monkeypatch):
    run(home, articles(40))

    def crash(*args):
        raise SystemExit

    table = {document.text: -TableEmbedder().vector(document.text) for document in articles(40)}
    paid = TableEmbedder(model="new", remote=True, table=table)
    with monkeypatch.context() as patched:
        patched.setattr("resizable_search.build.update.replace_folder", crash)
        with pytest.raises(SystemExit):
            run(home, articles(40), paid, restart=True)
    again = TableEmbedder(model="new", remote=True, table=table)
    report = run(home, articles(40), again)  # its documents are those of the old index, byte for byte
    assert (again.asked, report.manifest.embedder["model"]) == ([], "new")


def test_a_second_build_of_a_name_is_refused_with_the_pid(home):
    with (
        build_lock(home.state("made") / NAMES.lock, "made"),
        pytest.raises(IndexBusyError, match=str(os.getpid())),
    ):
        run(home)


# -- a disk that is full


def no_room(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("options", "again"), [({}, "the same command resumes"), ({"restart": True}, "without `restart` resumes")]
)
def test_a_full_disk_says_which_command_goes_on(home, monkeypatch, options, again):
    run(home, articles(20))
    embedder = TableEmbedder(model="table")
    with monkeypatch.context() as patched:
        patched.setattr("resizable_search.build.write.derive", no_room)
        with pytest.raises(StorageError, match=f"is full; nothing is lost: free some space, and .*{again}"):
            run(home, articles(40), embedder, name="made" if options else "new", **options)
    assert run(home, articles(40), embedder, name="made" if options else "new").manifest.rows == 40
    assert len(embedder.asked) == 40


def test_a_restart_that_the_disk_does_not_let_begin_is_begun_again(home, monkeypatch):
    run(home, articles(20))
    with monkeypatch.context() as patched:
        patched.setattr("resizable_search.build.journal.Journal._set", no_room)
        with pytest.raises(StorageError, match="and the same command resumes"):
            run(home, articles(40), restart=True)
    assert home.unfinished() == []
    assert run(home, articles(40), restart=True).manifest.rows == 40


def test_a_report_that_cannot_be_kept_is_noted_and_the_index_is_complete(home, monkeypatch):
    noted = []
    monkeypatch.setattr(Progress, "note", lambda self, message: noted.append(message))
    monkeypatch.setattr("resizable_search.build.report.replace_file", no_room)
    assert run(home).manifest.rows == 95
    assert "the index is complete, but " in noted[-1]
    assert "report.json cannot be written (No space left on device)" in noted[-1]
    assert home.unfinished() == []


# -- a service that fails


def test_what_another_try_may_cure_is_tried_again(home):
    embedder = TableEmbedder(remote=True, concurrency=2)
    tries = Counter()

    def flaky(texts):
        tries[texts[0]] += 1
        if tries[texts[0]] < 3:
            raise ServiceError("busy")

    embedder.before = flaky
    assert run(home, embedder=embedder).manifest.rows == 95


def test_a_service_that_goes_on_failing_is_given_up(home):
    embedder = TableEmbedder(remote=True, concurrency=2)
    embedder.before = raise_after(0, ServiceError("down for good"))
    with pytest.raises(ServiceError, match="down for good"):
        run(home, embedder=embedder)


def test_a_refused_text_is_found_left_out_and_told(home):
    embedder = TableEmbedder(remote=True, concurrency=2)

    def refuse(texts):
        if any(text in ("text 13 of a", "text 77 of a") for text in texts):
            raise RefusedTextError("too odd")

    embedder.before = refuse
    report = run(home, embedder=embedder)
    assert [(entry["id"], entry["reason"]) for entry in report.left_out] == [
        ("a13", "too odd"),
        ("a77", "too odd"),
    ]
    assert report.manifest.rows == 93
    assert len(embedder.asked) == 93
    told = json.loads((home.state("made") / NAMES.report).read_text())
    assert (told["rows"], told["left_out"]) == (93, list(report.left_out))
    with open_index("made", home=home.path, embedder=TableEmbedder()) as index:
        top = index.scan(embedder.table["text 14 of a"][None], k=1)
        assert index.documents(top.rows[0])[0].id == "a14"


def test_a_refused_text_ends_a_strict_build(home):
    embedder = TableEmbedder(remote=True)

    def refuse(texts):
        if "text 13 of a" in texts:
            raise RefusedTextError("too odd")

    embedder.before = refuse
    with pytest.raises(RefusedTextError, match="^document 'a13': too odd; [0-9]+ documents are embedded"):
        run(home, embedder=embedder, on_bad_text="fail")


# -- names and limits


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a\\b", "a\nb", "x" * 101])
def test_names_that_cannot_be_folders_are_refused(home, name):
    with pytest.raises(UsageError, match="`name`"):
        run(home, name=name)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(home, limit):
    with pytest.raises(UsageError, match="`limit`"):
        run(home, limit=limit)


@pytest.mark.parametrize("place", ["/proc/nowhere", "file/inside"])
def test_a_home_that_cannot_be_made_is_told(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="`home`"):
        run(Home(tmp_path / place))


def test_a_folder_that_is_no_index_is_not_touched(home):
    home.index("made").mkdir(parents=True)
    (home.index("made") / "thesis.txt").write_text("mine")
    with pytest.raises(BuildStateError, match="is no index"):
        run(home)
    assert (home.index("made") / "thesis.txt").read_text() == "mine"


def test_an_unfinished_build_is_named_when_it_is_asked_for(home):
    failing = TableEmbedder()
    failing.before = raise_after(2, QuotaError("used up"))
    with pytest.raises(QuotaError):
        run(home, embedder=failing)
    with pytest.raises(IndexNotFoundError, match="not finished"):
        open_index("made", home=home.path)
