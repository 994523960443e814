"""A coherent two-level cache for Django and Flask.

``Cache`` is the framework-free cache; Django uses
``cachebridge.django_backend.CacheBridge``, Flask ``cachebridge.flask_ext.Cache``.

``Counter``, ``BatchedCounter``, ``Group`` and ``Memoized`` are the types of what the
caches return, for annotations.  ``tag`` and ``atag`` tag what is being loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cachebridge.cache import Cache
from cachebridge.core.entry import ABSENT
from cachebridge.core.loading import Loaded
from cachebridge.core.ttl import DEFAULT
from cachebridge.errors import (
    CacheBridgeError,
    ConfigError,
    CounterUnavailableError,
    EntryNotFoundError,
    L2Error,
    L2UnavailableError,
    MissingKeyError,
    UncacheableError,
    UnsupportedOperationError,
)
from cachebridge.stats import DelayHistogram, GroupStats, Health, NodeHealth, Stats

if TYPE_CHECKING:
    from cachebridge.engine.counter import BatchedCounter, Counter
    from cachebridge.engine.tagging.running import atag, tag
    from cachebridge.groups.group import Group
    from cachebridge.groups.memoize import Memoized

__all__ = [
    "ABSENT",
    "DEFAULT",
    "BatchedCounter",
    "Cache",
    "CacheBridgeError",
    "ConfigError",
    "Counter",
    "CounterUnavailableError",
    "DelayHistogram",
    "EntryNotFoundError",
    "Group",
    "GroupStats",
    "Health",
    "L2Error",
    "L2UnavailableError",
    "Loaded",
    "Memoized",
    "MissingKeyError",
    "NodeHealth",
    "Stats",
    "UncacheableError",
    "UnsupportedOperationError",
    "atag",
    "tag",
]

__version__: str
"""That of the distribution, looked up when it is asked for."""

_LAZY: Final = {
    "BatchedCounter": "cachebridge.engine.counter",
    "Counter": "cachebridge.engine.counter",
    "Group": "cachebridge.groups.group",
    "Memoized": "cachebridge.groups.memoize",
    "atag": "cachebridge.engine.tagging.running",
    "tag": "cachebridge.engine.tagging.running",
}
"""Where the names are that are imported when they are asked for."""


def __getattr__(name: str) -> Any:
    found: Any
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 seldom needed

        found = version("cachebridge")
    elif name in _LAZY:
        from importlib import import_module  # noqa: PLC0415 seldom needed

        found = getattr(import_module(_LAZY[name]), name)
    else:
        raise AttributeError(f"module 'cachebridge' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
