"""One holder at a time, whoever deletes the lock meanwhile; and whoever is refused learns who that is."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from resizable_search import system
from resizable_search.errors import IndexBusyError, StorageError
from resizable_search.store.layout import NAMES
from resizable_search.system import build_lock, remove_state

HOLD = """
import sys
from pathlib import Path
from resizable_search.system import build_lock
with build_lock(Path(sys.argv[1]) / "build.lock", "made"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path):
    return tmp_path / ".state" / "made"


@pytest.fixture
def holder(state):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(state)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def refused(state) -> str:
    with pytest.raises(IndexBusyError) as caught, build_lock(state / NAMES.lock, "made"):
        pass
    return str(caught.value)


def test_whoever_is_refused_is_told_the_holders_pid_and_host(state, holder):
    assert refused(state) == (
        f"made is being built by process {holder.pid} on {socket.gethostname()}: "
        "wait for it, or choose another `name`"
    )


def test_the_lock_of_a_killed_process_is_taken_over(state, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert json.loads((state / NAMES.lock).read_bytes())["pid"] == holder.pid  # it had no time to tidy up
    with build_lock(state / NAMES.lock, "made"):
        assert f"process {os.getpid()} on " in refused(state)


def test_a_holder_that_has_not_yet_said_who_it_is_is_waited_for(state, monkeypatch):
    written = os.pwrite
    at_the_lock, refusing = threading.Event(), threading.Event()

    def slow(handle, content, at):
        at_the_lock.set()
        assert refusing.wait(30)
        return written(handle, content, at)

    looked = system._living_holder

    def looking(path):
        holder = looked(path)
        refusing.set()  # too late for this look
        return holder

    monkeypatch.setattr(os, "pwrite", slow)
    monkeypatch.setattr(system, "_living_holder", looking)
    # What a dead process left must not be taken for the holder's, either.
    state.mkdir(parents=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    content = {"pid": dead.pid, "host": socket.gethostname()}
    (state / NAMES.lock).write_text(json.dumps(content))
    done = threading.Event()

    def hold():
        with build_lock(state / NAMES.lock, "made"):
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert at_the_lock.wait(30)
    try:
        assert f"process {os.getpid()} on " in refused(state)
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("content", ["", "[]", '{"pid": 1}', "\0\0"])
def test_a_holder_that_never_says_who_it_is_is_not_waited_for_forever(state, monkeypatch, content):
    monkeypatch.setattr(system, "HOLDER_SECONDS", 0.05)
    with build_lock(state / NAMES.lock, "made"):
        (state / NAMES.lock).write_text(content)
        assert "being built by another process" in refused(state)


def test_a_lock_on_a_file_that_was_deleted_meanwhile_is_no_lock(state, monkeypatch):
    """One opens the lock file; before it locks it, the holder deletes it, and a third makes a new one."""
    flock = fcntl.flock
    with ExitStack() as first, ExitStack() as third:
        first.enter_context(build_lock(state / NAMES.lock, "made"))

        def late(handle, how):
            monkeypatch.setattr(fcntl, "flock", flock)
            remove_state(state / NAMES.lock)
            first.close()
            third.enter_context(build_lock(state / NAMES.lock, "made"))
            flock(handle, how)

        monkeypatch.setattr(fcntl, "flock", late)
        assert f"process {os.getpid()} on " in refused(state)
    with build_lock(state / NAMES.lock, "made"):
        pass


def test_whoever_opened_a_lock_that_is_deleted_then_locks_the_new_one(state, monkeypatch):
    flock = fcntl.flock
    with ExitStack() as first:
        first.enter_context(build_lock(state / NAMES.lock, "made"))

        def late(handle, how):
            monkeypatch.setattr(fcntl, "flock", flock)
            remove_state(state / NAMES.lock)
            first.close()
            assert not state.exists()
            flock(handle, how)

        monkeypatch.setattr(fcntl, "flock", late)
        with build_lock(state / NAMES.lock, "made"):
            assert "process" in refused(state)


def test_removing_the_state_leaves_the_lock_that_is_made_in_that_moment(state, monkeypatch):
    rmdir = Path.rmdir
    with build_lock(state / NAMES.lock, "made"), ExitStack() as next_one:

        def late(path):
            next_one.enter_context(build_lock(state / NAMES.lock, "made"))
            rmdir(path)

        monkeypatch.setattr(Path, "rmdir", late)
        remove_state(state / NAMES.lock)
        assert f"process {os.getpid()} on " in refused(state)


@pytest.mark.parametrize("error", [FileNotFoundError, FileExistsError])
def test_a_folder_that_is_deleted_while_the_lock_is_made_is_made_again(state, monkeypatch, error):
    """Path.mkdir finds the folder there, and then it is not; or the file is to be made in it."""
    mkdir = Path.mkdir

    def late(path, **options):
        monkeypatch.setattr(Path, "mkdir", mkdir)
        raise error(str(path))

    monkeypatch.setattr(Path, "mkdir", late)
    with build_lock(state / NAMES.lock, "made"):
        assert f"process {os.getpid()} on " in refused(state)


def test_what_stands_in_the_place_of_the_folder_is_told_at_once(state):
    state.parent.mkdir(parents=True)
    state.write_text("a file")
    with pytest.raises(FileExistsError), build_lock(state / NAMES.lock, "made"):
        pass


def test_a_file_system_without_locks_is_told(state, monkeypatch):
    def refuse(handle, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(StorageError, match=r"cannot lock .*No locks available.*`home`"),
        build_lock(state / NAMES.lock, ""),
    ):
        pass
