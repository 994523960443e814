"""OPTIONS of Django's PyMemcacheCache, which hands them to pymemcache's HashClient."""

from __future__ import annotations

from typing import Any, Final

from cachebridge.errors import ConfigError

CLIENT_ARGUMENTS: Final = frozenset({"no_delay", "socket_keepalive", "tls_context"})
"""Those that make a connection what it is."""

RENAMED: Final = {
    "max_pool_size": "MAX_CONNECTIONS",
    "timeout": "SOCKET_TIMEOUT",
    "connect_timeout": "SOCKET_CONNECT_TIMEOUT",
}
"""Counterparts; None leaves the default, since nothing here waits for ever."""

IGNORED: Final = frozenset(
    {
        "allow_unicode_keys",
        "dead_timeout",
        "default_noreply",
        "encoding",
        "hasher",
        "lock_generator",
        "pool_idle_timeout",
        "retry_attempts",
        "retry_timeout",
        "serde",
        "socket_module",
        "use_pooling",
    }
)
"""Without effect here and without harm, two of them only with pymemcache's default."""

VALID: Final = CLIENT_ARGUMENTS | RENAMED.keys() | {"ignore_exc"}

_REPLACEMENTS: Final = {
    "key_prefix": (
        "KEY_PREFIX beside OPTIONS comes before the version; a KEY_FUNCTION makes any "
        "other key"
    ),
    "serializer": "SERIALIZER takes 'pickle' or 'json'",
    "deserializer": "SERIALIZER takes 'pickle' or 'json'",
    "username": "SASL is not supported",
    "password": "SASL is not supported",
    "behaviors": "of pylibmc's behaviors there is none here",
    "binary": "of Memcached's protocols only the text protocol is supported",
}
_DEFAULTS: Final = {
    "serde": ("pymemcache.serde", "PickleSerde"),
    "hasher": ("pymemcache.client.rendezvous", "RendezvousHash"),
}
_INSTEAD: Final = {
    "serde": (
        "values are stored as pickle_serde does; what compressed_serde has written "
        "is read"
    ),
    "hasher": "keys are placed as RendezvousHash does, as by default",
}


def refuse(name: object, value: Any) -> None:
    """Raise ConfigError for what has no counterpart, saying what to do instead."""
    if name in _REPLACEMENTS and not (name == "serializer" and isinstance(value, str)):
        raise ConfigError(
            f"OPTIONS[{name!r}] is not supported: {_REPLACEMENTS[str(name)]}."
        )
    if name in _DEFAULTS:
        kind = value if isinstance(value, type) else type(value)
        if (kind.__module__, kind.__name__) != _DEFAULTS[str(name)]:
            raise ConfigError(
                f"OPTIONS[{name!r}] is not supported: {_INSTEAD[str(name)]}."
            )


def refuse_for_redis(name: object) -> None:
    """Raise ConfigError for what only memcached:// understands."""
    if name in (VALID | IGNORED | _REPLACEMENTS.keys()) - _ALSO_OF_REDIS:
        raise ConfigError(
            f"OPTIONS[{name!r}] is pymemcache's: it is for memcached:// alone."
        )


_ALSO_OF_REDIS: Final = frozenset(
    {"encoding", "key_prefix", "password", "serializer", "socket_keepalive", "timeout"}
    | {"username"}
)
"""Names that mean something, or have an error of their own, with other stores."""
