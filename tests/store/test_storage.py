"""What the disk and SQLite refuse, told with its remedy."""

import errno
import os
import resource
import sqlite3
from contextlib import closing

import pytest

from resizable_search.errors import OpenFilesError, StorageError
from resizable_search.system import make_home, replace_file, sqlite_os_errors, storage_errors

FULL = "the disk of .* is full; nothing is lost: free some space, and the same command resumes"


def system(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def sqlite(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("it did not work")
    error.sqlite_errorcode = code
    return error


def of_a_state() -> StorageError:
    error = StorageError("cannot write the state: make room")
    error.__cause__ = system(errno.ENOSPC)
    return error


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (system(errno.ENOSPC), StorageError, FULL),
        (system(errno.EDQUOT), StorageError, FULL),
        (system(errno.EROFS), StorageError, "cannot write to .*Read-only.*`home`"),
        (system(errno.EFBIG), StorageError, "ulimit -f unlimited"),
        (system(errno.EIO), StorageError, "see that its disk is sound"),
        (system(errno.EMFILE), OpenFilesError, "ulimit -n"),
        (sqlite(sqlite3.SQLITE_FULL), StorageError, FULL),
        (sqlite(sqlite3.SQLITE_IOERR_SHMSIZE), StorageError, FULL),
        (sqlite(sqlite3.SQLITE_READONLY), StorageError, "check its permissions"),
        (sqlite(sqlite3.SQLITE_IOERR_WRITE), StorageError, "check its permissions, and its disk"),
        (of_a_state(), StorageError, FULL),
        (StorageError("as it was"), StorageError, "as it was"),
        (sqlite3.IntegrityError("a mistake of ours"), sqlite3.IntegrityError, "a mistake"),
        (ConnectionError("of another kind"), ConnectionError, "of another kind"),
    ],
    ids=lambda value: getattr(value, "strerror", None) or str(value),
)
def test_what_the_disk_refuses_is_told(tmp_path, error, kind, words):
    with pytest.raises(kind, match=words), storage_errors(tmp_path):
        raise error


def test_a_database_that_is_damaged_in_the_middle_of_a_build_is_told(tmp_path):
    (tmp_path / "x").write_bytes(b"no database " * 100)
    with (
        closing(sqlite3.connect(tmp_path / "x")) as db,
        pytest.raises(StorageError, match="is damaged .* `restart`"),
        storage_errors(tmp_path),
    ):
        db.execute("PRAGMA journal_mode = WAL")


def test_a_file_that_grows_beyond_the_limit_of_file_sizes_is_told(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    db = sqlite3.connect(tmp_path / "x")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, before[1]))
        with pytest.raises(StorageError, match="ulimit -f"), storage_errors(tmp_path):
            db.execute("CREATE TABLE x AS SELECT randomblob(1 << 17)")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        db.close()


def test_what_sqlite_cannot_open_is_told_as_the_system_has_it(tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(FileNotFoundError), sqlite_os_errors(gone):
        sqlite3.connect(gone / "x")
    # Where a file can be written, it is SQLite's own affair.
    with pytest.raises(sqlite3.OperationalError), sqlite_os_errors(tmp_path):
        sqlite3.connect(gone / "x")


def test_a_home_that_cannot_be_made_for_want_of_room_is_told_so(tmp_path, monkeypatch):
    def refuse(self, **options):
        raise system(errno.ENOSPC)

    monkeypatch.setattr(type(tmp_path), "mkdir", refuse)
    with pytest.raises(StorageError, match=FULL):
        make_home(tmp_path / "home")


def test_a_file_that_cannot_be_replaced_stays_and_nothing_lies_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "manifest.json"
    replace_file(path, b"old")

    def refuse(handle):
        raise system(errno.ENOSPC)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("manifest.json", b"old")]
