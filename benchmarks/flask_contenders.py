"""The Flask caches that are measured: Flask-Caching on two backends, and ours."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from benchmarks.contenders import OURS, database

__all__ = ["OURS", "REDIS", "SIMPLE", "cache_of", "configs"]

SIMPLE = "Flask-Caching, SimpleCache"
REDIS = "Flask-Caching, RedisCache"

_HOUR_S = 3600
_BIG = 100_000


def configs(redis_url: str) -> dict[str, dict[str, Any]]:
    """Return the configuration of each contender that is installed, by label."""
    server = urlsplit(redis_url)
    found: dict[str, dict[str, Any]] = {}
    if find_spec("flask_caching"):
        found[SIMPLE] = {"CACHE_TYPE": "SimpleCache", "CACHE_THRESHOLD": _BIG}
        found[REDIS] = {
            "CACHE_TYPE": "RedisCache",
            "CACHE_REDIS_HOST": server.hostname,
            "CACHE_REDIS_PORT": server.port,
            "CACHE_REDIS_DB": 5,
        }
    if find_spec("flask"):
        found[OURS] = {
            "CACHE_TYPE": "RedisCache",
            "CACHE_REDIS_URL": database(redis_url, 6),
        }
    for config in found.values():
        config["CACHE_DEFAULT_TIMEOUT"] = _HOUR_S
    return found


def cache_of(label: str, app: Any, config: dict[str, Any]) -> Any:
    """Return the contender's ``Cache`` for an app."""
    if label == OURS:
        from cachebridge.flask_ext import Cache
    else:
        from flask_caching import Cache
    return Cache(app, config=config)
