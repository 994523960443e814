"""Signals and slots, for threads and tasks together."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from cachebridge import UnsupportedOperationError
from cachebridge.waiting import MOST_REFUSALS, HeldTasks, Signal, Slots, running_loop
from tests.aio.conftest import until


def test_a_signal_wakes_threads_and_tasks():
    """Whoever waits goes on, whoever comes later does not wait."""
    signal = Signal()

    async def main():
        with ThreadPoolExecutor(2) as pool:
            threads = [pool.submit(signal.wait, 5) for _ in range(2)]
            tasks = [asyncio.create_task(signal.wait_async(5)) for _ in range(2)]
            await until(lambda: len(signal._waiting) == 4)
            assert signal.set()
            assert await asyncio.gather(*tasks) == [True, True]
            assert [thread.result(5) for thread in threads] == [True, True]
        assert await signal.wait_async()
        assert signal.wait()

    asyncio.run(main())


def test_a_signal_that_does_not_come():
    """The wait ends in time, says so, and leaves nothing behind."""
    signal = Signal()
    assert not signal.wait(0.01)
    assert not asyncio.run(signal.wait_async(0.01))
    assert not signal._waiting
    signal.set()
    signal.clear()
    assert not signal.wait(0)


def test_a_signal_to_a_closed_loop():
    """Nobody is told there; the others are."""
    signal = Signal()
    loop = asyncio.new_event_loop()
    task = loop.create_task(signal.wait_async())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert not signal.set()
    task._log_destroy_pending = False
    task.get_coro().close()


class Users:
    """Counts who holds a slot."""

    def __init__(self, slots):
        self._slots = slots
        self._chance = random.Random(4)
        self._lock = threading.Lock()
        self._held = self.most = 0

    def _enter(self):
        with self._lock:
            self._held += 1
            self.most = max(self.most, self._held)

    def _leave(self):
        with self._lock:
            self._held -= 1
        self._slots.release()

    def work(self):
        for _ in range(200):
            if self._slots.acquire(self._chance.choice([None, 0, 0.001])):
                self._enter()
                time.sleep(0)
                self._leave()

    async def task(self):
        for _ in range(200):
            took = False
            with suppress(TimeoutError):
                async with asyncio.timeout(self._chance.choice([0.001, 5])):
                    took = await self._slots.acquire_async(
                        self._chance.choice([None, 0.001])
                    )
            if took:
                self._enter()
                await asyncio.sleep(0)
                self._leave()

    async def tasks(self):
        await asyncio.gather(*(self.task() for _ in range(5)))


def test_slots_are_never_more_than_there_are():
    """Threads and tasks at random: no slot is lost, none is given twice."""
    slots = Slots(3)
    users = Users(slots)
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(users.work) for _ in range(4)]
        futures += [pool.submit(asyncio.run, users.tasks()) for _ in range(2)]
        for future in futures:
            future.result(60)
    assert users.most == 3
    assert slots.free == 3
    assert not slots._queue
    assert not slots._handed


def test_a_turn_that_comes_before_its_owner_waits():
    """A slot handed over between asking and waiting is had once."""
    slots = Slots(1)
    assert slots.acquire()
    turn = slots._queue_up()
    slots.release()
    assert turn.wait(0)
    slots._settle(turn, has_come=True)
    assert slots.free == 0
    assert not slots.acquire(0)
    slots.release()
    assert slots.free == 1


def test_slots_pass_over_closed_loops():
    """A slot is not handed to a task that nobody runs any more."""
    slots = Slots(1)
    assert slots.acquire()
    loop = asyncio.new_event_loop()
    task = loop.create_task(slots.acquire_async())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    slots.release()
    assert slots.free == 1
    task._log_destroy_pending = False
    task.get_coro().close()
    assert slots.free == 1
    assert not slots._queue


async def hold_for_ever(held, endings):
    """Never let go; note it when the end comes all the same."""
    hold = held.hold()
    try:
        await asyncio.Event().wait()
    finally:
        held.release(hold)
        endings.append("ended")


def leave_behind(coroutine):
    """Close an event loop while a task of it waits; nobody else knows the task."""
    loop = asyncio.new_event_loop()
    loop.create_task(coroutine)  # noqa: RUF006 nobody else is to hold it
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


async def pass_by(held):
    held.release(held.hold())


def test_a_held_task_is_no_garbage():
    """One of a closed loop ends when the next loop comes by, and never by itself."""
    held, endings = HeldTasks(), []
    leave_behind(hold_for_ever(held, endings))
    gc.collect()
    assert not endings
    asyncio.run(pass_by(held))
    assert len(endings) == 1
    assert not held._tasks
    asyncio.run(pass_by(held))
    assert len(held._loops) == 1


def test_a_task_of_a_running_loop_goes_on():
    """Only a closed loop is no reason to wait any more; a stopped one may run again."""
    held, endings = HeldTasks(), []
    loop = asyncio.new_event_loop()
    task = loop.create_task(hold_for_ever(held, endings))
    loop.run_until_complete(asyncio.sleep(0))
    asyncio.run(pass_by(held))
    held.end_lost()
    assert not endings
    task.cancel()
    with suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    assert len(endings) == 1
    assert not held._tasks


def test_a_lost_task_is_ended_once():
    """By one thread of many that come by, and for all that it was held for."""

    async def hold_twice():
        held.hold()
        await hold_for_ever(held, endings)

    held, endings = HeldTasks(), []
    leave_behind(hold_twice())
    barrier = threading.Barrier(8)

    def come_by():
        barrier.wait(5)
        held.end_lost()

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(come_by) for _ in range(8)]:
            future.result(5)
    assert len(endings) == 1
    assert not held._tasks


def test_a_lost_task_that_is_held_in_two_places(caplog):
    """Who comes by while another thread ends it goes on at once."""
    begun, go_on = threading.Event(), threading.Event()

    async def end_slowly():
        two.hold()
        try:
            await hold_for_ever(one, endings)
        finally:
            begun.set()
            assert go_on.wait(5)

    one, two, endings = HeldTasks(), HeldTasks(), []
    leave_behind(end_slowly())
    with ThreadPoolExecutor(1) as pool:
        ender = pool.submit(one.end_lost)
        assert begun.wait(5)
        two.end_lost()
        go_on.set()
        ender.result(5)
    assert len(endings) == 1
    assert not caplog.text


@pytest.mark.parametrize("error", [KeyError, asyncio.CancelledError])
def test_a_lost_task_that_fails(caplog, error):
    """What its own code raises is logged, and comes out of nobody else's call."""

    async def fail():
        try:
            await hold_for_ever(held, endings)
        finally:
            raise error("its own")

    held, endings = HeldTasks(), []
    leave_behind(fail())
    held.end_lost()
    assert len(endings) == 1
    assert "its own" in caplog.text


def test_a_lost_task_that_goes_on_awaiting():
    """It is told to end again and again, but not for ever."""
    held, refusals = HeldTasks(), []

    async def refuse(times):
        held.hold()
        while len(refusals) < times:
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            except GeneratorExit:
                refusals.append("no")

    for times in (MOST_REFUSALS, MOST_REFUSALS + 1):  # the last as garbage
        refusals.clear()
        leave_behind(refuse(times))
        held.end_lost()
        assert len(refusals) == times
        assert not held._tasks


def test_held_by_no_task():
    """A coroutine that something else than asyncio runs is not held, nor in the way."""
    held = HeldTasks()
    with pytest.raises(StopIteration):
        pass_by(held).send(None)
    assert not held._tasks
    assert not held._loops


def test_no_loop():
    """The error names what is missing."""
    with pytest.raises(UnsupportedOperationError, match="asyncio"):
        running_loop()
