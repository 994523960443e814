"""The adapters: how each is made, and what is asked of it.

A new adapter is one more entry here: a function that makes a cache, the rows that it
has in common with the others, and those of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from cachebridge import Cache
from cachebridge.django_backend import CacheBridge, bindings
from cachebridge.engine import registry
from cachebridge.flask_ext.backend.backend import CacheBridgeBackend
from tests.proofs.outages.cases import BY_PATTERN, COMMON, LOADED, REDIS_API, Case
from tests.proofs.outages.cluster_site import CLUSTER_FAULTS, ClusterSite
from tests.proofs.outages.flask_cases import FLASK_CASES
from tests.proofs.outages.memcached_site import (
    BUS_FAULTS,
    STORE_FAULTS,
    MemcachedSite,
)
from tests.proofs.outages.site import FAULTS, Site
from tests.rig import engine_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.proofs.outages.site import Fault


@dataclass(frozen=True, slots=True)
class Place:
    """Where caches have their shared level, and what can happen to it."""

    open: Callable[[], Any]
    faults: Mapping[str, Fault]
    loses_trust: bool = True
    """Whether L1 notices, without a call, that the store is away."""


REDIS: Final = Place(Site, FAULTS)
WITH_BUS: Final = Place(
    lambda: MemcachedSite(has_bus=True), STORE_FAULTS | BUS_FAULTS, loses_trust=False
)
ALONE: Final = Place(
    lambda: MemcachedSite(has_bus=False), STORE_FAULTS, loses_trust=False
)
CLUSTER: Final = Place(ClusterSite, CLUSTER_FAULTS)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A public class in front of the engine."""

    name: str
    public: type
    make: Callable[..., Any]
    full_key: Callable[[str, str], str]
    forget: Callable[[Any], None]
    cases: tuple[Case, ...]
    not_asked: frozenset[str] = frozenset()
    """Public methods that never ask the server for anything."""
    read_many: Callable[[Any, list[str]], dict[str, Any]] = lambda cache, keys: (
        cache.get_many(keys)
    )
    """Return the values of those keys that exist."""
    place: Place = REDIS


DELETE_MANY: Final = Case(
    "`delete_many`",
    "delete_many",
    lambda a: a.cache.delete_many([a.keys.far, a.keys.none]),
    lambda a, answer: a.with_pending(answer, a.keys.far),
)


def _plain(location: str, prefix: str, **options: Any) -> Cache:
    return Cache(location, key_prefix=prefix, **options)


def _forget_plain(cache: Any) -> None:
    registry.retire(engine_of(cache))


PLAIN: Final = Adapter(
    "cachebridge.Cache",
    Cache,
    _plain,
    lambda prefix, key: prefix + key,
    _forget_plain,
    (
        *COMMON,
        *BY_PATTERN,
        DELETE_MANY,
        Case(
            "`cache[key]`, in L1",
            "__getitem__",
            lambda a: a.cache[a.keys.held],
            lambda a, answer: a.value(answer),
        ),
        Case(
            "`cache[key]`, else",
            "__getitem__",
            lambda a: a.cache[a.keys.far],
            lambda a, answer: a.value(answer),
        ),
        Case(
            "`del cache[key]`", "__delitem__", lambda a: a.cache.__delitem__(a.keys.far)
        ),
    ),
    frozenset({"close", "l1_on", "server_of", "groups", "memoize"}),
)


def _django(location: str, prefix: str, **options: Any) -> CacheBridge:
    upper = {name.upper(): value for name, value in options.items()}
    return CacheBridge(location, {"KEY_PREFIX": prefix, "OPTIONS": upper})


def _forget_django(cache: CacheBridge) -> None:
    engine = engine_of(cache)
    for keys, binding in list(bindings._bindings.items()):
        if binding.engine is engine:
            del bindings._bindings[keys]
    for keys, (_, binding) in list(bindings._memo.items()):
        if binding.engine is engine:
            del bindings._memo[keys]
    registry.retire(engine)


DJANGO: Final = Adapter(
    "Django's cache API",
    CacheBridge,
    _django,
    lambda prefix, key: f"{prefix}:1:{key}",
    _forget_django,
    (
        *COMMON,
        *BY_PATTERN,
        DELETE_MANY,
        Case(
            "`get_or_set`, absent",
            "get_or_set",
            lambda a: a.cache.get_or_set(a.keys.none, lambda: LOADED),
            lambda a, answer: a.value(answer),
        ),
        Case(
            "`incr_version`, in L1",
            "incr_version",
            lambda a: a.cache.incr_version(a.keys.held),
            trips=3,
        ),
        Case(
            "`incr_version`, else",
            "incr_version",
            lambda a: a.cache.incr_version(a.keys.far),
            trips=3,
        ),
        *REDIS_API,
        Case(
            "`decr_version`, else",
            "decr_version",
            lambda a: a.cache.decr_version(a.keys.far),
            trips=3,
        ),
    ),
    frozenset(
        {
            "server_of",
            "close",
            "l1_on",
            "groups",
            "memoize",
            "lock",
            "get_client",
            "pttl",
            "persist",
            "pexpire",
            "expire_at",
            "pexpire_at",
            "get_backend_timeout",
            "make_and_validate_key",
            "make_key",
            "validate_key",
            # Django's own ways to others of these.
            "new_tags",
            "set_computed",
            "transaction",
        }
    ),
)


def _flask(location: str, prefix: str, **options: Any) -> CacheBridgeBackend:
    upper = {name.upper(): value for name, value in options.items()}
    return CacheBridgeBackend(location, key_prefix=prefix, options=upper)


def _read_many_of_flask(cache: CacheBridgeBackend, keys: list[str]) -> dict[str, Any]:
    found = cache.get_dict(*keys)
    return {key: value for key, value in found.items() if value is not None}


FLASK: Final = Adapter(
    "Flask's backend",
    CacheBridgeBackend,
    _flask,
    lambda prefix, key: prefix + key,
    _forget_plain,
    (*FLASK_CASES, *BY_PATTERN),
    frozenset(
        {
            "l1_on",
            "server_of",
            "groups",
            "local_get",
            "place",
            "ttl_ms",
            "from_settings",
        }
    ),
    _read_many_of_flask,
)

OVER_MEMCACHED: Final = replace(
    PLAIN,
    name="Memcached with a Redis bus",
    place=WITH_BUS,
    cases=tuple([case for case in PLAIN.cases if case not in BY_PATTERN]),
    not_asked=PLAIN.not_asked | {case.method for case in BY_PATTERN},
)
OVER_MEMCACHED_ALONE: Final = replace(
    OVER_MEMCACHED, name="Memcached alone", place=ALONE
)
OVER_CLUSTER: Final = replace(PLAIN, name="a Redis Cluster", place=CLUSTER)

ADAPTERS: Final = {
    adapter.name: adapter
    for adapter in (
        PLAIN,
        DJANGO,
        FLASK,
        OVER_MEMCACHED,
        OVER_MEMCACHED_ALONE,
        OVER_CLUSTER,
    )
}
PAIRS: Final = [
    (fault, adapter.name)
    for adapter in ADAPTERS.values()
    for fault in adapter.place.faults
]
"""Each fault with each adapter that it can meet."""
