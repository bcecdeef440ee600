import os
import sys

import numpy as np
import pytest

from resizable_search.errors import StorageError, UsageError
from resizable_search.evaluate import timing as page_cache

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can drop files")
MEGABYTE = 1 << 20


@pytest.fixture
def droppable(tmp_path):
    """A file of which the system can drop pages, with an odd name."""
    path = tmp_path / "a file\nof two lines"
    path.write_bytes(os.urandom(2 * MEGABYTE + 5))
    if page_cache.drop([path]):
        pytest.skip("the files of tests are on a RAM disk here, from which nothing can be dropped")
    return path


def held(path):
    return page_cache.resident(path) / path.stat().st_size


@linux
def test_a_file_is_gone_from_memory(droppable):
    assert held(droppable) == 0
    droppable.read_bytes()
    assert held(droppable) == 1
    assert page_cache.drop([droppable]) == 0
    assert held(droppable) == 0


@linux
def test_what_this_process_maps_goes_too_and_stays_readable(droppable):
    before = droppable.read_bytes()
    mapped = np.memmap(droppable, np.uint8, "r").view(np.ndarray)
    assert mapped.tobytes() == before
    assert page_cache.drop([droppable]) == 0
    assert mapped.tobytes() == before


@linux
def test_an_empty_file_has_nothing_to_drop(tmp_path):
    (tmp_path / "empty").touch()
    assert page_cache.drop([tmp_path / "empty"]) == 0


@linux
def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(StorageError, match="nothing"):
        page_cache.drop([tmp_path / "nothing"])


def test_a_platform_that_cannot_says_so(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    with pytest.raises(UsageError, match="`cold` needs Linux"):
        page_cache.drop([tmp_path])
