"""The adapters: how each is made, and what is asked of it.

A new adapter is one more entry here: a function that makes a cache, the rows that it
has in common with the others, and those of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cachebridge import Cache
from cachebridge.django_backend import CacheBridge, bindings
from cachebridge.engine import registry
from tests.outages.cases import COMMON, LOADED, Case

if TYPE_CHECKING:
    from collections.abc import Callable


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


def _plain(location: str, prefix: str, **options: Any) -> Cache:
    return Cache(location, key_prefix=prefix, **options)


def _forget_plain(cache: Cache) -> None:
    registry.retire(cache._binding.engine)


PLAIN: Final = Adapter(
    "cachebridge.Cache",
    Cache,
    _plain,
    lambda prefix, key: prefix + key,
    _forget_plain,
    (
        *COMMON,
        Case(
            "`delete_many`",
            "delete_many",
            lambda a: a.cache.delete_many([a.keys.far, a.keys.none]),
            lambda a, answer: a.owing(answer, a.keys.far),
        ),
    ),
    frozenset({"l1_on"}),
)


def _django(location: str, prefix: str, **options: Any) -> CacheBridge:
    upper = {name.upper(): value for name, value in options.items()}
    return CacheBridge(location, {"KEY_PREFIX": prefix, "OPTIONS": upper})


def _forget_django(cache: CacheBridge) -> None:
    engine = cache._binding.engine
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
        Case(
            "`delete_many`",
            "delete_many",
            lambda a: a.cache.delete_many([a.keys.far, a.keys.none]),
            lambda a, answer: a.owing(answer, a.keys.far),
        ),
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
        Case(
            "`decr_version`, else",
            "decr_version",
            lambda a: a.cache.decr_version(a.keys.far),
            trips=3,
        ),
    ),
    frozenset(
        {
            "close",
            "l1_on",
            "get_backend_timeout",
            "make_and_validate_key",
            "make_key",
            "validate_key",
        }
    ),
)

ADAPTERS: Final = {adapter.name: adapter for adapter in (PLAIN, DJANGO)}
