"""Other backends' entries for a cluster, translated."""

from __future__ import annotations

import pytest
from redis.cluster import ClusterNode

from cachebridge.django_backend.clusters import with_nodes
from cachebridge.errors import ConfigError
from tests.rig import engine_of
from tests.unit.django.support import entry

OLD = {
    "REDIS_CLIENT_CLASS": "rediscluster.RedisCluster",
    "CONNECTION_POOL_CLASS": "rediscluster.connection.ClusterConnectionPool",
    "CONNECTION_POOL_KWARGS": {"skip_full_coverage_check": True},
}
"""What most people write with django-redis."""
VALKEY = {"CLIENT_CLASS": "django_valkey.cluster_cache.client.DefaultClusterClient"}
NEW = {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"}
ENTRIES = {
    "django-redis and rediscluster": (
        "redis://h:6379/0",
        OLD,
        "redis+cluster://h:6379/0",
        {"CONNECTION_POOL_KWARGS": {"skip_full_coverage_check": True}},
    ),
    "django-valkey": (
        ["valkey://a:1", "valkey://b:2", "valkey://a:1"],
        VALKEY | {"L1_TTL": 5},
        "valkey+cluster://a:1,b:2",
        {"L1_TTL": 5},
    ),
    "several in one text": (
        "rediss://u:p%40@a:1/0?ssl_ca_certs=x, rediss://u:p%40@[::1]:2/0",
        NEW,
        "rediss+cluster://u:p%40@a:1,[::1]:2/0?ssl_ca_certs=x",
        {},
    ),
    "TLS and further nodes": (
        "redis://a:1",
        NEW
        | {
            "CONNECTION_POOL_KWARGS": {"password": "x"},
            "REDIS_CLIENT_KWARGS": {
                "ssl": True,
                "password": "s",
                "startup_nodes": [{"host": "b", "port": 2}, ClusterNode("c", 3)],
            },
        },
        "rediss+cluster://a:1,b:2,c:3",
        {"CONNECTION_POOL_KWARGS": {"password": "s"}},
    ),
    "nodes alone": (
        "redis://a:1",
        {"startup_nodes": [{"host": "a", "port": "1"}, {"host": "b", "port": "2"}]},
        "redis+cluster://a:1,b:2",
        {},
    ),
    "ours already": ("redis+cluster://a,b", OLD | VALKEY, "redis+cluster://a,b", None),
    "no cluster": ("redis://a", {"L1_TTL": 5}, "redis://a", {"L1_TTL": 5}),
    "no cluster, pool": (
        "redis://a",
        {"CONNECTION_POOL_KWARGS": {"db": 1}, "REDIS_CLIENT_KWARGS": {"x": 1}},
        "redis://a",
        {"CONNECTION_POOL_KWARGS": {"db": 1}, "REDIS_CLIENT_KWARGS": {"x": 1}},
    ),
}


@pytest.mark.parametrize(
    ("location", "options", "expected", "rest"), ENTRIES.values(), ids=ENTRIES
)
def test_entries(location, options, expected, rest):
    """The URL names the nodes, and OPTIONS keep what else they had."""
    found, others = with_nodes(location, options)
    assert found == expected
    if rest is not None:
        assert dict(others) == rest


@pytest.mark.parametrize(
    ("location", "options", "reason"),
    [
        ("memory://", NEW, "redis://host:6379"),
        (["redis://a:1", "rediss://b:1"], NEW, "one scheme"),
        (["redis://a:1", "b:1"], NEW, "one scheme"),
        ("redis://a:1", {"startup_nodes": [{"host": "a"}]}, "startup_nodes[0]"),
        ("redis://a:1", {"startup_nodes": "u:geheim@b:2"}, "startup_nodes must be"),
        ("redis://a:1", {"startup_nodes": ["u:geheim@b:2"]}, "startup_nodes[0]"),
    ],
)
def test_unusable_entries(location, options, reason):
    """The error says what to write, and shows no password."""
    with pytest.raises(ConfigError) as raised:
        with_nodes(location, options)
    assert reason in str(raised.value)
    assert "geheim" not in str(raised.value)


def test_an_entry_makes_a_cache(set_caches):
    """Nothing is contacted; two spellings of one entry share an engine."""
    from django.core.cache import caches

    set_caches(
        default=entry(["redis://a:1/0", "redis://b:2/0"], OPTIONS=OLD),
        other=entry("redis+cluster://b:2,a:1", KEY_PREFIX="other"),
    )
    assert engine_of(caches["default"]) is engine_of(caches["other"])


@pytest.mark.parametrize(
    ("location", "options", "said"),
    [
        (["redis://a", "redis://b"], {}, r"redis\+cluster://host:6379,host2:6379"),
        ("redis://a/1", OLD, "database 0 alone"),
        ("redis://a", {"REDIS_CLIENT_CLASS": "my.Cluster"}, "nodes of a cluster"),
        ("redis://a", {"CLIENT_KWARGS": {"startup_nodes": []}}, r"redis\+cluster://"),
        ("redis://a", NEW | {"REDIS_CLIENT_KWARGS": {"url": "x"}}, "as LOCATION"),
    ],
)
def test_what_is_refused_says_what_to_write(set_caches, location, options, said):
    """When the cache is made."""
    from django.core.cache import caches
    from django.core.exceptions import ImproperlyConfigured

    set_caches(default=entry(location, OPTIONS=options))
    with pytest.raises(ImproperlyConfigured, match=said):
        caches["default"].get("k")
