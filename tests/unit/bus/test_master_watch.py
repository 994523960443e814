"""The watch over a failover: it asks, tells, logs once, and never ends by an error."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from cachebridge.bus import master_watch
from cachebridge.bus.master_watch import MasterWatch
from tests.rig import PATIENCE_S, eventually
from tests.threadless import refuse_threads

A, B = "not at 10.0.0.1:1", "not at 10.0.0.2:2"


class Sentinels:
    """What the watch asks; answers are taken in order, then there is nothing new."""

    def __init__(self):
        self.answers = []
        self.asked = 0

    def moved(self):
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else ""
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def sentinels():
    return Sentinels()


@pytest.fixture
def moves():
    return []


@pytest.fixture
def ticks():
    return []


@pytest.fixture
def watch(sentinels, moves, ticks, monkeypatch):
    monkeypatch.setattr(master_watch, "INTERVAL_S", 0.001)
    monkeypatch.setattr(master_watch, "PAUSE_S", 0.001)
    made = MasterWatch(
        sentinels.moved,
        on_move=moves.append,
        on_tick=lambda: ticks.append(1),
        label="here",
    )
    yield made
    made.stop()
    eventually(lambda: not made.is_alive())


def test_each_move_is_told(watch, sentinels, moves, ticks):
    """With its reason, once each."""
    sentinels.answers = ["", A, "", B]
    watch.start()
    eventually(lambda: len(moves) == 2)
    eventually(lambda: len(ticks) > 4)
    assert len(moves) == 2
    assert moves == [A, B]


def test_no_error_ends_it(watch, sentinels, moves, caplog):
    """Each change of state is one line in the log, however long it lasts."""
    down = [OSError("down")] * 20
    sentinels.answers = [*down, OSError("other"), "", *down, A, ""]
    with caplog.at_level(logging.WARNING, "cachebridge.bus"):
        watch.start()
        eventually(lambda: moves)
        eventually(lambda: sentinels.asked > 44)
    lines = [each.getMessage() for each in caplog.records]
    words = ("down", "again", "down", "10.0.0.1:1", "again")
    assert len(lines) == len(words)
    for word, line in zip(words, lines, strict=True):
        assert line.startswith("here: ")
        assert word in line


def test_an_error_of_whom_it_tells_does_not_end_it(watch, sentinels, monkeypatch):
    """What the engine raises is logged like any other error."""
    told = threading.Event()

    def fail(_reason):
        told.set()
        raise ValueError

    monkeypatch.setattr(watch, "_on_move", fail)
    sentinels.answers = [A]
    watch.start()
    assert told.wait(PATIENCE_S)
    asked = sentinels.asked
    eventually(lambda: sentinels.asked > asked + 2)


def test_one_thread_at_a_time(watch):
    """Starting again does nothing while it runs; after a stop another one runs."""
    for _ in range(3):
        watch.start()
    first = watch._thread
    watch.stop()
    watch.start()
    assert watch._thread is not first
    assert watch.is_alive()
    first.join(PATIENCE_S)
    assert not first.is_alive()


def test_a_child_of_a_fork_has_a_thread_of_its_own(watch, monkeypatch):
    """Also where no hook has told it of the fork, and with a lock that is held."""
    watch.start()
    first = watch._thread
    stop_first = watch._stopping.set
    watch._lock.acquire()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    watch.start()
    assert watch._thread is not first
    stop_first()


def test_no_thread_can_be_started(watch, monkeypatch):
    """At the end of the interpreter nothing is watched, and nothing raised."""
    refuse_threads(monkeypatch)
    watch.start()
    assert not watch.is_alive()
