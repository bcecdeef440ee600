"""Removing an index beside others who are at work on it, and after a removal that was broken off."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from resizable_search.admin.doctor import warm
from resizable_search.admin.remove import remove
from resizable_search.build.build import build
from resizable_search.build.workspace import BuildOptions
from resizable_search.errors import IndexBusyError, IndexNotFoundError, RsearchError
from resizable_search.search.index import open_index
from resizable_search.store.layout import NAMES, Home
from resizable_search.store.reader import PartReader
from resizable_search.system import beside, build_lock
from tests.store.test_tiers import without_tiers
from tests.support import ListCorpus, TableEmbedder, articles, index_of


@pytest.fixture
def home(tmp_path):
    index_of(np.eye(20, 8, dtype=np.float32), tmp_path).close()
    return Home(tmp_path)


def test_remove_takes_the_lock_and_the_state_with_it(home):
    with (
        build_lock(home.state("made") / NAMES.lock, "made"),
        pytest.raises(IndexBusyError, match=str(os.getpid())),
    ):
        remove("made", home)
    assert remove("made", home).left == []
    assert not home.state("made").exists()
    assert home.names() == []


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_is_removed_twice_at_once_is_told_to_the_second(home, monkeypatch, tmp_path, elsewhere):
    name, asked = "made", home
    if elsewhere:
        shutil.rmtree(home.state("made"))
        name, asked = str(home.index("made")), Home(tmp_path / "here")

    def late(name, asked):
        monkeypatch.undo()
        remove(name, asked)
        return home.index("made")

    monkeypatch.setattr("resizable_search.admin.remove.resolve_index", late)
    with pytest.raises(IndexNotFoundError, match="has been removed, or is empty"):
        remove(name, asked)
    assert not home.state("made").exists()


def test_nobody_changes_an_index_while_its_removal_is_to_be_confirmed(home):
    def refuse(words):
        assert words.startswith("made (20 documents in ")
        with pytest.raises(IndexBusyError):
            remove("made", home)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remove("made", home, refuse)
    assert home.names() == ["made"]


def test_a_removal_that_was_broken_off_is_ended_by_the_next(home, monkeypatch):
    unlink = Path.unlink

    def crash(path, missing_ok=False):
        if path.name == "documents.sqlite":
            raise SystemExit
        unlink(path, missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", crash)
        with pytest.raises(SystemExit):
            remove("made", home)
    assert home.names() == []
    with pytest.raises(IndexNotFoundError, match="is being removed.*`remove` finishes it"):
        open_index("made", home=home.path)
    assert remove("made", home).left == []
    assert not home.index("made").exists()


def test_an_index_that_is_removed_while_it_is_opened_is_not_called_damaged(home, monkeypatch):
    def gone(*args):
        monkeypatch.undo()
        remove("made", home)
        return PartReader(*args)

    monkeypatch.setattr("resizable_search.store.reader.PartReader", gone)
    with pytest.raises(IndexNotFoundError, match="has been removed, or is empty: build it again"):
        open_index("made", home=home.path)


def test_an_index_whose_removal_was_broken_off_is_built_anew_with_restart(home, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda path, missing_ok=False: sys.exit())
        with pytest.raises(SystemExit):
            remove("made", home)
    documents, embedder = ListCorpus(articles(5)), TableEmbedder()
    build(documents, embedder, home, BuildOptions("made", restart=True))
    assert [path.name for path in home.index("made").glob("*.json")] == [NAMES.manifest]


def test_the_folder_of_an_index_of_another_home_is_locked_there(home, tmp_path):
    here = Home(tmp_path / "here")
    without_tiers(home.index("made"))
    with build_lock(home.state("made") / NAMES.lock, "made"):
        with pytest.raises(IndexBusyError, match=str(os.getpid())):
            remove(str(home.index("made")), here)
        with pytest.raises(IndexBusyError, match=str(os.getpid())):
            warm(here, str(home.index("made")))
    assert remove(str(home.index("made")), here).left == []
    assert not home.state("made").exists()


def test_a_link_to_an_index_is_not_removed(home, tmp_path):
    (tmp_path / "linked").symlink_to(home.index("made"))
    with pytest.raises(RsearchError, match=r"linked is a link: remove what it leads to by its own name$"):
        remove("linked", home)
    assert home.names() == ["linked", "made"]


def test_what_somebody_left_who_died_while_writing_goes_with_the_index(home):
    for name in (NAMES.manifest, "8.npy"):
        beside(home.index("made") / name).write_text("half of it")
    assert remove("made", home).left == []
    assert not home.index("made").exists()
