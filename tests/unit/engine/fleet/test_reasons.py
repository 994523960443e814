"""Each reason of the closed list, made to happen in a real process."""

from __future__ import annotations

import pytest

from cachebridge.core.dropping.trail import MOST_NAME
from cachebridge.engine.fleet.answers import bindings_of
from cachebridge.engine.fleet.reasons import CODES, why
from tests.rig import bus_of, engine_of, eventually, listening, lone_cache, rules_of


@pytest.fixture
def cache(redis_url):
    options = {"KEY_PREFIX": "p:", "L1_MAX_ENTRY_BYTES": 2000, "L1_MAX_ENTRIES": 4}
    return listening(lone_cache(redis_url, L1_EVICTION="fifo", **options))


@pytest.fixture
def peer(redis_url):
    return listening(lone_cache(redis_url, KEY_PREFIX="p:"))


def reason(cache, key="k"):
    engine = engine_of(cache)
    code, sentence = why(engine, f"p:{key}", bindings_of(engine))
    assert code in CODES
    assert sentence.startswith(("in L1", "not in L1"))
    return code, sentence


def test_in_l1(cache):
    """Trusted, with its size and the seconds left."""
    cache.set("k", 1)
    code, sentence = reason(cache)
    assert code == "trusted"
    assert "s left in L1" in sentence


def test_not_trusted(cache):
    """The sentence says what is wrong with the bus."""
    cache.set("k", 1)
    rules_of(cache).end_trust()
    code, sentence = reason(cache)
    assert code == "untrusted"
    assert "because no heartbeat has come back" in sentence


def test_expired(cache):
    """Its time in L1 is over, and no caller has read it since."""
    cache.set("k", 1)
    engine = engine_of(cache)
    real = engine.clock
    engine.clock = lambda: real() + 1000
    try:
        assert reason(cache)[0] == "expired"
    finally:
        engine.clock = real


def test_off(cache):
    """The fleet's switch."""
    cache.set("k", 1)
    cache.l1_off()
    assert reason(cache)[0] == "off"
    cache.l1_on()


def test_excluded(cache):
    """By a prefix of L1_EXCLUDE, which is named."""
    cache.set("session:1", 1)
    assert reason(cache, "session:1") == (
        "excluded",
        "not in L1: excluded by L1_EXCLUDE 'session:'",
    )


def test_too_large(cache):
    """The bound is named."""
    cache.set("k", "x" * 5000)
    code, sentence = reason(cache)
    assert code == "too_large"
    assert "(2000)" in sentence


def test_changed_by_a_peer(cache, peer):
    """The sentence has the peer's origin, which the command replaces by its name."""
    cache.set("k", 1)
    peer.set("k", 2)
    eventually(lambda: reason(cache)[0] == "message")
    assert rules_of(peer).origin.hex() in reason(cache)[1]


def test_changed_here(cache):
    """A delete of this very process."""
    cache.set("k", 1)
    cache.delete("k")
    assert reason(cache)[0] == "own_write"


def test_evicted(cache):
    """L1 has four entries, and needed room."""
    cache.set("k", 1)
    for n in range(4):
        cache.set(f"other{n}", n)
    assert reason(cache)[0] == "evicted"


def test_dropped_together(cache):
    """By its prefix."""
    cache.set("k", 1)
    rules_of(cache).on_prefix("p:")
    assert reason(cache)[0] == "together"


def test_a_tag(cache):
    """By its tag."""
    cache.set("k", 1, tags=["t"])
    assert reason(cache)[0] == "trusted"
    cache.invalidate_tags("t")
    assert reason(cache)[0] in {"together", "own_write"}


def test_never_read(cache):
    """It was not read since this process began."""
    code, sentence = reason(cache)
    assert code == "never"
    assert "since L1 was emptied" in sentence


def test_flushed(cache):
    """L1 was emptied after something had happened to the key."""
    cache.set("k", 1)
    cache.delete("k")
    rules_of(cache).flush("clear")
    assert reason(cache)[0] == "flushed"


def test_resting(cache):
    """Nothing enters L1 while no messages arrive."""
    bus_of(cache).stop()
    rules_of(cache).on_break()
    assert reason(cache)[0] == "resting"


def test_a_refused_fill(cache):
    """What was read while L1 was not trusted is not stored."""
    peerless = cache.get("k", "nothing")
    assert peerless == "nothing"
    rules_of(cache).trail.note("p:k", "refused: token")
    assert reason(cache)[0] == "refused"


def test_the_trail_forgets(cache):
    """It has a bound, and keeps no long key alive."""
    trail = rules_of(cache).trail
    for n in range(1000):
        trail.note(f"{n}", "evicted")
    trail.note("x" * 10_000, "evicted")
    assert len(trail.last_of("x" * 10_000).key) == MOST_NAME
    assert trail.last_of("0") is None
    assert trail.last_of("999").cause == "evicted"
