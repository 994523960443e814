"""Puts the cache under test where foreign settings name LocMemCache, and counts.

The settings themselves are rewritten (CACHES names our backend), so that tests which
look BACKEND up find what really serves.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

from django.test.utils import override_settings
from django.utils.module_loading import import_string
from inside.plan import Plan, current

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
# Django's test of validate_key() overridden by a mixin; the mixin here is Django's own.
LIBERAL = "cache.liberal_backend.CacheClass"
OUR_LIBERAL = "inside.liberal.CacheClass"
# Bounds of LocMem's only store; culling is not a matter of the shared level.
LOCMEM_BOUNDS = {"MAX_ENTRIES", "CULL_FREQUENCY"}

OPERATIONS = [
    prefix + name
    for name in (
        *("get", "get_many", "get_or_set", "has_key"),
        *("add", "set", "set_many", "touch", "incr", "decr"),
        *("delete", "delete_many", "clear", "incr_version", "decr_version"),
    )
    for prefix in ("", "a")
]

performed: Counter[str] = Counter()


class Substitution:
    """Turns CACHES settings that name LocMemCache into ones that name our backend."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.databases: dict[str, int] = {}

    def caches(self, caches: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return CACHES with our backend in it; doing so twice changes nothing."""
        return {alias: self.params(params) for alias, params in caches.items()}

    def params(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of one alias."""
        serving = {LOCMEM: self.plan.serving, LIBERAL: OUR_LIBERAL}
        backend = params.get("BACKEND", "")
        if backend not in serving or self.plan.serving == LOCMEM:
            return params
        location, needed = self.location(params.get("LOCATION", ""))
        ours = params | {"BACKEND": serving[backend], "LOCATION": location}
        if needed or "OPTIONS" in params:
            given = params.get("OPTIONS", {})
            ours["OPTIONS"] = needed | {
                name: given[name] for name in given if name not in LOCMEM_BOUNDS
            }
        return ours

    def location(self, store: str) -> tuple[str, dict[str, str]]:
        """Return what stands for one of LocMem's named stores, and what it needs."""
        number = self.databases.setdefault(store, len(self.databases))
        database = f"{self.plan.location}/{number}"
        if not self.plan.stores:
            return database, {}
        needed = {"BUS_LOCATION": database} if self.plan.has_bus else {}
        return self.plan.stores[number], needed

    def install(self) -> None:
        """Rewrite every CACHES that a test overrides, in decorators too."""
        original = override_settings.__init__

        @functools.wraps(original)
        def init(this: override_settings, **options: Any) -> None:
            if "CACHES" in options:
                options["CACHES"] = self.caches(options["CACHES"])
            original(this, **options)

        override_settings.__init__ = init


substitution = Substitution(current())


def count_operations(path: str) -> None:
    """Count each call of the public cache methods of a backend class."""
    backend = import_string(path)
    for name in OPERATIONS:
        setattr(backend, name, _counted(name, getattr(backend, name)))


def _counted(name: str, method: Any) -> Any:
    # No __wrapped__: debug-toolbar's tests look for it to see how often they wrapped.
    @functools.wraps(method)
    def counted(*args: Any, **kwargs: Any) -> Any:
        performed[name] += 1
        return method(*args, **kwargs)

    del counted.__wrapped__
    return counted
