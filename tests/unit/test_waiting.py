"""Signals and slots, for threads and tasks together."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from cachebridge import UnsupportedOperationError
from cachebridge.waiting.closed_loops import MOST_REFUSALS, HeldTasks
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import Carried, Steps, run
from cachebridge.waiting.signals import Signal, Slots, running_loop
from tests.rig import PATIENCE_S, until


def test_a_signal_wakes_threads_and_tasks():
    """Waiting callers go on, and later callers do not wait."""
    signal = Signal()

    async def main():
        with ThreadPoolExecutor(2) as pool:
            threads = [pool.submit(signal.wait, PATIENCE_S) for _ in range(2)]
            tasks = [
                asyncio.create_task(signal.wait_async(PATIENCE_S)) for _ in range(2)
            ]
            await until(lambda: len(signal._waiting) == 4)
            assert signal.set()
            assert await asyncio.gather(*tasks) == [True, True]
            assert [thread.result(PATIENCE_S) for thread in threads] == [True, True]
        assert await signal.wait_async()
        assert signal.wait()

    asyncio.run(main())


def test_a_signal_that_does_not_come():
    """The wait ends in time, says so, and leaves no waiter."""
    signal = Signal()
    assert not signal.wait(0.01)
    assert not asyncio.run(signal.wait_async(0.01))
    assert not signal._waiting
    signal.set()
    signal.clear()
    assert not signal.wait(0)


def test_a_signal_to_a_closed_loop():
    """Its tasks are not told; the other waiters are."""
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

    def work(self):
        for _ in range(200):
            ticket = object()
            if self._slots.acquire(ticket, self._chance.choice([None, 0, 0.001])):
                self._enter()
                time.sleep(0)
                self._leave()
            self._slots.release(ticket)

    async def task(self):
        for _ in range(200):
            took, ticket = False, object()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._chance.choice([0.001, PATIENCE_S])):
                    took = await self._slots.acquire_async(
                        ticket, self._chance.choice([None, 0.001])
                    )
            if took:
                self._enter()
                await asyncio.sleep(0)
                self._leave()
            self._slots.release(ticket)

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
            future.result(2 * PATIENCE_S)
    assert users.most == 3
    assert slots.free == 3
    assert not slots._queue


def test_a_turn_that_comes_before_its_owner_waits():
    """A slot handed over between asking and waiting is had once."""
    slots, turn = Slots(1), Signal()
    assert slots.acquire("first")
    assert slots._queue_up("second", turn)
    slots.release("first")
    assert turn.wait(0)
    assert slots._settle("second")
    assert slots.free == 0
    assert not slots.acquire("third", 0)
    slots.release("second")
    assert slots.free == 1


def test_slots_pass_over_closed_loops():
    """A slot is not handed to a task whose loop is closed."""
    slots = Slots(1)
    assert slots.acquire("thread's")
    loop = asyncio.new_event_loop()
    task = loop.create_task(slots.acquire_async("task's"))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    slots.release("thread's")
    assert slots.free == 1
    assert not slots._queue
    task._log_destroy_pending = False
    task.get_coro().close()
    assert slots.free == 1


def test_a_ticket_is_released_as_often_as_one_likes():
    """It counts once, also if it has never had a slot, and others keep theirs."""
    slots = Slots(1)
    assert slots.acquire("first")
    assert slots.has("first")
    for ticket in ("second", "first", "first"):
        slots.release(ticket)
    assert slots.free == 1
    assert slots.acquire("third")
    slots.release("first")
    assert slots.free == 0


async def hold_for_ever(held, endings):
    """Never let go; note it when the end comes all the same."""
    hold = object()
    held.hold(hold)
    try:
        await asyncio.Event().wait()
    finally:
        held.release(hold, None)
        endings.append("ended")


def abandon(coroutine):
    """Close an event loop while its task waits; no other reference holds the task."""
    loop = asyncio.new_event_loop()
    loop.create_task(coroutine)  # noqa: RUF006 no other reference may hold it
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


async def pass_by(held):
    hold = object()
    held.hold(hold)
    held.release(hold, None)


def test_a_held_task_is_no_garbage():
    """One of a closed loop ends when the next loop comes by, and never by itself."""
    held, endings = HeldTasks(), []
    abandon(hold_for_ever(held, endings))
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
        held.hold(object())
        await hold_for_ever(held, endings)

    held, endings = HeldTasks(), []
    abandon(hold_twice())
    barrier = threading.Barrier(8)

    def come_by():
        barrier.wait(PATIENCE_S)
        held.end_lost()

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(come_by) for _ in range(8)]:
            future.result(PATIENCE_S)
    assert len(endings) == 1
    assert not held._tasks


def test_a_lost_task_that_is_held_in_two_places(caplog):
    """Who comes by while another thread ends it goes on at once."""
    begun, go_on = threading.Event(), threading.Event()

    async def end_slowly():
        two.hold(object())
        try:
            await hold_for_ever(one, endings)
        finally:
            begun.set()
            assert go_on.wait(PATIENCE_S)

    one, two, endings = HeldTasks(), HeldTasks(), []
    abandon(end_slowly())
    with ThreadPoolExecutor(1) as pool:
        ender = pool.submit(one.end_lost)
        assert begun.wait(PATIENCE_S)
        two.end_lost()
        go_on.set()
        ender.result(PATIENCE_S)
    assert len(endings) == 1
    assert not caplog.text


@pytest.mark.parametrize("error", [KeyError, asyncio.CancelledError])
def test_a_lost_task_that_fails(caplog, error):
    """What its own code raises is logged, and comes out of no other call."""

    async def fail():
        try:
            await hold_for_ever(held, endings)
        finally:
            raise error("its own")

    held, endings = HeldTasks(), []
    abandon(fail())
    held.end_lost()
    assert len(endings) == 1
    assert "its own" in caplog.text


def test_a_lost_task_that_goes_on_awaiting():
    """It is told to end again and again, but not for ever."""
    held, refusals = HeldTasks(), []

    async def refuse(times):
        held.hold(object())
        while len(refusals) < times:
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            except GeneratorExit:
                refusals.append("no")

    for times in (MOST_REFUSALS, MOST_REFUSALS + 1):  # the last as garbage
        refusals.clear()
        abandon(refuse(times))
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


class Awaited:
    """Suspends once, as a future of an event loop does."""

    def __await__(self):
        yield self


def test_run_refuses_what_suspends():
    """A coroutine for tasks is closed, and the error says what it was."""
    ended = []

    async def for_tasks():
        try:
            await Awaited()
        finally:
            ended.append("closed")

    with pytest.raises(RuntimeError, match="made for tasks"):
        run(for_tasks())
    assert ended == ["closed"]


def test_run_carries_results_and_errors():
    """What the coroutine returns or raises, StopIteration in ``Carried`` among it."""

    async def answer(error=None):
        if error is not None:
            raise error
        return await nested()

    async def nested():
        return run(in_between()), "value"

    async def in_between():
        return "nested"

    assert run(answer()) == ("nested", "value")
    for error in (KeyError("k"), KeyboardInterrupt(), GeneratorExit()):
        with pytest.raises(type(error)):
            run(answer(error))
    with pytest.raises(StopIteration):
        run(answer(Carried(StopIteration("a loader's"))))


def test_a_slot_without_waiting():
    """Only a free one; those who wait for one are not passed over."""
    slots = Slots(1)
    assert slots.acquire_now("first")
    assert not slots.acquire_now("second")
    assert slots._queue_up("third", Signal())
    slots.release("first")
    assert not slots.acquire_now("second"), "it was handed to the queue"
    assert slots._settle("third")
    slots.release("third")
    assert slots.acquire_now("second")


def test_run_makes_the_calls_of_a_coroutine():
    """Outside of its frames; what they raise comes back into it."""

    def depth():
        return len(traceback.extract_stack())

    async def work():
        async def inner():
            return await THREADS.call(depth)

        found = await inner()
        try:
            await THREADS.call(lambda: {}["missing"])
        except KeyError as exc:
            return found, str(exc)

    assert run(work()) == (depth() + 2, "'missing'")
    with Steps(work()) as steps:
        while steps.go_on():
            steps.answer = steps.function()
    assert steps.result == (depth(), "'missing'")


def test_steps_end_what_they_have_begun():
    """If their owner is interrupted, the coroutine ends; what suspends is refused."""
    ended = []

    async def work(*, suspends=False):
        try:
            await (Awaited() if suspends else THREADS.call(str))
        finally:
            ended.append("ended")

    for begins in (False, True):
        with pytest.raises(ZeroDivisionError), Steps(work()) as steps:
            assert [begins and steps.go_on(), 1 / 0]
    assert ended == ["ended"]
    with (
        pytest.raises(RuntimeError, match="made for tasks"),
        Steps(work(suspends=True)) as steps,
    ):
        steps.go_on()
    assert ended == ["ended"] * 2
