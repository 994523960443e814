"""An exception that strikes anywhere in a call leaves nothing behind (I26).

Here over Redis; over one link, over Memcached and in tasks in files of their own, since
the tests of one file run one after the other.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import cachebridge
from cachebridge.core.fill import Fill
from cachebridge.core.write import Write
from cachebridge.engine.loading.refresh import Refresher
from cachebridge.l2.connections.task_pool import MOST_AT_ONCE
from tests.rig import (
    PATIENCE_S,
    FakeClock,
    cluster_of,
    engine_of,
    eventually,
    is_idle,
    listening,
    load_slots_of,
    lone_cache,
    make_rules,
    rules_of,
)
from tests.strikes import strike, strike_everywhere

# In ``make proof``, so on one version of Python: a strike that comes late interrupts
# whatever runs then, the process of the tests itself.
pytestmark = [
    pytest.mark.proof,
    # A coroutine that was struck before it began.
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
_numbers = itertools.count()


def load(cache):
    return cache.get_or_load("key", lambda: "loaded", ttl=60)


def load_in_vain(cache):
    def fail():
        raise LookupError

    with suppress(LookupError):
        cache.get_or_load("key", fail, ttl=60)


def load_nested(cache):
    return cache.get_or_load("key", lambda: cache.get_or_load("inner", lambda: 1))


def bypass(cache):
    with cache.bypass_l1():
        return cache.get("key")


def make_group(cache):
    return cache.group("struck", load_many=lambda args: dict.fromkeys(args, "loaded"))


CALLS = {
    "get": lambda cache: cache.get("key"),
    "get_many": lambda cache: cache.get_many(["key", "other"]),
    "warm": lambda cache: cache.warm(["key", "other"]),
    "has_key": lambda cache: cache.has_key("key"),
    "set": lambda cache: cache.set("key", [1], 60),
    "set_many": lambda cache: cache.set_many({"key": 1, "other": 2}, 60),
    "add": lambda cache: cache.add("key", 1, 60),
    "incr": lambda cache: cache.incr("number"),
    "incr of a float": lambda cache: cache.incr("number", 0.5),
    "append": lambda cache: cache.append("text", "more"),
    "give": lambda cache: cache.counter("given", ceiling=2**40).give(),
    "take in vain": lambda cache: cache.counter("taken").take(),
    "delete": lambda cache: cache.delete("key"),
    "delete_many": lambda cache: cache.delete_many(["key", "other"]),
    "touch": lambda cache: cache.touch("number", 60),
    "get_or_load": load,
    "a load that fails": load_in_vain,
    "nested loads": load_nested,
    "group": make_group,
    "load of a batch": lambda cache: cache.struck.get_many([1, 2]),
    "clear": lambda cache: cache.clear(),
    "bypass_l1": bypass,
}
FEW = {"max_connections": 1, "max_loads": 1}
STORES = {"redis": {}, "redis, few links": FEW, "memcached": FEW}


@pytest.fixture(params=["redis"])
def cache(request, redis_url):
    return open_cache(request, redis_url)


def open_cache(request, redis_url):
    """Return a cache over the store that the fixture's parameter names."""
    options = STORES[request.param]
    if request.param != "memcached":
        cache = listening(lone_cache(redis_url, key_prefix="struck:", **options))
        cache.struck = make_group(cache)
        return cache
    server = request.getfixturevalue("shared_memcached")
    prefix = f"struck-{next(_numbers)}-{os.getpid()}:"
    options = {"key_prefix": prefix, "bus_location": redis_url, **options}
    cache = listening(lone_cache(server.url, **options))
    cache.struck = make_group(cache)
    return cache


def assert_nothing_left(cache):
    rules, engine = rules_of(cache), engine_of(cache)
    assert not rules._activities
    assert not rules.resting
    assert not rules.fences.awaited
    assert not list(rules._bypassing)
    assert is_idle(cache)
    threads, tasks = links_of(cache)
    for slots in (load_slots_of(cache), threads.slots):
        assert slots is None or (slots.free, slots._queue) == (1, {})
    assert (tasks._turns.free, tasks._turns._queue) == (MOST_AT_ONCE, {})
    assert not tasks._held._tasks
    assert not threads._unsettled
    assert not rules.lock.locked()
    assert not engine.single_flight._lock.locked()
    assert not engine.breaker.is_open


def assert_works(cache, number):
    """The links answer what they are asked, and the key can be cached again."""
    value = f"value {number} {next(_numbers)}"
    assert cache.set("key", value, 60)
    with cache.bypass_l1():
        assert cache.get("key") == value
    assert cache.get_or_load("key", lambda: "another") == value
    hits = cache.stats().l1_hits
    assert cache.get("key") == value
    if cache.stats().l1_hits == hits:  # a fence, or a stall of the machine
        eventually(lambda: cache.get("key") == value and cache.stats().l1_hits > hits)


def links_of(cache):
    """Return the connections as threads and as tasks use them."""
    cluster, engine = cluster_of(cache), engine_of(cache)
    if cluster is None:
        return engine.l2.client.links, engine.l2_for_tasks.client.links
    (node,) = cluster.nodes
    return node.client.links, node.task_client.links


def assert_no_lease(cache):
    """No caller waits for a load that was broken off."""
    waits = cache.stats().lease_waits
    for key in ("key", "inner"):
        cache.get_or_load(key, lambda: "next", ttl=60)
    assert cache.stats().lease_waits == waits


def checking(cache, name):
    """Return the check after each strike."""

    def check(number):
        try:
            eventually(engine_of(cache).refresher.is_idle)  # it gives leases back
            assert_nothing_left(cache)
            assert_no_lease(cache)
            assert_works(cache, number)
        except AssertionError as exc:
            raise AssertionError(f"struck at place {number} of {name}") from exc
        cache.delete_many(["key", "other", "inner", "group:struck:1", "group:struck:2"])
        cache.set("number", 1, 60)

    check(-1)
    return check


@pytest.mark.parametrize("name", CALLS)
def test_a_strike_leaves_nothing_behind(cache, name):
    """At whatever place it comes: state, slots, links, lease and L1 are as before."""
    check = checking(cache, name)
    assert strike_everywhere(lambda: CALLS[name](cache), check) > 50


def test_a_strike_comes_everywhere():
    """A function of three places is struck at each; without a place at none."""
    struck = []

    def called():
        struck.append("called")

    def call():
        called()
        struck.append("end")

    seen = []
    for number in range(10):
        struck.clear()
        if not strike(number, call):
            break
        seen.append(tuple(struck))
    assert seen[0] == ()
    assert ("called",) in seen
    assert seen[-1] == ("called", "end")
    assert struck == ["called", "end"]


GUARDS = {
    "fill": lambda rules: Fill(rules, ("a", "b")),
    "write": lambda rules: Write(rules, ("a", "b")),
    "rest": lambda rules: rules.at_rest(),
}


@pytest.mark.parametrize("name", GUARDS)
@pytest.mark.parametrize("times", [1, 2])
def test_a_guard_is_to_be_entered_twice(name, times):
    """Entered once, it is left taken if a strike comes at the door of its exit."""
    rules, _, _ = make_rules(FakeClock())
    left = []

    def call():
        guard = GUARDS[name](rules)
        with guard:
            if times == 1:
                return
            with guard:
                pass

    def check(number):
        if rules._activities or rules.resting:
            left.append(number)
            rules.reset()

    strike_everywhere(call, check)
    assert bool(left) == (times == 1)


def test_every_fill_and_write_is_entered_twice():
    """In all of the package: one that is not could be left open."""
    sources = Path(cachebridge.__file__).parent.rglob("*.py")
    opened = [
        (path.name, line)
        for path in sources
        for line in re.findall(r"with .*open_(?:fill|write)\(.*", path.read_text())
    ]
    assert len(opened) > 10
    for where in opened:
        assert re.search(r" as (\w+), \1:$", where[1]), where


def test_a_bypass_ends_with_its_owner(cache):
    """An application enters it once: what a strike leaves goes with the object."""

    def call():
        with cache.bypass_l1():
            pass

    def check(_number):
        rules_of(cache).update_gate()  # as each heartbeat does
        assert_works(cache, 0)

    strike_everywhere(call, check)


def living_threads():
    """Return all threads but those that were struck before they began."""
    return {each for each in threading.enumerate() if each.is_alive()}


def test_a_strike_while_the_listener_starts(redis_url):
    """No thread listens that no engine knows, and the next reads start one."""
    before = living_threads()
    made = []

    def call():
        engine_of(made[-1]).listening.start()

    def check(_number):
        engine = engine_of(made[-1])
        for _ in range(4):
            made[-1].get("key")
        eventually(engine.listening.is_running)
        bus = engine.listening.bus
        engine.stop()
        bus.join(PATIENCE_S)
        eventually(lambda: living_threads() <= before)
        made.append(lone_cache(redis_url))

    made.append(lone_cache(redis_url))
    strike_everywhere(call, check, within="cachebridge")  # ``threading`` has its own


def test_a_strike_while_a_refresh_is_begun():
    """Whatever is left of it, the next one of the key runs."""
    refresher, ran = Refresher(), []

    def check(number):
        for _ in range(2):  # the first may find the one that was struck
            refresher.submit("key", lambda: ran.append(number))
            eventually(refresher.is_idle)
        assert number in ran
        assert not refresher._waiting

    strike_everywhere(
        lambda: refresher.submit("key", lambda: ran.append("struck")), check
    )
    refresher.stop(0)
