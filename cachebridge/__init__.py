"""A coherent two-level cache for Django and Flask.

``Cache`` is the framework-free cache; Django uses
``cachebridge.django_backend.CacheBridge``, Flask ``cachebridge.flask_ext.Cache``.
"""

from __future__ import annotations

from cachebridge.cache import DEFAULT, Cache
from cachebridge.errors import (
    CacheBridgeError,
    ConfigError,
    L2Error,
    MissingKeyError,
    UncacheableError,
    UnsupportedOperationError,
)
from cachebridge.stats import DelayHistogram, Health, Stats

__all__ = [
    "DEFAULT",
    "Cache",
    "CacheBridgeError",
    "ConfigError",
    "DelayHistogram",
    "Health",
    "L2Error",
    "MissingKeyError",
    "Stats",
    "UncacheableError",
    "UnsupportedOperationError",
]

__version__ = "0.1.0.dev0"
