import sqlite3
from contextlib import closing

import numpy as np
import pytest

from resizable_search.arrays import NpyAppender, read_blocks
from resizable_search.build.journal import Batch, Journal, PendingDocument
from resizable_search.errors import BuildStateError
from resizable_search.store.layout import unfinished_build


def rows(n, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def test_a_rows_file_is_plain_npy_and_grows(tmp_path):
    path = tmp_path / "8.npy"
    made = rows(1000)
    with closing(NpyAppender(path, 8)) as file:
        for start in range(0, 1000, 300):
            file.append(made[start : start + 300])
        file.finish()
    loaded = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(loaded, made)
    assert [(start, len(block)) for start, block in read_blocks(path, 400)] == [
        (0, 400),
        (400, 400),
        (800, 200),
    ]
    np.testing.assert_array_equal(np.concatenate([block for _, block in read_blocks(path, 7)]), made)


def test_rows_that_no_commit_knows_of_are_cut_off(tmp_path):
    path = tmp_path / "8.npy"
    with closing(NpyAppender(path, 8)) as file:
        file.append(rows(10))
        file.finish()
    with closing(NpyAppender(path, 8, rows=4)) as file:
        file.append(rows(1, seed=9))
        file.finish()
    np.testing.assert_array_equal(np.load(path), np.concatenate([rows(10)[:4], rows(1, seed=9)]))


def test_rows_that_were_committed_and_are_gone_are_noticed(tmp_path):
    with closing(NpyAppender(tmp_path / "8.npy", 8)) as file:
        file.append(rows(3))
        file.finish()
    with pytest.raises(EOFError):
        NpyAppender(tmp_path / "8.npy", 8, rows=4)


def incoming(n, start=0):
    return [PendingDocument(i, f"id{i}", "t", "u", "{}", f"text {i}") for i in range(start, start + n)]


def test_answers_are_committed_up_to_the_first_gap(tmp_path):
    journal = Journal(tmp_path / "w")
    journal.receive(Batch(incoming(6)), {"read": 6})
    journal.record([1, 2, 5], ["text 1", "text 2", "text 5"], rows(3))
    journal.commit(8, lambda raw: raw)
    assert journal.rows == 0
    journal.record([0], ["text 0"], rows(1, seed=1))
    journal.commit(8, lambda raw: raw)
    assert journal.rows == 3
    assert [seq for seq, _ in journal.waiting(-1, 10)] == [3, 4]
    journal.close()
    again = Journal(tmp_path / "w")
    again.leave_out(3, "odd")
    again.record([4], ["text 4"], rows(1, seed=2))
    again.commit(8, lambda raw: raw)
    again.finish_vectors(8)
    expected = np.concatenate([rows(1, seed=1), rows(3)[:2], rows(1, seed=2), rows(3)[2:]])
    np.testing.assert_array_equal(np.load(again.staged / "8.npy"), expected)
    assert again.left_out() == [{"seq": 3, "id": "id3", "reason": "odd"}]
    again.close()


def test_an_answer_to_another_text_is_not_committed(tmp_path):
    journal = Journal(tmp_path / "w")
    journal.receive(Batch(incoming(2)), {"read": 2})
    journal.record([0, 1], ["text 0", "another text"], rows(2))
    with pytest.raises(BuildStateError, match="of document 1.*`restart`"):
        journal.commit(8, lambda raw: raw)
    journal.close()


def test_documents_are_the_same_bytes_however_many_commits_brought_them(tmp_path):
    made = []
    for name, step in (("one", 50), ("many", 3)):
        journal = Journal(tmp_path / name)
        for start in range(0, 50, step):
            journal.receive(Batch(incoming(min(step, 50 - start), start)), {})
            seqs = list(range(start, min(start + step, 50)))
            journal.commit_rows(seqs, rows(len(seqs)), 8)
        made.append(journal.finish_documents().read_bytes())
        assert journal.finish_documents().read_bytes() == made[-1]
        journal.close()
    assert made[0] == made[1]


def test_a_damaged_unfinished_build_says_how_to_begin_again(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w/work.sqlite").write_bytes(b"this is no database, " * 100)
    with pytest.raises(BuildStateError, match="`restart`"):
        Journal(tmp_path / "w")


def test_a_build_that_could_not_be_begun_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(self, kept):
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
    journal.receive(Batch(incoming(30)), {})
    journal.commit_rows(list(range(20)), rows(20), 8)
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

    def refuse(*values):
        raise OSError("no room")

    monkeypatch.setattr("resizable_search.build.journal.set_value", refuse)
    with pytest.raises(OSError, match="no room"):
        Journal(tmp_path / "w", replaces=True)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")
