"""The caches of one process: integers and objects, their bounds, threads and forks."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cachebridge import ConfigError, EntryNotFoundError
from cachebridge.engine.janitor import JANITOR
from cachebridge.l1.eviction import POLICIES
from cachebridge.local import IntCache, ObjCache
from tests.rig import PATIENCE_S, FakeClock
from tests.strikes import strike_everywhere
from tests.threadless import only_fork, refuse_threads

KEYS = st.sampled_from("abcdef")


def with_clock(cache):
    """Give the cache a clock that the test moves."""
    cache._clock = clock = FakeClock()
    return clock


@pytest.mark.parametrize("make", [IntCache, ObjCache])
def test_as_a_dictionary(make):
    """``[]``, ``in``, ``del`` and ``len`` do what they do for a dictionary."""
    cache = make()
    cache["k"] = 5
    assert cache["k"] == cache.get("k") == 5
    assert "k" in cache
    assert "other" not in cache
    assert len(cache) == 1
    del cache["k"]
    assert cache.get("k") is None
    assert cache.get("k", 7) == 7
    assert cache.delete("k") is False
    with pytest.raises(EntryNotFoundError, match="no entry for 'k'"):
        cache["k"]
    with pytest.raises(KeyError):
        del cache["k"]
    with pytest.raises(TypeError, match="not iterable"):
        iter(cache)


def test_add_returns_the_sum():
    """A missing integer is 0; what is no number changes nothing."""
    counts = IntCache()
    assert counts.add("k") == 1
    assert counts.add("k", 4) == 5
    assert counts.add("k", -7) == -2
    for wrong in ("1", 1.5, None, Fraction(1)):
        for key in ("k", "new"):
            with pytest.raises(TypeError, match=r"delta must be an int, not \w+"):
                counts.add(key, wrong)
        with pytest.raises(TypeError, match=r"value must be an int, not \w+"):
            counts.set("k", wrong)
    assert "new" not in counts
    assert counts["k"] == -2
    assert counts.add("k") == -1
    assert counts.add("k", 10**30) == 10**30 - 1


class Odd(int):
    """An int whose sums run code of the application."""

    def __add__(self, other):
        raise AssertionError("under the lock of the cache")

    __radd__ = __add__


def test_an_int_of_a_subclass_is_an_int():
    """It is kept as a plain one."""
    counts = IntCache()
    assert counts.add("k", Odd(2)) == 2
    counts.set("k", Odd(5))
    assert counts.add("k", Odd(2)) == 7
    assert counts.add("k", True) == 8
    assert type(counts["k"]) is int


def test_add_loses_nothing():
    """Threads that add and set at the same time lose no increment."""
    counts, each, interval = IntCache(), 2_000, sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _n: [counts.add("k") for _ in range(each)], range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert counts["k"] == 8 * each


class IntModel(RuleBasedStateMachine):
    """An ``IntCache`` beside a dictionary."""

    def __init__(self):
        super().__init__()
        self.cache, self.model = IntCache(), {}

    @rule(key=KEYS, delta=st.integers(-5, 5))
    def add(self, key, delta):
        self.model[key] = self.model.get(key, 0) + delta
        assert self.cache.add(key, delta) == self.model[key]

    @rule(key=KEYS, value=st.integers())
    def set(self, key, value):
        self.cache.set(key, value)
        self.model[key] = value

    @rule(key=KEYS)
    def delete(self, key):
        assert self.cache.delete(key) == (self.model.pop(key, None) is not None)

    @invariant()
    def same(self):
        assert len(self.cache) == len(self.model)
        for key in "abcdef":
            assert self.cache.get(key) == self.model.get(key)


class ObjModel(RuleBasedStateMachine):
    """An ``ObjCache`` whose callback keeps the books: nothing leaves unnoticed."""

    policy = "lru"

    def __init__(self):
        super().__init__()
        self.expected = {}
        self.cache = ObjCache(
            max_entries=4, ttl=10, policy=self.policy, on_evicted=self.leave
        )
        self.clock = with_clock(self.cache)
        self.set_at = {}

    def leave(self, key, value, reason):
        assert self.expected[key] == value
        if reason == "expired":
            assert self.clock() >= self.set_at[key] + 10
        if reason != "replaced":
            del self.expected[key]

    @rule(key=KEYS, value=st.integers())
    def set(self, key, value):
        before = self.expected.get(key)
        self.cache.set(key, value)
        if self.expected.get(key, before) == before:
            self.expected[key], self.set_at[key] = value, self.clock()
        assert len(self.cache) <= 4

    @rule(key=KEYS)
    def get(self, key):
        found = self.cache.get(key)
        if found is not None:
            assert found == self.expected[key]
            assert self.clock() < self.set_at[key] + 10
        else:
            assert key not in self.expected

    @rule(key=KEYS)
    def delete(self, key):
        self.cache.delete(key)
        assert key not in self.expected

    @rule(seconds=st.integers(1, 6))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @invariant()
    def same(self):
        assert len(self.cache) == len(self.expected)


FEWER = settings(max_examples=50, stateful_step_count=30)
TestIntModel = IntModel.TestCase
TestIntModel.settings = FEWER
for _policy in POLICIES:
    _machine = type(f"ObjModel_{_policy}", (ObjModel,), {"policy": _policy})
    _machine.TestCase.settings = FEWER
    globals()[f"TestObjModel_{_policy}"] = _machine.TestCase


def recorder():
    left = []
    return left, lambda *what: left.append(what)


def test_reasons():
    """Each way to leave has its reason, and is told once."""
    left, tell = recorder()
    cache = ObjCache(max_entries=2, ttl=10, on_evicted=tell)
    clock = with_clock(cache)
    cache.set("a", 1)
    cache.set("a", 2)
    cache.set("b", 3)
    cache.set("c", 4)
    cache.delete("b")
    clock.advance(10)
    assert "c" not in cache
    assert cache.get("c") is None
    assert cache.get("c") is None
    assert left == [
        ("a", 1, "replaced"),
        ("a", 2, "evicted"),
        ("b", 3, "deleted"),
        ("c", 4, "expired"),
    ]
    assert len(cache) == 0


def test_hits_keep_an_entry():
    """With ``lru`` the entry leaves that was not used for longest."""
    cache = ObjCache(max_entries=2, policy="lru")
    cache.set("a", 1)
    cache.set("b", 2)
    cache.get("a")
    cache.set("c", 3)
    assert "a" in cache
    assert "b" not in cache


def test_bytes_are_bounded():
    """Values leave until the rest fits; what is larger than the bound never stays."""
    left, tell = recorder()
    cache = ObjCache(max_bytes=10_000, on_evicted=tell)
    for number in range(10):
        cache.set(number, bytes(2_000))
    assert 1 <= len(cache) <= 4
    held = len(cache)
    cache.set("large", bytes(20_000))
    assert "large" not in cache
    assert len(cache) == held
    assert left[-1][::2] == ("large", "evicted")


def test_expired_entries_leave_unread():
    """Sets let those go whose time is over, though no caller asks for them."""
    cache = ObjCache(ttl=1)
    clock = with_clock(cache)
    for number in range(100):
        cache.set(number, number)
    clock.advance(2)
    for number in range(100, 300):
        cache.set(number, number)
    assert len(cache) == 200


def test_the_callback_may_use_the_cache(caplog):
    """It runs outside of any lock; what it raises is logged, and goes no further."""

    def tell(key, value, _reason):
        asked = threading.Thread(target=cache.set, args=(f"old {key}", value))
        asked.start()
        asked.join()
        raise RuntimeError("of the application")

    cache = ObjCache(on_evicted=tell)
    cache.set("k", 1)
    with caplog.at_level(logging.ERROR, "cachebridge.local"):
        assert cache.delete("k") is True
    assert cache["old k"] == 1
    assert "of the application" in caplog.text


@pytest.mark.parametrize("make", [IntCache, ObjCache])
def test_a_child_can_go_on(make):
    """A lock that a thread of the parent held at a fork is free in the child."""
    cache = make()
    cache.set("k", 1)
    delete, add = cache.delete, getattr(cache, "add", cache.set)
    held, leave = threading.Event(), threading.Event()

    def hold():
        with cache._lock:  # as a thread in the middle of a call has it
            held.set()
            leave.wait(PATIENCE_S)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(PATIENCE_S)
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(PATIENCE_S))
            add("other", 1)
            assert delete("other") is True
            cache.set("k", cache.get("k") + 1)
            os._exit(cache.get("k"))
        finally:
            os._exit(99)
    leave.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
    assert cache.get("k") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_entries": 0}, "max_entries must be an integer >= 1, not 0"),
        ({"max_entries": 1.5}, "max_entries must be an integer"),
        ({"max_bytes": -1}, "max_bytes must be an integer"),
        ({"ttl": 0}, "ttl must be a number of seconds > 0"),
        ({"ttl": "60"}, "ttl must be a number of seconds"),
        ({"ttl": float("nan")}, "ttl must be a number of seconds"),
        ({"policy": "LRU"}, "policy must be 's3fifo' or 'lru' .*Did you mean 'lru'"),
        ({"on_evicted": 1}, "on_evicted must be callable"),
    ],
)
def test_options_are_checked(options, words):
    """The error names the argument and what is valid."""
    with pytest.raises(ConfigError, match=words):
        ObjCache(**options)


STRUCK = {
    "add": lambda ints, _objects: ints.add("k"),
    "set": lambda ints, _objects: ints.set("k", 1),
    "delete": lambda ints, _objects: ints.delete("k"),
    "set an object": lambda _ints, objects: objects.set("k", 1),
    "delete an object": lambda _ints, objects: objects.delete("k"),
}


@pytest.mark.proof
@pytest.mark.parametrize("name", STRUCK)
def test_a_strike_leaves_no_lock_behind(name):
    """At whatever place an exception comes, the next caller gets the lock."""
    ints, objects = IntCache(), ObjCache(max_entries=2)

    def check(_number):
        with ThreadPoolExecutor(1) as pool:  # a thread that does not have the lock
            assert pool.submit(ints.add, "k").result(PATIENCE_S)
            pool.submit(objects.set, "k", 0).result(PATIENCE_S)

    assert strike_everywhere(lambda: STRUCK[name](ints, objects), check) > 1


@pytest.mark.proof
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("bound", [{"max_entries": 3}, {"max_bytes": 3 * 512}])
def test_a_strike_leaves_nothing_unbounded(policy, bound):
    """However often sets and deletes are struck, values are bounded and can be read."""
    cache, numbers = ObjCache(ttl=60, policy=policy, **bound), count()
    for number in range(3):
        cache.set(f"{number:6}", number)
    assert len(cache) == 3

    def call():
        number = next(numbers)
        cache.set(f"{number:6}", number)
        cache.delete(f"{number - 1:6}")
        cache.set(f"{number + 1000:6}", number)

    def check(number):
        cache.set(f"{number + 2000:6}", number)
        assert len(cache) <= 3
        assert cache.get(f"{number + 2000:6}") == number

    assert strike_everywhere(call, check, within="cachebridge") > 50


class Key:
    """A key that uses the cache when it is compared, and when it goes."""

    def __init__(self, use):
        self.use = use

    def __hash__(self):
        return 1

    def __eq__(self, other):
        self.use()
        return isinstance(other, Key)

    def __del__(self):
        self.use()


def use_ints():
    cache = IntCache()
    cache.set(Key(partial(cache.add, "used")), 1)
    other = Key(partial(cache.add, "used"))
    assert cache.add(other) == 2
    cache.set(other, 5)
    assert cache.delete(other) is True
    return cache.get("used")


def use_objects():
    cache, used = ObjCache(max_entries=4), []

    def use():
        used.append(1)
        cache.set("used", used)

    other = Key(use)
    cache.set(Key(use), Value(use))
    cache.set(other, Value(use))
    assert cache.get(other) is not None
    assert cache.delete(other) is True
    for number in range(10):
        cache.set(number, Value(use))
    return cache.get("used")


class Value:
    """A value that uses the cache when it goes."""

    def __init__(self, use):
        self.use = use

    def __del__(self):
        self.use()


@pytest.mark.parametrize("use", [use_ints, use_objects])
def test_keys_and_values_may_use_the_cache(use):
    """Their methods run inside of a call: it waits for nothing that is its own."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(use()), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert answers[0], "it has used the cache"


@pytest.mark.parametrize("forbid", [refuse_threads, only_fork])
def test_the_janitor_is_asked_again(monkeypatch, forbid):
    """Once a thread was refused, a later set asks for it."""
    JANITOR.reset()
    cache = ObjCache(ttl=60)
    with monkeypatch.context() as patch:
        forbid(patch)
        cache.set("k", 1)
        assert cache._sweeping not in JANITOR._due
    cache.set("k", 1)
    assert cache._sweeping in JANITOR._due
    assert JANITOR.thread.is_alive()


def test_the_janitor_of_a_fork_without_hooks(monkeypatch):
    """A process that was forked in C finds out by its number."""
    cache = ObjCache(ttl=60)
    cache.set("k", 1)
    child = os.getpid() + 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: child)
        cache.set("k", 1)
        assert JANITOR._pid == child
        assert list(JANITOR._due) == [cache._sweeping]
    JANITOR.reset()
