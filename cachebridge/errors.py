"""The exceptions of cachebridge.

::

    CacheBridgeError
    ├── ConfigError (ValueError)      an option is unknown or unusable
    ├── L2Error                       the shared store has failed
    │   ├── L2UnavailableError        it cannot be reached, or not in time
    │   └── CounterUnavailableError (ValueError)   incr or decr during an outage
    ├── EntryNotFoundError (KeyError) cache[key] of a key that does not exist
    ├── MissingKeyError (ValueError)  incr or decr of a key that does not exist
    ├── UncacheableError (TypeError)  an argument or result cannot be cached
    └── UnsupportedOperationError (NotImplementedError)  this cache cannot do that

``L2Error`` covers every outage: no connection, a timeout, a wrong password, a missing
right, a full or loading server.  Its ``__cause__`` is the error of the server or the
socket.  With ``ON_ERROR="degrade"``, the default, methods return the answers of
``docs/outages.md`` instead of raising it.
"""

from __future__ import annotations

from typing import Final, Self

__all__ = [
    "CacheBridgeError",
    "ConfigError",
    "CounterUnavailableError",
    "EntryNotFoundError",
    "L2Error",
    "L2UnavailableError",
    "MissingKeyError",
    "UncacheableError",
    "UnsupportedOperationError",
]

NO_CLUSTER: Final = (
    "a server in cluster mode is one node of several: name some of them in a URL such "
    "as redis+cluster://host:6379,host2:6379. If there is one address alone, and still "
    "CROSSSLOT, write redis://host:6379?slots=enforced"
)
NO_LIST: Final = (
    "Memcached cannot list keys, and so finds none by a pattern. clear(prefix=...) "
    "drops all keys with a beginning, and tags drop what belongs together: "
    "set(key, value, tags=[...]), then invalidate_tags(...)."
)
NO_LOCK: Final = (
    "Memcached may evict a lock, and cannot prolong one: use add(key, token, timeout), "
    "and delete(key)."
)
NO_CLIENT: Final = "there is no client of redis-py for {}://, which is no Redis"
NO_REPLICA: Final = (
    "give the address of the primary, or a name that follows it at a failover"
)


class CacheBridgeError(Exception):
    """Base of all exceptions of cachebridge."""


class ConfigError(CacheBridgeError, ValueError):
    """An option is unknown or has an unusable value."""


class L2Error(CacheBridgeError):
    """The shared store has failed; ``__cause__`` says how."""

    is_permanent: bool = False
    """Whether retrying is useless: the account lacks a right."""
    is_unsent: bool = False
    """Whether the server received nothing, so that nothing can have changed."""
    began_at: float = float("inf")
    """When the call began that has failed, by the engine's clock, if it is known."""

    def again(self) -> Self:
        """Return a copy to raise in another caller, with a traceback of its own."""
        copy = type(self)(*self.args)
        copy.is_permanent = self.is_permanent
        copy.__cause__ = self.__cause__
        return copy


class L2UnavailableError(L2Error):
    """The shared store is unreachable, too slow, or must not be asked now.

    It is not asked while the circuit breaker is open, and by a caller that cannot wait
    until deletes that come first have been replayed.

    ``BREAKER_FAILURES`` in a row open the circuit breaker; any other L2Error shows that
    the server is alive.
    """


class CounterUnavailableError(L2Error, ValueError):
    """A counter cannot be changed while the shared store is away."""


class EntryNotFoundError(CacheBridgeError, KeyError):
    """``cache[key]`` or ``del cache[key]`` of a key that does not exist."""

    __str__ = Exception.__str__  # a KeyError shows the repr of its text


class MissingKeyError(CacheBridgeError, ValueError):
    """``incr`` or ``decr`` of a key that does not exist."""


class UncacheableError(CacheBridgeError, TypeError):
    """An argument cannot be part of a key, or a result cannot be serialized.

    The text says which, and why.
    """


class UnsupportedOperationError(CacheBridgeError, NotImplementedError):
    """This cache cannot carry out the operation; the text says why."""
