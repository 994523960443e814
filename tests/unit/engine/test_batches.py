"""A batch is one round trip and one message; a call that changes nothing sends none."""

from __future__ import annotations

import threading

import pytest
import redis

from cachebridge.codec.messages import MessageType
from cachebridge.l2.connections.link import Link
from tests.rig import eventually, listening, lone_cache, rules_of, spying

SLOW = {"bus_heartbeat": 30.0, "bus_trust": 100.0}
THOUSANDS = [f"key:{number}" for number in range(2500)]


@pytest.fixture
def spy(redis_url):
    with spying(redis_url) as spy:
        yield spy


@pytest.fixture
def cache(redis_url):
    return lone_cache(redis_url, **SLOW)


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def trips(monkeypatch):
    """Record each request of this thread that waits for an answer.

    The listener's heartbeats, over the same links, are none of the calls'.
    """
    caller = threading.get_ident()
    requests = []
    exchange = Link.exchange

    def recording(self, packed, count):
        if threading.get_ident() == caller:
            requests.append(packed)
        return exchange(self, packed, count)

    monkeypatch.setattr(Link, "exchange", recording)
    return requests


@pytest.fixture
def warm(cache, trips):
    """Load every script beforehand: a server asks for each text once."""
    cache.set_many({"x": 1, "y": 2})
    cache.get_many(["x", "y"])
    cache.add("z", 1)
    cache.incr("z")
    cache.touch("z")
    cache.delete_many(["x", "y", "z"])
    trips.clear()
    return cache


def test_one_round_trip_each(warm, spy, trips):
    """set_many, get_many and delete_many: one request and one message for all keys."""
    items = {f"k{number}": number for number in range(100)}
    warm.set_many(items)
    assert len(trips) == 1
    assert [message.keys for message in spy.messages()] == [tuple(items)]
    assert warm.get_many(items) == items
    assert len(trips) == 2
    assert warm.delete_many(items) == 100
    assert len(trips) == 3
    assert [message.keys for message in spy.messages()] == [tuple(items)]


def test_single_operations(warm, spy, trips):
    """Every operation on one key is one round trip; each change one message."""
    warm.set("k", 1)
    warm.get("k")
    warm.has_key("k")
    warm.add("l", 1)
    warm.touch("k")
    warm.incr("k")
    warm.decr("k")
    warm.delete("k")
    assert len(trips) == 8
    assert [message.keys for message in spy.messages()] == [
        ("k",), ("l",), ("k",), ("k",), ("k",), ("k",),
    ]  # fmt: skip


def test_l1_needs_no_trip_at_all(warm, trips):
    """What L1 has is not asked for: the rest goes in one request."""
    listening(warm)
    warm.set_many({"a": 1, "b": 2})
    trips.clear()
    assert warm.get_many(["a", "b"]) == {"a": 1, "b": 2}
    assert warm.get("a") == 1
    assert warm.has_key("a")
    assert trips == []
    assert warm.get_many(["a", "b", "c", "d"]) == {"a": 1, "b": 2}
    assert len(trips) == 1


def test_thousands_go_in_batches(warm, spy, trips):
    """Above a thousand keys: one trip and one message per thousand."""
    items = dict.fromkeys(THOUSANDS, "v")
    warm.set_many(items, ttl=100)
    assert len(trips) == 3
    messages = spy.messages()
    assert [len(message.keys) for message in messages] == [1000, 1000, 500]
    assert len({message.write_id for message in messages}) == 3
    trips.clear()
    assert warm.get_many(THOUSANDS) == items
    assert len(trips) == 3
    trips.clear()
    assert warm.delete_many(THOUSANDS) == 2500
    assert len(trips) == 3
    assert [len(message.keys) for message in spy.messages()] == [1000, 1000, 500]


def test_ten_thousand_keys(redis_url):
    """Batches of any size are all there, for a peer too."""
    one, two = listening(lone_cache(redis_url)), listening(lone_cache(redis_url))
    keys = [f"k{number}" for number in range(10_000)]
    one.set_many(dict.fromkeys(keys, 1))
    assert two.get_many(keys) == dict.fromkeys(keys, 1)
    assert two.get_many(keys) == dict.fromkeys(keys, 1)
    assert one.delete_many(keys) == 10_000
    eventually(lambda: two.get_many(keys) == {})
    assert rules_of(one).is_idle()


def test_long_keys_are_split_by_bytes(cache, spy):
    """Keys of many kilobytes: no message grows over its limit."""
    keys = [f"{number}" + "x" * 20_000 for number in range(30)]
    cache.set_many(dict.fromkeys(keys, 1))
    frames = [frame for frame in spy.frames() if len(frame) > 100]
    assert len(frames) >= 3
    assert all(len(frame) <= 300 * 1024 for frame in frames)


def test_empty_batches(cache, spy, trips):
    """Nothing to do is nothing done."""
    cache.set_many({})
    assert cache.get_many([]) == {}
    assert cache.delete_many([]) == 0
    assert trips == []
    assert spy.messages() == []


def test_batches_take_any_iterable(cache):
    """Generators and repeated keys work like lists."""
    cache.set_many({"a": 1, "b": 2})
    assert cache.get_many(key for key in "aab") == {"a": 1, "b": 2}
    assert cache.delete_many(key for key in "aaab") == 2


def test_no_change_no_message(cache, spy, client):
    """I10: only what changed something is told; a delete always is."""
    cache.set("k", 1)
    spy.messages()
    assert not cache.add("k", 2)
    assert not cache.touch("gone")
    with pytest.raises(ValueError, match="gone"):
        cache.incr("gone")
    assert cache.get("gone") is None
    assert cache.get_many(["k", "gone"]) == {"k": 1}
    assert cache.has_key("k")
    assert spy.messages() == []
    assert not cache.delete("gone")
    assert cache.delete_many(["gone", "k"]) == 1
    assert [message.keys for message in spy.messages()] == [("gone",), ("gone", "k")]


def test_messages_sent_counts_what_was_sent(cache, spy):
    """The statistic agrees with the channel."""
    cache.set("k", 1)
    cache.add("k", 1)
    cache.touch("gone")
    cache.add("l", 1)
    cache.delete("gone")
    assert cache.stats().messages_sent == len(spy.messages()) == 3


@pytest.mark.parametrize("key", ["throttle_x", "rl:x", "x" * 70_000])
def test_excluded_keys(cache, spy, key):
    """They never enter L1 and their writes send no message; they work all the same."""
    listening(cache)
    spy.messages()
    cache.set(key, 1)
    assert cache.get(key) == cache.get(key) == 1
    assert cache.get_many([key]) == {key: 1}
    assert not cache.add(key, 2)
    assert cache.incr(key) == 2
    assert cache.incr(key, 0.5) == 2.5
    assert cache.touch(key, 100)
    assert cache.has_key(key)
    cache.set_many({key: 3})
    assert cache.delete(key)
    assert cache.delete_many([key]) == 0
    assert cache.get_or_load(key, lambda: "v") == "v"
    assert spy.messages() == []
    assert cache.stats().l1_entries == cache.stats().l1_hits == 0


def test_mixed_batch(cache, spy):
    """Excluded and other keys in one call: each in its own way."""
    listening(cache)
    spy.messages()
    cache.set_many({"a": 1, "rl:b": 2})
    assert cache.get_many(["a", "rl:b"]) == {"a": 1, "rl:b": 2}
    assert [message.keys for message in spy.messages()] == [("a",)]
    assert cache.stats().l1_entries == 1
    assert cache.delete_many(["a", "rl:b"]) == 2


def test_own_exclusions(redis_url, spy):
    """L1_EXCLUDE names prefixes of the caller's keys, before KEY_PREFIX."""
    cache = listening(
        lone_cache(redis_url, l1_exclude=["hot:"], key_prefix="app:", **SLOW)
    )
    spy.messages()
    cache.set("hot:k", 1)
    cache.set("throttle_x", 1)
    assert [message.keys for message in spy.messages()] == [("app:throttle_x",)]


def test_clear(redis_url, spy, client):
    """Clear removes the keys of the prefix from L2 and every L1, and nothing else."""
    prefix = "a*[b]?\\:"
    cache = listening(lone_cache(redis_url, key_prefix=prefix))
    peer = listening(lone_cache(redis_url, key_prefix=prefix))
    other = listening(lone_cache(redis_url, key_prefix="aXb:"))
    items = {f"k{number}": number for number in range(1500)}
    cache.set_many(items)
    other.set("k1", "other")
    client.set("foreign", "kept")
    assert peer.get_many(items) == items
    assert other.get("k1") == "other"
    spy.messages()
    cache.clear()
    assert cache.get_many(items) == {}
    eventually(lambda: peer.get("k1") is None)
    assert peer.get_many(items) == {}
    assert other.get("k1") == "other"
    assert client.get("foreign") == b"kept"
    messages = spy.messages()
    assert messages[-1].type is MessageType.PREFIX
    assert messages[-1].keys == (prefix,)
    assert {key for m in messages[:-1] for key in m.keys} == {prefix + k for k in items}


def test_clear_without_a_prefix(redis_url, client):
    """It would delete other caches' keys: it raises, naming the option to allow it."""
    cache = lone_cache(redis_url)
    cache.set("k", 1)
    with pytest.raises(Exception, match="CLEAR_FLUSHES_DB"):
        cache.clear()
    assert cache.get("k") == 1


def test_clear_that_flushes(redis_url, spy, client):
    """CLEAR_FLUSHES_DB: everything goes, everywhere, by one message."""
    cache = listening(lone_cache(redis_url, clear_flushes_db=True))
    peer = listening(lone_cache(redis_url))
    cache.set("k", 1)
    client.set("foreign", 1)
    assert peer.get("k") == 1
    spy.messages()
    cache.clear()
    assert cache.get("k") is None
    assert client.get("foreign") is None
    eventually(lambda: peer.get("k") is None)
    assert [m.type for m in spy.messages()] == [MessageType.CLEAR]
