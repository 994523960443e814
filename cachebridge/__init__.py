"""A coherent two-level cache for Django and Flask.

``Cache`` is the framework-free cache; Django uses
``cachebridge.django_backend.CacheBridge``, Flask ``cachebridge.flask_ext.Cache``.
"""

from __future__ import annotations

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
from cachebridge.stats import DelayHistogram, GroupStats, Health, Stats

__all__ = [
    "ABSENT",
    "DEFAULT",
    "Cache",
    "CacheBridgeError",
    "ConfigError",
    "CounterUnavailableError",
    "DelayHistogram",
    "EntryNotFoundError",
    "GroupStats",
    "Health",
    "L2Error",
    "L2UnavailableError",
    "Loaded",
    "MissingKeyError",
    "Stats",
    "UncacheableError",
    "UnsupportedOperationError",
]

__version__ = "0.1.0.dev0"
