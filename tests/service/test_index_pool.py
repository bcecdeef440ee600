"""The shelf: an index is opened once, and what is lent is what lies on disk now."""

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


def shelf_of(home, only=()) -> IndexPool:
    return IndexPool(Home(home), only, threads=1, engine="numpy")


@pytest.fixture
def home(made_once, tmp_path):
    """A copy of the home that a test may change."""
    return shutil.copytree(made_once, tmp_path / "home")


def test_an_index_is_opened_once(made_once, monkeypatch):
    shelf = shelf_of(made_once)
    with shelf.lend("made") as first, shelf.lend("made") as second:
        assert first is second
    with shelf.lend("made") as third:
        assert third is first
    assert shelf.fingerprint("made") == first.fingerprint
    assert shelf.fingerprint("other") is None
    shelf.close()


def test_a_rebuild_is_followed_and_the_old_index_serves_whoever_has_it(home):
    shelf = shelf_of(home)
    with shelf.lend("made") as old:
        before = [hit.id for hit in old.query("tree leaf", k=5)]
        built(home, count=90, seed=7, restart=True)
        with shelf.lend("made") as new:
            assert new.rows == 90
            assert new is not old
        assert [hit.id for hit in old.query("tree leaf", k=5)] == before
    with pytest.raises(UsageError, match="closed"):
        old.query("tree leaf")
    shelf.close()


def test_a_deletion_is_followed(home):
    shelf = shelf_of(home)
    with shelf.lend("made") as index:
        gone = index.query("tree leaf", k=1)[0].id
    delete(Home(home).index("made"), [gone])
    with shelf.lend("made") as index:
        assert gone not in [hit.id for hit in index.query("tree leaf", k=120)]
    shelf.close()


def test_an_index_that_comes_later_is_there(home):
    shelf = shelf_of(home)
    assert shelf.names() == ["made", "other"]
    built(home, "third", 20, 3)
    with shelf.lend("third") as index:
        assert index.rows == 20
    shelf.close()


def test_a_removed_index_is_told_and_one_of_its_name_is_found_again(home):
    shelf = shelf_of(home)
    with shelf.lend("made") as index:
        shutil.rmtree(home / "made")
        assert index.query("tree leaf")
    for _ in range(2):
        with pytest.raises(IndexNotFoundError, match="there are other"), shelf.lend("made"):
            pass
    built(home, count=30, seed=5)
    with shelf.lend("made") as index:
        assert index.rows == 30
    shelf.close()


@pytest.mark.parametrize("file", ["manifest.json", "*.npy"])
def test_a_damaged_index_says_so_and_is_served_when_it_is_mended(home, file: str):
    shelf = shelf_of(home)
    with shelf.lend("made"):
        pass
    path = max((home / "made").glob(file), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    os.truncate(path, len(whole) // 2)
    for _ in range(2):
        with pytest.raises(IndexFormatError), shelf.lend("made"):
            pass
    path.write_bytes(whole)
    with shelf.lend("made") as index:
        assert index.query("tree leaf")
    shelf.close()


def test_what_was_read_of_a_file_that_is_cut_meanwhile_is_worth_nothing(home):
    shelf = shelf_of(home)
    path = max((home / "made").glob("*.npy"), key=lambda path: path.stat().st_size)
    with pytest.raises(IndexFormatError, match="was cut to"), shelf.lend("made"):
        os.truncate(path, path.stat().st_size - 1)
    shelf.close()


def test_a_mended_file_is_read_anew(home):
    shelf = shelf_of(home)
    with shelf.lend("made") as damaged:
        path = home / "made" / f"{damaged.full_dim}.npy"
    mended = home / "mended"
    shutil.copy(path, mended)
    os.replace(mended, path)
    with shelf.lend("made") as index:
        assert index is not damaged
    shelf.close()


def test_names_of_requests_are_looked_up_and_never_made_into_paths(home):
    shelf = shelf_of(home)
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
        with pytest.raises(IndexNotFoundError, match="there are made, other"), shelf.lend(name):
            pass
    shelf.close()


def test_folders_that_are_named_at_the_start_are_served_by_their_names(home, tmp_path):
    elsewhere = shutil.copytree(home / "other", tmp_path / "elsewhere")
    shelf = shelf_of(home, (str(elsewhere), "made"))
    assert shelf.names() == ["elsewhere", "made"]
    with shelf.lend("elsewhere") as index:
        assert index.rows == 60
    with pytest.raises(IndexNotFoundError), shelf.lend("other"):
        pass
    with pytest.raises(IndexNotFoundError):
        shelf_of(home, ("nope",))
    again = shutil.copytree(home / "other", tmp_path / "again" / "made")
    with pytest.raises(UsageError, match="two indexes"):
        shelf_of(home, (str(again), "made"))


def test_what_is_lent_to_many_threads_while_it_is_replaced_is_open(home):
    shelf = shelf_of(home)
    stop = threading.Event()
    troubles: list[Exception] = []
    rows = set()

    def ask() -> None:
        while not stop.is_set():
            try:
                with shelf.lend("made") as index:
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
    assert 43 in rows | {index_rows(shelf)}
    shelf.close()


def index_rows(shelf: IndexPool) -> int:
    with shelf.lend("made") as index:
        return index.rows


def test_opening_fails_for_one_and_is_tried_again_by_the_next(home, monkeypatch):
    shelf = shelf_of(home)
    with monkeypatch.context() as patched:
        patched.setattr(
            Index, "warm", lambda self: (_ for _ in ()).throw(IndexFormatError("broken: mend it"))
        )
        with pytest.raises(IndexFormatError), shelf.lend("made"):
            pass
    with shelf.lend("made") as index:
        assert np.isfinite(index.query("tree leaf", k=1)[0].score)
    shelf.close()
