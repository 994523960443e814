"""Pending deletes: kept, bounded, replayed once, and kept again if need be."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachebridge.core.keys import KeyPattern
from cachebridge.engine.outage.fallbacks import _keys_of
from cachebridge.engine.outage.pending_deletes import PendingDeletes
from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.waiting.io import TASKS, THREADS
from cachebridge.waiting.run import run
from tests.rig import eventually

PATTERN = KeyPattern("p:*", "p:")


class Deletes:
    """Carries deletes out by noting them, in order."""

    def __init__(self, pending):
        self.pending = pending
        self.done = []
        self.fails = False

    def replay(self):
        run(self.pending.replay(self, THREADS))
        return self.done

    async def delete(self, keys):
        self._do("delete", list(keys))

    async def clear(self, pattern):
        self._do("clear", pattern)

    async def flush_db(self):
        self._do("flush", None)

    def _do(self, *call):
        if self.fails:
            raise L2Error("away")
        self.done.append(call)


@pytest.fixture
def pending():
    return PendingDeletes(limit=5)


def test_nothing_is_pending_at_first(pending):
    """Replaying nothing does nothing."""
    assert not pending
    assert len(pending) == 0
    assert Deletes(pending).replay() == []


def test_keys_are_pending_once(pending):
    """However often a key failed, it is deleted once, and then no more."""
    pending.add(["a", "b"], PATTERN)
    pending.add(["a"], None)
    assert len(pending) == 2
    assert pending.concern(["x", "a"])
    assert not pending.concern(["x"])
    deletes = Deletes(pending)
    assert deletes.replay() == [("delete", ["a", "b"])]
    assert not pending
    assert deletes.replay() == [("delete", ["a", "b"])]


def test_a_clear_is_concerned_by_its_prefix(pending):
    """Its glob is no key: what happens to be called like that is another's."""
    pending.add([PATTERN.glob], None)
    assert pending.concern(_keys_of((PATTERN.glob,)))
    assert not pending.concern(_keys_of((PATTERN,)))
    pending.add_clear(PATTERN)
    assert pending.concern(_keys_of((PATTERN,)))


def test_a_failed_delete_stays_pending(pending):
    """What could not be deleted is tried again."""
    pending.add(["a"], None)
    deletes = Deletes(pending)
    deletes.fails = True
    with pytest.raises(L2Error):
        deletes.replay()
    assert len(pending) == 1
    deletes.fails = False
    assert deletes.replay() == [("delete", ["a"])]


def test_too_many_keys_become_a_clear(pending):
    """Beyond the limit the whole cache goes, and each of its keys is concerned."""
    pending.add([f"k{number}" for number in range(10)], PATTERN)
    assert len(pending) == 6
    assert pending.concern(["other", "p:any"])
    assert not pending.concern(["other"])
    assert Deletes(pending).replay() == [
        ("clear", PATTERN),
        ("delete", [f"k{number}" for number in range(5)]),
    ]
    assert not pending
    assert pending.lost == 0


def test_too_many_keys_without_a_pattern(pending, caplog):
    """They are counted and reported, once, and nothing else is forgotten."""
    pending.add([f"k{number}" for number in range(8)], None)
    assert pending.lost == 3
    assert len(caplog.records) == 1
    assert "k5" in caplog.text
    assert len(pending) == 5


def test_the_largest_pending_come_first(pending):
    """A flush, then clears, then keys."""
    pending.add(["a"], PATTERN)
    pending.add_clear(PATTERN)
    pending.add_flush()
    assert Deletes(pending).replay() == [
        ("flush", None),
        ("clear", PATTERN),
        ("delete", ["a"]),
    ]


def test_what_fails_during_the_replay_stays(pending):
    """A change that fails while its key is being deleted is replayed afterwards."""

    class Again(Deletes):
        async def delete(self, _keys):
            pending.add(["a"], None)

        async def clear(self, pattern):
            pending.add_clear(pattern)

        async def flush_db(self):
            pending.add_flush()

    pending.add(["a"], None)
    pending.add_clear(PATTERN)
    pending.add_flush()
    Again(pending).replay()
    assert len(pending) == 3


def test_callers_that_come_meanwhile_wait(pending):
    """Two threads replay once, and both go on only when it is done."""
    pending.add(["a"], None)
    begun, go_on = threading.Event(), threading.Event()
    order = []

    class Slow(Deletes):
        async def delete(self, _keys):
            begun.set()
            go_on.wait()
            order.append("replayed")

    def replay():
        Slow(pending).replay()
        order.append("went on")

    threads = [threading.Thread(target=replay, daemon=True) for _ in range(2)]
    threads[0].start()
    begun.wait()
    threads[1].start()
    eventually(lambda: pending._turn._queue)
    go_on.set()
    for thread in threads:
        thread.join()
    assert order == ["replayed", "went on", "went on"]


def test_a_thread_that_runs_a_loop_does_not_wait(pending):
    """The caller that replays may be a task of that loop: raise, at once."""
    pending.add(["a"], None)
    deletes = Deletes(pending)
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Suspending(Deletes):
        async def delete(self, _keys):
            begun.set()
            await go_on.wait()

    async def main():
        task = asyncio.create_task(pending.replay(Suspending(pending), TASKS))
        await begun.wait()
        with pytest.raises(L2UnavailableError, match="replayed"):
            deletes.replay()
        go_on.set()
        await task

    asyncio.run(main())
    assert not pending


def test_a_task_of_a_closed_loop_gives_its_turn_up(pending):
    """Its loop was closed while it replayed: the next caller goes on."""
    pending.add(["a"], None)
    begun = threading.Event()

    class Stuck(Deletes):
        async def delete(self, _keys):
            begun.set()
            await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()
    task = loop.create_task(pending.replay(Stuck(pending), TASKS))
    while not begun.is_set():
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    del task
    assert Deletes(pending).replay() == [("delete", ["a"])]
    assert not pending


def test_a_task_of_a_loop_that_does_not_run(pending):
    """Its loop may be this thread's to run: a caller does not wait for it for ever."""
    pending.add(["a"], None)
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Suspending(Deletes):
        async def delete(self, _keys):
            begun.set()
            await go_on.wait()

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        task = loop.create_task(pending.replay(Suspending(pending), TASKS))
        runner.run(begun.wait())
        with pytest.raises(L2UnavailableError, match="replayed"):
            Deletes(pending).replay()
        go_on.set()
        loop.run_until_complete(task)
    assert not pending


def test_a_turn_that_was_lost(pending):
    """A caller that was killed before it began holds the next one up for a moment."""
    pending.add(["a"], None)
    assert pending._turn.acquire_now("lost")
    with pytest.raises(L2UnavailableError, match="replayed"):
        Deletes(pending).replay()
    assert pending.concern(["a"])


def test_a_caller_that_interrupts_the_replay(pending):
    """A signal handler in the thread that replays does not wait for it."""
    pending.add(["a"], None)
    deletes = Deletes(pending)

    class Interrupted(Deletes):
        async def delete(self, keys):
            deletes.replay()
            await super().delete(keys)

    assert Interrupted(pending).replay() == [("delete", ["a"])]
    assert deletes.done == [("delete", ["a"])]
    assert not pending
    pending.add(["b"], None)
    assert deletes.replay()[1:] == [("delete", ["b"])]


def test_callers_that_wait_share_a_failure(pending):
    """A replay that fails has failed for all that waited: they do not try in turn."""
    pending.add(["k"], None)
    trying, goes_on, tries = threading.Event(), threading.Event(), []

    class Failing(Deletes):
        async def delete(self, _keys):
            tries.append(1)
            trying.set()
            goes_on.wait()
            raise L2UnavailableError("away") from OSError("no route")

    def replay():
        with pytest.raises(L2UnavailableError, match="away") as raised:
            Failing(pending).replay()
        return raised.value

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(replay)
        trying.wait()
        others = [pool.submit(replay) for _ in range(7)]
        eventually(lambda: len(pending._turn._queue) == 7)
        goes_on.set()
        errors = [each.result() for each in (first, *others)]
    assert len(tries) == 1
    assert len(set(map(id, errors))) == len(errors)
    assert all(isinstance(error.__cause__, OSError) for error in errors)
    assert pending.concern(["k"])


def test_a_later_caller_tries_again(pending):
    """One failure is not the last word."""
    pending.add(["k"], None)
    deletes = Deletes(pending)
    deletes.fails = True
    with pytest.raises(L2Error):
        deletes.replay()
    deletes.fails = False
    deletes.replay()
    assert not pending
