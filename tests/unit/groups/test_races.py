"""Groups under contention: each missing argument is loaded once."""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.rig import (
    PATIENCE_S,
    engine_of,
    eventually,
    followers_in,
    is_idle,
    let_expire,
    listening,
    lone_cache,
    refreshed,
    until,
)
from tests.unit.groups.conftest import Products

THREADS = 8


def in_task(test):
    """Run a test that is a coroutine function, in a loop of its own."""

    @functools.wraps(test)
    def run(**fixtures):
        asyncio.run(asyncio.wait_for(test(**fixtures), 2 * PATIENCE_S))

    return run


class Held(Products):
    """A loader whose first run goes on when ``once`` is true."""

    def __init__(self, once):
        super().__init__()
        self._once = once

    def load(self, number):
        self._hold()
        return super().load(number)

    def load_many(self, numbers):
        self._hold()
        return super().load_many(numbers)

    def _hold(self):
        once, self._once = self._once, lambda: True
        eventually(once)


def together(calls):
    """Make all calls at the same time, a thread each; return what they return."""
    start = threading.Barrier(len(calls))

    def one(call):
        start.wait(PATIENCE_S)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_threads_and_one_argument(cache):
    """One of them loads; the others follow."""
    products = Held(lambda: followers_in(cache) == THREADS - 1)
    group = cache.group("product", products.load)
    found = together([lambda: group.get(1)] * THREADS)
    assert found == [{"number": 1}] * THREADS
    assert products.each == [1]
    assert len({id(each) for each in found}) == THREADS
    stats = group.stats()
    assert (stats.hits, stats.loads) == (THREADS - 1, 1)
    assert is_idle(cache)


def test_threads_and_one_batch(cache):
    """One of them loads the batch; the others follow."""
    products = Held(lambda: followers_in(cache) == THREADS - 1)
    group = cache.group("product", load_many=products.load_many)
    found = together([lambda: group.get_many([3, 1, 2])] * THREADS)
    assert found == [{each: {"number": each} for each in (3, 1, 2)}] * THREADS
    assert products.each == [1, 2, 3]
    assert is_idle(cache)


@pytest.mark.parametrize("max_loads", [None, 1])
def test_batches_that_overlap(redis_url, max_loads):
    """In whatever order they are asked for, no two wait for each other."""
    cache = listening(lone_cache(redis_url, lease_ttl=60, max_loads=max_loads))
    products = Products()
    group = cache.group("product", products.load, load_many=products.load_many)
    batches = [
        [0, 1, 2, 3],
        [3, 2, 1, 0],
        [2, 4],
        [4, 3],
        [5, 0],
        [1],
        [4, 5, 2],
        [0, 5],
    ]
    found = together([lambda batch=batch: group.get_many(batch) for batch in batches])
    assert [list(each) for each in found] == batches
    assert products.each == [0, 1, 2, 3, 4, 5]
    assert is_idle(cache)


def test_a_batch_and_one_argument(cache):
    """Who asks for one of the batch waits for it; the rest of the batch is not late."""
    products = Held(lambda: followers_in(cache) == 1)
    group = cache.group("product", products.load, load_many=products.load_many)
    together([lambda: group.get(2), lambda: group.get_many([1, 2, 3])])
    assert products.each == [1, 2, 3]


def test_invalidated_while_it_is_loaded(cache):
    """What was loaded before is returned, and not kept."""
    values = {1: "old", 2: "old"}
    loads = []

    def load_many(args):
        loads.append(list(args))
        loaded = {arg: values[arg] for arg in args}
        if len(loads) == 1:
            values[1] = "new"
            group.invalidate(1)
        return loaded

    group = cache.group("stock", load_many=load_many)
    assert group.get_many([1, 2]) == {1: "old", 2: "old"}
    assert group.get_many([1, 2]) == {1: "new", 2: "old"}
    assert loads == [[1, 2], [1]]


def test_refresh_does_not_take_what_was_loaded_before(cache):
    """It loads after it was called, also while another caller loads."""
    values = {1: "old"}
    reached, go_on = threading.Event(), threading.Event()

    def load(arg):
        value = values[arg]
        if not reached.is_set():
            reached.set()
            assert go_on.wait(PATIENCE_S)
        return value

    group = cache.group("stock", load)
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(group.get, 1)
        assert reached.wait(PATIENCE_S)
        values[1] = "new"
        after = pool.submit(group.refresh, 1)
        eventually(lambda: followers_in(cache) == 1)
        go_on.set()
        assert before.result() == "old"
        assert after.result() == "new"
    assert group.get(1) == "new"


def test_loaders_may_use_groups(cache):
    """A batch may be loaded from another group, and by itself from its own."""
    prices = cache.group(
        "price", load_many=lambda args: {arg: arg * 10 for arg in args}
    )

    def load_many(args):
        found = prices.get_many(args)
        return {arg: found[arg] + (tree.get(arg - 1) if arg else 0) for arg in args}

    tree = cache.group("tree", load_many=load_many)
    assert tree.get_many([3, 2]) == {3: 60, 2: 30}
    assert tree.get(4) == 100
    assert is_idle(cache)


# -- tasks -----------------------------------------------------------------------------


@in_task
async def test_tasks_and_one_batch(cache):
    """One of them loads the batch, also beside a thread; the others follow."""
    asked = []

    async def load_many(args):
        asked.extend(args)
        await until(lambda: followers_in(cache) == THREADS - 1)
        return {arg: [arg] for arg in args}

    group = cache.group("product", load_many=load_many)
    found = await asyncio.gather(*[group.aget_many([3, 1, 2]) for _ in range(THREADS)])
    assert found == [{3: [3], 1: [1], 2: [2]}] * THREADS
    assert sorted(asked) == [1, 2, 3]
    assert is_idle(cache)


@in_task
async def test_tasks_and_batches_that_overlap(cache):
    """No two wait for each other; each argument is loaded once."""
    asked = []

    async def load_many(args):
        asked.extend(args)
        await asyncio.sleep(0)
        return {arg: [arg] for arg in args}

    group = cache.group("product", load_many=load_many)
    batches = [
        [0, 1, 2, 3],
        [3, 2, 1, 0],
        [2, 4],
        [4, 3],
        [5, 0],
        [1],
        [4, 5, 2],
        [0, 5],
    ]
    found = await asyncio.gather(*map(group.aget_many, batches))
    assert [list(each) for each in found] == batches
    assert sorted(asked) == [0, 1, 2, 3, 4, 5]
    assert is_idle(cache)


@pytest.mark.parametrize("waits_in", ["loader", "batch"])
@in_task
async def test_a_batch_that_is_cancelled(cache, waits_in):
    """Its leases are given back: the next caller loads, and does not wait for them."""
    reached = asyncio.Event()

    async def load_many(args):
        if not reached.is_set():
            reached.set()
            await asyncio.Event().wait()
        return {arg: [arg] for arg in args}

    async def load(arg):
        return (await load_many([arg]))[arg]

    group = cache.group("product", load, load_many=load_many)
    ahead = None
    if waits_in == "batch":  # of three keys, the second is loaded by another task
        ahead = asyncio.create_task(group.aget(2))
        await reached.wait()
    task = asyncio.create_task(group.aget_many([1, 2, 3]))
    if ahead is None:
        await reached.wait()
    else:
        await until(lambda: followers_in(cache) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if ahead is not None:
        ahead.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ahead
    await until(engine_of(cache).refresher.is_idle)
    assert await group.aget_many([1, 2, 3]) == {1: [1], 2: [2], 3: [3]}
    assert is_idle(cache)


@in_task
async def test_awaited_twins(cache):
    """Plain and coroutine functions; what is known is not loaded again."""

    async def load(arg):
        return [arg]

    group = cache.group("twins", load)
    assert await group.aget(1) == [1]
    assert await group.aget_many([1, 2]) == {1: [1], 2: [2]}
    assert await group.arefresh(2) == [2]
    assert await group.ainvalidate(1)
    assert not await group.ainvalidate(1)
    batch = cache.group("batch", load_many=lambda args: {arg: [arg] for arg in args})
    assert await batch.aget(1) == [1]
    assert group.stats().loads == 3


# -- in the background -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["threads", "tasks", "coroutines"])
@in_task
async def test_stale_values_are_refreshed(redis_url, kind):
    """A batch of stale values is served; each is loaded alone in the background."""
    cache = listening(lone_cache(redis_url, lease_ttl=60))
    values = {1: "old", 2: "old"}

    def plain(args):
        return {arg: values[arg] for arg in args}

    async def awaited(args):
        return plain(args)

    load_many = awaited if kind == "coroutines" else plain
    group = cache.group("stock", load_many=load_many, ttl=1, stale_ttl=600)

    async def read():
        if kind == "threads":
            return await asyncio.to_thread(group.get_many, [1, 2])
        return await group.aget_many([1, 2])

    assert await read() == {1: "old", 2: "old"}
    values.update({1: "new", 2: "new"})
    await asyncio.to_thread(let_expire, 1)  # the copies last for minutes
    assert await read() == {1: "old", 2: "old"}
    await asyncio.to_thread(refreshed, cache)
    assert await read() == {1: "new", 2: "new"}
    assert group.stats().loads >= 4
