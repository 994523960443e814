"""What a process remembers of the last seconds."""

from __future__ import annotations

import json
import os
import threading

import pytest

from cachebridge.bus.asks import MOST_ANSWER
from cachebridge.engine.fleet.tail import MOST_EVENTS, tail
from cachebridge.events import KEPT, event, lately
from tests.rig import engine_of, eventually, listening, lone_cache, rules_of


@pytest.fixture
def cache(redis_url):
    return listening(lone_cache(redis_url, KEY_PREFIX="p:"))


def events(cache, seconds=3600.0):
    return tail(engine_of(cache), seconds)["events"]


def test_drops_and_flushes(cache, redis_url):
    """Each with its cause; a message with its origin and the number of the write."""
    peer = listening(lone_cache(redis_url, KEY_PREFIX="p:"))
    rules_of(cache).trail.reset()
    cache.set("k", 1)
    peer.delete("k")
    (drop,) = eventually(lambda: [e for e in events(cache) if e["what"] == "message"])
    assert drop["key"] == "p:k"
    assert drop["origin"] == rules_of(peer).origin.hex()
    assert drop["write"] > 0
    rules_of(cache).flush("clear")
    causes = [each["cause"] for each in events(cache) if each["what"] == "flushed"]
    assert causes == ["clear"]


def test_a_wait_for_another_process(cache, redis_url):
    """It stands beside the drops, and pushes none of them out."""
    peer, is_loading, may_end = (
        lone_cache(redis_url, KEY_PREFIX="p:"),
        *(threading.Event() for _ in range(2)),
    )

    def slow():
        is_loading.set()
        may_end.wait()
        return 1

    loading = threading.Thread(target=lambda: peer.get_or_load("k", slow))
    loading.start()
    is_loading.wait()
    waiting = threading.Thread(target=lambda: cache.get_or_load("k", lambda: 2))
    waiting.start()
    eventually(lambda: [e for e in events(cache) if e["what"] == "waited"])
    may_end.set()
    loading.join()
    waiting.join()


def test_log_lines(cache):
    """Their events come with what is known of them, except those of debug lines."""
    event("outage.begins", location="redis://here")
    event("flask.not_kept", error="x")
    told = [(each["what"], each.get("location")) for each in events(cache, 60.0)]
    assert ("outage.begins", "redis://here") in told
    assert "flask.not_kept" not in dict(told)


def test_only_so_many_seconds(cache):
    """What is older is left out."""
    engine = engine_of(cache)
    engine.rules.trail.note("p:old", "evicted")
    now = engine.clock() + 100.0
    engine.rules.trail._clock = engine.clock = lambda: now
    engine.rules.trail.note("p:new", "evicted")
    keys = [each["key"] for each in events(cache, 50.0) if each["what"] == "evicted"]
    assert keys == ["p:new"]


def test_bounded(cache):
    """It fits into an answer, and says that it is not all."""
    trail = rules_of(cache).trail
    for number in range(1000):
        trail.note(f"p:{number}" + "\U0001f600" * 500, "evicted")
    for _ in range(2 * KEPT):
        event("option", told="x" * 10_000)
    answer = tail(engine_of(cache), 3600.0)
    assert len(answer["events"]) <= MOST_EVENTS
    assert len(json.dumps(answer)) < MOST_ANSWER
    assert answer["left_out"] > 0
    assert answer["reaches_s"] is not None


def test_a_forked_child_forgets():
    """What the parent has logged did not happen to the child."""
    event("option", option="x")
    if (pid := os.fork()) == 0:
        os._exit(len(lately(3600.0)))
    assert os.waitpid(pid, 0)[1] == 0
