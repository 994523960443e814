"""Settings of redis-py, django-redis, and Django's and Flask-Caching's RedisCache."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final

from cachebridge.checking.checks import did_you_mean
from cachebridge.checking.codecs import COMPRESSORS
from cachebridge.counterparts.cluster_settings import CLUSTER_CLIENT
from cachebridge.counterparts.fates import (
    Argument,
    Fate,
    Group,
    Ignored,
    Option,
    Refused,
    path_of,
)
from cachebridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

_NO = (False, None, "", "0", "f", "F", "false", "False", "FALSE", "n", "no", "No", "NO")
"""What redis-py reads as False in a URL, and False itself."""

_POOL_OF_ITS_OWN: Final = "an engine has one pool of connections, of its own"
_SENDS_AGAIN: Final = "a request is sent again if that can do no harm"
_TLS_NAMES: Final = (
    *("ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile"),
    *("ssl_check_hostname", "ssl_ciphers", "ssl_exclude_verify_flags"),
    *("ssl_include_verify_flags", "ssl_keyfile", "ssl_min_version"),
    *("ssl_ocsp_context", "ssl_ocsp_expected_cert", "ssl_password"),
    *("ssl_validate_ocsp", "ssl_validate_ocsp_stapled"),
)
_POOL_NAMES: Final = (
    *("auto_close_connection_pool", "cache_factory", "queue_class"),
    "single_connection_client",
)


def or_default(value: Any) -> Any:
    """Take 0 for "not given", as django-redis and redis-py do."""
    return value or None


REDIS_PY: Final[dict[str, Fate]] = {
    **dict.fromkeys(("db", "username", "password"), Argument()),
    "credential_provider": Option("CREDENTIAL_PROVIDER"),
    **dict.fromkeys(("host", "port", "path", "connection_class"), Argument()),
    **dict.fromkeys(("client_name", "lib_name", "lib_version"), Argument()),
    **dict.fromkeys(("driver_info", "redis_connect_func"), Argument()),
    **dict.fromkeys(("socket_keepalive", "socket_keepalive_options"), Argument()),
    **dict.fromkeys(("socket_read_size", "socket_type"), Argument()),
    **dict.fromkeys(_TLS_NAMES, Argument()),
    "max_connections": Option("MAX_CONNECTIONS", or_default),
    "socket_timeout": Option("SOCKET_TIMEOUT", or_default),
    "socket_connect_timeout": Option("SOCKET_CONNECT_TIMEOUT", or_default),
    "health_check_interval": Ignored(
        "a connection that broke while idle is found dead before it is used"
    ),
    **dict.fromkeys(
        ("retry", "retry_on_error", "retry_on_timeout"), Ignored(_SENDS_AGAIN)
    ),
    "timeout": Ignored(
        "a caller waits for a free connection for SOCKET_TIMEOUT at most; a time to "
        "live is the TIMEOUT beside OPTIONS"
    ),
    **dict.fromkeys(_POOL_NAMES, Ignored(_POOL_OF_ITS_OWN)),
    **dict.fromkeys(
        ("parser_class", "command_packer"),
        Ignored("cachebridge writes requests and parses replies itself"),
    ),
    **dict.fromkeys(
        ("protocol", "legacy_responses", "maint_notifications_config"),
        Ignored("cachebridge speaks RESP2, in which replies mean the same"),
    ),
    **dict.fromkeys(
        ("cache", "cache_config"), Ignored("L1 is the cache in the process")
    ),
    "event_dispatcher": Ignored("there are no events of redis-py's client"),
    "decode_responses": Refused("values are bytes", unless=_NO),
    **dict.fromkeys(
        ("encoding", "encoding_errors"),
        Refused(
            "keys are UTF-8",
            unless=(None, "utf-8", "utf8", "UTF-8", "UTF8", "strict"),
        ),
    ),
    "ssl": Refused("write rediss:// in the URL", unless=_NO),
    "connection_pool": Refused("give the URL of the server", unless=(None,)),
    "unix_socket_path": Refused("write unix:///path?db=0 as the URL", unless=(None,)),
    **CLUSTER_CLIENT,
}
"""In the query of a URL, CLIENT_KWARGS, CONNECTION_POOL_KWARGS, OPTIONS of Django's
RedisCache, and CACHE_OPTIONS."""


def _pickle_protocol(value: Any) -> int:
    """Read PICKLE_VERSION as django-redis does."""
    try:
        protocol = int(value)
    except (TypeError, ValueError):
        protocol = pickle.HIGHEST_PROTOCOL + 1
    if protocol > pickle.HIGHEST_PROTOCOL:
        raise ConfigError(
            f"must be an integer <= {pickle.HIGHEST_PROTOCOL}, not {value!r}."
        )
    return pickle.HIGHEST_PROTOCOL if protocol < 0 else protocol


def _on_error(ignores: Any) -> str:
    return "degrade" if ignores else "raise"


PICKLE_PROTOCOL: Final = "PICKLE_VERSION"
DJANGO_JSON: Final = "django-json"
"""JSON as django-redis writes it, with Django's encoder."""

_SERIALIZERS: Final = {
    "django.core.cache.backends.redis.RedisSerializer": "pickle",
    "django_redis.serializers.pickle.PickleSerializer": "pickle",
    "django_redis.serializers.json.JSONSerializer": DJANGO_JSON,
    "django_redis.serializers.msgpack.MSGPackSerializer": "msgpack",
}
_OUR_SERIALIZERS: Final = ("pickle", "json", "msgpack")
_COMPRESSORS: Final = {
    "django_redis.compressors.identity.IdentityCompressor": None,
    "django_redis.compressors.zlib.ZlibCompressor": "zlib",
    "django_redis.compressors.gzip.GzipCompressor": "gzip",
    "django_redis.compressors.lzma.LzmaCompressor": "lzma",
    "django_redis.compressors.zstd.ZStdCompressor": "zstd",
    "django_redis.compressors.lz4.Lz4Compressor": "lz4",
}


def _serializer(value: Any) -> Any:
    known = _SERIALIZERS.get(path_of(value))
    if known is None and value not in _OUR_SERIALIZERS:
        raise _unsupported(value, (*_OUR_SERIALIZERS, *_SERIALIZERS))
    return known or value


def _compressor(value: Any) -> Any:
    path = path_of(value)
    if path in _COMPRESSORS:
        return _COMPRESSORS[path]
    if value not in COMPRESSORS:
        raise _unsupported(value, (*COMPRESSORS, *_COMPRESSORS))
    return value


def _unsupported(value: Any, valid: Iterable[str]) -> ConfigError:
    hint = did_you_mean(path_of(value), valid)
    names = ", ".join(map(repr, valid))
    return ConfigError(f"{path_of(value)!r} is not supported; {names} are.{hint}")


def _entries(value: Any) -> Any:
    """Read digits, too, as Django does."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


_MAX_ENTRIES: Final = Option("L1_MAX_ENTRIES", _entries)
_NO_CULLING: Final = Ignored("L1 evicts what was not used for the longest time")
_POOL_CLASS: Final = Ignored(
    "callers wait for a free connection, as in a BlockingConnectionPool",
    only=frozenset(
        f"{place}.{name}"
        for place in ("redis", "redis.connection")
        for name in ("ConnectionPool", "BlockingConnectionPool")
    ),
    instead=(
        "redis-py's ConnectionPool and BlockingConnectionPool are, "
        "SentinelConnectionPool beside SENTINELS, and rediscluster's "
        "ClusterConnectionPool where LOCATION names nodes of a cluster"
    ),
)
_OUTAGE_LOG: Final = Ignored(
    "the logger cachebridge.engine has a line when an outage begins and ends"
)
_STAY_OPEN: Final = Ignored("connections outlive a request")
DJANGO_REDIS: Final[dict[str, Fate]] = {
    "SOCKET_TIMEOUT": Option("SOCKET_TIMEOUT", or_default),
    "SOCKET_CONNECT_TIMEOUT": Option("SOCKET_CONNECT_TIMEOUT", or_default),
    "USERNAME": Argument(),
    "PASSWORD": Argument(),
    "CONNECTION_POOL_KWARGS": Group(
        REDIS_PY, "each member as redis-py's argument below; wins over its neighbours"
    ),
    "REDIS_CLIENT_KWARGS": Ignored(
        "redis-py takes nothing of it for a connection; CONNECTION_POOL_KWARGS does"
    ),
    "SERIALIZER": Option(
        "SERIALIZER",
        _serializer,
        "the paths of their three serializers; stores the same bytes",
    ),
    PICKLE_PROTOCOL: Option(
        PICKLE_PROTOCOL, _pickle_protocol, "the protocol of pickles"
    ),
    "COMPRESSOR": Option(
        "COMPRESSOR",
        _compressor,
        "the paths of their five compressors, and `IdentityCompressor` for none; "
        "stores the same formats",
    ),
    "IGNORE_EXCEPTIONS": Option(
        "ON_ERROR", _on_error, "`degrade` if true, else `raise`"
    ),
    "LOG_IGNORED_EXCEPTIONS": _OUTAGE_LOG,
    "CLIENT_CLASS": Ignored(
        "there is one client",
        only=frozenset(
            {
                "django_redis.client.DefaultClient",
                "django_redis.client.default.DefaultClient",
            }
        ),
        instead=(
            "only DefaultClient is, and SentinelClient beside SENTINELS; get_or_load "
            "does what HerdClient does; one server has all keys, or a cluster, with "
            "the LOCATION redis+cluster://host:6379"
        ),
    ),
    "CONNECTION_FACTORY": Ignored(
        "connections are opened by an engine",
        only=frozenset({"django_redis.pool.ConnectionFactory"}),
        instead=(
            "only django_redis.pool.ConnectionFactory is, and its "
            "SentinelConnectionFactory beside SENTINELS"
        ),
    ),
    "CONNECTION_POOL_CLASS": _POOL_CLASS,
    "POOL_CLASS": _POOL_CLASS,
    "REDIS_CLIENT_CLASS": Ignored(
        "commands are cachebridge's own",
        only=frozenset(
            f"{place}.{name}"
            for place in ("redis", "redis.client")
            for name in ("Redis", "StrictRedis")
        ),
        instead=(
            "only redis.client.Redis is, and redis.RedisCluster where LOCATION names "
            "nodes of a cluster"
        ),
    ),
    "PARSER_CLASS": Ignored("cachebridge parses replies itself"),
    "CLOSE_CONNECTION": _STAY_OPEN,
    "REPLICA_READ_ONLY": Ignored(
        "there is one server: reads and the subscription must use the same one"
    ),
    "SENTINELS": Option(
        "LOCATION", note="`redis+sentinel://`, with LOCATION `redis://name/0`"
    ),
    "SENTINEL_KWARGS": Option("SENTINEL_KWARGS"),
    "MAX_ENTRIES": _MAX_ENTRIES,
    "CULL_FREQUENCY": _NO_CULLING,
}
"""OPTIONS of django-redis, and of Django's RedisCache where it has others."""

DJANGO_SETTINGS: Final[dict[str, Fate]] = {
    "DJANGO_REDIS_IGNORE_EXCEPTIONS": DJANGO_REDIS["IGNORE_EXCEPTIONS"],
    "DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS": _OUTAGE_LOG,
    "DJANGO_REDIS_LOGGER": _OUTAGE_LOG,
    "DJANGO_REDIS_CLOSE_CONNECTION": _STAY_OPEN,
    "DJANGO_REDIS_CONNECTION_FACTORY": Ignored(
        "connections are opened by an engine; SENTINELS in OPTIONS name sentinels"
    ),
    "DJANGO_REDIS_SCAN_ITERSIZE": Ignored(
        "the argument itersize says how much is looked at at once"
    ),
    "CACHE_HERD_TIMEOUT": Ignored("get_or_load has LEASE_TTL and STALE_TTL"),
}
"""Settings of Django beside CACHES, which django-redis reads for all its caches."""

BESIDE_OPTIONS: Final[dict[str, Fate]] = {
    "max_entries": _MAX_ENTRIES,
    "MAX_ENTRIES": _MAX_ENTRIES,
    "cull_frequency": _NO_CULLING,
    "CULL_FREQUENCY": _NO_CULLING,
    "REVERSE_KEY_FUNCTION": Ignored(
        "keys() finds the key in what KEY_FUNCTION returns"
    ),
}
"""Beside OPTIONS in an entry of CACHES, besides what Django's BaseCache reads."""

CACHELIB_REDIS: Final[dict[str, Fate]] = {
    **REDIS_PY,
    "check_connection": Ignored("making a cache contacts no server"),
}
"""CACHE_OPTIONS of a RedisCache of Flask-Caching."""
