"""The caches that are measured: Django's own, django-redis, and cachebridge.

All are configured alike: no culling within a run, long timeouts, one Redis server, a
database of its own for each.
"""

from __future__ import annotations

import time
from importlib.util import find_spec
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.cache import BaseCache, caches
from django.utils.connection import ConnectionProxy

__all__ = [
    "BUILTIN",
    "DJANGO_REDIS",
    "LOCMEM",
    "OURS",
    "Proxies",
    "await_trust",
    "configure",
    "database",
    "django_caches",
    "held",
    "installed",
    "proxies",
]

LOCMEM = "LocMem"
BUILTIN = "Django RedisCache"
DJANGO_REDIS = "django-redis"
OURS = "cachebridge"

Proxies = dict[str, ConnectionProxy]

_HOUR_S = 3600
_BIG = 2_000_000


def database(redis_url: str, number: int) -> str:
    """Return the URL of another database of the same server."""
    return urlsplit(redis_url)._replace(path=f"/{number}").geturl()


def django_caches(redis_url: str) -> dict[str, dict[str, object]]:
    """Return Django's CACHES with one alias per contender that is installed."""
    found: dict[str, dict[str, object]] = {
        LOCMEM: {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "benchmarks",
            "OPTIONS": {"MAX_ENTRIES": _BIG},
        },
        BUILTIN: {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": database(redis_url, 1),
        },
    }
    if find_spec("django_redis"):
        found[DJANGO_REDIS] = {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": database(redis_url, 2),
        }
    found[OURS] = {
        "BACKEND": "cachebridge.django_backend.CacheBridge",
        "LOCATION": database(redis_url, 3),
        "OPTIONS": {"L1_MAX_ENTRIES": _BIG, "L1_MAX_BYTES": 1 << 30},
    }
    for options in found.values():
        options["TIMEOUT"] = _HOUR_S
    return found


def configure(redis_url: str) -> None:
    """Set Django up with the contenders as aliases, named by their labels."""
    if settings.configured:
        return
    settings.configure(CACHES=django_caches(redis_url), USE_TZ=True)
    django.setup()


def installed() -> list[str]:
    """Return the labels of the contenders that are there."""
    return list(settings.CACHES)


def held() -> dict[str, BaseCache]:
    """Return the calling thread's backend of each contender, as a view holds it."""
    return {label: caches[label] for label in settings.CACHES}


def proxies() -> Proxies:
    """Return for each contender what `django.core.cache.cache` is for "default"."""
    return {label: ConnectionProxy(caches, label) for label in settings.CACHES}


def await_trust(cache: object, within_s: float = 10.0) -> None:
    """Read through cachebridge until its L1 serves; caches without L1 pass at once.

    The listener starts with the first reads, and nothing is a hit before it vouches.
    """
    stats = getattr(cache, "stats", None)
    if stats is None:
        return
    deadline = time.monotonic() + within_s
    while not stats().trusted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"L1 was not trusted within {within_s} s: {stats()}")
        cache.get("benchmarks:trust")  # type: ignore[attr-defined]
        time.sleep(0.01)
