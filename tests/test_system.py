"""Limits of this process: told with their remedies wherever they are met, and raised where they may be."""

import errno
import gc
import os
import resource
from contextlib import ExitStack

import numpy as np
import pytest

from resizable_search.cli.main import guarded
from resizable_search.errors import OpenFilesError, ServiceError
from resizable_search.progress import SILENT
from resizable_search.search.index import open_index
from resizable_search.store import reader
from resizable_search.store.manifest import read_manifest
from resizable_search.store.verify import _Examination
from resizable_search.system import exhausted, raise_limit, remove_folder
from tests.support import index_of


@pytest.fixture
def few_files():
    """Lets this process open so many files more than it has open, and no more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as held:

        def few(more: int) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            gc.collect()  # what other tests held would make room later
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            while held.enter_context(open(os.devnull)).fileno() < highest:
                pass  # no free number may lie below the limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + more, before[1]))

        yield few
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def folder(tmp_path):
    index_of(np.eye(30, 96, dtype=np.float32), tmp_path, dims=(16, 32, 64)).close()
    return tmp_path / "made"


def test_an_index_of_more_files_than_the_limit_allows_raises_it_where_it_may(folder, few_files):
    few_files(8)
    with open_index(folder) as index:
        assert index.rows == 30


def test_where_it_may_not_the_remedy_is_told_and_no_file_stays_open(folder, few_files, monkeypatch):
    monkeypatch.setattr(reader, "raise_limit", lambda: False)
    for more in (2, 3, 8):
        few_files(more)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OpenFilesError, match=r"raise it with `ulimit -n 1024`"):
            open_index(folder, home=folder.parent)
        gc.collect()  # what the traceback held
        assert os.listdir("/proc/self/fd") == before


def test_a_file_that_cannot_be_opened_for_the_limit_is_not_called_damaged(folder, few_files):
    manifest = read_manifest(folder)
    entry = manifest.all_files()["96.npy"]
    few_files(0)
    with pytest.raises(OpenFilesError, match="ulimit -n"):
        _Examination(folder, manifest, False, SILENT)._wrong_bytes(folder / "96.npy", entry)


def test_the_limit_is_raised_once():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] // 2, before[1]))
        assert raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
        assert not raise_limit()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def emfile() -> OSError:
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def wrapped() -> None:
    try:
        raise emfile()
    except OSError:
        raise ServiceError("the service cannot be reached: check the network") from None


def missing_module() -> None:
    raise ImportError("libx.so: cannot open shared object file: Too many open files")


def machine_wide() -> None:
    raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))


def no_thread() -> None:
    raise RuntimeError("can't start new thread")


def no_memory() -> None:
    raise MemoryError


def no_room_for_a_mapping() -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def no_room_for_a_module() -> None:
    raise ImportError("x.so: failed to map segment from shared object")


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (wrapped, "ulimit -n"),
        (missing_module, "ulimit -n"),
        (machine_wide, "the machine has too many files"),
        (no_thread, "ulimit -u"),
        (no_memory, "out of memory"),
        (no_room_for_a_mapping, "ulimit -v"),
        (no_room_for_a_module, "ulimit -v"),
    ],
)
def test_the_edge_tells_the_limit_wherever_it_was_met(fail, words, capsys):
    assert guarded(fail) == 1
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert "internal error" not in message


def test_other_errors_are_of_no_limit():
    assert exhausted(OSError(errno.ENOENT, "no such file")) is None
    assert exhausted(ImportError("no module named x")) is None
    assert exhausted(RuntimeError("a mistake of ours")) is None
    assert exhausted(None) is None


def test_of_a_link_the_link_is_removed_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    remove_folder(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
