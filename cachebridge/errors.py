"""The exceptions of cachebridge.

::

    CacheBridgeError
    ├── ConfigError (ValueError)      an option is unknown or unusable
    ├── L2Error                       the shared store could not do it
    │   ├── L2UnavailableError        it cannot be reached, or not in time
    │   └── CounterUnavailableError (ValueError)   incr or decr meanwhile
    ├── MissingKeyError (ValueError)  incr or decr of a key that does not exist
    ├── UncacheableError (TypeError)  an argument or a result cannot be kept; says why
    └── UnsupportedOperationError     this cache cannot do that; the text says why

``L2Error`` is the one type for an outage: no connection, a timeout, a wrong password, a
missing right, a full or loading server.  What the server or the socket said is its
``__cause__``.  With ``ON_ERROR="degrade"``, the default, methods answer as
``docs/outages.md`` says instead of raising it.
"""

from __future__ import annotations

from typing import Self

__all__ = [
    "CacheBridgeError",
    "ConfigError",
    "CounterUnavailableError",
    "L2Error",
    "L2UnavailableError",
    "MissingKeyError",
    "UncacheableError",
    "UnsupportedOperationError",
]


class CacheBridgeError(Exception):
    """Base of everything that cachebridge raises on its own account."""


class ConfigError(CacheBridgeError, ValueError):
    """An option is unknown or has an unusable value."""


class L2Error(CacheBridgeError):
    """The shared store could not do what was asked; the cause is chained."""

    is_permanent: bool = False
    """Whether it will refuse this for as long as the account lacks the right."""

    def again(self) -> Self:
        """Return the same error for another caller, who has a traceback of its own."""
        twin = type(self)(*self.args)
        twin.is_permanent = self.is_permanent
        twin.__cause__ = self.__cause__
        return twin


class L2UnavailableError(L2Error):
    """The shared store cannot be reached, not in time, or not asked for a while.

    A few in a row open the circuit breaker; any other L2Error proves it alive.
    """


class CounterUnavailableError(L2Error, ValueError):
    """A counter cannot be changed while the shared store is away."""


class MissingKeyError(CacheBridgeError, ValueError):
    """A counter operation met a key that does not exist."""


class UncacheableError(CacheBridgeError, TypeError):
    """An argument cannot be part of a key, or a result cannot be serialized."""


class UnsupportedOperationError(CacheBridgeError):
    """The operation cannot be carried out by this cache."""
