"""django-redis's entries for Sentinel, translated."""

from __future__ import annotations

import pytest

from cachebridge.django_backend.sentinels import with_sentinels
from cachebridge.errors import ConfigError
from tests.rig import engine_of
from tests.unit.django.support import entry

CLIENT = {"CLIENT_CLASS": "django_redis.client.SentinelClient"}
FACTORY = {"CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory"}
POOL = {"CONNECTION_POOL_CLASS": "redis.sentinel.SentinelConnectionPool"}
PAIRS = {"SENTINELS": [("a", 26379), ["::1", 1]]}
HOSTS = "a:26379,[::1]:1"


@pytest.mark.parametrize(
    ("location", "options", "expected", "rest"),
    [
        (
            "redis://m/3",
            CLIENT | PAIRS,
            f"redis+sentinel://{HOSTS}/m/3",
            {"SENTINEL_KWARGS": {"ssl": False}},
        ),
        (
            "rediss://u:p%40@m/3?is_master=1&ssl_ca_certs=x",
            FACTORY
            | POOL
            | PAIRS
            | {"SENTINEL_KWARGS": {"ssl": True, "password": "s"}},
            f"rediss+sentinel://u:p%40@{HOSTS}/m/3?ssl_ca_certs=x",
            {"SENTINEL_KWARGS": {"ssl": True, "password": "s"}},
        ),
        (
            ["redis://m:6379?is_master=1", "redis://m:6379?is_master=0"],
            FACTORY | PAIRS | {"SENTINEL_KWARGS": None, "L1_TTL": 5},
            f"redis+sentinel://{HOSTS}/m/",
            {"SENTINEL_KWARGS": {"ssl": False}, "L1_TTL": 5},
        ),
        ("redis+sentinel://a/m", CLIENT, "redis+sentinel://a/m", {}),
        ("redis://a", {"L1_TTL": 5}, "redis://a", {"L1_TTL": 5}),
    ],
)
def test_entries(location, options, expected, rest):
    """The URL names the sentinels, and OPTIONS keep what else they had."""
    found, others = with_sentinels(location, options)
    assert found == expected
    assert dict(others) == rest


@pytest.mark.parametrize(
    ("location", "options", "reason"),
    [
        ("redis://m", CLIENT, "SENTINELS"),
        ("redis://m", CLIENT | {"SENTINELS": []}, "(host, port)"),
        ("redis://m", CLIENT | {"SENTINELS": [("a", "x")]}, "(host, port)"),
        ("redis://m", CLIENT | {"SENTINELS": [("a/b", 1)]}, "(host, port)"),
        ("redis+sentinel://a/m", PAIRS, "redis://name/0"),
    ],
)
def test_unusable_entries(location, options, reason):
    """The error names the option and what to write."""
    with pytest.raises(ConfigError) as raised:
        with_sentinels(location, options)
    assert reason in str(raised.value)


def test_an_entry_makes_a_cache(set_caches):
    """Nothing is contacted; two spellings of one entry share an engine."""
    from django.core.cache import caches

    set_caches(
        default=entry("redis://m/1", OPTIONS={**CLIENT, "SENTINELS": [("a", 1)]}),
        other=entry(
            "redis+sentinel://a:1/m/1",
            OPTIONS={"SENTINEL_KWARGS": {"ssl": False}},
            KEY_PREFIX="other",
        ),
    )
    assert engine_of(caches["default"]) is engine_of(caches["other"])
