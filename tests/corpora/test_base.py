import threading
import time

import pytest

from resizable_search.corpora import base
from resizable_search.corpora.base import Block, prefetch
from resizable_search.errors import HubError


class Notes(list):
    note = list.append


def read(blocks, notes=None):
    return prefetch(blocks, notes if notes is not None else Notes(), "the corpus", "it is tried again")


def numbered(count, before=lambda number: None, ended=None):
    try:
        for number in range(count):
            before(number)
            yield Block([], number)
    finally:
        if ended is not None:
            ended.set()


def positions(blocks):
    return [block.position for block in blocks if block is not None]


def test_blocks_come_in_order_and_whole():
    assert positions(read(numbered(50))) == list(range(50))


def test_what_reading_raises_is_raised_behind_the_blocks_before_it():
    def before(number):
        if number == 3:
            raise HubError("the hub is gone")

    blocks = []
    with pytest.raises(HubError, match="the hub is gone"):
        blocks.extend(read(numbered(9, before)))
    assert positions(blocks) == [0, 1, 2]


def test_while_nothing_comes_there_is_time_for_something_else_and_the_user_gets_a_note(monkeypatch):
    monkeypatch.setattr(base, "FIRST_NOTE_SECONDS", 0.05)
    monkeypatch.setattr(base, "NEXT_NOTE_SECONDS", 0.05)
    go_on, notes = threading.Event(), Notes()
    reading = read(numbered(3, lambda number: number != 1 or go_on.wait(10)), notes)
    assert next(block for block in reading if block).position == 0
    while len(notes) < 2:
        assert next(reading) is None
    go_on.set()
    assert positions(reading) == [1, 2]
    assert notes[0] == "no data from the corpus for 0 s; it is tried again"
    assert notes[-1].startswith("data from the corpus again, after ")


def test_what_is_done_with_a_block_is_no_waiting_for_the_next(monkeypatch):
    monkeypatch.setattr(base, "FIRST_NOTE_SECONDS", 0.2)
    notes = Notes()
    for block in read(numbered(3), notes):
        if block is not None:
            time.sleep(0.3)
    assert notes == []


def test_no_more_is_read_ahead_than_two_blocks():
    asked = []
    reading = read(numbered(50, asked.append))
    next(block for block in reading if block)
    time.sleep(0.2)
    assert len(asked) <= 1 + base.PREFETCH_BLOCKS + 1  # one more waits for room
    reading.close()


def test_closing_closes_the_corpus():
    ended = threading.Event()
    reading = read(numbered(50, ended=ended))
    next(reading)
    reading.close()
    assert ended.wait(5)


def test_closing_does_not_wait_for_a_read_that_hangs(monkeypatch):
    monkeypatch.setattr(base, "CLOSE_SECONDS", 0.05)
    go_on = threading.Event()
    reading = read(numbered(2, lambda number: go_on.wait(30)))
    assert next(reading) is None
    began = time.monotonic()
    reading.close()
    assert time.monotonic() - began < 10
    go_on.set()
