"""Builds that are stopped, by Ctrl-C and by kill -9, and go on."""

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from tests.cli.conftest import ROWS, Machine, Ran, Shelf, another_api, errs_at_last, free_of_key
from tests.servers.nomic_api import HANG

BUILD = ("build", "wiki100k", "--limit", ROWS, "--concurrency", 2)


@dataclass
class History:
    """A build that was stopped by Ctrl-C, went on, was killed, and went on to its end."""

    machine: Machine
    stopped: Ran
    killed: Ran
    ended: Ran
    unfinished: Ran
    safe_files: dict[str, bytes]
    paid: list[Counter[str]] = field(default_factory=list)
    """How often each text was paid for, after each of the three runs."""

    @property
    def safe(self) -> int:
        """The documents that were said to be safe after Ctrl-C."""
        return int(re.search(r"([\d,]+) documents are embedded and safe", self.stopped.err)[1])


@pytest.fixture(scope="module")
def history(env: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> History:
    machine = Machine(tmp_path_factory.mktemp("stopped"), dict(env))
    paid = []
    with another_api(machine, latency=0.05) as api:
        api.expect(10)
        first = machine.start(*BUILD)
        api.wait()
        os.killpg(first.pid, signal.SIGINT)
        stopped = machine.end(first)
        paid.append(api.answered.copy())
        files = machine.holdings()
        unfinished = machine.run("query", "anything", "--index", "wiki100k")

        api.expect(10)
        second = machine.start(*BUILD)
        api.wait()
        os.killpg(second.pid, signal.SIGKILL)
        killed = machine.end(second)
        paid.append(api.answered.copy())

        ended = machine.run(*BUILD)
        paid.append(api.answered.copy())
    return History(machine, stopped, killed, ended, unfinished, files, paid)


def test_ctrl_c_says_how_many_documents_are_safe_and_how_to_go_on(history: History):
    errs_at_last(history.stopped, 130, "documents are embedded and safe", "the same command resumes")
    assert 50 <= history.safe < ROWS
    assert history.stopped.out == ""


def test_ctrl_c_leaves_an_unfinished_build_and_no_index(history: History):
    assert history.safe_files
    assert all(name.startswith(".building/wiki100k/") for name in history.safe_files)


def test_what_was_paid_for_before_ctrl_c_is_safe(history: History):
    assert len(history.paid[0]) == history.safe


def test_a_query_of_an_unfinished_build_says_how_to_finish_it(history: History):
    errs_at_last(history.unfinished, 1, "is not finished", "give its build command again")


def test_going_on_tells_what_there_is_and_asks_none_of_it_again(history: History):
    assert f"resuming wiki100k: {history.safe} documents are embedded already" in history.killed.err
    assert all(history.paid[2][text] == 1 for text in history.paid[0])


def test_after_kill_9_only_what_was_under_way_is_asked_again(history: History):
    assert history.killed.code == -signal.SIGKILL
    assert history.ended.code == 0
    twice = [text for text, times in history.paid[2].items() if times > 1]
    assert len(history.paid[1]) < ROWS
    assert len(twice) <= 2 * 2 * 10  # two batches of ten are held for each of two threads


def test_the_index_is_that_of_a_build_that_nobody_disturbed(history: History, shelf: Shelf):
    mine = history.machine.holdings()
    folder = shelf.home / "wiki100k"
    files = [path for path in folder.rglob("*") if path.is_file()]
    theirs = {str(path.relative_to(folder.parent)): path.read_bytes() for path in files}
    manifests = [json.loads(files.pop("wiki100k/manifest.json")) for files in (mine, theirs)]
    for manifest in manifests:
        for name in ("created", "changed", "checksum"):
            del manifest[name]
    assert manifests[0] == manifests[1]
    assert mine == theirs
    assert history.machine.unfinished() == []


def test_a_stopped_build_leaves_the_key_in_no_file(history: History):
    free_of_key(history.machine.folder)


def test_a_second_ctrl_c_does_not_wait_for_a_request_that_hangs(machine: Machine):
    with another_api(machine) as api:
        api.spoil(HANG, None)
        process = machine.start("build", "wiki100k", "--limit", 20)
        for line in process.stderr:
            if line.startswith("rsearch: embedding"):
                break
        os.killpg(process.pid, signal.SIGINT)
        for line in process.stderr:
            if "press Ctrl-C again" in line:
                break
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(4) == 130
        machine.end(process)
