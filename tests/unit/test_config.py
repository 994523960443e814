"""Every option: its default, its valid values, and an error that names it otherwise."""

from __future__ import annotations

import dataclasses
import math

import pytest
from redis.credentials import UsernamePasswordCredentialProvider

from cachebridge import Cache, ConfigError
from cachebridge.config import (
    DEFAULT_EXCLUDE,
    OPTION_NAMES,
    CacheOptions,
    EngineOptions,
    parse_options,
)
from tests.rig import engine_of, options_of

INF, NAN = math.inf, math.nan
NO_INTEGERS = [1.0, "1", True, None, [], -1]
NO_SECONDS = [0, -1, "1", True, None, INF, -INF, NAN, []]

SAME = "k" * 32
NO_KEYS = [None, "k" * 40, b"k" * 40, True, {}, [1], ["k" * 31], [SAME, b"k" * 32]]

SHARED = {
    "64M": (64 << 20, ""),
    "1G": (1 << 30, ""),
    "/run/a shop": (64 << 20, "/run/a shop"),
    "2M /run/shop": (2 << 20, "/run/shop"),
}
"""L1_SHARED: bytes and directory."""

BAD = {
    "L1_MAX_ENTRIES": NO_INTEGERS,
    "L1_MAX_BYTES": [*NO_INTEGERS, 0],
    "L1_MAX_ENTRY_BYTES": [*NO_INTEGERS, 0],
    "L1_TTL": NO_SECONDS,
    "L1_SWEEP": NO_SECONDS[1:],
    "L1_TTL_RATIO": [0, -0.5, 1.01, "0.5", True, None, NAN, INF],
    "L1_WARM": ["yes", 1, None],
    "PROBE_EVERY": [-1, 1.5, "10", None, True],
    "L1_SHARED": [64, "64", "M", "64K", "0M", "65G", "run/shop", "", "2M run", True],
    "FLEET_ASK": ["no", 0, None],
    "L1_EVICTION": ["sieve", "LRU", None, True, []],
    "L1_EXCLUDE": ["text", None, [""], [1], {"a": 1}, [None], 7],
    "BUS": ["stream", "tracking", "PUBSUB", None, True, []],
    "BUS_LOCATION": ["", 5, True, [], {}],
    "REPLICAS": ["far", "NEAR", None, True, []],
    "BUS_TRUST": NO_SECONDS,
    "BUS_HEARTBEAT": NO_SECONDS,
    "SOCKET_TIMEOUT": NO_SECONDS,
    "SOCKET_CONNECT_TIMEOUT": NO_SECONDS,
    "MAX_CONNECTIONS": [0, -1, "1", True, 1.0, []],
    "CLIENT_KWARGS": [None, [], "a", 1, [("a", 1)]],
    "SENTINEL_KWARGS": [None, [], "a", 1, [("a", 1)]],
    "CREDENTIAL_PROVIDER": [5, [], object(), {}],
    "SERIALIZER": ["yaml", "PICKLE", None, True, []],
    "COMPRESSOR": ["brotli", "ZLIB", True, 6, []],
    "COMPRESS_MIN_BYTES": [31, 0, -1, True, None, 1.0, "100", []],
    "WRITE_FORMAT": ["django", None, True, []],
    "SIGNING_KEYS": NO_KEYS,
    "SIGNING_ACCEPT_UNSIGNED": [None, 0, 1, "yes", []],
    "ENCRYPTION_KEYS": NO_KEYS,
    "TIMEOUT": ["1", True, NAN, INF, -INF, []],
    "KEY_PREFIX": [None, 1, b"a", []],
    "CLEAR_FLUSHES_DB": [None, 0, 1, "yes", []],
    "BREAKER_FAILURES": NO_INTEGERS,
    "BREAKER_RETRY": NO_SECONDS,
    "OUTAGE_TTL": NO_SECONDS[1:],
    "WRITE_BEHIND_MS": [0, 0.5, -1, 10_001, "50", True, None, NAN, INF, []],
    "MAX_LOADS": [0, -1, "1", True, 1.0, []],
    "ON_ERROR": ["ignore", "DEGRADE", None, True, []],
    "LEASE_TTL": NO_SECONDS[1:],
    "STALE_TTL": NO_SECONDS[1:],
    "STALE_IF_ERROR": NO_SECONDS[1:],
    "NEGATIVE_TTL": NO_SECONDS[1:],
    "TTL_JITTER": [-0.1, 1, 1.5, "0.5", True, None, NAN],
    "EARLY_REFRESH": [-1, "1", True, None, INF, NAN, []],
}
GOOD = {
    "L1_MAX_ENTRIES": [0, 1, 10**9],
    "L1_MAX_BYTES": [1 << 20, 1 << 40],
    "L1_MAX_ENTRY_BYTES": [1, 1 << 26],
    "L1_TTL": [0.001, 1, 1e9],
    "L1_SWEEP": [0, 0.1, 60],
    "L1_TTL_RATIO": [0.01, 1, 1.0],
    "L1_WARM": [True, False],
    "PROBE_EVERY": [0, 1, 1000],
    "L1_SHARED": [None, *SHARED],
    "FLEET_ASK": [True, False],
    "L1_EVICTION": ["s3fifo", "lru", "fifo"],
    "L1_EXCLUDE": [[], (), ["a"], ("a", "b"), {"a"}, frozenset({"a"})],
    "BUS": ["pubsub", "none"],
    "BUS_LOCATION": [None, "redis://localhost/1"],
    "REPLICAS": ["none", "near"],
    "BUS_TRUST": [1, 60.0],
    "BUS_HEARTBEAT": [0.01, 1],
    "SOCKET_TIMEOUT": [0.01, 60],
    "SOCKET_CONNECT_TIMEOUT": [0.01, 60],
    "MAX_CONNECTIONS": [None, 1, 100],
    "CLIENT_KWARGS": [{}, {"client_name": "x"}],
    "SENTINEL_KWARGS": [{}, {"password": "x"}],
    "CREDENTIAL_PROVIDER": [None, UsernamePasswordCredentialProvider("a", "b")],
    "SERIALIZER": ["pickle", "json", "msgpack"],
    "COMPRESSOR": [None, "zlib", "zstd", "lz4", "gzip", "lzma"],
    "COMPRESS_MIN_BYTES": [32, 10**6],
    "WRITE_FORMAT": ["cachebridge", "django-redis"],
    "SIGNING_KEYS": [[], ["k" * 32], ("k" * 32, b"l" * 40), ["\u00e9" * 16]],
    "SIGNING_ACCEPT_UNSIGNED": [False],
    "ENCRYPTION_KEYS": [[], ["k" * 32], (b"k" * 32, "l" * 32)],
    "TIMEOUT": [None, 0, -1, 0.5, 10**6],
    "KEY_PREFIX": ["", "app:", "*"],
    "CLEAR_FLUSHES_DB": [True, False],
    "BREAKER_FAILURES": [0, 1, 100],
    "BREAKER_RETRY": [0.001, 60],
    "OUTAGE_TTL": [0, 0.5, 3600],
    "WRITE_BEHIND_MS": [1, 2.5, 10_000],
    "MAX_LOADS": [None, 1, 64],
    "ON_ERROR": ["degrade", "raise"],
    "LEASE_TTL": [0, 0.1, 60],
    "STALE_TTL": [0, 0.1, 3600],
    "STALE_IF_ERROR": [0, 0.1, 3600],
    "NEGATIVE_TTL": [0, 0.1, 3600],
    "TTL_JITTER": [0, 0.1, 0.99],
    "EARLY_REFRESH": [0, 0.5, 1, 2.5],
}
CHOICES = {
    "BUS": ["'pubsub'", "'none'"],
    "REPLICAS": ["'none'", "'near'"],
    "SERIALIZER": ["'pickle'", "'json'", "'msgpack'"],
    "COMPRESSOR": ["'zlib'", "'zstd'", "'lz4'", "'gzip'", "'lzma'"],
    "WRITE_FORMAT": ["'cachebridge'", "'django-redis'"],
    "SIGNING_ACCEPT_UNSIGNED": ["True", "False"],
    "L1_EVICTION": ["'s3fifo'", "'lru'", "'fifo'"],
    "CLEAR_FLUSHES_DB": ["True", "False"],
    "L1_WARM": ["True", "False"],
    "FLEET_ASK": ["True", "False"],
}


SECRET = {
    *("BUS_LOCATION", "CLIENT_KWARGS", "SENTINEL_KWARGS", "CREDENTIAL_PROVIDER"),
    *("SIGNING_KEYS", "ENCRYPTION_KEYS"),
}


@pytest.fixture
def patient_sockets():
    """Leave the defaults as they are: this is about them."""


def test_the_table_is_complete():
    """Every option is tested here, and every field of the objects is an option."""
    fields = dataclasses.fields(EngineOptions) + dataclasses.fields(CacheOptions)
    assert sorted(each.name.upper() for each in fields) == list(OPTION_NAMES)
    assert sorted(BAD) == sorted(GOOD) == list(OPTION_NAMES)


def test_defaults():
    """The defaults are those of the documentation."""
    engine, cache = parse_options({})
    assert dataclasses.asdict(engine) == {
        "l1_max_entries": 10_000,
        "l1_max_bytes": 64 * 1024 * 1024,
        "l1_max_entry_bytes": 1024 * 1024,
        "l1_eviction": "s3fifo",
        "l1_sweep": 5.0,
        "l1_ttl": 60.0,
        "l1_ttl_ratio": 0.5,
        "l1_warm": False,
        "probe_every": 0,
        "l1_shared": None,
        "fleet_ask": True,
        "bus": "pubsub",
        "bus_location": None,
        "replicas": "none",
        "bus_trust": 2.0,
        "bus_heartbeat": 0.5,
        "socket_timeout": 1.0,
        "socket_connect_timeout": 0.5,
        "max_connections": None,
        "breaker_failures": 3,
        "breaker_retry": 1.0,
        "outage_ttl": 30.0,
        "write_behind_ms": 50.0,
        "max_loads": None,
        "client_kwargs": {},
        "sentinel_kwargs": {},
        "credential_provider": None,
    }
    assert dataclasses.asdict(cache) == {
        "timeout": 300.0,
        "key_prefix": "",
        "serializer": "pickle",
        "compressor": None,
        "compress_min_bytes": 1024,
        "write_format": "cachebridge",
        "signing_keys": (),
        "signing_accept_unsigned": False,
        "encryption_keys": (),
        "l1_exclude": DEFAULT_EXCLUDE,
        "clear_flushes_db": False,
        "on_error": "degrade",
        "lease_ttl": 5.0,
        "stale_ttl": 0.0,
        "stale_if_error": 0.0,
        "negative_ttl": 0.0,
        "ttl_jitter": 0.0,
        "early_refresh": 0.0,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD.items() for value in values],
    ids=lambda part: f"{part!r}"[:20],
)
def test_unusable_value(name, value):
    """The error names the option and the value, and says what is valid."""
    with pytest.raises(ConfigError) as raised:
        parse_options({name: value})
    text = str(raised.value)
    assert text.startswith(f"{name} must be ")
    # What may hold a password: only the type is shown.
    shown = type(value).__name__ if name in SECRET else repr(value)
    assert shown in text
    assert all(choice in text for choice in CHOICES.get(name, ()))
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in GOOD.items() for value in values],
    ids=lambda part: f"{part!r}"[:20],
)
def test_usable_value(name, value):
    """The value arrives where it belongs."""
    beside = {"BUS_TRUST": 100.0} if name == "BUS_HEARTBEAT" else {}
    beside |= {"L1_MAX_BYTES": 1 << 26} if name == "L1_MAX_ENTRY_BYTES" else {}
    engine, cache = parse_options({name: value, **beside})
    holder = engine if hasattr(engine, name.lower()) else cache
    kept = getattr(holder, name.lower())
    if name in {"SIGNING_KEYS", "ENCRYPTION_KEYS"}:
        value = [each.encode() if isinstance(each, str) else each for each in value]
    if name == "L1_SHARED":
        value = SHARED.get(value)
    assert kept == (tuple(value) if isinstance(kept, tuple) else value)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("L1_MAX_ENTRY", "'L1_MAX_ENTRIES'"),
        ("l1_tll", "'L1_TTL'"),
        ("SERIALISER", "'SERIALIZER'"),
        ("TIME_OUT", "'TIMEOUT'"),
    ],
)
def test_unknown_option_suggests(name, suggestion):
    """A slip of the pen is met with the nearest name, and with all of them."""
    with pytest.raises(ConfigError) as raised:
        parse_options({name: 1})
    text = str(raised.value)
    assert f"Unknown option {name!r}. Did you mean {suggestion}?" in text
    assert all(valid in text for valid in OPTION_NAMES)


def test_unknown_option_without_a_near_one():
    """No suggestion where none is near; the names valid in that place are listed."""
    with pytest.raises(ConfigError) as raised:
        parse_options({"QWXYZ": 1}, valid=("L1_TTL", "LOCATION"))
    assert str(raised.value).endswith("'QWXYZ'. Valid options: L1_TTL, LOCATION.")


def test_unknown_option_may_be_another_backends():
    """Its names are suggested, in any case of letters, and not listed."""
    with pytest.raises(ConfigError) as raised:
        parse_options({"SOCKET_KEEP_ALIVE": 1}, others=("socket_keepalive",))
    assert "Did you mean 'socket_keepalive'?" in str(raised.value)
    assert "socket_keepalive" not in str(raised.value).partition("Valid")[2]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"BUS_TRUST": 0.9}, ("BUS_HEARTBEAT", "BUS_TRUST")),
        ({"BUS_HEARTBEAT": 1.1}, ("BUS_HEARTBEAT", "BUS_TRUST")),
        ({"L1_MAX_ENTRY_BYTES": 1 << 30}, ("L1_MAX_ENTRY_BYTES", "L1_MAX_BYTES")),
        (
            {"SIGNING_KEYS": [SAME], "ENCRYPTION_KEYS": [SAME]},
            ("SIGNING_KEYS", "ENCRYPTION_KEYS"),
        ),
        (
            {"SIGNING_KEYS": [SAME], "WRITE_FORMAT": "django-redis"},
            ("SIGNING_KEYS", "WRITE_FORMAT"),
        ),
        (
            {"ENCRYPTION_KEYS": [SAME], "WRITE_FORMAT": "django-redis"},
            ("ENCRYPTION_KEYS", "WRITE_FORMAT"),
        ),
        (
            {"SIGNING_ACCEPT_UNSIGNED": True},
            ("SIGNING_ACCEPT_UNSIGNED", "SIGNING_KEYS"),
        ),
    ],
)
def test_options_that_contradict_each_other(options, names):
    """Values that make no sense together are refused, naming both."""
    with pytest.raises(ConfigError) as raised:
        parse_options(options)
    assert all(name in str(raised.value) for name in names)


def test_frozen():
    """Options do not change after they were parsed; nor do those given change them."""
    given = {"CLIENT_KWARGS": {"client_name": "x"}, "L1_EXCLUDE": ["a"]}
    engine, cache = parse_options(given)
    given["CLIENT_KWARGS"]["client_name"] = "y"
    given["L1_EXCLUDE"].append("b")
    assert engine.client_kwargs == {"client_name": "x"}
    assert cache.l1_exclude == ("a",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        engine.l1_ttl = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        cache.timeout = 1.0


def test_differences():
    """Engines are compared option by option."""
    engine, _ = parse_options({})
    other, _ = parse_options({"L1_TTL": 5, "BUS": "none"})
    assert engine.differences(engine) == []
    assert engine.differences(other) == ["L1_TTL", "BUS"]


def test_cache_takes_either_case():
    """The framework-free cache takes names in upper and lower case alike."""
    upper = Cache("memory://config-upper", L1_TTL=7, KEY_PREFIX="p:")
    lower = Cache("memory://config-lower", l1_ttl=7, key_prefix="p:")
    for cache in (upper, lower):
        assert engine_of(cache).options.l1_ttl == 7.0
        assert options_of(cache).key_prefix == "p:"
    with pytest.raises(ConfigError, match="Unknown option 'L1_TTTL'"):
        Cache("memory://config-unknown", l1_tttl=7)


def test_same_option_in_both_cases():
    """One option given twice is a contradiction, not a matter of order."""
    with pytest.raises(ConfigError, match="L1_TTL"):
        Cache("memory://config-twice", L1_TTL=7, l1_ttl=8)


KEYED = ["SIGNING_KEYS", "ENCRYPTION_KEYS"]


@pytest.mark.parametrize("name", KEYED)
def test_no_key_is_shown(name):
    """Neither an error nor the options' own text repeats a secret."""
    secret = "x-secret-" * 3
    with pytest.raises(ConfigError) as raised:
        parse_options({name: [secret]})
    assert "x-secret" not in str(raised.value)
    _, cache = parse_options({name: [secret * 2]})
    assert "x-secret" not in repr(cache)


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({"SERIALIZER": "msgpack"}, "msgpack"),
        ({"COMPRESSOR": "zstd"}, "zstd"),
        ({"COMPRESSOR": "lz4"}, "lz4"),
        ({"ENCRYPTION_KEYS": [SAME]}, "crypto"),
        ({"COMPRESSOR": "lzma"}, "lzma"),
    ],
)
def test_a_package_that_is_missing(options, extra, without_packages):
    """The error names the option, and the extra that installs the package."""
    without_packages(extra)
    with pytest.raises(ConfigError) as raised:
        parse_options(options)
    assert next(iter(options)) in str(raised.value)
    said = "without the module lzma" if extra == "lzma" else f"cachebridge[{extra}]"
    assert said in str(raised.value)
