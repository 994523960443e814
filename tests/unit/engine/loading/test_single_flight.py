"""Threads and tasks share single-flight: one load per key, and no endless wait."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachebridge.engine.loading import single_flight
from tests.rig import (
    PATIENCE_S,
    engine_of,
    eventually,
    followers_in,
    is_idle,
    let_expire,
    listening,
    load_slots_of,
    lone_cache,
    until,
)

pytestmark = pytest.mark.parametrize("run", ["asyncio"], indirect=True)


LONG = {"lease_ttl": 2 * PATIENCE_S}
"""A lease that outlasts the patience of a test: waiting for its end is noticed."""


class Loader:
    """Waits until told to go on; counts."""

    def __init__(self, value="loaded"):
        self.calls = 0
        self.value = value
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self):
        self.calls += 1
        self.started.set()
        await self.go_on.wait()
        return self.value


def test_many_tasks_one_load(cache, run):
    """The loader runs once; each caller gets a copy of its own."""

    async def main():
        loader = Loader({"list": [1]})
        tasks = [
            asyncio.create_task(cache.aget_or_load("k", loader)) for _ in range(100)
        ]
        await until(lambda: followers_in(cache) == 99)
        loader.go_on.set()
        values = await asyncio.gather(*tasks)
        assert values == [{"list": [1]}] * 100
        assert len({id(value["list"]) for value in values}) == 100
        assert loader.calls == 1

    run(main())
    assert is_idle(cache)


def test_a_plain_loader(cache, run):
    """A loader need not be a coroutine function."""
    assert run(cache.aget_or_load("k", lambda: 7)) == 7
    assert run(cache.aget("k")) == 7


def test_a_thread_follows_a_task(cache, run):
    """A thread that asks while a task loads gets the task's value."""

    async def main():
        loader = Loader()
        task = asyncio.create_task(cache.aget_or_load("k", loader))
        await loader.started.wait()
        thread = asyncio.create_task(
            asyncio.to_thread(cache.get_or_load, "k", lambda: "thread's")
        )
        await until(lambda: followers_in(cache) == 1)
        loader.go_on.set()
        assert await thread == await task == "loaded"

    run(main())
    assert is_idle(cache)


def test_a_task_follows_a_thread(cache, run):
    """A task waits for a thread's load, and its loop goes on meanwhile."""
    started, go_on = threading.Event(), threading.Event()

    def load():
        started.set()
        assert go_on.wait(PATIENCE_S)
        return "thread's"

    async def main():
        with ThreadPoolExecutor(1) as pool:
            thread = pool.submit(cache.get_or_load, "k", load)
            await asyncio.to_thread(started.wait)
            task = asyncio.create_task(cache.aget_or_load("k", Loader()))
            await until(lambda: followers_in(cache) == 1)
            for _ in range(10):
                await asyncio.sleep(0.001)
            go_on.set()
            assert await task == thread.result() == "thread's"

    run(main())
    assert is_idle(cache)


def test_tasks_of_two_loops(cache, run):
    """A task follows one of another loop, in another thread."""
    loader_runs, go_on = threading.Event(), threading.Event()
    calls = []

    async def load():
        calls.append(1)
        loader_runs.set()
        await asyncio.to_thread(go_on.wait, 5)
        return "first's"

    async def follow():
        task = asyncio.create_task(cache.aget_or_load("k", load))
        await until(lambda: followers_in(cache) == 1)
        go_on.set()
        return await task

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(asyncio.run, cache.aget_or_load("k", load))
        loader_runs.wait(PATIENCE_S)
        second = pool.submit(asyncio.run, follow())
        assert first.result(PATIENCE_S) == second.result(PATIENCE_S) == "first's"
    assert calls == [1]
    assert is_idle(cache)


# -- the traps -------------------------------------------------------------------------


def test_a_cancelled_follower(cache, run):
    """It leaves; the shared load and the other followers go on."""

    async def main():
        loader = Loader()
        leader = asyncio.create_task(cache.aget_or_load("k", loader))
        await loader.started.wait()
        followers = [
            asyncio.create_task(cache.aget_or_load("k", loader)) for _ in range(5)
        ]
        await until(lambda: followers_in(cache) == 5)
        followers[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await followers.pop(2)
        loader.go_on.set()
        assert await asyncio.gather(leader, *followers) == ["loaded"] * 5
        assert loader.calls == 1

    run(main())
    assert is_idle(cache)


def test_a_cancelled_leader_hands_over(cache, run):
    """The next in line loads, and need not wait for the lease to run out."""

    async def main():
        loader = Loader()
        leader = asyncio.create_task(cache.aget_or_load("k", loader, **LONG))
        await loader.started.wait()
        follower = asyncio.create_task(cache.aget_or_load("k", loader, **LONG))
        await until(lambda: followers_in(cache) == 1)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        await until(lambda: loader.calls == 2)
        loader.go_on.set()
        async with asyncio.timeout(PATIENCE_S):  # LEASE_TTL is longer
            assert await follower == "loaded"

    run(main())
    assert is_idle(cache)


def test_a_cancelled_leader_hands_over_to_another_process(redis_url, run):
    """The lease is given back in the background: a peer loads at once."""
    one, two = (listening(lone_cache(redis_url)) for _ in range(2))

    async def main():
        loader = Loader()
        leader = asyncio.create_task(one.aget_or_load("k", loader, **LONG))
        await loader.started.wait()
        peer = asyncio.create_task(two.aget_or_load("k", lambda: "peer's", **LONG))
        await until(lambda: two.stats().lease_waits == 1)
        leader.cancel()
        assert await asyncio.wait_for(peer, PATIENCE_S) == "peer's"

    run(main())
    assert is_idle(one)
    assert is_idle(two)


def test_a_failed_leader_shares_its_failure(cache, run):
    """Tasks and threads that wait raise copies of what the loader has raised."""
    calls, started, go_on = [], asyncio.Event(), asyncio.Event()

    async def load():
        calls.append(1)
        started.set()
        await go_on.wait()
        raise LookupError("down")

    async def main():
        tasks = [asyncio.create_task(cache.aget_or_load("k", load)) for _ in range(5)]
        await started.wait()
        threads = [
            asyncio.create_task(asyncio.to_thread(cache.get_or_load, "k", Loader()))
            for _ in range(5)
        ]
        await until(lambda: followers_in(cache) == 9)
        go_on.set()
        errors = await asyncio.gather(*tasks, *threads, return_exceptions=True)
        assert [str(each) for each in errors] == ["down"] * 10
        assert len(set(map(id, errors))) == 10

    run(main())
    assert calls == [1]
    assert is_idle(cache)


def test_a_plain_call_on_the_loop_of_the_leader(cache, run):
    """It would wait for a task that it keeps from running: it loads by itself."""

    async def main():
        loader = Loader()
        leader = asyncio.create_task(cache.aget_or_load("k", loader, **LONG))
        await loader.started.wait()
        assert cache.get_or_load("k", lambda: "own", **LONG) == "own"
        assert not loader.go_on.is_set()
        loader.go_on.set()
        assert await leader in {"own", "loaded"}

    run(main())
    assert is_idle(cache)


def test_a_plain_call_while_a_thread_leads_that_needs_the_loop(cache, run):
    """The leader is a thread whose loader asks the very loop that would be blocked."""

    async def main():
        loop = asyncio.get_running_loop()
        started = threading.Event()

        def load():
            started.set()
            return asyncio.run_coroutine_threadsafe(give(), loop).result(PATIENCE_S)

        async def give():
            return "from the loop"

        thread = asyncio.create_task(asyncio.to_thread(cache.get_or_load, "k", load))
        await asyncio.to_thread(started.wait)
        assert cache.get_or_load("k", lambda: "own") in {"own", "from the loop"}
        assert await thread in {"own", "from the loop"}

    run(main())
    assert is_idle(cache)


@pytest.mark.parametrize("kind", ["a task", "a thread that needs the loop"])
def test_a_plain_call_on_the_loop_of_a_refresh(cache, run, kind):
    """It would wait for a lease that ends no sooner: it loads beside its owner."""

    async def main():
        loader = Loader("refreshed")
        refresh = loader.__call__ if kind == "a task" else lambda: loader()  # noqa: PLW0108
        await cache.aget_or_load("k", lambda: "old", ttl=0.02, stale_ttl=60)
        await asyncio.sleep(0.05)
        assert await cache.aget_or_load("k", refresh, ttl=60, stale_ttl=60) == "old"
        await loader.started.wait()
        assert cache.get_or_load("k", lambda: "own", stale_ttl=0) == "own"
        assert cache.stats().lease_waits == 0
        loader.go_on.set()
        engine = engine_of(cache)
        await until(engine.refresher.is_idle)
        await until(engine.task_refresher.is_idle)

    run(main())
    assert is_idle(cache)


ASK = {
    "await": lambda cache, load: cache.aget_or_load("k", load),
    "a task": lambda cache, load: asyncio.create_task(cache.aget_or_load("k", load)),
    "gather": lambda cache, load: first_of(cache.aget_or_load("k", load)),
    "a thread": lambda cache, load: asyncio.to_thread(
        cache.get_or_load, "k", lambda: "base"
    ),
    "a plain call": lambda cache, load: finished(
        cache.get_or_load("k", lambda: "base")
    ),
    "timeout": lambda cache, load: asyncio.wait_for(
        cache.aget_or_load("k", load), PATIENCE_S
    ),
}


async def first_of(*awaitables):
    return (await asyncio.gather(*awaitables))[0]


async def finished(value):
    return value


@pytest.mark.parametrize("ask", ASK)
def test_a_loader_that_asks_for_its_own_key(cache, run, ask):
    """From wherever it asks, it loads by itself instead of waiting for itself."""
    depth = []

    async def load():
        depth.append(1)
        if len(depth) < 3:
            return await ASK[ask](cache, load) + "!"
        return "base"

    async def main():
        async with asyncio.timeout(PATIENCE_S):
            return await cache.aget_or_load("k", load)

    assert run(main()).startswith("base")
    assert is_idle(cache)


def test_loaders_that_need_each_other(cache, run):
    """Two tasks crosswise, a task and a thread crosswise: none waits for ever."""

    async def main(other_in_thread):
        both = threading.Barrier(2)

        def ask_plain():
            both.wait(PATIENCE_S)
            return cache.get_or_load("a", lambda: "a-inner")

        async def ask(key):
            await asyncio.to_thread(both.wait, 5)
            return await cache.aget_or_load(key, lambda: f"{key}-inner")

        one = cache.aget_or_load("a", lambda: ask("b"))
        if other_in_thread:
            two = asyncio.to_thread(cache.get_or_load, "b", ask_plain)
        else:
            two = cache.aget_or_load("b", lambda: ask("a"))
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.gather(one, two)

    for other_in_thread in (False, True):
        assert all(run(main(other_in_thread)))
        cache.delete_many(["a", "b"])
    assert is_idle(cache)


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
def test_a_loader_that_stops_an_iteration(cache, run, error, kind):
    """No coroutine can raise StopIteration: a RuntimeError says so; nothing remains."""

    def fail():
        raise error("x")

    async def afail():
        raise error("x")

    loader = fail if kind == "plain" else afail
    expected = RuntimeError if error is StopIteration else StopAsyncIteration
    with pytest.raises(expected) as caught:
        run(cache.aget_or_load("k", loader))
    if error is StopIteration:
        assert isinstance(caught.value.__cause__, StopIteration)
    assert is_idle(cache)
    assert run(cache.aget_or_load("k", lambda: 1)) == 1


def test_what_outlives_the_load_that_started_it(cache, run):
    """A chain of tasks, each started by the loader before, leads no more than its own.

    All that they have ever led would be in their context otherwise, for ever.
    """
    led, tasks = [], []

    async def load():
        led.append(len(single_flight._leading.get()))
        if len(led) < 50:
            tasks.append(asyncio.create_task(load_next(tasks[-1])))
        return len(led)

    async def load_next(previous):
        await previous
        return await cache.aget_or_load(f"k{len(led)}", load)

    async def main():
        tasks.append(asyncio.create_task(cache.aget_or_load("k", load)))
        while len(led) < 50:
            await tasks[-1]
        assert await tasks[-1] == 50

    run(main())
    assert led == [1] * 50
    assert is_idle(cache)


# -- limits and refreshes --------------------------------------------------------------


def test_max_loads_holds_for_threads_and_tasks_together(redis_url, run):
    """Never more loaders than MAX_LOADS; a plain call on the loop goes without."""
    cache = lone_cache(redis_url, max_loads=3)
    running, most = [], []

    async def load():
        running.append(1)
        most.append(len(running))
        await asyncio.sleep(0.01)
        running.pop()
        return 1

    def load_plain():
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return 1

    async def main():
        await asyncio.gather(
            *[cache.aget_or_load(f"t{n}", load) for n in range(20)],
            *[
                asyncio.to_thread(cache.get_or_load, f"p{n}", load_plain)
                for n in range(6)
            ],
        )

    run(main())
    assert max(most) == 3

    async def blocked():
        loader = Loader()
        tasks = [
            asyncio.create_task(cache.aget_or_load(f"b{n}", loader)) for n in range(3)
        ]
        await until(lambda: loader.calls == 3)
        assert cache.get_or_load("own", lambda: "own") == "own"
        cancelled = asyncio.create_task(cache.aget_or_load("waits", loader))
        await until(lambda: load_slots_of(cache)._queue)
        cancelled.cancel()
        loader.go_on.set()
        assert await asyncio.gather(*tasks) == ["loaded"] * 3
        assert await cache.aget_or_load("after", lambda: 1) == 1

    run(blocked())
    assert load_slots_of(cache).free == 3
    assert is_idle(cache)


def test_max_loads_holds_for_what_outlives_a_load(redis_url, run):
    """A slot that its load has given back counts for nothing that the load started."""
    cache = lone_cache(redis_url, max_loads=1)
    slots = load_slots_of(cache)

    async def main():
        over, late, busy = asyncio.Event(), Loader("late"), Loader("busy")
        tasks = []

        async def load():
            tasks.append(asyncio.create_task(load_later()))
            return "first"

        async def load_later():
            await over.wait()
            return await cache.aget_or_load("late", late)

        assert await cache.aget_or_load("k", load) == "first"
        tasks.append(asyncio.create_task(cache.aget_or_load("busy", busy)))
        await busy.started.wait()
        over.set()
        await until(lambda: slots._queue or late.calls)
        assert not late.calls
        late.go_on.set()
        busy.go_on.set()
        assert await asyncio.gather(*tasks) == ["late", "busy"]
        assert slots.free == 1

    run(main())
    assert is_idle(cache)


@pytest.mark.parametrize("kind", ["async", "plain", "lambda"])
def test_refreshes_in_the_background(cache, run, kind, redis_url):
    """A coroutine function as a task on the caller's loop, a plain one in a thread."""
    cache = lone_cache(redis_url, stale_ttl=60)
    calls, threads = [], []

    async def aload():
        await asyncio.sleep(0.01)
        return load()

    def load():
        calls.append(1)
        threads.append(threading.get_ident())
        return len(calls)

    loaders = {"async": aload, "plain": load, "lambda": lambda: aload()}  # noqa: PLW0108
    loader = loaders[kind]

    async def main():
        assert await cache.aget_or_load("k", loader, ttl=0.05) == 1
        await asyncio.sleep(0.1)
        assert await cache.aget_or_load("k", loader, ttl=60) == 1
        await until(lambda: len(calls) == 2)
        engine = engine_of(cache)
        await until(engine.refresher.is_idle)
        await until(engine.task_refresher.is_idle)
        assert await cache.aget_or_load("k", loader, ttl=60) == 2
        return threading.get_ident()

    here = run(main())
    assert (threads[1] == here) == (kind != "plain")
    assert is_idle(cache)


def test_refreshes_of_a_loop_that_ends(redis_url, run):
    """They are cancelled with it: no warning, no key that stays reserved."""
    cache = lone_cache(redis_url, stale_ttl=60)
    engine = engine_of(cache)

    async def never():
        await asyncio.Event().wait()

    for _ in range(3):
        run(cache.aget_or_load("k", lambda: 1, ttl=0.03))
        let_expire(0.03)
        run(cache.aget_or_load("k", never, ttl=60))
        assert engine.task_refresher.is_idle()
        eventually(engine.refresher.is_idle)
        # And a loop that is closed without a word.
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(cache.aget_or_load("k", never, ttl=60)) == 1
        loop.close()
        assert engine.task_refresher.is_idle()
        cache.delete("k")
    assert is_idle(cache)


def test_a_leader_lost_with_its_loop(cache, run, monkeypatch):
    """Who follows a task of a loop that was closed under it does not wait for ever."""
    monkeypatch.setattr("cachebridge.engine.loading.single_flight.DOUBT_S", 0.05)

    leading = []

    async def never():
        leading.append(1)
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    lost = loop.create_task(cache.aget_or_load("k", never, lease_ttl=0.3))
    loop.run_until_complete(until(lambda: leading))
    with ThreadPoolExecutor(1) as pool:
        follower = pool.submit(  # it would follow for longer than the test waits
            cache.get_or_load, "k", lambda: "follower's", lease_ttl=2 * PATIENCE_S
        )
        eventually(lambda: followers_in(cache) == 1)
        loop.close()
        assert follower.result(PATIENCE_S) == "follower's"
    lost._log_destroy_pending = False
    lost.get_coro().close()
    del lost
    assert run(cache.aget_or_load("k", never)) == "follower's"
    assert is_idle(cache)
