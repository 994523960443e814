"""SIGNING_KEYS and ENCRYPTION_KEYS: nothing that others have written is ever decoded.

The planted pickles leave a mark in ``EXECUTED`` if any process here unpickles them.
"""

from __future__ import annotations

import pickle
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pymemcache
import pytest
import redis

from cachebridge import ABSENT
from cachebridge.codec.compression import COMPRESSORS
from cachebridge.codec.envelope import body_of
from cachebridge.codec.seals import Encryption, Signature
from cachebridge.codec.wrapping import wrapping_of
from cachebridge.config import CacheOptions
from cachebridge.core.entry import MISSING
from cachebridge.errors import MissingKeyError
from tests.rig import (
    engine_of,
    entries_of,
    eventually,
    listening,
    lone_cache,
    refreshed,
    rules_of,
)
from tests.sides import SIDES, on_side

OLD, NEW, OTHER = (letter * 32 for letter in ("o", "n", "x"))
OPTIONS = {
    "signed": {"signing_keys": [NEW, OLD]},
    "encrypted": {"encryption_keys": [NEW, OLD]},
}
EXECUTED = []


class Exploit:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self):
        return execute, ("executed",)


def execute(what):
    EXECUTED.append(what)


PICKLED = pickle.dumps(Exploit())
SECRET, STRANGE = (each.encode() for each in (NEW, OTHER))
PLANTED = {
    "pickle": PICKLED,
    "oldest pickle": pickle.dumps(Exploit(), 0),
    "pickle after a mark": b"!" + PICKLED,
    **{name: each.compress(PICKLED) for name, each in COMPRESSORS.items()},
    "signed with another key": Signature([STRANGE], "pickle").close("k", PICKLED),
    "encrypted with another key": Encryption([STRANGE], "pickle").close("k", PICKLED),
    "signed for another key": Signature([SECRET], "pickle").close("l", PICKLED),
    "encrypted for another key": Encryption([SECRET], "pickle").close("l", PICKLED),
    "signed as JSON": Signature([SECRET], "json").close("k", PICKLED),
    "with a seal of zeros": b"\xcb\x10" + bytes(20) + PICKLED,
    "with half a seal": b"\xcb\x10abcd" + PICKLED,
    "of a kind to come": b"\xcb\x7f" + PICKLED,
    "digits": b"7",
}


@pytest.fixture(autouse=True)
def nothing_was_executed():
    """No test of this module ever runs what was planted."""
    EXECUTED.clear()
    yield
    assert EXECUTED == []


@pytest.fixture
def client(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def url_of(client):
    kwargs = client.connection_pool.connection_kwargs
    return f"redis://{kwargs['host']}:{kwargs['port']}/{kwargs['db']}"


def warnings_in(caplog):
    return [each for each in caplog.messages if "is not ours" in each]


def test_the_plants_would_run():
    """So that these tests can fail: a cache without keys runs each pickle."""
    pickle.loads(PICKLED)
    pickle.loads(PLANTED["oldest pickle"])
    assert len(EXECUTED) == 2
    EXECUTED.clear()


# -- planted ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("raw", PLANTED.values(), ids=PLANTED)
def test_planted_in_redis(client, side, options, raw, caplog):
    """Every way of reading takes it for a miss, counted, with one line of the log."""
    cache = on_side(side, listening(lone_cache(url_of(client), **options)))
    reads = {
        "get": lambda: cache.get("k", "none") == "none",
        "get_many": lambda: cache.get_many(["k", "l"]) == {},
        "load": lambda: cache.get_or_load("k", lambda: "loaded") == "loaded",
        "warm": lambda: cache.warm(["k"]) is not None,
    }
    for name, read in reads.items():
        client.set("k", raw)
        assert read(), name
        assert EXECUTED == [], name
    for change in (cache.incr, lambda key: cache.incr(key, 0.5)):
        client.set("k", raw)
        with pytest.raises(MissingKeyError):
            change("k")
    client.set("k", raw)
    if client.exists("k"):
        with suppress(TypeError):
            cache.append("k", "more")
    assert cache.stats().unverified >= 6
    assert cache.stats().undecodable == 0
    assert len(warnings_in(caplog)) == 1
    assert "'k'" in caplog.text
    assert "executed" not in caplog.text
    cache.set("k", "fine")
    assert cache.get("k") == "fine"


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_is_left_alone(redis_url, client, options):
    """Another worker may read it: newer keys, or none yet.  What is forged is not."""
    cache = lone_cache(redis_url, **options)
    kind = Signature if "signing_keys" in options else Encryption
    forged = kind([SECRET], "pickle").close("l", PICKLED)
    for raw in PLANTED.values():
        client.set("k", raw)
        assert cache.get("k") is None
        own = raw.startswith(forged[:6])
        assert client.get("k") == (None if own else raw)
    client.set("k", forged)
    assert cache.get_or_load("k", lambda: "loaded") == "loaded"
    assert cache.get("k") == "loaded"  # it was stored: the forged value was in the way
    assert rules_of(cache).is_idle()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_planted_as_a_stale_copy(redis_url, client, side, options):
    """In the load record: while it is refreshed, and after the loader has failed."""
    plain = lone_cache(redis_url, stale_ttl=60, stale_if_error=60, **options)
    cache = on_side(side, plain)

    def plant():
        cache.get_or_load("k", lambda: {"fine": ["value"]}, 60)
        assert client.hset("k:cachebridge-load", "s", PICKLED) == 0
        client.hset("k:cachebridge-load", "e", int(time.time() * 1000) - 10)
        client.delete("k")

    plant()
    assert cache.get_or_load("k", lambda: {"new": 1}) == {"new": 1}
    refreshed(plain)
    plant()

    def fail():
        raise LookupError

    with pytest.raises(LookupError):
        cache.get_or_load("k", fail, stale_ttl=0.0)
    assert plain.stats().unverified >= 1


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_true_stale_copies(redis_url, client, options):
    """A copy that was sealed under its key serves as ever."""
    cache = lone_cache(redis_url, stale_ttl=60, **options)
    cache.get_or_load("k", lambda: {"old": 1}, 60)
    client.hset("k:cachebridge-load", "e", int(time.time() * 1000) - 10)
    client.delete("k")
    assert cache.get_or_load("k", lambda: {"new": 1}) == {"old": 1}
    refreshed(cache)
    assert cache.get_or_load("k", lambda: {"newest": 1}) == {"new": 1}
    assert cache.stats().unverified == 0


def test_planted_while_it_is_loaded(redis_url, client):
    """The value that has overtaken a load is checked like any other."""
    cache = lone_cache(redis_url, **OPTIONS["signed"])

    def load():
        client.set("k", PICKLED)
        return ["loaded"]

    assert cache.get_or_load("k", load) == ["loaded"]
    assert cache.stats().loads_refused + cache.stats().loads >= 1


# -- marks of absence ------------------------------------------------------------------

RECORD = "k:cachebridge-load"
"""The load record of the key k, whose field "a" is the mark."""


def absent(cache, key="k"):
    """Leave a mark of absence, and return what a load of its key then finds."""
    assert cache.get_or_load(key, lambda: ABSENT, default="none") == "none"
    return found(cache, key)


def found(cache, key="k"):
    """Return what a load finds: the default for a mark of absence."""
    return cache.get_or_load(key, lambda: "loaded", default="none")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", OPTIONS)
def test_planted_absence(redis_url, client, side, name, caplog):
    """Whatever stands in the mark, callers get what their loader returns."""
    options = {**OPTIONS[name], "negative_ttl": 60}
    cache = on_side(side, lone_cache(redis_url, l1_max_entries=0, **options))
    assert absent(cache, "moved") == "none"
    cache.set("k", "")
    assert absent(lone_cache(redis_url, key_prefix="other:", **options)) == "none"
    planted = {
        "plain": b"1",
        "nothing": b"",
        "of another key": client.hget("moved:cachebridge-load", "a"),
        "of another prefix": client.hget(f"other:{RECORD}", "a"),
        "a value's seal": client.get("k"),
        **PLANTED,
    }
    cache.delete("k")
    for mark in planted.values():
        client.hset(RECORD, "a", mark)
        assert found(cache) == "loaded"
    assert cache.stats().unverified == len(planted)
    assert 0 < len(warnings_in(caplog)) <= len(planted)
    assert found(cache, "moved") == "none"
    # A mark is no value, either: not even an empty one.
    client.set("moved", planted["of another key"])
    assert cache.get("moved", "miss") == "miss"


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_planted_absence_in_memcached(shared_memcached, options):
    """An item that says "no such thing" is believed with its seal alone."""
    prefix = f"sealed-{time.monotonic_ns()}:"
    options = {**options, "key_prefix": prefix, "negative_ttl": 60}
    cache = lone_cache(shared_memcached.url, **options)
    assert absent(cache) == "none"
    reader = lone_cache(shared_memcached.url, **options)
    assert found(reader) == "none"
    address = (shared_memcached.host, shared_memcached.port)
    with closing(pymemcache.Client(address)) as plain:
        assert plain.get(prefix + "k").startswith(b"N.\xcb")  # None to other clients
    with closing(pymemcache.Client(address, serde=FlagsOnly())) as client:
        flags = client.get(prefix + "k")
        client.set(prefix + "k", b"N.", 60, noreply=False, flags=flags)
    reader = lone_cache(shared_memcached.url, **options)
    assert found(reader) == "loaded"
    assert reader.stats().unverified == 1


@pytest.mark.parametrize("name", OPTIONS)
def test_absence_while_keys_come_and_go(redis_url, client, name):
    """Turning seals on, and rotating a key, keeps the marks of the other workers."""
    (option,) = OPTIONS[name]

    def cache(*keys, **more):
        keys = {option: list(keys)} if keys else {}
        return lone_cache(redis_url, l1_max_entries=0, negative_ttl=60, **keys, **more)

    assert absent(cache()) == "none"
    assert client.hget(RECORD, "a") == b"1"
    accepting = cache(OLD, signing_accept_unsigned=True)
    assert found(accepting) == "none"
    assert accepting.stats().unsigned == 1
    accepting.delete("k")
    assert absent(accepting) == "none"
    for later in (cache(), cache(OLD, NEW), cache(NEW, OLD)):
        assert found(later) == "none"
        assert later.stats().unsigned == 0
    assert found(cache(NEW)) == "loaded"


OURS = 1 << 9
"""Stands for the stamp, which the test takes from an item of the cache."""


class FlagsOnly:
    """Lets pymemcache's client return an item's flags."""

    def serialize(self, _key, value):
        return value, 0

    def deserialize(self, _key, _value, flags):
        return flags


FLAGS = {
    "a pickle of another client": 1,
    "bytes": 0,
    "a text": 16,
    "compressed": 8 | 1,
    "ours": OURS,
    "ours, with a header": OURS | 1 | 32,
    "a copy of ours": OURS | 1 | 32 | 64,
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_planted_in_memcached(shared_memcached, options, flags):
    """Whatever client the item claims to be from."""
    prefix = f"sealed-{time.monotonic_ns()}:"
    cache = lone_cache(shared_memcached.url, key_prefix=prefix, stale_ttl=60, **options)
    cache.set("fine", {"a": 1})
    header = bytes(12) if flags & 32 else b""
    block = zlib.compress(PICKLED) if flags & 8 else header + PICKLED
    address = (shared_memcached.host, shared_memcached.port)
    with closing(pymemcache.Client(address, serde=FlagsOnly())) as client:
        if flags & OURS:
            flags ^= OURS ^ client.get(prefix + "fine") & -OURS

        def plant():
            assert client.set(prefix + "k", block, 60, noreply=False, flags=flags)

        plant()
        assert cache.get("k") is None
        assert cache.get_many(["k", "fine"]) == {"fine": {"a": 1}}
        plant()
        assert cache.get_or_load("k", lambda: ["loaded"]) == ["loaded"]
        plant()
        with pytest.raises(MissingKeyError):
            cache.incr("k")
    assert cache.stats().unverified >= 3


def test_planted_on_the_bus(redis_url, client):
    """A frame that is no message is counted, and executes nothing."""
    cache = listening(lone_cache(redis_url, **OPTIONS["signed"]))
    (channel,) = [
        name
        for name in client.pubsub_channels("cachebridge:*")
        if name.count(b":") == 1
    ]
    for raw in PLANTED.values():
        client.publish(channel, raw)
    stats = cache.stats
    eventually(
        lambda: stats().messages_malformed + stats().messages_unknown == len(PLANTED)
    )


def test_planted_among_what_is_warm(redis_url, client):
    """Neither a forged list nor a forged value that it names runs, or enters L1."""
    options = {**OPTIONS["signed"], "l1_warm": True, "key_prefix": "shop:"}
    client.set("cachebridge:warm:any", PICKLED)
    client.set("cachebridge:warm:ordered", b'[["shop:", ["k", "fine"]]]')
    client.set("shop:k", PICKLED)
    lone_cache(redis_url, **options).set("fine", ["value"])
    cache = listening(lone_cache(redis_url, **options))
    eventually(lambda: "shop:fine" in entries_of(engine_of(cache)))
    assert "shop:k" not in entries_of(engine_of(cache))
    assert cache.stats().unverified == 1


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_planted_in_groups(redis_url, client, options):
    """A group and a memoized function load anew."""
    cache = lone_cache(redis_url, **options)
    squares = cache.group(
        "squares", load_many=lambda numbers: {each: [each**2] for each in numbers}
    )
    cubes = cache.memoize("cubes")(lambda number: [number**3])
    assert squares.get_many([2, 3]) == {2: [4], 3: [9]}
    assert cubes(2) == [8]
    names = client.keys("*[23]*")
    assert len(names) >= 3
    for name in names:
        if client.type(name) == b"string":
            client.set(name, PICKLED)
    other = lone_cache(redis_url, **options)
    squares = other.group("squares", lambda number: [number**2])
    cubes = other.memoize("cubes")(lambda number: [number**3])
    assert squares.get_many([2, 3]) == {2: [4], 3: [9]}
    assert squares.get(2) == [4]
    assert cubes(2) == [8]
    assert other.stats().unverified >= 3


def test_what_an_unsigned_cache_has_in_l1(redis_url, client):
    """A cache without keys, of the same process, lets it into L1: not for this one."""
    careless = listening(lone_cache(redis_url))
    wrapping = wrapping_of(CacheOptions(signing_keys=(SECRET,)), "pickle")
    signed = engine_of(careless).values_for("pickle", wrapping)
    client.set("k", pickle.dumps(["planted"]))
    assert careless.get("k") == ["planted"]
    entry = entries_of(engine_of(careless))["k"]
    assert signed.copies.value_of(entry) is MISSING


# -- what works as ever ----------------------------------------------------------------


@pytest.mark.parametrize("compressor", [None, "zlib"])
@pytest.mark.parametrize("serializer", ["pickle", "json", "msgpack"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("side", SIDES)
def test_every_operation(redis_url, side, options, serializer, compressor):
    """Two workers read each other, from L2 and from L1; counting included."""
    given = {**options, "serializer": serializer, "compressor": compressor}
    ours, theirs = (listening(lone_cache(redis_url, **given)) for _ in range(2))
    cache, peer = on_side(side, ours), on_side(side, theirs)
    value = {"rows": [{"name": "x" * 40}] * 50}
    cache.set("k", value)
    cache.set_many({"a": 1.5, "b": None, "c": "text"})
    assert cache.add("n", 40, 60)
    assert cache.incr("n", 2) == 42
    assert peer.incr("n", -2) == 40
    assert cache.append("t", "one ") + peer.append("t", "two") == 4 + 7
    assert cache.touch("k", 100)
    assert cache.get_or_load("l", lambda: value) == value
    ours.set("w", ["later"], wait=False)
    expected = {
        "w": ["later"],
        "k": value,
        "a": 1.5,
        "b": None,
        "c": "text",
        "n": 40,
        "t": "one two",
        "l": value,
    }
    for reader in (cache, peer, cache, peer):
        eventually(lambda reader=reader: reader.get_many(list(expected)) == expected)
    assert theirs.stats().l1_hits >= 6
    for each in (ours, theirs):
        assert each.stats().unverified == each.stats().undecodable == 0
        assert each.stats().unsigned == 0


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_tags(redis_url, client, options):
    """They stand before the seal: a tagged value opens, and a planted one does not."""
    cache, peer = (listening(lone_cache(redis_url, **options)) for _ in range(2))
    cache.set("k", ["value"], tags=["t"])
    raw = client.get("k")
    assert peer.get("k") == cache.get("k") == ["value"]
    client.set("l", raw[: -len(body_of(raw))] + PICKLED)
    assert peer.get("l") is None
    assert peer.get_or_load("l", lambda: ["loaded"], tags=["t"]) == ["loaded"]
    assert peer.stats().unverified >= 1
    cache.invalidate_tags("t")
    eventually(lambda: peer.get("k") is None)
    assert peer.stats().undecodable == 0


def test_counters_are_digits(redis_url, client):
    """Redis adds to them: they have no seal, and are never taken for a pickle."""
    cache = lone_cache(redis_url, **OPTIONS["signed"])
    counter = cache.counter("stock", floor=0)
    assert counter.reset(5)
    assert counter.take(2)
    assert counter.value() == 3
    assert client.get("cachebridge-counter:stock") == b"3"
    for raw in (PICKLED, b"1.5", b"text", b""):
        client.set("cachebridge-counter:stock", raw)
        with pytest.raises(TypeError, match="no counter"):
            counter.value()


def test_counting_at_the_same_time(redis_url):
    """No increment is lost, though Redis cannot add to what is sealed."""
    caches = [lone_cache(redis_url, **OPTIONS["signed"]) for _ in range(2)]
    caches[0].set("n", 0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda turn: caches[turn % 2].incr("n"), range(100)))
    assert caches[0].get("n") == 100


# -- rotation, and the way there -------------------------------------------------------


@pytest.mark.parametrize("name", ["signing_keys", "encryption_keys"])
def test_rotation_without_a_miss(redis_url, name):
    """Two workers, three steps, one at a time: each reads all that the other wrote."""
    steps = [[OLD], [OLD, NEW], [NEW, OLD], [NEW]]
    workers = [lone_cache(redis_url, **{name: [OLD]}) for _ in range(2)]
    loads = []

    def check(keys):
        for writer in workers:
            for key in keys:
                writer.set(key, [key])
                for reader in workers:
                    assert reader.get(key) == [key]
        for worker in workers:
            worker.get_or_load("page", lambda: loads.append(1) or ["page"])

    check("ab")
    for keys in steps[1:]:
        for turn in range(2):
            workers[turn] = lone_cache(redis_url, **{name: keys})
            if keys == [NEW]:
                workers[turn].set("page", ["page"])  # older than its TTL by now
            check("ab")
    assert len(loads) == 1
    assert all(worker.stats().unverified == 0 for worker in workers)


def test_from_unsigned_to_signed_and_back(redis_url):
    """Workers without keys read what is signed; SIGNING_ACCEPT_UNSIGNED the rest."""
    past_l1 = {"l1_max_entries": 0}
    signed = {**past_l1, "signing_keys": [NEW]}
    plain, strict = lone_cache(redis_url, **past_l1), lone_cache(redis_url, **signed)
    rolling = lone_cache(redis_url, **signed, signing_accept_unsigned=True)
    for value in (7, 1.5, "text", ["list"], {"a": b"x"}, None):
        plain.set("k", value)
        assert rolling.get("k", "none") == value
        assert strict.get("k", "none") == "none"
        rolling.set("k", value)
        assert plain.get("k", "none") == value
        assert strict.get("k", "none") == value
    assert rolling.stats().unsigned == 6
    assert strict.stats().unverified == 6
    plain.set("n", 1)
    assert rolling.incr("n") == 2
    assert plain.incr("n") == 3
    assert rolling.incr("n") == 4
    assert strict.get("n") == 4
    assert plain.stats().undecodable == 0


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_one_line_of_the_log_per_kind(redis_url, client, options, caplog):
    """A thousand planted values are one line; another kind is another; keys escaped."""
    cache = lone_cache(redis_url, **options)
    for number in range(50):
        client.set(f"k\n{number}", PICKLED)
        assert cache.get(f"k\n{number}") is None
    assert len(warnings_in(caplog)) == 1
    assert r"'k\n0'" in warnings_in(caplog)[0]
    client.set("k", PLANTED["signed with another key"])
    assert cache.get("k") is None
    client.set("k", PLANTED["encrypted with another key"])
    assert cache.get("k") is None
    assert len(warnings_in(caplog)) == 2
    assert cache.stats().unverified == 52
