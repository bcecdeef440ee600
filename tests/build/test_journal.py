import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from resizable_search.arrays import NpyWriter, read_blocks
from resizable_search.build.journal import Journal, PendingDocument, sha256
from resizable_search.errors import BuildStateError, StorageError
from resizable_search.store.documents import write_documents
from resizable_search.store.layout import unfinished_build
from resizable_search.system import storage_errors


def rows(n, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def test_a_rows_file_is_plain_npy_in_whatever_order_it_is_written(tmp_path):
    path = tmp_path / "8.npy"
    made = rows(1000)
    with NpyWriter(path, (1000, 8)) as file:
        for start in (900, 300, 0, 600):
            file.write(made[start : start + 300], start * 8)
    loaded = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(loaded, made)
    assert [(start, len(block)) for start, block in read_blocks(path, 400)] == [
        (0, 448),
        (448, 448),
        (896, 104),
    ]
    np.testing.assert_array_equal(np.concatenate([block for _, block in read_blocks(path, 7)]), made)


def pending(n, start=0, text="text {}"):
    return [PendingDocument(i, f"id{i}", "t", "u", "{}", text.format(i)) for i in range(start, start + n)]


def as_new(document):
    return document


def written(journal, path):
    write_documents(path, path.with_name("copy"), journal.copy_documents)
    return path.read_bytes()


def test_answers_come_in_any_order_and_rows_in_that_of_the_documents(tmp_path):
    journal = Journal(tmp_path / "w")
    journal.receive(pending(6), as_new, {"read": 6})
    journal.record(["text 1", "text 2", "text 5"], rows(3))
    assert (journal.rows, journal.safe) == (6, 3)
    assert [seq for seq, _ in journal.waiting(-1, 10)] == [0, 3, 4]
    assert [seq for seq, _ in journal.waiting(0, 1)] == [3]
    journal.close()
    again = Journal(tmp_path / "w")
    again.record(["text 0"], rows(1, seed=1))
    again.leave_out("text 3", "odd")
    again.record(["text 4"], rows(1, seed=2))
    ((documents, vectors),) = again.blocks(8)
    assert [source for _, source in documents] == [None] * 5
    expected = np.concatenate([rows(1, seed=1), rows(3)[:2], rows(1, seed=2), rows(3)[2:]])
    np.testing.assert_array_equal(vectors, expected)
    assert again.left_out() == [{"seq": 3, "id": "id3", "reason": "odd"}]
    again.close()


def test_a_context_is_embedded_before_the_text_and_not_stored(tmp_path):
    with closing(Journal(tmp_path / "w")) as journal:
        documents = [replace(one, context="Title\n\n") for one in pending(2, text="the same")]
        journal.receive([*documents, *pending(1, 2, "the same")], as_new, {})
        assert [text for _, text in journal.waiting(-1, 9)] == ["Title\n\nthe same"] * 2 + ["the same"]
        assert list(journal.texts()) == ["Title\n\nthe same"] * 2 + ["the same"]
        assert journal.sizes()[:2] == (2, 15 + 8)
        journal.record(["Title\n\nthe same"], rows(1))
        assert [seq for seq, _ in journal.waiting(-1, 9)] == [2]
        written(journal, tmp_path / "documents.sqlite")
        journal.leave_out("the same", "odd")
        assert journal.rows == 2
    with closing(sqlite3.connect(tmp_path / "documents.sqlite")) as db:
        assert db.execute("SELECT text FROM texts").fetchall() == [("the same",)] * 3


def test_an_answer_serves_every_document_with_its_text(tmp_path):
    journal = Journal(tmp_path / "w")
    journal.receive(pending(4, text="the same"), as_new, {})
    journal.record(["the same"], rows(1))
    assert (journal.safe, journal.waiting(-1, 10)) == (4, [])
    ((_, vectors),) = journal.blocks(8)
    np.testing.assert_array_equal(vectors, np.repeat(rows(1), 4, axis=0))
    journal.leave_out("the same", "odd")
    assert (journal.rows, len(journal.left_out())) == (0, 4)
    journal.close()


@pytest.mark.parametrize("damage", ["DELETE FROM answers", "UPDATE answers SET vector = x'00'"])
def test_rows_are_not_made_of_answers_that_are_missing_or_cut(tmp_path, damage):
    journal = Journal(tmp_path / "w")
    journal.receive(pending(2), as_new, {"read": 2})
    journal.record(["text 0", "text 1"], rows(2))
    journal.db.execute(damage)
    with pytest.raises(BuildStateError, match="no answer for document 0.*`restart`"):
        list(journal.blocks(8))
    journal.close()


def test_documents_are_the_same_bytes_however_many_steps_brought_them(tmp_path):
    made = []
    for name, step in (("one", 50), ("many", 3)):
        journal = Journal(tmp_path / name)
        for start in range(0, 50, step):
            journal.receive(pending(min(step, 50 - start), start), as_new, {})
        made += [written(journal, tmp_path / "documents.sqlite"), written(journal, tmp_path / "again.sqlite")]
        journal.close()
    assert len(set(made)) == 1


def test_what_was_answered_outlives_what_was_read(tmp_path):
    journal = Journal(tmp_path / "w")
    journal.receive(pending(3), as_new, {"read": 4}, [(3, "id3", "no text")], ["a/b"])
    journal.record(["text 0", "of another command"], rows(2))
    journal.read_anew(request={"kind": "other"})
    assert (journal.rows, journal.get("stream"), journal.left_out()) == (0, None, [])
    journal.receive(pending(1), as_new, {"read": 1})
    assert journal.safe == 1
    assert journal.drop_used() == 1
    assert [key for (key,) in journal.db.execute("SELECT text_sha256 FROM answers")] == [
        sha256("of another command")
    ]
    journal.close()


def test_a_journal_of_another_version_is_refused_with_what_would_be_lost(tmp_path):
    (tmp_path / "w").mkdir()
    with closing(sqlite3.connect(tmp_path / "w/work.sqlite")) as db:
        db.executescript(
            "CREATE TABLE meta (key TEXT, value TEXT); INSERT INTO meta VALUES ('rows', '1200');"
        )
    before = (tmp_path / "w/work.sqlite").read_bytes()
    with pytest.raises(BuildStateError, match="of another version.*`restart`.*all of it again"):
        Journal(tmp_path / "w")
    assert (tmp_path / "w/work.sqlite").read_bytes() == before


def test_a_journal_that_died_before_its_tables_were_made_is_a_new_one(tmp_path):
    (tmp_path / "w").mkdir()
    with closing(sqlite3.connect(tmp_path / "w/work.sqlite")) as db:
        db.execute("PRAGMA journal_mode = WAL")
    journal = Journal(tmp_path / "w")
    assert (journal.rows, journal.get("request")) == (0, None)
    journal.close()


def test_a_damaged_unfinished_build_says_how_to_begin_again(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w/work.sqlite").write_bytes(b"this is no database, " * 100)
    with pytest.raises(StorageError, match="is damaged .*`restart`"), storage_errors(tmp_path):
        Journal(tmp_path / "w")


def test_a_build_that_could_not_be_begun_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(self):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Journal, "_open", refuse)
    with pytest.raises(sqlite3.OperationalError):
        Journal(tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_build_that_cannot_be_opened_for_the_disk_is_not_called_damaged(tmp_path, monkeypatch):
    Journal(tmp_path / "w").close()
    before = (tmp_path / "w/work.sqlite").read_bytes()
    connection = sqlite3.Connection

    class Full(connection):
        def executescript(self, script):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, factory=Full))
    with pytest.raises(sqlite3.OperationalError):
        Journal(tmp_path / "w")
    assert (tmp_path / "w/work.sqlite").read_bytes() == before


def test_rows_of_a_build_are_counted_where_its_log_cannot_be_read(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "w")
    journal.receive(pending(30), as_new, {})
    journal.record([f"text {i}" for i in range(20)], rows(20))
    journal.close()
    asked = []
    connect = sqlite3.connect

    def refuse_logs(address, **options):
        asked.append(address)
        if "immutable" not in address:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(address, **options)

    monkeypatch.setattr(sqlite3, "connect", refuse_logs)
    assert unfinished_build(tmp_path / "w").safe == 20
    assert ["immutable" in address for address in asked] == [True]  # no log, so no file need be made
    (tmp_path / "w/work.sqlite-wal").touch()
    assert unfinished_build(tmp_path / "w").safe == 20
    assert ["immutable" in address for address in asked] == [True, False, True]


def test_a_journal_that_could_not_be_begun_is_closed(tmp_path, monkeypatch):
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: opened.append(connect(path)) or opened[-1])

    monkeypatch.setattr("resizable_search.build.journal._SCHEMA", None)
    with pytest.raises(TypeError):
        Journal(tmp_path / "w")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")
