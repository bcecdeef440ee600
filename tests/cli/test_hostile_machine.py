"""Crowds, readers under rebuilds, few open files, clocks that run backwards, logs without room.

scripts/drills/hostile.py does the same for longer, and with the command itself.
"""

import datetime
import errno
import io
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from resizable_search.cli import progress
from resizable_search.store import manifest
from tests.cli.conftest import Machine, Shelf
from tests.hostile import Row
from tests.hostile.crowd import builders_at_once, mixed
from tests.hostile.full import Small, undated, undisturbed
from tests.hostile.machine import limited
from tests.hostile.readers import through_rebuilds

QUERY = ("query", "walk a directory tree", "-i", "pydoc", "--json")


def right(row: Row) -> Row:
    assert row.wrong == "", row
    return row


def test_of_eight_builds_at_once_one_builds_and_seven_are_told_who_it_is(tmp_path: Path):
    right(builders_at_once(tmp_path, 8))


def test_builders_and_removers_leave_every_index_whole_or_absent(tmp_path: Path):
    right(mixed(tmp_path, 3, 1.5))


@pytest.mark.parametrize("exchanges", [True, False], ids=["in one step", "in two steps"])
def test_readers_find_one_content_or_the_other_while_an_index_is_rebuilt(tmp_path: Path, exchanges: bool):
    right(through_rebuilds(tmp_path, 2, exchanges=exchanges))


@pytest.mark.parametrize(("most", "outcome"), [(12, "… ulimit -n …"), (64, "works")])
def test_a_limit_of_open_files_is_told_with_its_remedy_or_suffices(
    machine: Machine, shelf: Shelf, most: int, outcome: str
):
    shutil.copytree(shelf.home / "pydoc", machine.home / "pydoc")
    assert right(limited(machine, f"-n {most}", "ulimit -n", QUERY)).outcome == outcome


def test_nothing_but_the_dates_of_a_build_depends_on_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = undisturbed(tmp_path / "undisturbed")
    now = [time.time()]

    def backwards() -> float:
        now[0] -= 3600
        return now[0]

    class Backwards(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.fromtimestamp(backwards(), tz)

    monkeypatch.setattr(time, "time", backwards)
    monkeypatch.setattr(manifest, "datetime", Backwards)
    small = Small(tmp_path / "home")
    small.build()
    assert undated(small.home.index("made")) == whole
    before = manifest.read_manifest(small.home.index("made"))
    after = before.next_generation().write(small.home.index("made"))
    assert after.changed < before.changed  # it may lie
    assert len(small.answers()) == 3
    assert small.embedder.asked == list(dict.fromkeys(small.embedder.asked))


def test_a_log_without_room_does_not_end_a_build(monkeypatch: pytest.MonkeyPatch):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stderr", Full())
    with progress.shown_progress() as lines:
        lines.stage("embedding", 10, "documents")
        lines.note("something")
        lines.advance(10)
