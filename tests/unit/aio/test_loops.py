"""Event loops come and go; connections, threads and memory stay what they are."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from cachebridge import UnsupportedOperationError
from cachebridge.engine.loading import single_flight
from tests.rig import (
    PATIENCE_S,
    PATIENT,
    engine_of,
    eventually,
    is_idle,
    listening,
    load_slots_of,
    lone_cache,
    pool_of,
    rules_of,
    task_pool_of,
    until,
)


def descriptors():
    return len(list(Path("/dev/fd").iterdir()))


async def some_calls(cache, number):
    await cache.aset("k", number)
    assert await cache.aget("k") == number
    assert await cache.aget_or_load(f"l{number % 10}", lambda: 1) == 1
    await asyncio.gather(*(cache.aget(f"absent{n}") for n in range(5)))


def _grown_by_loops(cache, run):
    """Return the bytes still allocated after 200 loops, by them or any other code."""
    tracemalloc.start()
    first = tracemalloc.get_traced_memory()[0]
    for number in range(100):
        run(some_calls(cache, number))
    rules_of(cache).trail.reset()  # it is bounded, and full of what was made here
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - first
    tracemalloc.stop()
    return grown


def test_hundreds_of_short_loops(redis_cache, run, untraced):
    """They share the pool's connections and leave nothing of their own."""
    for number in range(100):
        run(some_calls(redis_cache, number))
    gc.collect()
    before = descriptors(), threading.active_count()
    grew_each_time = all(_grown_by_loops(redis_cache, run) > 30_000 for _ in range(4))
    eventually(lambda: threading.active_count() <= before[1])
    assert descriptors() <= before[0] + 3  # a few more may have been busy at a time
    assert not grew_each_time  # by any object per loop
    assert is_idle(redis_cache)


def test_loops_of_many_threads(redis_cache, run):
    """Connections go from loop to loop, and no reply goes astray."""

    async def main(thread):
        for number in range(50):
            await redis_cache.aset(f"k{thread}", number)
            assert await redis_cache.aget(f"k{thread}") == number

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(run, main(thread)) for thread in range(4)]:
            future.result(PATIENCE_S)
    assert is_idle(redis_cache)


def test_threads_and_tasks_share_connections(redis_cache, run):
    """What a task has used, a thread uses next, and the other way round."""
    pool = pool_of(redis_cache)
    for number in range(5):
        run(redis_cache.aset("k", number))
        assert redis_cache.get("k") == number
    assert len(pool._idle) == 1


def test_loops_that_are_closed_in_the_middle(redis_cache, run):
    """A loop closed while calls wait for Redis: no warning, nothing stuck."""
    redis_cache.set("k", 1)
    for _ in range(20):
        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(redis_cache.aget("k")) for _ in range(3)]
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        for task in tasks:
            task._log_destroy_pending = False
        del tasks, task
        gc.collect()
        assert run(redis_cache.aget("k")) == 1
    gc.collect()
    assert is_idle(redis_cache)
    assert task_pool_of(redis_cache)._turns.free == 64


def begun(coroutine):
    """Return a new event loop that has gone as far as the call's first wait."""
    loop = asyncio.new_event_loop()
    loop.create_task(coroutine)  # noqa: RUF006 no other reference may hold it
    loop.call_soon(loop.stop)
    loop.run_forever()
    return loop


def abandon_when(coroutine, condition):
    """Close an event loop under a call when the condition holds."""
    loop = begun(coroutine)
    loop.run_until_complete(until(condition))
    loop.close()


def outcome_of(function, *args):
    """Return a thread's result; the test does not hang if the thread does."""
    future = Future()
    threading.Thread(
        target=lambda: future.set_result(function(*args)), daemon=True
    ).start()
    return future.result(PATIENCE_S)


@pytest.mark.parametrize("ended_by", ["a thread", "a task", "the end"])
def test_a_load_that_is_abandoned(cache, run, ended_by):
    """The next load of whatever key ends it; as garbage it would end anywhere."""
    started, ended = [], []

    async def load():
        started.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(threading.current_thread())

    # What is stopped gives no lease back: that one ends by itself, and soon.
    lease_ttl = 0.3 if ended_by == "the end" else 2 * PATIENCE_S
    abandon_when(cache.aget_or_load("k", load, lease_ttl=lease_ttl), lambda: started)
    gc.collect()
    assert not ended
    assert not is_idle(cache)
    if ended_by == "a thread":
        assert cache.get_or_load("other", lambda: 1) == 1
    elif ended_by == "a task":
        assert run(cache.aget_or_load("other", lambda: 1)) == 1
    else:
        engine_of(cache).stop(patience_s=0.05)
    assert ended == [threading.current_thread()]
    assert is_idle(cache)
    began = time.monotonic()
    assert cache.get_or_load("k", lambda: 2) == 2
    assert time.monotonic() - began < PATIENCE_S  # or the lease was not given back


def test_garbage_while_single_flight_is_locked(monkeypatch):
    """A collection there ends no load that takes the same lock: it would never come."""
    cache = lone_cache("memory://")
    started = []

    async def load():
        started.append(1)
        await asyncio.Event().wait()

    class Collecting(single_flight.SharedLoad):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            gc.collect()

    abandon_when(cache.aget_or_load("k", load), lambda: started)
    monkeypatch.setattr(single_flight, "SharedLoad", Collecting)
    assert outcome_of(cache.get_or_load, "other", lambda: 1) == 1
    assert is_idle(cache)


def test_a_slot_of_an_abandoned_call(redis_url):
    """A thread that loads does not wait for a task whose loop is closed."""
    cache = lone_cache(redis_url, max_loads=1)
    started = []

    async def load():
        started.append(1)
        await asyncio.Event().wait()

    abandon_when(cache.aget_or_load("k", load), lambda: started)
    assert outcome_of(cache.get_or_load, "other", lambda: 1) == 1
    assert load_slots_of(cache).free == 1


@pytest.mark.parametrize("error", [KeyError, asyncio.CancelledError])
def test_an_abandoned_caller_that_fails(redis_cache, run, caplog, error):
    """What a user's code raises when its task ends reaches no other caller."""

    async def call():
        try:
            await redis_cache.aget("k")
        finally:
            raise error("its own")

    run(redis_cache.aset("k", 1))
    begun(call()).close()
    assert run(redis_cache.aget("k")) == 1
    assert "its own" in caplog.text
    assert is_idle(redis_cache)
    assert task_pool_of(redis_cache)._turns.free == 64


def test_a_loop_that_is_closed_while_another_goes_on(redis_cache, run):
    """The other loop's next call ends the abandoned calls."""
    pool = task_pool_of(redis_cache)

    async def main():
        await redis_cache.aset("k", 1)
        lost = await asyncio.to_thread(begun, redis_cache.aget("k"))
        assert await redis_cache.aget("k") == 1
        lost.close()
        assert pool._turns.free == 63
        assert await redis_cache.aget("k") == 1
        assert pool._turns.free == 64

    run(main())


def test_hits_do_not_suspend(redis_url):
    """A hit is a coroutine that is over after its first step, without any loop."""
    cache = listening(lone_cache(redis_url))
    cache.set_many({"k": "v", "l": "w"})
    for coroutine, value in (
        (cache.aget("k"), "v"),
        (cache.aget_many(["k", "l"]), {"k": "v", "l": "w"}),
        (cache.ahas_key("k"), True),
        (cache.aget_or_load("k", None), "v"),
    ):
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)
        assert done.value.value == value


def test_one_round_trip(redis_url, shared_server, run):
    """What is one round trip for threads is one for tasks."""
    cache = lone_cache(redis_url, l1_max_entries=0)

    async def main():
        links = engine_of(cache).l2_for_tasks.client.links
        trips = []
        exchange = links.exchange

        def count(link, packed, replies):
            trips.append(packed)
            return exchange(link, packed, replies)

        links.exchange = count
        for call in (
            lambda: cache.aget("k"),
            lambda: cache.aset("k", 1),
            lambda: cache.aget_many(["k", "l"]),
            lambda: cache.aset_many({"k": 1, "l": 2}),
            lambda: cache.aincr("k"),
            lambda: cache.aadd("k", 1),
            lambda: cache.atouch("k", 1),
            lambda: cache.adelete_many(["k", "l"]),
        ):
            await call()  # the script becomes known
            trips.clear()
            if call.__code__.co_names[0] == "aincr":
                await cache.aset("k", 1)
                trips.clear()
            await call()
            assert len(trips) == 1, call.__code__.co_names

    run(cache.aset("k", 1))
    run(main())


def test_a_large_value_over_a_narrow_socket(redis_url, run):
    """What does not fit into the socket's buffer is sent as there is room for it."""
    large = os.urandom(20_000_000)
    cache = lone_cache(redis_url, **PATIENT)

    async def main():
        ticks = []
        ticker = asyncio.create_task(tick(ticks))
        await cache.aset("k", large)
        assert await cache.aget("k") == large
        ticker.cancel()
        return len(ticks)

    async def tick(ticks):
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    assert run(main()) > 2


def test_without_asyncio(redis_url):
    """Other libraries' loops are refused by name; a hit needs no loop."""
    cache = lone_cache(redis_url)
    with pytest.raises(UnsupportedOperationError, match=r"asyncio.*trio"):
        cache.aget("k").send(None)
    assert is_idle(cache)
    if find_spec("trio") is not None:
        import trio

        for call in (cache.aget, cache.adelete, lambda key: cache.aset(key, 1)):
            with pytest.raises(UnsupportedOperationError, match="asyncio"):
                trio.run(call, "k")
    assert is_idle(cache)


PROGRAM = """
import asyncio, sys
import cachebridge

async def slow():
    await asyncio.sleep(60)

async def main(cache):
    asyncio.get_running_loop().slow_callback_duration = 600  # the machine may be busy
    await cache.aset("k", 1)
    await asyncio.gather(*(cache.aget(f"k{n}") for n in range(20)))
    assert await cache.aget_or_load("s", lambda: 1, 0.01) == 1
    await asyncio.sleep(0.05)
    assert await cache.aget_or_load("s", slow, 60) == 1  # a refresh that never ends
    task = asyncio.create_task(cache.aget_or_load("never", slow))
    await asyncio.sleep(0.01)

cache = cachebridge.Cache(sys.argv[1], stale_ttl=60)
for number in range(3):
    asyncio.run(main(cache))
    cache.delete("s")
cache.get("k")
for call in cache.aget("l"), cache.aget_or_load("never", slow):  # closed under them
    loop = asyncio.new_event_loop()
    loop.slow_callback_duration = 600
    loop.create_task(call)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    del loop, call
"""


def test_nothing_is_left_at_exit(redis_url):
    """No ResourceWarning, un-awaited coroutine or pending task: -X dev -W error.

    Nor a load that ends when no thread can be started any more.
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, redis_url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


FORKING = """
import asyncio, os, sys
import cachebridge

cache = cachebridge.Cache(sys.argv[1], l1_max_entries=0)

async def both(who):
    for number in range(200):
        await cache.aset(who, number)
        assert await cache.aget(who) == number

asyncio.run(both("before"))
pid = os.fork()
asyncio.run(both("child" if pid == 0 else "parent"))
if pid:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print("fine")
"""


def test_fork(redis_url):
    """A child opens connections of its own: no reply goes to the other process."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, redis_url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "fine\n", done.stderr
