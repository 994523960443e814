"""Counters of the shared store: bounds, remembered refusals, peers, batches."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import redis
from django.utils.safestring import SafeString

from cachebridge import Cache, ConfigError, L2Error
from cachebridge.engine import counter as counters
from cachebridge.testing import redis_server
from tests.rig import (
    PATIENCE_S,
    PATIENT,
    engine_of,
    eventually,
    l2_of,
    listening,
    lone_cache,
    rules_of,
)
from tests.sides import SIDES, on_loop, on_side
from tests.stores import MESSAGES, PEEKS
from tests.strikes import strike_everywhere
from tests.threadless import only_fork, refuse_threads

pytestmark = pytest.mark.every_store


@pytest.fixture
def cache(place):
    """Return a cache on each kind of shared level."""
    return place.open("count:")


@pytest.fixture(params=SIDES)
def make(request, cache):
    """Make counters as threads and as tasks use them."""
    return lambda *args, **kwargs: on_side(
        request.param, cache.counter(*args, **kwargs)
    )


def full_key(cache, name):
    return cache._full_key_of(counters.counter_key(name))


def test_take_and_give(make):
    """A counter begins at 0 and stays within its bounds."""
    stock = make("stock", ceiling=5)
    assert stock.value() == 0
    assert stock.take() is False
    assert stock.give(5) is True
    assert stock.give() is False
    assert stock.take(3) is True
    assert stock.take(3) is False
    assert stock.take(2) is True
    assert stock.value() == 0
    assert stock.reset(4) is True
    assert stock.take(4) is True


def test_negative_and_free_bounds(make):
    """The floor may be below zero, and both may be absent."""
    debt = make("debt", floor=-2, ceiling=0)
    assert debt.take(2) is True
    assert debt.take() is False
    assert debt.give(2) is True
    assert debt.give() is False
    free = make("free", floor=None)
    assert free.take(1000) is True
    assert free.value() == -1000


def test_the_ttl_begins_with_the_first_change(make, cache):
    """Later changes keep it; a reset begins it anew."""
    views = make("views", ttl=60)
    assert views.give() is True
    key = full_key(cache, "views")
    assert 0 < l2_of(cache).get(key)[1] <= 60_000
    assert make("views", ttl=900).give() is True
    assert 0 < l2_of(cache).get(key)[1] <= 60_000
    assert make("views", ttl=900).reset(7) is True
    assert 60_000 < l2_of(cache).get(key)[1] <= 900_000


def test_other_keys_are_not_disturbed(cache):
    """A counter has a key of its own, which clear() takes, and L1 does not hold."""
    cache.set("stock", "text")
    stock = cache.counter("stock")
    stock.reset(3)
    assert cache.get("stock") == "text"
    for left in (3, 2):
        assert cache.get("cachebridge-counter:stock") == left
        stock.take()
    cache.clear()
    assert stock.value() == 0


def test_what_is_no_counter(make, cache):
    """The error names the key, and the value stays."""
    stock = make("stock")
    key = "cachebridge-counter:stock"
    cache.set(key, "text")
    for call in (stock.take, stock.give, stock.value):
        with pytest.raises(
            TypeError, match="count:cachebridge-counter:stock' is no count"
        ):
            call()
    assert cache.get(key) == "text"


def test_a_name_may_be_of_any_kind_of_str(cache):
    """One that Django has marked as safe names the same counter."""
    assert cache.counter(SafeString("stock")).give(2)
    assert cache.counter("stock").value() == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": ""}, "name must be a str that is not empty"),
        ({"name": 7}, "name must be a str"),
        ({"name": "x" * 70_000}, "name is too long"),
        ({"floor": 5, "ceiling": 3}, r"floor \(5\) must not be above ceiling \(3\)"),
        ({"floor": 1.5}, "floor must be an int"),
        ({"ceiling": True}, "ceiling must be an int"),
        ({"ceiling": 2**53}, "ceiling must be an int between"),
        ({"ttl": 0}, "ttl must be seconds above 0"),
        ({"ttl": "60"}, "ttl: a TTL"),
    ],
)
def test_arguments_are_checked(cache, arguments, words):
    """The error names the argument and the rule."""
    with pytest.raises(ConfigError, match=words):
        cache.counter(**{"name": "stock", **arguments})


@pytest.mark.parametrize("name", ["take", "give", "reset"])
def test_n_is_checked(make, name):
    """Before anything is asked of the shared store."""
    stock = make("stock", ceiling=10)
    call = getattr(stock, name)
    for n in (1.0, "1", None, True):
        with pytest.raises(TypeError, match="n must be an int, not"):
            call(n)
    wrong = (-1, 11, 2**53) if name == "reset" else (0, -1, 2**53)
    for n in wrong:
        with pytest.raises(
            ValueError, match=r"n (must be an int from 1|is .* it must be)"
        ):
            call(n)
    assert stock.value() == 0


def test_no_unit_is_sold_twice(make):
    """Threads and tasks that take at the same time get what there is."""
    stock = make("stock")
    stock.reset(50)
    with ThreadPoolExecutor(8) as pool:
        sold = sum(pool.map(lambda _n: stock.take(), range(80)))
    assert sold == 50
    assert stock.value() == 0


def is_local(cache, call):
    """Return whether a call is refused without the shared store being asked."""
    hits = cache.stats().l1_hits
    assert call() is False
    return cache.stats().l1_hits == hits + 1


@pytest.mark.only_on_redis(MESSAGES)
def test_a_refusal_is_answered_locally(make, cache):
    """The shared store is not asked again, until something changes."""
    stock = make("stock", ceiling=5)
    eventually(lambda: is_local(cache, stock.take), "sold out")
    for n in (1, 2, 3):
        assert is_local(cache, lambda n=n: stock.take(n))
    assert stock.give(5) is True
    eventually(lambda: is_local(cache, stock.give), "full")
    assert is_local(cache, stock.give)
    assert stock.take() is True
    assert stock.give() is True
    eventually(lambda: is_local(cache, stock.give), "full again")
    with cache.bypass_l1():
        assert not is_local(cache, stock.give)


def is_held(cache):
    """Return whether L1 remembers something of the counter."""
    return engine_of(cache).l1.look(full_key(cache, "stock")) is not None


KEY = "cachebridge-counter:stock"
KEY_WRITES = {
    "delete": lambda cache: cache.delete(KEY),
    "delete_many": lambda cache: cache.delete_many([KEY, "other"]),
    "set": lambda cache: cache.set(KEY, 1),
    "set_many": lambda cache: cache.set_many({KEY: 1, "other": 2}),
    "add": lambda cache: cache.delete(KEY) and cache.add(KEY, 1),
    "incr": lambda cache: cache.incr(KEY),
    "touch": lambda cache: cache.touch(KEY, 60),
    "load": lambda cache: cache.delete(KEY) and cache.get_or_load(KEY, lambda: 1),
}
"""Changes of a counter's key by the methods of every key."""


@pytest.mark.only_on_redis(MESSAGES)
@pytest.mark.parametrize("change", KEY_WRITES)
def test_writes_of_its_key_end_a_refusal(redis_url, change):
    """Of this process and of a peer, as with any key; L1 takes none of the values."""
    here, peer = (listening(lone_cache(redis_url, key_prefix="p:")) for _ in "12")
    stock = here.counter("stock")
    for writer in (here, peer):
        stock.reset(0)
        eventually(lambda: is_local(here, stock.take))
        KEY_WRITES[change](writer)
        if writer is peer:
            eventually(lambda: not is_held(here))
        assert not is_held(here)
        value = peer.get(KEY)
        assert here.get(KEY) == value
        assert stock.take() is (value == 1)


def test_reads_of_its_key_go_past_l1(cache):
    """What L1 remembers of a refusal is no value: takes of peers are not told."""
    stock = cache.counter("stock")
    stock.reset(3)
    eventually(
        lambda: (
            stock.take(5) is False
            and (is_held(cache) or not engine_of(cache).stores.has_bus)
        )
    )
    l2_of(cache).store([(full_key(cache, "stock"), b"2")], None, None)
    assert cache.get(KEY) == 2
    assert cache.get_many([KEY]) == {KEY: 2}
    assert cache.get_or_load(KEY, lambda: 7) == 2
    l2_of(cache).delete([full_key(cache, "stock")], None)
    assert cache.has_key(KEY) is False


@pytest.mark.only_on_redis(MESSAGES)
@pytest.mark.parametrize(
    "change", ["give", "reset", "clear", "batch", "flush", "redis"]
)
def test_peers_end_a_refusal(redis_url, change):
    """Whatever another process does to a sold-out counter, this one sees it."""
    one, two = (listening(lone_cache(redis_url, key_prefix="p:")) for _ in "12")
    stock, there = one.counter("stock"), two.counter("stock")
    eventually(lambda: is_local(one, stock.take))
    if change == "give":
        assert there.give() is True
    elif change == "reset":
        assert there.reset(3) is True
    elif change == "batch":
        batched = two.batched_counter("stock", batch_ms=3_600_000)
        batched.add(2)
        assert batched.flush() is True
    elif change == "clear":
        two.clear()
        eventually(lambda: one.stats().l1_entries == 0)
        there.give()
    elif change == "flush":
        with redis.Redis.from_url(redis_url) as other:
            other.flushdb()
        eventually(lambda: one.stats().l1_entries == 0, "the server id has gone")
        there.give()
    else:  # another program; the bound is L1's
        one.l1_off()
        eventually(lambda: one.stats().l1_entries == 0)
        with redis.Redis.from_url(redis_url) as other:
            other.set("p:cachebridge-counter:stock", 1)
    eventually(stock.take)


@pytest.mark.only_on_redis(MESSAGES)
def test_peers_end_a_full_counter(redis_url):
    """A take of another process makes room, and is told where there is a ceiling."""
    one, two = (listening(lone_cache(redis_url)) for _ in "12")
    quota, there = one.counter("quota", ceiling=1), two.counter("quota", ceiling=1)
    assert quota.give() is True
    eventually(lambda: is_local(one, quota.give))
    assert there.take() is True
    eventually(quota.give)
    sent = two.stats().messages_sent
    endless = two.counter("endless", floor=None)
    assert endless.take() is True
    assert two.stats().messages_sent == sent


@pytest.mark.only_on_redis(MESSAGES)
def test_a_refusal_does_not_outlive_a_break(redis_url):
    """Without trust nothing is answered locally."""
    cache = listening(lone_cache(redis_url))
    stock = cache.counter("stock")
    eventually(lambda: is_local(cache, stock.take))
    rules_of(cache).on_break()
    assert not is_local(cache, stock.take)


@pytest.mark.only_on_redis(MESSAGES)
def test_a_child_counts_on(redis_url):
    """After a fork both processes take from one stock, and batches are sent once."""
    cache = listening(lone_cache(redis_url))
    stock = cache.counter("stock")
    views = cache.batched_counter("views", ttl=60, batch_ms=3_600_000)
    often = cache.batched_counter("often", batch_ms=20)
    stock.reset(2)
    views.add(5)
    pid = os.fork()
    if pid == 0:
        try:
            views.add(1)
            often.add(1)
            eventually(lambda: often.value() == 1)
            os._exit(0 if stock.take() else 1)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    eventually(lambda: views.flush() and views.value() == 6)
    assert l2_of(cache).get(full_key(cache, "views"))[1] > 0
    assert stock.take() is True
    assert stock.take() is False


def test_batches_are_summed(cache):
    """Sums of all threads arrive, those of ended threads included, once."""
    views = cache.batched_counter("views", ttl=60, batch_ms=3_600_000)

    def add():
        for _ in range(500):
            views.add()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    views.add(7)
    assert views.value() == 0
    assert views.flush() is True
    assert views.value() == 2007
    assert views.flush() is True
    assert views.value() == 2007
    assert 0 < l2_of(cache).get(full_key(cache, "views"))[1] <= 60_000
    engine_of(cache).batches._claim(None, {})
    assert len(engine_of(cache).batches._owners) == 1


def test_batches_are_sent_by_themselves(cache):
    """Every ``batch_ms``, and by the smallest of all."""
    late = cache.batched_counter("late", batch_ms=3_600_000)
    late.add()
    views = cache.batched_counter("views", batch_ms=20)
    views.add(3)
    eventually(lambda: (late.value(), views.value()) == (1, 3))
    views.add()
    eventually(lambda: views.value() == 4)


def test_sent_cells_are_dropped(cache, monkeypatch):
    """A thread that counts many names keeps the cells that have something to send."""
    monkeypatch.setattr("cachebridge.engine.batches.MOST_CELLS", 4)
    for number in range(20):
        views = cache.batched_counter(f"page {number}", batch_ms=3_600_000)
        views.add()
        if number != 3:
            views.flush()
    ((_, cells),) = engine_of(cache).batches._owners
    assert len(cells) <= 5
    assert cache.batched_counter("page 3").flush() is True
    assert cache.batched_counter("page 3").value() == 1


def test_a_closed_cache_has_sent_its_batches(place):
    """The end of the last cache on a server sends what there is."""
    cache = lone_cache(place.location, **place.options)
    cache.batched_counter("views", batch_ms=3_600_000).add(4)
    cache.close()
    again = lone_cache(place.location, **place.options)
    assert again.batched_counter("views").value() == 4


@pytest.mark.only_on_redis(MESSAGES)
def test_the_end_waits_for_what_is_being_sent(redis_url):
    """A close in the middle of a sending loses nothing: what was claimed arrives."""
    names = [f"page {number}" for number in range(500)]
    pid = os.fork()
    if pid == 0:
        try:
            cache = Cache(redis_url, **PATIENT)
            for name in names:
                cache.batched_counter(name, batch_ms=3_600_000).add()
            cache.batched_counter("often", batch_ms=1)
            ((_, cells),) = engine_of(cache).batches._owners
            eventually(lambda: all(cell.claimed for cell in cells.values()))
            cache.close()
            os._exit(0)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    keys = list(map(counters.counter_key, names))
    assert lone_cache(redis_url).get_many(keys) == dict.fromkeys(keys, 1)


@pytest.mark.only_on_redis(MESSAGES)
@pytest.mark.parametrize("forbid", [refuse_threads, only_fork])
def test_without_a_thread_the_end_sends(redis_url, monkeypatch, forbid):
    """At the limit of threads, and in a master of uWSGI, an add counts all the same."""
    cache = lone_cache(redis_url)
    views = cache.batched_counter("views", batch_ms=20)
    with monkeypatch.context() as patch:
        forbid(patch)
        for _ in range(3):
            views.add()
        cache.close()
    assert lone_cache(redis_url).batched_counter("views").value() == 3


def test_a_thread_comes_when_it_can(redis_url, monkeypatch):
    """The first ``add`` after a thread was refused starts it; nothing is lost."""
    views = lone_cache(redis_url).batched_counter("views", batch_ms=20)
    with monkeypatch.context() as patch:
        refuse_threads(patch)
        views.add()
        views.add()
    views.add()
    eventually(lambda: views.value() == 3)


@pytest.mark.only_on_redis(MESSAGES)
def test_garbage_that_counts(redis_url):
    """A ``__del__`` may run wherever garbage is found, also under their lock."""
    cache = lone_cache(redis_url)
    views = cache.batched_counter("views", batch_ms=3_600_000)

    def add():
        with engine_of(cache).batches._lock:
            views.add()

    thread = threading.Thread(target=add, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert views.flush() is True
    assert views.value() == 1


def test_a_sum_that_cannot_be_added(cache, caplog):
    """It is lost, and the log and ``flush`` say so."""
    views = cache.batched_counter("views", batch_ms=3_600_000)
    for _ in range(2):
        views.add(2**53 - 1)
    assert views.flush() is False
    assert "would pass 2**53" in caplog.text
    cache.set("cachebridge-counter:views", "text")
    views.add()
    assert views.flush() is False
    assert "is no counter" in caplog.text


@pytest.mark.proof
def test_a_strike_in_a_batch():
    """Nothing is counted twice, and what is added afterwards is sent."""
    cache = lone_cache("memory://struck")
    batches, added = engine_of(cache).batches, 0

    def call():
        nonlocal added
        added += 2
        views = cache.batched_counter(f"views {added}", batch_ms=3_600_000)
        views.add()
        views.flush()
        views.add()

    def check(_number):
        before = added
        views = cache.batched_counter(f"views {before}")
        views.add()
        assert views.flush() is True
        assert 1 <= views.value() <= 3
        assert batches._sender._thread.is_alive()
        batches.close()  # the next call starts another

    assert strike_everywhere(call, check, within="cachebridge") > 50


def test_counters_of_a_closed_cache(place):
    """They raise, as the cache does, and start nothing again; other caches go on."""
    cache = lone_cache(place.location, **place.options)
    engine = engine_of(cache)
    stock, views = cache.counter("stock", ceiling=9), cache.batched_counter("views")
    stock.give()
    views.add()
    cache.close()
    asked = engine.counters.messages_sent
    calls = (
        stock.take,
        stock.give,
        stock.value,
        partial(stock.reset, 1),
        views.add,
        views.value,
        views.flush,
    )
    for call in calls:
        with pytest.raises(RuntimeError, match="the cache was closed"):
            call()
    awaited = (stock.atake, stock.agive, stock.avalue, views.avalue, views.aflush)
    for method in (*awaited, partial(stock.areset, 1)):
        with pytest.raises(RuntimeError, match="the cache was closed"):
            on_loop(method)
    assert engine.batches._sender._thread is None
    assert engine.counters.messages_sent == asked
    assert lone_cache(place.location, **place.options).counter("stock").value() == 1


def test_a_counter_keeps_its_cache():
    """An engine without caches retires: counters that are kept are a use of one."""
    cache = lone_cache("memory://kept")
    stock, views = cache.counter("stock"), cache.batched_counter("views")
    users = engine_of(cache).listening.users
    del cache
    del stock
    gc.collect()
    assert len(users) == 1
    del views
    gc.collect()
    assert not users


async def flush_and_read(views):
    assert await views.aflush() is True
    return await views.avalue()


def test_batches_for_tasks(cache):
    """Awaited twins; ``add`` serves threads and tasks."""
    views = cache.batched_counter("views", batch_ms=3_600_000)
    views.add(2)
    assert on_loop(flush_and_read, views) == 2


@pytest.mark.parametrize("batch_ms", [0, 0.5, -1, "1", None, True, 3_600_001])
def test_batch_ms_is_checked(cache, batch_ms):
    """The error names the argument and the rule."""
    with pytest.raises(ConfigError, match="batch_ms must be milliseconds from 1"):
        cache.batched_counter("views", batch_ms=batch_ms)
    with pytest.raises(ValueError, match="n must be an int from 1"):
        cache.batched_counter("views").add(0)


@pytest.mark.only_on_redis(PEEKS)
def test_an_outage(free_port):
    """Take and give fail closed; sums wait, and nothing is sent twice."""
    with redis_server(port=free_port) as server:
        cache = listening(lone_cache(server.url, breaker_retry=0.05))
        strict = cache.counter("stock")
        strict.reset(3)
        eventually(lambda: is_local(cache, lambda: strict.take(4)))
        views = cache.batched_counter("views", batch_ms=3_600_000)
        views.add(5)
        assert views.flush() is True
        raising = lone_cache(server.url, on_error="raise").counter("stock")
    for _ in range(5):  # the breaker opens, and L1 may serve
        assert cache.get(KEY) is None, "what L1 remembers is no value"
    assert strict.take() is strict.give() is strict.reset(9) is False
    assert strict.value() is None
    for call in (raising.take, raising.give, raising.value, lambda: raising.reset(1)):
        with pytest.raises(L2Error):
            call()
    views.add(2)
    assert views.flush() is False
    views.add(1)
    assert views.flush() is False
    assert views.value() is None
    with redis_server(port=free_port):
        eventually(views.flush)
        assert views.value() == 3
        assert strict.give(1) is True
