import os
import threading
import time

import pytest

from resizable_search.engine.scheduling import map_ahead, run_together
from resizable_search.errors import UsageError
from resizable_search.system import thread_count, usable_cores


def test_the_number_of_threads_is_asked_then_the_variable_then_the_cores(monkeypatch):
    monkeypatch.delenv("RSEARCH_THREADS", raising=False)
    assert thread_count() == usable_cores() >= 1
    monkeypatch.setenv("RSEARCH_THREADS", "3")
    assert thread_count() == 3
    assert thread_count(7) == 7


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "9" * 50, "2000"])
def test_a_senseless_number_of_threads_is_refused(monkeypatch, text):
    monkeypatch.setenv("RSEARCH_THREADS", text)
    with pytest.raises(UsageError, match="RSEARCH_THREADS"):
        thread_count()


def test_all_work_is_done_once_whoever_takes_it():
    left, done = iter(range(1000)), []

    def work(_):
        for item in left:
            done.append(item)

    run_together(work, 4)
    assert sorted(done) == list(range(1000))


def test_what_a_task_raises_is_raised():
    begun = threading.Event()

    def fail(number):
        if number == 1:
            begun.set()
            raise ValueError("from the pool")
        begun.wait(10)

    with pytest.raises(ValueError, match="from the pool"):
        run_together(fail, 2)


def test_a_busy_pool_holds_nobody_up():
    gate = threading.Event()
    waiting = [(lambda _: gate.wait(20), 3)] * (usable_cores() + 1)
    threads = [threading.Thread(target=run_together, args=arguments) for arguments in waiting]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    counted = []
    begin = time.monotonic()
    run_together(counted.append, 3)
    assert time.monotonic() - begin < 10
    assert 0 in counted
    gate.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("is_done", [True, False])
def test_once_the_work_is_done_nobody_waits(is_done):
    begun, gate, ended = threading.Event(), threading.Event(), []

    def work(number):
        if number == 0:
            begun.wait(20)
            return
        begun.set()
        gate.wait(20 if is_done else 0.1)
        ended.append(number)

    run_together(work, 2, lambda: is_done)
    assert ended == ([] if is_done else [1])
    gate.set()


def test_results_come_in_order_and_an_error_ends_it():
    assert list(map_ahead(lambda x: x * x, range(50), 3)) == [x * x for x in range(50)]
    taken = []

    def some(x):
        taken.append(x)
        if x == 5:
            raise ValueError("five")

    with pytest.raises(ValueError, match="five"):
        list(map_ahead(some, range(10_000), 2))
    assert len(taken) < 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_makes_a_pool_of_its_own():
    run_together(lambda _: None, 2)
    child = os.fork()
    if child == 0:
        left = iter(range(100))
        run_together(lambda _: [time.sleep(0.001) for _ in left], 2)
        os._exit(0)
    for _ in range(200):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            assert status == 0
            return
        time.sleep(0.05)
    os.kill(child, 9)
    pytest.fail("the child waits for threads that it does not have")
