"""A mapped file that is cut while it is read does not end the process."""

import signal
import subprocess
import sys

import pytest

from resizable_search.service.mapped import outlive_cuts

READ = """
import os, sys, threading
import numpy as np
from resizable_search.service.mapped import outlive_cuts

if "outlive" in sys.argv:
    assert outlive_cuts()
path = sys.argv[1]
np.save(path, np.ones((1000, 1000), np.float32))
rows = np.load(path, mmap_mode="r")
os.truncate(path, 2_000_000)
sums = []
threads = [threading.Thread(target=lambda: sums.append(float(rows.sum()))) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*sums)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the handler is Linux's")
def test_pages_that_are_gone_are_read_as_zeros_where_they_would_end_the_process(tmp_path):
    def read(*args: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", READ, str(tmp_path / "rows.npy"), *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert read().returncode == -signal.SIGBUS
    survived = read("outlive")
    assert survived.returncode == 0, survived.stderr
    sums = {float(word) for word in survived.stdout.split()}
    assert len(sums) == 1
    assert 400_000 < sums.pop() < 510_000  # the rows that are left, to the end of their last page


def test_it_may_be_asked_for_again():
    before = signal.getsignal(signal.SIGBUS)
    assert outlive_cuts() == outlive_cuts()
    assert signal.getsignal(signal.SIGBUS) == before
