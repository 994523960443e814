"""The threads that refresh: few, one task per key, gone when idle, stopped cleanly."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from cachebridge.engine.loading import refresh
from cachebridge.engine.loading.refresh import MAX_THREADS, Refresher
from tests.rig import PATIENCE_S, eventually

mark: ContextVar[str] = ContextVar("mark", default="")


@pytest.fixture
def refresher(monkeypatch):
    monkeypatch.setattr(refresh, "IDLE_S", 0.2)
    refresher = Refresher()
    yield refresher
    refresher.stop(PATIENCE_S)
    eventually(lambda: not refresher._threads)


def test_runs_in_the_background(refresher):
    """The task runs in another thread, in a copy of the caller's context."""
    seen = []
    mark.set("caller's")
    assert refresher.submit(
        "k", lambda: seen.append((mark.get(), threading.get_ident()))
    )
    eventually(refresher.is_idle)
    ((context, thread),) = seen
    assert context == "caller's"
    assert thread != threading.get_ident()


def test_one_task_per_key(refresher):
    """While a key is being refreshed, another refresh of it is refused."""
    go_on = threading.Event()
    assert refresher.submit("k", go_on.wait)
    assert not refresher.submit("k", go_on.wait)
    assert refresher.submit("l", go_on.wait)
    go_on.set()
    eventually(refresher.is_idle)
    assert refresher.submit("k", lambda: None)


def test_bounded(refresher, monkeypatch):
    """Few threads, few tasks waiting; the rest is dropped and counted."""
    monkeypatch.setattr(refresh, "MAX_WAITING", 10)
    go_on = threading.Event()
    taken = []
    for number in range(MAX_THREADS):
        taken.append(refresher.submit(f"k{number}", go_on.wait))
        eventually(lambda: not refresher._waiting)
    taken += [refresher.submit(f"w{number}", go_on.wait) for number in range(15)]
    assert taken == [True] * (MAX_THREADS + 10) + [False] * 5
    assert len(refresher._threads) == MAX_THREADS
    assert refresher.dropped == 5
    go_on.set()
    eventually(refresher.is_idle)


def test_a_failing_task_ends_nothing(refresher, caplog):
    """It is logged, once while it goes on; the thread goes on."""
    for number in range(20):
        refresher.submit(f"k{number}", lambda: 1 / 0)
        eventually(refresher.is_idle)
    assert [r.message.split("; ")[0] for r in caplog.records] == [
        "refreshing 'k0' failed"
    ]
    done = threading.Event()
    assert refresher.submit("k", done.set)
    assert done.wait(PATIENCE_S)


def test_threads_go_without_work(refresher):
    """Nothing runs for ever."""
    refresher.submit("k", lambda: None)
    eventually(lambda: not refresher._threads)
    assert refresher.submit("k", lambda: None)
    eventually(refresher.is_idle)


def test_stop(refresher):
    """What waits is dropped, what runs gets a moment; later it works again."""
    go_on, ran = threading.Event(), []
    for number in range(MAX_THREADS):
        refresher.submit(f"k{number}", go_on.wait)
        eventually(lambda: not refresher._waiting)
    refresher.submit("late", lambda: ran.append("late"))
    threading.Timer(0.1, go_on.set).start()
    refresher.stop(timeout_s=PATIENCE_S)
    assert go_on.is_set()
    assert refresher.is_idle()
    assert ran == []
    refresher.submit("again", lambda: ran.append("again"))
    eventually(lambda: ran == ["again"])


def test_stop_does_not_wait_for_ever(refresher):
    """A task that hangs cannot hold up the end of the process."""
    go_on = threading.Event()
    refresher.submit("k", go_on.wait)
    eventually(lambda: not refresher._waiting)
    refresher.stop(timeout_s=0.1)
    assert not refresher.is_idle()
    go_on.set()
    eventually(refresher.is_idle)
