"""Stores of third parties, found by the scheme of a URL.

An entry point of the group ``cachebridge.stores`` is named as the scheme; it is read
only for a scheme that is not cachebridge's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from cachebridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

    from cachebridge.l2.store import L2Store
    from cachebridge.l2.two_steps import Outbox

GROUP: Final = "cachebridge.stores"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a driver is given to open the stores of one location."""

    url: str = field(repr=False)
    """LOCATION as it was given, with a password if it has one."""
    label: str
    """The same without the password: for errors and logs."""
    socket_timeout: float
    """Seconds that an answer may take: SOCKET_TIMEOUT."""
    socket_connect_timeout: float
    max_connections: int | None
    arguments: Mapping[str, Any] = field(repr=False)
    """CLIENT_KWARGS, as they were given."""
    outbox_for_threads: Outbox
    """Takes the message of each change of the store for threads, after the change."""
    outbox_for_tasks: Outbox


class DriverStores(NamedTuple):
    """What a driver returns."""

    threads: L2Store
    """Its coroutines block and never suspend."""
    tasks: L2Store
    """Its coroutines are awaited, on any event loop."""


class Driver(Protocol):
    """What the entry point of a driver names: usually a function.  Called once a cache.

    It raises ConfigError for a URL or arguments that it cannot use, and does not
    connect.
    """

    def __call__(self, opening: Opening) -> DriverStores:
        """Return the stores of a location."""


def find(scheme: str) -> EntryPoint | None:
    """Return the entry point for a scheme; raises ConfigError if there are two."""
    found = {each.value: each for each in _installed() if each.name == scheme}
    if len(found) > 1:
        raise ConfigError(
            f"{scheme}:// is claimed by several drivers: {', '.join(sorted(found))}. "
            "Uninstall all but one."
        )
    return next(iter(found.values()), None)


def schemes() -> list[str]:
    """Return the schemes of all installed drivers."""
    return sorted({each.name for each in _installed()})


def _installed() -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points  # noqa: PLC0415 only for drivers

    return tuple(entry_points(group=GROUP))


def load(entry: EntryPoint) -> Driver:
    """Import a driver; raises ConfigError if that fails."""
    where = f"The driver of {entry.name}://, {entry.value!r}"
    try:
        driver = entry.load()
    except Exception as exc:
        raise ConfigError(
            f"{where}, cannot be loaded: {type(exc).__name__}: {exc}"
        ) from exc
    if not callable(driver):
        raise ConfigError(f"{where}, is no function, but {type(driver).__name__}.")
    made: Driver = driver
    return made
