"""The entries of CACHES that use cachebridge, and texts about them without secrets.

The only module here that uses private names of the Django adapter.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from cachebridge.checking.checks import did_you_mean
from cachebridge.django_backend import CacheBridge
from cachebridge.errors import ConfigError
from cachebridge.texts import conceal as conceal_all
from cachebridge.texts import hide_password, secrets_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cachebridge.engine.binding import Binding

T = TypeVar("T")
R = TypeVar("R")

_MOST_THREADS: Final = 16
_UNUSABLE: Final = (ImproperlyConfigured, ImportError, TypeError, ValueError)
"""Exceptions raised by making a cache from a wrong entry."""

_OWN_PATH: Final = "cachebridge."


class UnusableAliasError(Exception):
    """An alias cannot be made; the text says why, without secrets."""


def bridge_names() -> list[str]:
    """Return the aliases whose backend is CacheBridge, a subclass, or one misspelt."""
    return [name for name, entry in settings.CACHES.items() if _is_bridge(entry)]


def _is_bridge(entry: Mapping[str, Any]) -> bool:
    path = str(entry.get("BACKEND", ""))
    try:
        backend = import_string(path)
    except ImportError:
        return path.startswith(_OWN_PATH)
    return isinstance(backend, type) and issubclass(backend, CacheBridge)


def bridge(name: str) -> CacheBridge:
    """Return the CacheBridge of an alias, without asking its server.

    Raises UnusableAliasError if its entry of CACHES is wrong.
    """
    try:
        cache = caches[name]
    except _UNUSABLE as exc:
        text = str(exc).removeprefix(f"CACHES[{name!r}]: ")
        raise UnusableAliasError(conceal(text, name)) from exc
    if not isinstance(cache, CacheBridge):
        raise UnusableAliasError(f"it is a {type(cache).__name__}, not a CacheBridge.")
    return cache


def required_bridge(where: str, alias: str) -> CacheBridge:
    """Return the CacheBridge of an alias; ConfigError if it is none."""
    try:
        return bridge(alias)
    except UnusableAliasError as exc:
        names = bridge_names()
        hint = did_you_mean(alias, names)
        raise ConfigError(
            f"{where}: cache={alias!r} cannot be used: {exc} The aliases of "
            f"cachebridge are {', '.join(map(repr, names)) or 'none'}.{hint}"
        ) from exc


def usable_bridges() -> dict[str, CacheBridge]:
    """Return the caches that can be made, by alias."""
    usable = {}
    for name in bridge_names():
        with suppress(UnusableAliasError):
            usable[name] = bridge(name)
    return usable


def binding_of(cache: CacheBridge) -> Binding:
    """Return the cache's binding: its options and its server's engine."""
    return cache._binding  # noqa: SLF001 private to cachebridge


def name_of(cache: object) -> str | None:
    """Return the alias of a CacheBridge or of Django's proxy for it, else None."""
    with suppress(*_UNUSABLE):
        binding = getattr(cache, "_binding", None)
        for name, ours in usable_bridges().items():
            if binding_of(ours) is binding:
                return name
    return None


def may_enter_l1(cache: CacheBridge, prefix: str) -> bool:
    """Return whether L1 may hold keys that begin with ``prefix``."""
    binding = binding_of(cache)
    has_l1 = binding.engine.options.l1_max_entries > 0
    return has_l1 and not prefix.startswith(binding.options.l1_exclude)


def at_once(ask: Callable[[T], R], every: Iterable[T]) -> list[R]:
    """Ask all at the same time, and return their answers in order."""
    asked = list(every)
    if len(asked) <= 1:
        return [ask(each) for each in asked]
    with ThreadPoolExecutor(min(len(asked), _MOST_THREADS)) as pool:
        return list(pool.map(ask, asked))


def conceal(text: str, name: str) -> str:
    """Return ``text`` without the secrets that the alias's entry of CACHES holds."""
    entry = settings.CACHES.get(name, {})
    public = hide_password(str(entry.get("LOCATION", "")))
    return conceal_all(text, secrets_in(entry), public)
