"""Settings of clients of Redis Cluster: redis-py's, valkey-py's and rediscluster's."""

from __future__ import annotations

from typing import Any, Final

from cachebridge.counterparts.fates import Fate, Ignored, Option, Refused
from cachebridge.errors import ConfigError

CLUSTER_CLASSES: Final = frozenset(
    {
        *("redis.RedisCluster", "redis.cluster.RedisCluster"),
        *("valkey.ValkeyCluster", "valkey.cluster.ValkeyCluster"),
        *(
            f"rediscluster.{place}{name}"
            for place in ("", "client.")
            for name in ("RedisCluster", "StrictRedisCluster")
        ),
        *(
            f"rediscluster.{place}{name}"
            for place in ("", "connection.")
            for name in ("ClusterConnectionPool", "ClusterBlockingConnectionPool")
        ),
        "redis.cluster.ClusterParser",
        "django_redis_cluster.client.DefaultClient",
        "django_redis_cluster.client.default.DefaultClient",
        "django_valkey.cluster_cache.client.DefaultClusterClient",
        "django_valkey.cluster_cache.client.default.DefaultClusterClient",
        "django_valkey.cluster_cache.pool.ClusterConnectionFactory",
    }
)
"""Values of options that say that LOCATION names nodes of a cluster."""

NODES: Final = "startup_nodes"


def _not_here(_value: Any) -> None:
    raise ConfigError("write the LOCATION redis+cluster://host:6379,host2:6379.")


_MAP: Final = Ignored("the map of slots is asked for twice a second, and after MOVED")
_COVERAGE: Final = Ignored("slots without a master degrade, all others work")
_ONE_READER: Final = Ignored(
    "every command goes to the master, where the subscription is"
)

CLUSTER_CLIENT: Final[dict[str, Fate]] = {
    NODES: Option(
        "LOCATION", _not_here, "`redis+cluster://`; in OPTIONS, or as a pool's argument"
    ),
    **dict.fromkeys(
        (
            *("reinitialize_steps", "dynamic_startup_nodes", "init_slot_cache"),
            *("nodemanager_follow_cluster", "cluster_error_retry_attempts"),
            "cluster_down_retry_attempts",
        ),
        _MAP,
    ),
    **dict.fromkeys(
        ("skip_full_coverage_check", "require_full_coverage"),
        _COVERAGE,
    ),
    **dict.fromkeys(
        (
            *("read_from_replicas", "load_balancing_strategy"),
            *("readonly", "readonly_mode"),
        ),
        _ONE_READER,
    ),
    "max_connections_per_node": Ignored("MAX_CONNECTIONS is for each node"),
    "policy_resolver": Ignored("commands are cachebridge's own"),
    "address_remap": Refused(
        "let the nodes announce what clients reach, with cluster-announce-ip or "
        "cluster-announce-hostname",
        unless=(None,),
    ),
    "url": Refused("give it as LOCATION", unless=(None,)),
}
"""Arguments of RedisCluster, besides those of its connections."""
