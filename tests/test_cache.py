"""``cachebridge.Cache``: what each method does, and the same as a plain dictionary."""

from __future__ import annotations

import math
import threading
from decimal import Decimal

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from cachebridge import DEFAULT, Cache, MissingKeyError, UnsupportedOperationError
from cachebridge.config import EngineOptions
from cachebridge.engine import registry
from cachebridge.engine.engine import Engine
from cachebridge.l2.location import parse_location
from tests.rig import (
    FakeClock,
    engine_of,
    listening,
    lone_cache,
    stopped_engines,
)

__all__ = ["stopped_engines"]


@pytest.fixture(params=["redis", "redis without scripts", "memory", "no L1"])
def cache(request):
    """Return a cache of each kind, listening where it can."""
    if request.param == "memory":
        return listening(lone_cache("memory://"))
    url = request.getfixturevalue("redis_url")
    if request.param == "no L1":
        return lone_cache(url, l1_max_entries=0)
    if request.param == "redis without scripts":
        with redis.Redis.from_url(url) as admin:
            admin.execute_command(
                "ACL",
                "SETUSER",
                "plain",
                "on",
                ">x",
                "+@all",
                "-@scripting",
                "~*",
                "&*",
            )
        url = url.replace("//", "//plain:x@")
    return listening(lone_cache(url))


def ttl_of(cache, key):
    """Return the seconds that L2 still keeps the key; None is without expiry."""
    ttl_ms = engine_of(cache).l2.get(key)[1]
    return None if ttl_ms == -1 else ttl_ms / 1000


def test_get_and_set(cache):
    """Values come back; what was never set is the default."""
    assert cache.get("k") is None
    assert cache.get("k", "default") == "default"
    cache.set("k", "v")
    assert cache.get("k") == "v"
    cache.set("k", None)
    assert cache.get("k", "default") is None


def test_has_key(cache):
    """Both spellings; None is a value; a deleted key is gone."""
    assert not cache.has_key("k")
    assert "k" not in cache
    cache.set("k", None)
    assert cache.has_key("k")
    assert "k" in cache
    cache.delete("k")
    assert "k" not in cache


@pytest.mark.parametrize("key", [None, 1, b"k", ("k",), 1.0, True])
def test_keys_are_text(cache, key):
    """A key that is no text raises from every method, and changes nothing."""
    for call in (
        cache.get,
        cache.delete,
        cache.has_key,
        cache.touch,
        cache.incr,
        lambda key: cache.set(key, 1),
        lambda key: cache.add(key, 1),
        lambda key: cache.get_or_load(key, lambda: 1),
        lambda key: cache.get_many([key]),
        lambda key: cache.set_many({key: 1}),
        lambda key: cache.delete_many([key]),
    ):
        with pytest.raises(TypeError, match="must be a str"):
            call(key)


class Shouting(str):
    """A key of a subclass, as Django's SafeString is one."""

    __slots__ = ()


@pytest.mark.parametrize(
    "key", ["", " ", "a\nb", "\0", "\x7f", "é€", "\ud800", "x" * 70_000, Shouting("s")]
)
def test_any_text_is_a_key(cache, key):
    """Control characters, surrogates, very long ones: alike on every backend."""
    cache.set(key, "v")
    assert cache.get(key) == cache.get(key) == "v"
    assert cache.get_many([key]) == {key: "v"}
    assert not cache.add(key, "w")
    assert cache.has_key(key)
    assert cache.touch(key, 50)
    assert cache.delete(key)
    assert cache.get(key) is None


def test_lifetimes(cache):
    """TTLs are seconds; the default is TIMEOUT; None is for ever."""
    cache.set("k", 1)
    assert 290 < ttl_of(cache, "k") <= 300
    cache.set("k", 1, DEFAULT)
    assert 290 < ttl_of(cache, "k") <= 300
    cache.set("k", 1, 50.5)
    assert 45 < ttl_of(cache, "k") <= 50.5
    cache.set("k", 1, None)
    assert ttl_of(cache, "k") is None
    cache.set_many({"k": 1, "l": 2}, 20)
    assert 15 < ttl_of(cache, "k") <= 20
    assert cache.touch("k", 70)
    assert 65 < ttl_of(cache, "k") <= 70
    assert cache.touch("k", None)
    assert ttl_of(cache, "k") is None
    assert cache.touch("k")
    assert 290 < ttl_of(cache, "k") <= 300
    assert cache.add("m", 1, 30)
    assert 25 < ttl_of(cache, "m") <= 30
    assert cache.get_or_load("n", lambda: 1, 40) == 1
    assert 35 < ttl_of(cache, "n") <= 40


@pytest.mark.parametrize("ttl", [0, -1, -0.5])
def test_ttl_that_is_over(cache, ttl):
    """Set and touch delete; add stores nothing and says whether it could have."""
    cache.set("k", 1)
    cache.set("k", 2, ttl)
    assert cache.get("k") is None
    cache.set_many({"k": 1, "l": 2})
    cache.set_many({"k": 3, "l": 4}, ttl)
    assert cache.get_many(["k", "l"]) == {}
    assert cache.add("k", 1, ttl)
    assert cache.get("k") is None
    cache.set("k", 1)
    assert not cache.add("k", 2, ttl)
    assert cache.get("k") == 1
    assert cache.touch("k", ttl)
    assert cache.get("k") is None
    assert not cache.touch("k", ttl)


def test_add(cache):
    """The first wins."""
    assert cache.add("k", 1)
    assert not cache.add("k", 2)
    assert cache.get("k") == 1
    cache.delete("k")
    assert cache.add("k", None)
    assert not cache.add("k", 2)


def test_delete(cache):
    """It tells whether there was something; L1 and L2 lose it."""
    assert cache.delete("k") is False
    cache.set("k", 1)
    cache.get("k")
    assert cache.delete("k") is True
    assert cache.get("k") is None


BIG = 2**63


@pytest.mark.parametrize(
    ("start", "delta", "result"),
    [
        (5, 1, 6),
        (5, -10, -5),
        (-5, 3, -2),
        (0, 0, 0),
        (BIG - 1, 1, BIG),
        (-BIG, -1, -BIG - 1),
        (BIG, 1, BIG + 1),
        (10**30, 10**30, 2 * 10**30),
        (1, BIG, BIG + 1),
        (1, 0.5, 1.5),
        (1.5, 1, 2.5),
        (-0.5, 0.25, -0.25),
        (True, 1, 2),
        (Decimal("1.10"), 1, Decimal("2.10")),
    ],
)
def test_incr(cache, start, delta, result):
    """Integers of any size, floats and decimals; the TTL stays; L1 agrees."""
    cache.set("k", start, 50)
    assert cache.get("k") == start
    value = cache.incr("k", delta)
    assert value == result
    assert type(value) is type(result)
    assert cache.get("k") == result
    assert cache.get("k") == result
    assert 40 < ttl_of(cache, "k") <= 50
    assert cache.decr("k", delta) == start


def test_incr_without_expiry_stays_so(cache):
    """KEEPTTL in each way of counting."""
    for start, delta in ((1, 1), (1.5, 1), (BIG, 1)):
        cache.set("k", start, None)
        cache.incr("k", delta)
        assert ttl_of(cache, "k") is None


@pytest.mark.parametrize("delta", [1, -1, 0, 0.5, BIG])
def test_incr_of_nothing(cache, delta):
    """A ValueError that names the key, in whichever way it would have counted."""
    with pytest.raises(MissingKeyError, match="'k'"):
        cache.incr("k", delta)
    with pytest.raises(ValueError, match="'k'"):
        cache.decr("k", delta)
    assert not cache.has_key("k")
    assert engine_of(cache).rules.is_idle()


def test_incr_of_what_cannot_be_added_to(cache):
    """The caller's TypeError; the value stays and nothing is left behind."""
    cache.set("k", "text")
    with pytest.raises(TypeError):
        cache.incr("k")
    assert cache.get("k") == "text"
    assert engine_of(cache).rules.is_idle()


@pytest.mark.parametrize(("start", "delta"), [(0, 1), (0.0, 0.5), (BIG, 1)])
def test_counting_loses_nothing(cache, start, delta):
    """I13: many threads, every increment counts, in each way of counting."""
    cache.set("k", start)

    def count():
        for _ in range(25):
            cache.incr("k", delta)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("k") == start + 100 * delta


def test_nobody_shares_an_object(cache):
    """I18: changing what was set or read changes nothing for anybody else."""
    for original in ({"a": 1}, [1], {1}, {"a": [1]}, [[1]], ({"a": 1},)):
        cache.set("k", original)
        for _ in range(3):
            value = cache.get("k")
            many = cache.get_many(["k"])["k"]
            assert value == many == original
            assert value is not many
            assert value is not original
            spoil(value)
            spoil(many)
        before = cache.get("k")
        spoil(original)
        assert cache.get("k") == before


def spoil(value):
    if isinstance(value, tuple):
        spoil(value[0])
    elif isinstance(value, dict):
        for inner in value.values():
            if not isinstance(inner, int):
                spoil(inner)
        value["spoilt"] = 1
    elif isinstance(value, list):
        value.append("spoilt")
    else:
        value.add("spoilt")


def test_bypass(redis_url):
    """Within it this thread reads L2; other threads go on as they were."""
    cache = listening(lone_cache(redis_url))
    cache.set("k", "v")
    with redis.Redis.from_url(redis_url) as foreign:
        foreign.set("k", b"7")
    assert cache.get("k") == "v"
    seen = []
    with cache.bypass_l1():
        assert cache.get("k") == 7
        with cache.bypass_l1():
            assert cache.get_many(["k"]) == {"k": 7}
        assert cache.get("k") == 7
        reader = threading.Thread(target=lambda: seen.append(cache.get("k")))
        reader.start()
        reader.join()
    assert cache.get("k") == 7
    assert seen == [7]


def test_bypass_is_of_this_thread_alone(redis_url):
    """A foreign change unseen by L1: only the bypassing thread sees it."""
    cache = listening(lone_cache(redis_url))
    cache.set("k", "v")
    release, entered = threading.Event(), threading.Event()
    seen = []

    def strong_reader():
        with cache.bypass_l1():
            entered.set()
            release.wait(5.0)
            seen.append(cache.get("absent"))

    reader = threading.Thread(target=strong_reader)
    reader.start()
    entered.wait(5.0)
    hits = cache.stats().l1_hits
    for _ in range(10):
        assert cache.get("k") == "v"
        assert cache.get_many(["k"]) == {"k": "v"}
    assert cache.stats().l1_hits == hits + 20
    release.set()
    reader.join()
    assert seen == [None]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_bypass_ends_with_an_error(redis_url, error):
    """However the context ends, L1 answers again."""
    cache = listening(lone_cache(redis_url))
    cache.set("k", "v")
    with pytest.raises(error), cache.bypass_l1():
        raise error
    hits = cache.stats().l1_hits
    cache.get("k")
    assert cache.stats().l1_hits == hits + 1


def test_statistics(redis_url):
    """Hits by level, misses, sizes; a snapshot does not change any more."""
    cache = listening(lone_cache(redis_url))
    cache.set("k", "v")
    before = cache.stats()
    assert before.l1_hit_ratio == 0.0
    cache.get("k")
    cache.get_many(["k", "absent"])
    with cache.bypass_l1():
        cache.get("k")
    after = cache.stats()
    assert (after.l1_hits, after.l2_hits, after.misses) == (2, 1, 1)
    assert after.l1_hit_ratio == 0.5
    assert after.l1_entries == 1
    assert 0 < after.l1_bytes < 2000
    assert before.l1_hits == 0
    with pytest.raises(AttributeError):
        after.l1_hits = 7
    assert after.messages_sent == 1
    assert after.trusted


def test_large_values_stay_in_l2(redis_url):
    """Over L1_MAX_ENTRY_BYTES: served from L2, counted, and nothing else evicted."""
    cache = listening(lone_cache(redis_url, l1_max_entry_bytes=10_000))
    cache.set("small", "v")
    cache.set("large", "x" * 20_000)
    assert cache.get("large") == "x" * 20_000
    assert cache.stats().oversized == 2
    assert cache.stats().l1_entries == 1
    assert cache.stats().evictions == 0


def test_health_when_the_store_is_away(free_port):
    """It answers, and says why."""
    health = lone_cache(f"redis://127.0.0.1:{free_port}/0").health()
    assert not health.ok
    assert not health.l2_reachable
    assert "refused" in health.error


def test_clear_needs_a_prefix_or_leave(cache):
    """Clear without KEY_PREFIX raises and deletes nothing."""
    cache.set("k", 1)
    with pytest.raises(UnsupportedOperationError, match="CLEAR_FLUSHES_DB"):
        cache.clear()
    assert cache.get("k") == 1


class CacheModel(RuleBasedStateMachine):
    """A cache against a dictionary of values and deadlines, with a clock to move.

    Reads go through L1 or past it at random; both must always agree with the model.
    """

    KEYS = st.sampled_from(["a", "b", "c", "rl:d"])
    VALUES = st.one_of(
        st.integers(-5, 5),
        st.sampled_from([None, True, 1.5, "text", 2**63 - 1, 2**70]),
        st.lists(st.integers(0, 3), max_size=2),
        st.dictionaries(st.sampled_from("xy"), st.lists(st.integers(0, 3), max_size=1)),
    )
    TTLS = st.sampled_from([None, 0, -1, 0.5, 3, 10, 100])

    @initialize(max_entries=st.sampled_from([0, 1, 2, 100]))
    def open(self, max_entries):
        self.clock = FakeClock()
        options = EngineOptions(l1_max_entries=max_entries, l1_ttl=20.0)
        location = parse_location("memory://model")
        self.engine = Engine(location, options, clock=self.clock)
        registry._engines[location.identity] = (self.engine, "model")
        self.cache = Cache("memory://model", l1_max_entries=max_entries, l1_ttl=20.0)
        registry._engines.pop(location.identity)
        assert engine_of(self.cache) is self.engine
        self.engine.listen()
        self.model = {}

    def teardown(self):
        if hasattr(self, "engine"):
            self.engine.stop()

    def alive(self):
        now = self.clock()
        return {k: v for k, (v, end) in self.model.items() if now < end}

    def put(self, key, value, ttl):
        if ttl is not None and ttl <= 0:
            self.model.pop(key, None)
        else:
            end = math.inf if ttl is None else self.clock() + ttl
            self.model[key] = (value, end)

    @rule(seconds=st.sampled_from([0.1, 0.4, 2, 5, 60]))
    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @rule(key=KEYS)
    def get(self, key):
        value = self.cache.get(key, "absent")
        assert value == self.alive().get(key, "absent")
        assert type(value) is type(self.alive().get(key, "absent"))

    @rule(key=KEYS)
    def get_past_l1(self, key):
        with self.cache.bypass_l1():
            assert self.cache.get(key, "absent") == self.alive().get(key, "absent")

    @rule(keys=st.lists(KEYS, max_size=4))
    def get_many(self, keys):
        alive = self.alive()
        expected = {key: alive[key] for key in keys if key in alive}
        assert self.cache.get_many(keys) == expected

    @rule(key=KEYS)
    def has_key(self, key):
        assert self.cache.has_key(key) is (key in self.alive())

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def set(self, key, value, ttl):
        self.cache.set(key, value, ttl)
        self.put(key, value, ttl)

    @rule(items=st.dictionaries(KEYS, VALUES, max_size=4), ttl=TTLS)
    def set_many(self, items, ttl):
        self.cache.set_many(items, ttl)
        for key, value in items.items():
            self.put(key, value, ttl)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def add(self, key, value, ttl):
        absent = key not in self.alive()
        assert self.cache.add(key, value, ttl) is absent
        if absent:
            self.put(key, value, ttl)

    @rule(key=KEYS, ttl=TTLS)
    def touch(self, key, ttl):
        there = key in self.alive()
        assert self.cache.touch(key, ttl) is there
        if there:
            self.put(key, self.model[key][0], ttl)

    @rule(key=KEYS, delta=st.sampled_from([1, -3, 0.5, 2**63]))
    def incr(self, key, delta):
        alive = self.alive()
        if key not in alive:
            with pytest.raises(MissingKeyError):
                self.cache.incr(key, delta)
        elif isinstance(alive[key], (int, float)):
            value = self.cache.incr(key, delta)
            assert value == alive[key] + delta
            self.model[key] = (value, self.model[key][1])
        else:
            with pytest.raises(TypeError):
                self.cache.incr(key, delta)

    @rule(key=KEYS)
    def delete(self, key):
        assert self.cache.delete(key) is (key in self.alive())
        self.model.pop(key, None)

    @rule(keys=st.lists(KEYS, max_size=4))
    def delete_many(self, keys):
        assert self.cache.delete_many(keys) == len(set(keys) & set(self.alive()))
        for key in keys:
            self.model.pop(key, None)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def get_or_load(self, key, value, ttl):
        alive = self.alive()
        assert self.cache.get_or_load(key, lambda: value, ttl) == alive.get(key, value)
        if key not in alive:
            self.put(key, value, ttl)

    @rule(on=st.booleans())
    def switch(self, on):
        (self.cache.l1_on if on else self.cache.l1_off)()

    @precondition(lambda self: self.model)
    @rule()
    def break_and_recovery(self):
        self.engine.rules.on_break()
        self.engine.rules.on_subscribed()
        self.engine.rules.extend_trust(math.inf)

    @rule()
    def spoil_what_was_read(self):
        for value in self.cache.get_many(["a", "b", "c", "rl:d"]).values():
            if isinstance(value, (list, dict)):
                value.clear()

    @invariant()
    def nothing_is_left_behind(self):
        if hasattr(self, "engine"):
            assert self.engine.rules.is_idle()
            assert self.engine.flights.is_idle()
            assert len(self.engine.l1) <= self.engine.options.l1_max_entries


CacheModel.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestCacheModel = CacheModel.TestCase


def test_health_without_l1(redis_url):
    """A cache that wants no L1, or has not begun to listen, is well all the same."""
    cache = lone_cache(redis_url, l1_max_entries=0)
    assert cache.health().ok
    assert cache.health().error == "no L1"
    assert not cache.health().l1_wanted


def test_clearing_the_database_keeps_the_switch(redis_url):
    """L1 that was switched off stays off when clear() empties the whole database."""
    cache = listening(lone_cache(redis_url, clear_flushes_db=True))
    cache.l1_off()
    cache.clear()
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("cachebridge:l1") == b"off"
