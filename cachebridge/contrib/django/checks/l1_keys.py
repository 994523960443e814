"""W001 to W003: read-modify-write data configured to enter L1.

A process that reads a whole value, changes it and writes it back loses an update if
what it has read was a few milliseconds old.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache import DEFAULT_CACHE_ALIAS
from django.core.checks import CheckMessage, Warning  # noqa: A004 Django's name for it

from cachebridge.contrib.django.aliases import may_enter_l1, name_of, usable_bridges

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_sessions(**_given: Any) -> list[CheckMessage]:
    """W001: warn of sessions that are cached and may enter L1."""
    prefix = _session_prefix()
    alias = settings.SESSION_CACHE_ALIAS
    if prefix is None or not _enters(alias, prefix):
        return []
    return [
        Warning(
            f"Sessions ({settings.SESSION_ENGINE}) enter the L1 of the cache "
            f"{alias!r}: its L1_EXCLUDE does not cover their keys, which begin with "
            f"{prefix!r}. A worker that saves a session it has read from L1 can undo "
            "what another one has just saved, a logout included.",
            hint=_hint(alias, prefix),
            id="cachebridge.W001",
        )
    ]


def check_throttles(**_given: Any) -> list[CheckMessage]:
    """W002: warn of throttles of Django REST framework whose history may enter L1."""
    found: dict[tuple[str, str], list[str]] = {}
    for throttle in _throttles():
        alias = name_of(getattr(throttle, "cache", None))
        prefix = str(getattr(throttle, "cache_format", "")).partition("%")[0]
        if alias is not None and _enters(alias, prefix):
            found.setdefault((alias, prefix), []).append(throttle.__name__)
    return [
        Warning(
            f"The request history of Django REST framework's throttles "
            f"({', '.join(sorted(names))}) enters the L1 of the cache {alias!r}: its "
            f"L1_EXCLUDE does not cover their keys, which begin with {prefix!r}. "
            "Workers that count from copies of their own let more requests through.",
            hint=_hint(alias, prefix),
            id="cachebridge.W002",
        )
        for (alias, prefix), names in found.items()
    ]


def check_ratelimit(**_given: Any) -> list[CheckMessage]:
    """W003: warn of django-ratelimit if its counters may enter L1."""
    alias = getattr(settings, "RATELIMIT_USE_CACHE", DEFAULT_CACHE_ALIAS)
    prefix = str(getattr(settings, "RATELIMIT_CACHE_PREFIX", "rl:"))
    if not _uses_ratelimit() or not _enters(alias, prefix):
        return []
    return [
        Warning(
            f"The counters of django-ratelimit enter the L1 of the cache {alias!r}: "
            f"its L1_EXCLUDE does not cover their keys, which begin with {prefix!r}. "
            "Every counted request then sends a message to all processes, and a check "
            "that only reads the counter may see an older copy.",
            hint=_hint(alias, prefix),
            id="cachebridge.W003",
        )
    ]


def _enters(alias: str, prefix: str) -> bool:
    cache = usable_bridges().get(alias)
    return cache is not None and may_enter_l1(cache, prefix)


def _hint(alias: str, prefix: str) -> str:
    if not prefix:
        return (
            "Give these keys a prefix that no others have, and name it in "
            f"OPTIONS['L1_EXCLUDE'] of CACHES[{alias!r}]."
        )
    return (
        f"Add {prefix!r} to OPTIONS['L1_EXCLUDE'] of CACHES[{alias!r}], in every "
        "process alike; without that option the usual prefixes are excluded."
    )


def _session_prefix() -> str | None:
    """Return the prefix of cached sessions' keys; None if the engine has none."""
    try:
        store = import_module(settings.SESSION_ENGINE).SessionStore
    except (ImportError, AttributeError):  # the first request fails on it
        return None
    prefix = getattr(store, "cache_key_prefix", None)
    return prefix if isinstance(prefix, str) else None


def _throttles() -> Iterator[type]:
    """Yield the throttles that settings name, not those of single views."""
    named = getattr(settings, "REST_FRAMEWORK", {})
    rates = named.get("DEFAULT_THROTTLE_RATES") or {}
    if not named.get("DEFAULT_THROTTLE_CLASSES") and not any(rates.values()):
        return
    try:
        framework = import_module("rest_framework.settings").api_settings
        yield from framework.DEFAULT_THROTTLE_CLASSES
        if any(rates.values()):  # for views that choose their throttles themselves
            yield import_module("rest_framework.throttling").SimpleRateThrottle
    except ImportError:  # a class is missing; the first request fails on it
        return


def _uses_ratelimit() -> bool:
    """Return whether settings show that django-ratelimit is in use."""
    if not getattr(settings, "RATELIMIT_ENABLE", True):
        return False
    return "django_ratelimit" in settings.INSTALLED_APPS or any(
        name.startswith("RATELIMIT_") for name in dir(settings)
    )
