"""Django's asynchronous methods: native, all sixteen, with Django's own semantics."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.exceptions import SynchronousOnlyOperation
from django.utils.asyncio import async_unsafe

from cachebridge import ABSENT
from cachebridge.django_backend import CacheBridge
from tests.rig import PATIENCE_S, followers_in, pool_of, until
from tests.stores import CONNECTIONS
from tests.unit.django.support import hits_of

pytestmark = pytest.mark.every_store

SIXTEEN = {name for name in vars(BaseCache) if name.startswith("a") and name != "add"}


@pytest.fixture
def no_threads(monkeypatch):
    """Fail on any hop into a thread."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("a thread was asked for")

    monkeypatch.setattr(asyncio.BaseEventLoop, "run_in_executor", refuse)
    monkeypatch.setattr("asgiref.sync.SyncToAsync.__call__", refuse)


def test_there_are_sixteen():
    """What Django's base class has is what is tested here."""
    assert len(SIXTEEN) == 16


def test_every_method_is_native(cache, no_threads):
    """Each does what the one for threads does, and none goes through a thread."""

    async def main():
        await cache.aset("k", 1)
        assert await cache.aget("k") == 1
        assert await cache.aget("absent", "default") == "default"
        assert await cache.aadd("a", 1)
        assert not await cache.aadd("a", 2)
        assert await cache.atouch("k", 50)
        assert not await cache.atouch("absent", 50)
        assert await cache.ahas_key("k")
        assert await cache.aincr("k", 4) == 5
        assert await cache.adecr("k", 2) == 3
        assert await cache.aset_many({"m": 1, "n": 2}) == []
        assert await cache.aget_many(["m", "absent", "n"]) == {"m": 1, "n": 2}
        assert await cache.aget_or_set("o", lambda: 7) == 7
        assert await cache.aget_or_set("o", 8) == 7
        assert await cache.aincr_version("m") == 2
        assert await cache.aget("m", version=2) == 1
        assert await cache.adecr_version("m", version=2) == 1
        assert await cache.aget("m") == 1
        assert await cache.adelete("k") is True
        assert await cache.adelete("k") is False
        assert await cache.adelete_many(["m", "n", "none"]) == 2
        with pytest.raises(ValueError, match="absent"):
            await cache.aincr("absent")
        with pytest.raises(ValueError, match="absent"):
            await cache.aincr_version("absent")
        assert await cache.aclear() is None
        assert await cache.aget_many(["a", "o"]) == {}
        await cache.aclose()

    asyncio.run(main())


CALLS = [
    ("aset", "k", 1),
    ("aget", "k"),
    ("aadd", "k", 2),
    ("atouch", "k"),
    ("ahas_key", "k"),
    ("aincr", "k"),
    ("adecr", "k"),
    ("aset_many", {"k": 1}),
    ("aget_many", ["k", "absent"]),
    ("aget_or_set", "absent", 1),
    ("aincr_version", "k"),
    ("adecr_version", "k", 1, 2),
    ("adelete", "k"),
    ("adelete_many", ["k"]),
    ("aclear",),
    ("aclose",),
]


def test_whatever_django_adds_is_native(cache, no_threads):
    """None falls back to ``sync_to_async``, with L1 and without, in any Django."""
    assert {name for name, *_ in CALLS} == SIXTEEN
    for name, *arguments in CALLS:
        asyncio.run(getattr(cache, name)(*arguments))
    with cache.bypass_l1():
        for name, *arguments in CALLS:
            asyncio.run(getattr(cache, name)(*arguments))


@pytest.mark.parametrize("name", sorted(SIXTEEN | {name[1:] for name in SIXTEEN}))
def test_parameters_are_those_of_django(name):
    """A method takes what Django's own takes, by position and by name."""
    theirs = inspect.signature(getattr(BaseCache, name)).parameters.values()
    ours = list(inspect.signature(getattr(CacheBridge, name)).parameters.values())
    for wanted, given in zip(theirs, ours, strict=False):
        assert (given.kind, given.default) == (wanted.kind, wanted.default)
        assert given.kind is given.VAR_KEYWORD or given.name == wanted.name
    assert len(ours) >= len(theirs)


def test_all_are_coroutine_functions(cache):
    """Code that asks learns that they have to be awaited."""
    for name in SIXTEEN | {"aget_or_load"}:
        assert inspect.iscoroutinefunction(getattr(cache, name)), name


def test_get_or_set_awaits(cache):
    """The default may be a value, a callable, or a coroutine function; called once."""
    calls = []

    async def load():
        calls.append(1)
        await asyncio.sleep(0.01)
        return {"loaded": [len(calls)]}

    async def main():
        values = await asyncio.gather(
            *(cache.aget_or_set("k", load) for _ in range(20))
        )
        assert values == [{"loaded": [1]}] * 20
        assert await cache.aget_or_set("none", None) is None
        assert await cache.aget_or_load("absent", lambda: ABSENT, default=7) == 7

    asyncio.run(main())
    assert len(calls) == 1
    assert cache.get("k") == {"loaded": [1]}


def test_a_hit_does_not_suspend(cache):
    """It is over after its first step, without any event loop."""
    cache.set("k", "v")
    cache.get("k")
    for coroutine in (cache.aget("k"), cache.aget_or_set("k", None)):
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)
        assert done.value.value == "v"
    assert hits_of(cache, lambda: asyncio.run(cache.aget("k"))) == 1


def test_no_increment_is_lost(cache):
    """Fifty at once count to fifty, and the lifetime stays what it was."""
    cache.set("n", 0, timeout=None)

    async def count():
        await asyncio.gather(*(cache.aincr("n") for _ in range(50)))
        await asyncio.gather(*(cache.adecr("n") for _ in range(8)))

    asyncio.run(count())
    assert cache.get("n") == 42


@pytest.mark.only_on_redis(CONNECTIONS)
def test_under_wsgi(cache):
    """``async_to_sync`` makes a loop per call: connections and threads stay few."""
    cache.set("k", 1)
    with cache.bypass_l1():
        for _ in range(20):
            assert async_to_sync(cache.aget)("k") == 1
        before = threading.active_count()
        for _ in range(200):
            assert async_to_sync(cache.aget)("k") == 1
    # A handful may come and go meanwhile, such as a listener that begins anew.
    assert threading.active_count() < before + 20, "no thread per call"
    assert len(pool_of(cache)._idle) <= 2


def test_plain_and_async_views_share_everything(cache):
    """A write of the one is read by the other, in whatever thread or loop it runs."""

    async def main():
        for number in range(50):
            await cache.aset("k", number)
            assert await sync_to_async(caches["default"].get)("k") == number
            await sync_to_async(caches["default"].set)("k", -number)
            assert await cache.aget("k") == -number

    asyncio.run(main())


def test_one_load_for_plain_and_async_views(cache):
    """get_or_set and aget_or_set of one key wait for each other."""
    calls, started = [], threading.Event()

    def load():
        calls.append(1)
        started.wait(PATIENCE_S)
        return "plain"

    async def main():
        plain = asyncio.create_task(
            sync_to_async(cache.get_or_set, thread_sensitive=False)("k", load)
        )
        await until(lambda: calls)
        task = asyncio.create_task(cache.aget_or_set("k", lambda: "async"))
        await until(lambda: followers_in(cache) == 1)
        started.set()
        assert await plain == await task == "plain"

    asyncio.run(main())
    assert calls == [1]


class Lazy:
    """A value that asks a database while it is pickled, as a lazy queryset does."""

    @async_unsafe
    def rows(self):
        return [1, 2]

    def __reduce__(self):
        return list, (self.rows(),)


@pytest.mark.parametrize("method", ["aset", "aadd", "aset_many", "aget_or_load"])
def test_a_value_that_asks_the_database_while_it_is_written(cache, method):
    """A task has it written in a thread, where Django allows that."""

    async def main():
        if method == "aset_many":
            await cache.aset_many({"k": Lazy(), "plain": 1})
        elif method == "aget_or_load":
            assert await cache.aget_or_load("k", Lazy) is not None
        else:
            await getattr(cache, method)("k", Lazy())
        return await cache.aget("k")

    assert asyncio.run(main()) == [1, 2]


def test_a_plain_call_in_a_task_that_asks_the_database(cache):
    """Django refuses it, as it refuses any plain call there."""

    async def main():
        with pytest.raises(SynchronousOnlyOperation):
            cache.set("k", Lazy())

    asyncio.run(main())
