"""The pool: an index is opened once, and what is lent is what lies on disk now."""

import os
import shutil
import threading

import numpy as np
import pytest

from resizable_search.build.delete import delete
from resizable_search.errors import IndexFormatError, IndexNotFoundError, UsageError
from resizable_search.search.index import Index
from resizable_search.service.index_pool import IndexPool
from resizable_search.store.layout import Home
from tests.service.conftest import built


def pool_of(home, only=()) -> IndexPool:
    return IndexPool(Home(home), only, threads=1, engine="numpy")


@pytest.fixture
def home(made_once, tmp_path):
    """A copy of the home that a test may change."""
    return shutil.copytree(made_once, tmp_path / "home")


def test_an_index_is_opened_once(made_once, monkeypatch):
    pool = pool_of(made_once)
    with pool.lend("made") as first, pool.lend("made") as second:
        assert first is second
    with pool.lend("made") as third:
        assert third is first
    assert pool.fingerprint("made") == first.fingerprint
    assert pool.fingerprint("other") is None
    pool.close()


def test_a_rebuild_is_followed_and_the_old_index_serves_whoever_has_it(home):
    pool = pool_of(home)
    with pool.lend("made") as old:
        before = [hit.id for hit in old.query("tree leaf", k=5)]
        built(home, count=90, seed=7, restart=True)
        with pool.lend("made") as new:
            assert new.rows == 90
            assert new is not old
        assert [hit.id for hit in old.query("tree leaf", k=5)] == before
    with pytest.raises(UsageError, match="closed"):
        old.query("tree leaf")
    pool.close()


def test_a_deletion_is_followed(home):
    pool = pool_of(home)
    with pool.lend("made") as index:
        gone = index.query("tree leaf", k=1)[0].id
    delete(Home(home).index("made"), [gone])
    with pool.lend("made") as index:
        assert gone not in [hit.id for hit in index.query("tree leaf", k=120)]
    pool.close()


def test_an_index_that_comes_later_is_there(home):
    pool = pool_of(home)
    assert pool.names() == ["made", "other"]
    built(home, "third", 20, 3)
    with pool.lend("third") as index:
        assert index.rows == 20
    pool.close()


def test_a_removed_index_is_told_and_one_of_its_name_is_found_again(home):
    pool = pool_of(home)
    with pool.lend("made") as index:
        shutil.rmtree(home / "made")
        assert index.query("tree leaf")
    for _ in range(2):
        with pytest.raises(IndexNotFoundError, match="there are other"), pool.lend("made"):
            pass
    built(home, count=30, seed=5)
    with pool.lend("made") as index:
        assert index.rows == 30
    pool.close()


@pytest.mark.parametrize("file", ["manifest.json", "*.npy"])
def test_a_damaged_index_says_so_and_is_served_when_it_is_mended(home, file: str):
    pool = pool_of(home)
    with pool.lend("made"):
        pass
    path = max((home / "made").glob(file), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    os.truncate(path, len(whole) // 2)
    for _ in range(2):
        with pytest.raises(IndexFormatError), pool.lend("made"):
            pass
    path.write_bytes(whole)
    with pool.lend("made") as index:
        assert index.query("tree leaf")
    pool.close()


def test_a_mended_file_is_read_anew(home):
    pool = pool_of(home)
    with pool.lend("made") as damaged:
        path = home / "made" / f"{damaged.full_dim}.npy"
    mended = home / "mended"
    shutil.copy(path, mended)
    os.replace(mended, path)
    with pool.lend("made") as index:
        assert index is not damaged
    pool.close()


def test_names_of_requests_are_looked_up_and_never_made_into_paths(home):
    pool = pool_of(home)
    (home.parent / "outside").mkdir()
    shutil.copytree(home / "made", home.parent / "outside" / "made")
    for name in (
        "../outside/made",
        str(home.parent / "outside" / "made"),
        "made/",
        "./made",
        "",
        ".",
        "made\0",
    ):
        with pytest.raises(IndexNotFoundError, match="there are made, other"), pool.lend(name):
            pass
    pool.close()


def test_folders_that_are_named_at_the_start_are_served_by_their_names(home, tmp_path):
    elsewhere = shutil.copytree(home / "other", tmp_path / "elsewhere")
    pool = pool_of(home, (str(elsewhere), "made"))
    assert pool.names() == ["elsewhere", "made"]
    with pool.lend("elsewhere") as index:
        assert index.rows == 60
    with pytest.raises(IndexNotFoundError), pool.lend("other"):
        pass
    with pytest.raises(IndexNotFoundError):
        pool_of(home, ("nope",))
    again = shutil.copytree(home / "other", tmp_path / "again" / "made")
    with pytest.raises(UsageError, match="two indexes"):
        pool_of(home, (str(again), "made"))
    pool.close()


def test_what_is_lent_to_many_threads_while_it_is_replaced_is_open(home):
    pool = pool_of(home)
    stop = threading.Event()
    troubles: list[Exception] = []
    rows = set()

    def ask() -> None:
        while not stop.is_set():
            try:
                with pool.lend("made") as index:
                    rows.add(index.rows)
                    assert len(index.query("tree leaf", k=3)) == 3
            except Exception as error:
                troubles.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(4):
        built(home, count=40 + turn, seed=turn, restart=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert 43 in rows | {rows_of(pool)}
    pool.close()


def rows_of(pool: IndexPool) -> int:
    with pool.lend("made") as index:
        return index.rows


def test_opening_fails_for_one_and_is_tried_again_by_the_next(home, monkeypatch):
    pool = pool_of(home)
    with monkeypatch.context() as patched:
        patched.setattr(
            Index, "warm", lambda self: (_ for _ in ()).throw(IndexFormatError("broken: mend it"))
        )
        with pytest.raises(IndexFormatError), pool.lend("made"):
            pass
    with pool.lend("made") as index:
        assert np.isfinite(index.query("tree leaf", k=1)[0].score)
    pool.close()


def test_a_request_that_names_no_index_means_the_users_or_the_only_one(monkeypatch):
    monkeypatch.delenv("RSEARCH_INDEX", raising=False)
    assert IndexPool.default_of(["notes"]) == "notes"
    assert IndexPool.default_of(["mails", "notes"]) is None
    assert IndexPool.default_of(["notes", "wiki100k"]) == "wiki100k"
    monkeypatch.setenv("RSEARCH_INDEX", "notes")
    assert IndexPool.default_of(["notes", "wiki100k"]) == "notes"
    assert IndexPool.default_of(["mails", "wiki100k"]) == "wiki100k"
