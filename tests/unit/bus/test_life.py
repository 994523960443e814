"""The life of a listener: late, alone, quick to stop, and never more than one."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis

from cachebridge import Cache
from cachebridge.config import DEFAULT_EXCLUDE
from cachebridge.engine.messages import listening as listening_module
from cachebridge.engine.registry import retire
from tests.rig import (
    PATIENCE_S,
    PATIENT,
    after_heartbeats,
    bus_of,
    engine_of,
    eventually,
    let_expire,
    listening,
    lone_cache,
    spying,
)

DESCRIPTORS = Path("/proc/self/fd")
LASTING = {"bus_heartbeat": 0.05, "bus_trust": 60.0}
"""Trust that a stalled process does not lose by itself."""


def listeners():
    return [t for t in threading.enumerate() if t.name == "cachebridge-listener"]


@pytest.fixture
def before():
    """Return how many listeners ran before the test."""
    return len(listeners())


def test_starts_with_the_third_read(redis_url, before):
    """A short process never listens: two reads and any number of writes do not."""
    cache = lone_cache(redis_url)
    for number in range(10):
        cache.set("k", number)
        cache.add("l", 1)
        cache.incr("l")
        cache.touch("l")
        cache.has_key("k")
        cache.delete_many(["k", "l"])
    assert len(listeners()) == before
    cache.get("k")
    cache.get_many(["k", "l"])
    assert len(listeners()) == before
    cache.get("k")
    assert len(listeners()) == before + 1
    eventually(lambda: cache.stats().trusted)


@pytest.mark.parametrize("key", [prefix + "x" for prefix in DEFAULT_EXCLUDE])
def test_reads_of_excluded_keys_do_not_count(redis_url, before, key):
    """What L1 never answers is no reason to listen."""
    cache = lone_cache(redis_url)
    cache.set(key, "v")
    for _ in range(5):
        assert cache.get(key) == "v"
        assert cache.get_many([key]) == {key: "v"}
        assert cache.get_or_load(key, lambda: "w") == "v"
    assert len(listeners()) == before


def test_without_l1_there_is_no_listener(redis_url, before):
    """L1_MAX_ENTRIES=0: no thread, no L1; yet every write publishes (first deploy)."""
    cache = lone_cache(redis_url, l1_max_entries=0)
    with spying(redis_url) as spy:
        for _ in range(10):
            cache.set("k", "v")
            assert cache.get("k") == "v"
        assert cache.get_many(["k", "l"]) == {"k": "v"}
        cache.delete("k")
        assert len(spy.messages()) == 11
    assert len(listeners()) == before
    assert cache.stats().l1_entries == cache.stats().l1_hits == 0


def test_two_deploys(redis_url):
    """A process without L1 and one with it agree at once, both ways."""
    plain = lone_cache(redis_url, l1_max_entries=0)
    full = listening(lone_cache(redis_url))
    for number in range(20):
        plain.set("k", number)
        eventually(lambda number=number: full.get("k") == number)
        full.set("k", -number)
        assert plain.get("k") == -number


@pytest.mark.parametrize("how", ["listening", "silent server", "dead server"])
def test_stop_is_quick(redis_server_factory, how):
    """Whatever the listener is waiting for, stopping does not wait for it."""
    server = redis_server_factory()
    cache = listening(lone_cache(server.url, **PATIENT))
    bus = bus_of(cache)
    if how == "silent server":
        server.pause()
    elif how == "dead server":
        server.kill()
        eventually(lambda: not cache.stats().trusted)
    engine_of(cache).stop()
    bus.join(PATIENCE_S)  # the sockets' time is longer
    assert not bus.is_alive()
    server.resume() if how == "silent server" else None


def test_stop_and_go(redis_url, before):
    """An engine that was stopped serves and listens again when it is used again."""
    cache = lone_cache(redis_url, **LASTING)
    for number in range(40):
        cache.set("k", number)
        for _ in range(3):
            assert cache.get("k") == number
        eventually(lambda: cache.stats().trusted)
        cache.get("k")
        hits = cache.stats().l1_hits
        assert cache.get("k") == number
        assert cache.stats().l1_hits == hits + 1
        engine_of(cache).stop()
        assert not cache.stats().trusted
        assert cache.stats().l1_entries == 0
    eventually(lambda: len(listeners()) == before)


def test_late_end_of_an_old_listener(redis_url):
    """A listener that was stopped says nothing about the one that came after it."""
    cache = listening(lone_cache(redis_url, **LASTING))
    engine = engine_of(cache)
    old = bus_of(cache)
    report, is_late = old._report, threading.Event()

    def slow_report(exc):
        assert is_late.wait(PATIENCE_S)
        report(exc)

    old._report = slow_report
    engine.stop()
    listening(cache)
    is_late.set()
    old.join(PATIENCE_S)
    assert not old.is_alive()
    assert cache.stats().trusted
    assert cache.health().bus_connected
    after_heartbeats(cache)
    assert cache.stats().trusted


def descriptors():
    return len(list(DESCRIPTORS.iterdir()))


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts descriptors in /proc")
def test_a_hundred_lives(redis_url, before):
    """Engines that come and go, as under override_settings, leave no resources open."""

    def live():
        cache = Cache(redis_url, l1_max_entries=100, **PATIENT)
        cache.set("k", "v")
        for _ in range(4):
            assert cache.get("k") == "v"
        return engine_of(cache)

    retire(live())
    eventually(lambda: len(listeners()) == before)
    gc.collect()
    at_first = descriptors()
    engines = set()
    for _ in range(100):
        engine = live()
        engines.add(id(engine))
        bus = engine.listening.bus
        retire(engine)
        bus.join(PATIENCE_S)
    eventually(lambda: len(listeners()) == before)
    gc.collect()
    assert descriptors() <= at_first + 2
    with redis.Redis.from_url(redis_url) as client:
        eventually(
            lambda: (
                not client.pubsub_numsub(f"cachebridge:{redis_url.split('/')[-1]}")[0][
                    1
                ]
            )
        )


def test_unused_engine_stops(redis_url, before, monkeypatch):
    """Without any cache for a while the listener ends; the next cache starts anew."""
    monkeypatch.setattr(listening_module, "UNUSED_S", 0.2)
    cache = Cache(redis_url, **LASTING)
    engine = engine_of(cache)
    listening(cache)
    let_expire(0.2)
    after_heartbeats(cache)
    assert len(listeners()) == before + 1, "it is in use"
    del cache
    gc.collect()
    eventually(lambda: len(listeners()) == before)
    assert not engine.listening.is_running()
    again = Cache(redis_url, **LASTING)
    assert engine_of(again) is engine
    again.set("k", "v")
    for _ in range(4):
        assert again.get("k") == "v"
    eventually(lambda: again.stats().trusted)
    retire(engine)


@pytest.mark.parametrize("state", ["running", "silent", "dead"])
def test_interpreter_exits(redis_server_factory, state):
    """The end of the program does not wait for the listener, nor print anything."""
    server = redis_server_factory()
    code = (
        "import os, signal, time, cachebridge\n"
        f"cache = cachebridge.Cache({server.url!r}, **{PATIENT!r})\n"
        "cache.set('k', 'v')\n"
        "for _ in range(5): cache.get('k')\n"
        "while not cache.stats().trusted: time.sleep(0.01)\n"
    )
    if state == "silent":
        code += f"os.kill({server.pid}, signal.SIGSTOP)\n"
    elif state == "dead":
        code += f"os.kill({server.pid}, signal.SIGKILL)\n"
        code += "while cache.stats().trusted: time.sleep(0.01)\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,  # the sockets' time is longer
        check=True,
    )
    if state == "silent":
        server.resume()
    assert "Traceback" not in done.stderr
