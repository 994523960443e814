"""Serializers: types, foreign writers, and undecodable bytes."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import math
import os
import pickle
import signal
import tracemalloc
import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
import redis
from django.core.cache.backends.redis import RedisCache
from django_redis.cache import RedisCache as DjangoRedisCache
from hypothesis import given, settings
from hypothesis import strategies as st

from cachebridge.codec.decoding import UndecodableError
from cachebridge.codec.values import SERIALIZERS
from tests.rig import (
    engine_of,
    eventually,
    listening,
    lone_cache,
    rules_of,
    spying,
)

PICKLE, JSON = SERIALIZERS["pickle"], SERIALIZERS["json"]
MSGPACK = SERIALIZERS["msgpack"]
UNREADABLE = {
    "text": b"hello",
    "empty": b"",
    "cut pickle": pickle.dumps([1, 2, 3])[:-3],
    "cut zlib": zlib.compress(b"x" * 99)[:-9],
    "zlib of rubbish": zlib.compress(b"rubbish"),
    "unknown module": b"\x80\x04\x8c\x0bno_such_mod\x94\x8c\x01X\x94\x93\x94.",
    "newer envelope": b"\xcb\x02whatever",
    "gzip": b"\x1f\x8b\x08\x00rest",
    "half a number": b"12abc",
    "minus": b"-",
    "mark alone": b"!",
    "cut marked pickle": b"!" + pickle.dumps([1, 2, 3])[:-3],
}


class Odd:
    """Pickles well, and cannot be unpickled."""

    def __reduce__(self):
        return fail, ()


class Color(Enum):
    RED = 1


@dataclass
class Row:
    id: int


def fail():
    raise RuntimeError("cannot be rebuilt")


class Exploit:
    """Would leave a trace if a reader ever unpickled it."""

    def __reduce__(self):
        return exploit, ()


def exploit():
    os.environ["CACHEBRIDGE_TEST_EXPLOITED"] = "yes"


@pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("serializer", SERIALIZERS.values(), ids=SERIALIZERS)
def test_unreadable_bytes(serializer, raw):
    """Whatever is wrong, it is one exception type with the cause chained."""
    if serializer is MSGPACK and raw == b"!":
        raw += b"!"  # alone it is a number
    with pytest.raises(UndecodableError) as raised:
        serializer.decode(raw)
    assert raised.value.__cause__ is not None


@given(st.binary(max_size=60))
def test_random_bytes_never_raise_anything_else(raw):
    """JSON reads no random bytes but JSON; its errors are of one type."""
    with contextlib.suppress(UndecodableError):
        JSON.decode(raw)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 0, -1])
def test_integers_are_digits(value):
    """Redis's INCR works on what was stored, and negative numbers too."""
    assert PICKLE.encode(value) == JSON.encode(value) == str(value).encode()


@pytest.mark.parametrize("value", [True, False, 2**63, -(2**63) - 1])
def test_what_is_no_64_bit_integer_is_pickled(value):
    """A bool stays a bool, and what Redis cannot count is no number to it."""
    raw = PICKLE.encode(value)
    assert raw[0] == 0x80
    assert PICKLE.decode(raw) is value or PICKLE.decode(raw) == value


def test_subclasses_of_int_keep_their_type():
    """An IntEnum is not stored as digits."""
    assert type(PICKLE.decode(PICKLE.encode(signal.SIGTERM))) is signal.Signals


class Plain(str):
    """A text of another type, as Django's SafeString is one."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ((1, ("a",)), [1, ["a"]]),
        (bytearray(b"x"), b"x"),
        ({(1, 2): 3}, {(1, 2): 3}),
        (Plain("safe"), "safe"),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_what_msgpack_changes(value, back):
    """As docs/codecs.md says; the rest is in the golden files."""
    read = MSGPACK.decode(MSGPACK.encode(value))
    assert read == back
    assert type(read) is type(back)


@pytest.mark.parametrize(
    "value",
    [
        *({1}, frozenset({1}), 1j, object(), 2**64, -(2**63) - 1, "\ud800"),
        *(Decimal(1), UUID(int=1), date(2026, 1, 1), datetime.now(UTC), Color.RED),
        Row(1),
    ],
)
def test_what_msgpack_refuses(value):
    """It would come back as something else: an error of the caller's instead."""
    with pytest.raises(TypeError):
        MSGPACK.encode({"a": [value]})


def test_msgpack_never_unpickles():
    """A pickle is unreadable, compressed or not; nothing runs, and it stays."""
    for raw in (pickle.dumps(Exploit()), zlib.compress(pickle.dumps(Exploit()))):
        with pytest.raises(UndecodableError):
            MSGPACK.decode(raw)
        assert not MSGPACK.is_damaged(raw)
    assert "CACHEBRIDGE_TEST_EXPLOITED" not in os.environ


@pytest.mark.parametrize(
    "raw",
    [b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 200_000, b"\xc1"],
)
def test_msgpack_that_promises_too_much(raw):
    """Lengths that are not there and deep nesting are undecodable."""
    with pytest.raises(UndecodableError):
        MSGPACK.decode(raw)


@given(st.none() | st.floats() | st.text() | st.binary() | st.booleans(), st.binary())
def test_msgpack_with_more_behind(value, more):
    """A number, text or bytes end where they end."""
    try:
        raw = MSGPACK.encode(value)
    except TypeError:  # half of a surrogate pair
        return
    if more:
        with pytest.raises(UndecodableError):
            MSGPACK.decode(raw + more)


def test_json_never_unpickles():
    """A pickle under a JSON cache is unreadable, compressed or not; nothing runs."""
    for raw in (pickle.dumps(Exploit()), zlib.compress(pickle.dumps(Exploit()))):
        with pytest.raises(UndecodableError):
            JSON.decode(raw)
    assert "CACHEBRIDGE_TEST_EXPLOITED" not in os.environ


def test_json_changes_types_the_same_way_everywhere(redis_url):
    """Tuples become lists and keys texts: from L1 just as from L2."""
    cache = listening(lone_cache(redis_url, serializer="json"))
    value = {"t": (1, 2), 3: [None, True, 1.5]}
    cache.set("k", value)
    from_l1 = cache.get("k")
    with cache.bypass_l1():
        from_l2 = cache.get("k")
    assert from_l1 == from_l2 == {"t": [1, 2], "3": [None, True, 1.5]}
    assert cache.stats().l1_hits == 1


@pytest.mark.parametrize("value", [{1, 2}, b"x", object()])
def test_what_json_cannot_express(redis_url, value):
    """An error of the caller's, at once, and nothing is stored."""
    cache = lone_cache(redis_url, serializer="json")
    with pytest.raises(TypeError):
        cache.set("k", value)
    assert cache.get("k") is None
    assert rules_of(cache).is_idle()


FOREIGN = {
    "none": None,
    "true": True,
    "false": False,
    "int": 7,
    "negative": -7,
    "int64": 2**63 - 1,
    "larger": 2**70,
    "float": 1.5,
    "inf": math.inf,
    "text": "text é",
    "long-text": "x" * 5000,
    "bytes": b"\x78\x80",
    "tuple": (1, "a"),
    "dict": {"a": [1, {"b": 2}]},
    "set": {1, 2},
}


def writers(url):
    """Return the writers whose values people have in their Redis."""
    zlib_compressor = "django_redis.compressors.zlib.ZlibCompressor"
    written_json = "django_redis.serializers.json.JSONSerializer"
    return {
        "django": RedisCache(url, {}),
        "django-redis": DjangoRedisCache(url, {}),
        "django-redis zlib": DjangoRedisCache(
            url, {"OPTIONS": {"COMPRESSOR": zlib_compressor}}
        ),
        "django-redis json": DjangoRedisCache(
            url, {"OPTIONS": {"SERIALIZER": written_json}}
        ),
    }


@pytest.mark.parametrize("writer", ["django", "django-redis", "django-redis zlib"])
def test_values_of_other_backends_are_read(redis_url, writer):
    """What Django's backend and django-redis wrote comes back as it was, also by L1."""
    foreign = writers(redis_url)[writer]
    ours = listening(lone_cache(redis_url, key_prefix=":1:"))
    for name, value in FOREIGN.items():
        foreign.set(name, value, timeout=100)
    for name, value in FOREIGN.items():
        for _ in range(2):
            back = ours.get(name)
            assert back == value, name
            assert type(back) is type(value), name
    many = ours.get_many(FOREIGN)
    assert many == FOREIGN
    assert ours.stats().undecodable == 0
    assert ours.incr("int") == 8
    assert foreign.get("int") == 8
    foreign.close()


def test_values_of_cachelib_are_read(redis_url):
    """What cachelib's RedisCache wrote comes back as it was, also by L1."""
    cachelib = pytest.importorskip("cachelib", reason="reads what cachelib has written")
    foreign = cachelib.RedisCache(redis.Redis.from_url(redis_url), key_prefix="p:")
    ours = listening(lone_cache(redis_url, key_prefix="p:"))
    for name, value in FOREIGN.items():
        foreign.set(name, value, 100)
    for name, value in FOREIGN.items():
        for _ in range(2):
            back = ours.get(name)
            assert back == value, name
            assert type(back) is type(value), name
    assert ours.stats().undecodable == 0


def test_json_of_django_redis_is_read(redis_url):
    """The JSON serializer reads what django-redis's wrote."""
    foreign = writers(redis_url)["django-redis json"]
    ours = lone_cache(redis_url, key_prefix=":1:", serializer="json")
    for name in ("none", "true", "int", "negative", "float", "text", "dict"):
        foreign.set(name, FOREIGN[name])
        assert ours.get(name) == FOREIGN[name], name
    foreign.close()


@pytest.mark.parametrize("reader", ["django", "django-redis"])
def test_other_backends_read_ours(redis_url, reader):
    """The way back is open: the old backend reads what was written since."""
    ours = lone_cache(redis_url, key_prefix=":1:")
    foreign = writers(redis_url)[reader]
    for name, value in FOREIGN.items():
        ours.set(name, value)
        assert foreign.get(name) == value, name
    foreign.close()


DAMAGED = {
    "pickle": b"\x80\x05" + b"not a pickle",
    "cut pickle": pickle.dumps([1, 2, 3])[:-3],
    "cut marked pickle": b"!" + pickle.dumps([1, 2, 3])[:-3],
    "cut zlib": zlib.compress(b"x" * 99)[:-9],
}
OF_OTHERS = {
    "text": b"not a pickle",
    "empty": b"",
    "json": b'{"a": 1}',
    "gzip": gzip.compress(pickle.dumps("theirs"))[:-9],
    "lzma": lzma.compress(pickle.dumps("theirs"))[:-9],
    "encrypted": b"\xcb\x11" + bytes(40),
    "zstd": b"\x28\xb5\x2f\xfd\x04\x00rest",
    "lz4": b"\x04\x22\x4d\x18rest",
    "msgpack": b"\x93\x01\x02\x03",
    "empty msgpack": b"\x80",
    "newer pickle": b"\x80\x09rest",
    "newer envelope": b"\xcb\x02rest",
    "class of a newer release": UNREADABLE["unknown module"],
    "missing attribute": b"\x80\x04\x8c\x02os\x94\x8c\x04none\x94\x93\x94.",
}
WAYS = ["get", "get_many", "get_or_load", "incr"]


def read_unreadable(cache, client, way):
    """Read the key k, of which nothing can be made, and see that it is a miss."""
    if way == "get":
        assert cache.get("k", "default") == "default"
    elif way == "get_many":
        client.set("l", PICKLE.encode("fine"))
        assert cache.get_many(["k", "l"]) == {"l": "fine"}
    elif way == "get_or_load":
        assert cache.get_or_load("k", lambda: "loaded") == "loaded"
    else:
        with pytest.raises(ValueError, match="'k'"):
            cache.incr("k", 0.5)


@pytest.mark.parametrize("way", WAYS)
def test_damage_is_a_miss(redis_url, way, caplog):
    """It is deleted with its message, counted once and logged in one line."""
    cache = listening(lone_cache(redis_url))
    with redis.Redis.from_url(redis_url) as client, spying(redis_url) as spy:
        client.set("k", DAMAGED["pickle"])
        read_unreadable(cache, client, way)
        assert client.get("k") == (
            PICKLE.encode("loaded") if way == "get_or_load" else None
        )
        assert [m.keys for m in spy.messages()][:1] == [("k",)]
    stats = cache.stats()
    assert stats.undecodable == 1
    assert stats.misses >= 1
    lines = [r for r in caplog.records if r.name == "cachebridge.codec"]
    assert len(lines) == 1
    assert "not a pickle" not in caplog.text
    assert rules_of(cache).is_idle()


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_all_damage_is_deleted(redis_url, raw):
    """No process can read what was cut off or spoilt."""
    with redis.Redis.from_url(redis_url) as client:
        client.set("k", raw)
        assert lone_cache(redis_url).get("k") is None
        assert client.get("k") is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("raw", OF_OTHERS.values(), ids=OF_OTHERS)
def test_what_others_can_read_is_a_miss_and_stays(redis_url, way, raw):
    """A newer release, another serializer or compressor: their processes read it."""
    cache = lone_cache(redis_url)
    with redis.Redis.from_url(redis_url) as client, spying(redis_url) as spy:
        client.set("k", raw)
        for _ in range(2):
            read_unreadable(cache, client, way)
        assert client.get("k") == raw
        assert spy.messages() == []
    assert cache.stats().undecodable >= 2
    assert rules_of(cache).is_idle()


@pytest.mark.parametrize("raw", [pickle.dumps("theirs"), b"text", b"\x93\x01", b"["])
def test_json_leaves_what_is_no_json(redis_url, raw):
    """A site with pickles shares the server; broken JSON alone is deleted."""
    cache = lone_cache(redis_url, serializer="json")
    with redis.Redis.from_url(redis_url) as client:
        client.set("k", raw)
        client.set("broken", b'{"a": 1')
        assert cache.get_many(["k", "broken"]) == {}
        assert client.mget("k", "broken") == [raw, None]


def test_unreadable_values_are_one_log_line(redis_url, caplog):
    """However many there are, and readable ones among them; the counter has all."""
    cache = lone_cache(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        for number in range(50):
            client.set(f"k{number}", OF_OTHERS["class of a newer release"])
            cache.set("fine", number)
            assert cache.get(f"k{number}") is None
            assert cache.get("fine") == number
    assert cache.stats().undecodable == 50
    assert len([r for r in caplog.records if r.name == "cachebridge.codec"]) == 1


def test_undecodable_that_was_replaced_meanwhile(redis_url, monkeypatch):
    """Only the very bytes that could not be read are deleted."""
    cache = lone_cache(redis_url)
    store = engine_of(cache).l2
    with redis.Redis.from_url(redis_url) as client:
        client.set("k", DAMAGED["pickle"])
        read = store.get

        async def reading(key):
            reply = await read(key)
            client.set(key, PICKLE.encode("new"))
            return reply

        monkeypatch.setattr(store, "get", reading)
        assert cache.get("k") is None
        assert client.get("k") == PICKLE.encode("new")


def test_undecodable_reaches_the_others(redis_url):
    """The deletion is published like any other."""
    one, two = listening(lone_cache(redis_url)), listening(lone_cache(redis_url))
    one.set("k", "v")
    assert two.get("k") == "v"
    with redis.Redis.from_url(redis_url) as client:
        client.set("k", DAMAGED["pickle"])
    with one.bypass_l1():
        assert one.get("k") is None
    eventually(lambda: two.get("k") is None)


def test_value_that_cannot_be_rebuilt_here(redis_url):
    """A value that pickles and does not unpickle is a miss, from L1 too."""
    cache = listening(lone_cache(redis_url))
    cache.set("k", Odd())
    assert cache.get("k", "default") == "default"
    assert cache.get_many(["k"]) == {}
    cache.set("l", [Odd()])
    assert cache.get_many(["l"]) == {}
    assert rules_of(cache).is_idle()


def test_loaded_value_that_cannot_be_rebuilt_here(redis_url):
    """get_or_load gives back what was loaded, never an inner mark of ours."""
    cache = lone_cache(redis_url)
    loaded = cache.get_or_load("k", Odd)
    assert isinstance(loaded, Odd)


def test_pickling_errors_propagate(redis_url):
    """A value that cannot be pickled is the caller's error, and nothing is stored."""
    cache = listening(lone_cache(redis_url))
    cache.set("k", "old")
    for change in (cache.set, cache.add):
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
            change("k", lambda: None)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        cache.set_many({"k": 1, "l": lambda: None})
    assert cache.get("k") == "old"
    assert rules_of(cache).is_idle()


@pytest.mark.parametrize(
    "raw", [b"9" * 5000, b"1_000", b"12 ", b"1e999", b"--1", b"0x10", b"1.", b"-"]
)
def test_what_only_looks_like_a_number(raw):
    """Digits that no writer of numbers stores are unreadable, not some other number."""
    with pytest.raises(UndecodableError):
        SERIALIZERS["pickle"].decode(raw)


class TimeLimit(Exception):  # noqa: N818 what task queues raise wherever a thread is
    pass


@pytest.mark.parametrize("name", ["pickle", "json"])
def test_struck_while_decoding(name, monkeypatch):
    """A time limit that strikes in the decoder comes out: the value is not at fault."""
    serializer = SERIALIZERS[name]
    load = type(serializer)._load
    struck = []

    def strike_once(raw):
        if not struck:
            struck.append(raw)
            raise TimeLimit
        return load(raw)

    monkeypatch.setattr(type(serializer), "_load", staticmethod(strike_once))
    raw = serializer.encode("value")
    with pytest.raises(TimeLimit):
        serializer.decode(raw)
    assert serializer.decode(raw) == "value"


# -- damaged, hostile, and struck from outside -----------------------------------------

RUNS: list[type[Exception]] = []


class Boom(Exception):  # noqa: N818 what a class of an application may raise
    pass


class Raises:
    """Its pickle raises when it is read."""

    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        return raise_it, (self.kind,)


def raise_it(kind):
    RUNS.append(kind)
    raise kind("no")


@pytest.mark.parametrize(
    "kind",
    [
        *(Boom, KeyError, MemoryError, RecursionError, OSError, TimeoutError),
        *(SystemError, ImportError, StopIteration, UnicodeError, ZeroDivisionError),
        AssertionError,
    ],
)
def test_a_pickle_that_raises_is_read_once(kind):
    """Whatever it raises is a miss, and happens once: it may do something each time."""
    RUNS.clear()
    with pytest.raises(UndecodableError):
        PICKLE.decode(pickle.dumps(Raises(kind)))
    assert [kind] == RUNS
    PICKLE.is_damaged(pickle.dumps(Raises(kind)))
    assert [kind] == RUNS


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_is_an_exit(kind):
    """What ends a process is no error of a value."""
    with pytest.raises(kind):
        PICKLE.decode(pickle.dumps(Raises(kind)))


class Slow:
    """Its pickle is being read when the signal arrives."""

    def __reduce__(self):
        return signal.raise_signal, (signal.SIGALRM,)


@pytest.mark.parametrize("kind", [TimeLimit, TimeoutError])
def test_a_time_limit_by_a_signal_comes_out(kind):
    """Of whatever kind its exception is."""

    def strike(_number, _frame):
        raise kind

    raw = pickle.dumps([Slow()])
    before = signal.signal(signal.SIGALRM, strike)
    try:
        with pytest.raises(kind):
            PICKLE.decode(raw)
    finally:
        signal.signal(signal.SIGALRM, before)


@settings(max_examples=50)
@given(
    value=st.recursive(st.integers() | st.text() | st.binary(), st.lists),
    at=st.integers(0, 10_000),
    bit=st.integers(0, 7),
    end=st.integers(0, 10_000),
)
def test_one_wrong_bit(value, at, bit, end):
    """It is a value or a miss, for each serializer, and so is what was cut off."""
    for serializer in (PICKLE, JSON):
        try:
            raw = bytearray(serializer.encode(value))
        except TypeError:
            continue
        raw[at % len(raw)] ^= 1 << bit
        for spoilt in (bytes(raw), bytes(raw)[: end % len(raw)]):
            with contextlib.suppress(UndecodableError):
                serializer.decode(spoilt)
            serializer.is_damaged(spoilt)


@pytest.mark.parametrize(
    ("raw", "is_damaged"),
    [
        (b"\x80\x05\x8e\x07\x00\x00\x00\x00\x5c\x00\x00abcdefg.", True),
        (pickle.dumps([1, 2])[:-1], True),
        (b"!" + pickle.dumps([1, 2])[:-3], True),
        (zlib.compress(b"x" * 99)[:-9], True),
        (pickle.dumps(Raises(Boom)), False),
        (b"\x80 no pickle", False),
        (b"\x1f\x8bgzip", False),
        (b"", False),
    ],
)
def test_what_damage_is(raw, is_damaged):
    """Bytes that announce more than is there; not what only others can read."""
    with pytest.raises(UndecodableError):
        PICKLE.decode(raw)
    assert PICKLE.is_damaged(raw) is is_damaged


@pytest.mark.parametrize("serializer", [PICKLE, JSON], ids=["pickle", "json"])
def test_a_bomb(serializer, monkeypatch):
    """What would grow beyond the bound is a miss, before there is room for it."""
    monkeypatch.setattr("cachebridge.bounds.MAX_INFLATED_BYTES", 1 << 20)
    bomb = zlib.compress(b" " * (50 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(UndecodableError):
            serializer.decode(bomb)
        assert not serializer.is_damaged(bomb)  # for a reader without a bound
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    fits = zlib.compress(pickle.dumps("x" * 1000) if serializer is PICKLE else b'"x"')
    assert serializer.decode(fits)


@pytest.mark.parametrize(
    ("raw", "is_damaged"),
    [
        (b'{"a": 1', True),
        (b'["a\xff', True),
        (b"9" * 5000, False),
        (b'{"n": ' + b"9" * 5000 + b"}", False),
        (b"[" * 9000 + b"]" * 9000, False),
        (b"2026-11-30", False),
        (b"-", False),
    ],
)
def test_what_damage_of_json_is(raw, is_damaged):
    """Not what is beyond our limits, and no text that looks like a number at first."""
    assert JSON.is_damaged(raw) is is_damaged


def test_deep_json_is_a_miss():
    """Neither recursion nor memory."""
    for raw in (b"[" * 1_000_000, b'{"a":' * 100_000):
        with pytest.raises(UndecodableError):
            JSON.decode(raw)
    with contextlib.suppress(UndecodableError):  # if this Python nests less deep
        JSON.decode(b"[" * 9000 + b"]" * 9000)
