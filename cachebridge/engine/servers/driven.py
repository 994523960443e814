"""The stores of a driver, behind the breaker of their location."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from cachebridge.errors import ConfigError, L2Error, L2UnavailableError
from cachebridge.l2.driver import DriverStores, Opening, load

if TYPE_CHECKING:
    from cachebridge.config import EngineOptions
    from cachebridge.core.breaker import Breaker
    from cachebridge.l2.location import Location
    from cachebridge.l2.store import L2Store
    from cachebridge.l2.two_steps import Outbox


def open_driver(
    location: Location,
    options: EngineOptions,
    breaker: Breaker,
    outboxes: tuple[Outbox, Outbox],
) -> tuple[L2Store, L2Store]:
    """Return the stores for threads and for tasks; raises ConfigError."""
    entry = location.driver
    assert entry is not None  # noqa: S101 the location is a driver's
    opened = load(entry)(
        Opening(
            location.url,
            location.label,
            options.socket_timeout,
            options.socket_connect_timeout,
            options.max_connections,
            options.client_kwargs,
            *outboxes,
        )
    )
    if not isinstance(opened, DriverStores):
        raise ConfigError(
            f"The driver of {entry.name}://, {entry.value!r}, returned "
            f"{type(opened).__name__} instead of DriverStores."
        )
    return tuple(cast("L2Store", Guarded(each, breaker)) for each in opened)  # type: ignore[return-value]


class Guarded:
    """See ``L2Store``; asks the breaker before each call, and tells it the outcome."""

    def __init__(self, store: L2Store, breaker: Breaker) -> None:
        self._store, self._breaker = store, breaker

    def __getattr__(self, name: str) -> Any:
        """Return a method of the store; it is kept for the next time."""
        method, breaker = getattr(self._store, name), self._breaker
        past_breaker = name == "ping"

        async def call(*args: Any, **kwargs: Any) -> Any:
            if breaker.is_open and not past_breaker:
                breaker.admit()
            try:
                result = await method(*args, **kwargs)
            except L2UnavailableError as exc:
                breaker.fail(str(exc))
                raise
            except L2Error:
                breaker.succeed()
                raise
            if breaker.failures:
                breaker.succeed()
            return result

        if not name.startswith("_"):
            setattr(self, name, call)
        return call

    def close(self) -> None:
        """Close idle connections."""
        self._store.close()

    def forget(self) -> None:
        """Drop every connection: they belong to the parent process."""
        self._store.forget()
        self._breaker.reset()
