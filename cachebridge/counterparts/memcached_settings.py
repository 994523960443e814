"""Settings of Django's and Flask-Caching's Memcached backends, and their clients."""

from __future__ import annotations

from typing import Any, Final

from cachebridge.counterparts.fates import (
    Argument,
    Fate,
    Group,
    Ignored,
    Option,
    Refused,
)
from cachebridge.counterparts.redis_settings import DJANGO_REDIS, or_default

_NO_SASL: Final = Refused(
    "SASL needs the binary protocol, and here is the text protocol"
)
_PLACES: Final = Refused(
    "keys are placed on servers as pymemcache's RendezvousHash does; leave it out and "
    "begin with an empty cache",
    unless=(False, None, 0, "default", "modula"),
)
_OUTAGES: Final = Ignored(
    "a server that is away has a breaker, and no other takes its keys over"
)


def _seconds_of(unit: float) -> Any:
    """Make a conversion from units to seconds; 0 is no limit in libmemcached."""
    return lambda value: value * unit if value else None


BEHAVIORS: Final[dict[str, Fate]] = {
    "tcp_nodelay": Ignored("no_delay is on"),
    "connect_timeout": Option("SOCKET_CONNECT_TIMEOUT", _seconds_of(1e-3), "from ms"),
    "receive_timeout": Option("SOCKET_TIMEOUT", _seconds_of(1e-6), "from µs"),
    "send_timeout": Option("SOCKET_TIMEOUT", _seconds_of(1e-6), "from µs"),
    **dict.fromkeys(
        (
            *("distribution", "hash", "ketama", "ketama_hash", "ketama_weighted"),
            "_hash_with_prefix_key",
        ),
        _PLACES,
    ),
    "num_replicas": Refused("each key is on one server", unless=(0, None)),
    **dict.fromkeys(
        ("auto_eject", "dead_timeout", "failure_limit", "remove_failed"), _OUTAGES
    ),
    "retry_timeout": _OUTAGES,
    **dict.fromkeys(
        (
            *("buffer_requests", "cas", "no_block", "tcp_keepalive", "verify_keys"),
            *("_io_bytes_watermark", "_io_key_prefetch", "_io_msg_watermark"),
            *("_poll_timeout", "_socket_recv_size", "_socket_send_size"),
            *("_noreply", "_sort_hosts"),
        ),
        Ignored("it changes nothing that a caller sees"),
    ),
    "pickle_protocol": Ignored("values are pickles of protocol 5"),
}
"""pylibmc's, the members of OPTIONS['behaviors']."""

PYMEMCACHE: Final[dict[str, Fate]] = {
    **dict.fromkeys(("no_delay", "socket_keepalive", "tls_context"), Argument()),
    "max_pool_size": Option("MAX_CONNECTIONS", or_default),
    "timeout": Option("SOCKET_TIMEOUT", or_default),
    "connect_timeout": Option("SOCKET_CONNECT_TIMEOUT", or_default),
    "ignore_exc": DJANGO_REDIS["IGNORE_EXCEPTIONS"],
    "serde": Ignored(
        "values are stored as pickle_serde does",
        only=frozenset({"pymemcache.serde.PickleSerde"}),
        instead=(
            "values are stored as pickle_serde does; what compressed_serde has written "
            "is read"
        ),
    ),
    "hasher": Ignored(
        "keys are placed as RendezvousHash does",
        only=frozenset({"pymemcache.client.rendezvous.RendezvousHash"}),
        instead="keys are placed as RendezvousHash does, as by default",
    ),
    **dict.fromkeys(
        ("pool_idle_timeout", "use_pooling", "lock_generator"),
        Ignored("an engine has one pool of connections, of its own"),
    ),
    **dict.fromkeys(("dead_timeout", "retry_attempts", "retry_timeout"), _OUTAGES),
    **dict.fromkeys(
        ("allow_unicode_keys", "encoding"), Ignored("keys may hold any letter")
    ),
    "default_noreply": Ignored("each change waits for its answer"),
    "socket_module": Ignored("sockets are Python's"),
    "key_prefix": Refused(
        "KEY_PREFIX beside OPTIONS comes before the version; a KEY_FUNCTION makes any "
        "other key"
    ),
    "deserializer": Refused("SERIALIZER takes 'pickle', 'json' or 'msgpack'"),
    "username": _NO_SASL,
    "password": _NO_SASL,
    "binary": Refused(
        "of Memcached's protocols only the text protocol is", unless=(False, None, 0)
    ),
    "behaviors": Group(BEHAVIORS, "pylibmc's; each member as below", is_whole=True),
    **{
        name: DJANGO_REDIS[name]
        for name in ("SERIALIZER", "IGNORE_EXCEPTIONS", "MAX_ENTRIES", "CULL_FREQUENCY")
    },
}
"""OPTIONS of PyMemcacheCache and PyLibMCCache."""

CACHELIB_MEMCACHED: Final[dict[str, Fate]] = {
    **dict.fromkeys(("no_delay", "socket_keepalive", "tls_context"), Argument()),
    "pool_size": Option("MAX_CONNECTIONS"),
    "pool_blocking": Ignored("callers wait for a free connection"),
    "check_connection": Ignored("making a cache contacts no server"),
    "memcache_client_lib": Ignored("the client is pymemcache"),
}
"""CACHE_OPTIONS of a MemcachedCache."""
