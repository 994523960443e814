"""From a CACHES entry to the binding that all backends of the alias share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections

from cachebridge.config import parse_options
from cachebridge.django_backend.options import translate, valid_names
from cachebridge.engine.binding import Binding
from cachebridge.engine.registry import engine_for, retire
from cachebridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cachebridge.engine.engine import Engine

_MEMO_LIMIT: Final = 1000
"""Entries known by identity; when it is full it is learned again."""
_memo: dict[tuple[object, ...], tuple[object, Binding]] = {}
_bindings: dict[tuple[object, ...], Binding] = {}
_exclusions: dict[tuple[Engine, str], tuple[frozenset[str], str]] = {}


def binding_for(location: object, params: Mapping[str, Any]) -> Binding:
    """Return the binding of a CACHES entry; Django asks once per thread or request.

    The entry's OPTIONS object is the same each time, so its identity will do; the
    binding is kept together with it, lest another object get its address.  Whoever
    passes new OPTIONS each time gets the binding of equal ones.
    """
    options = params.get("OPTIONS")
    known = _memo.get(_identity(location, params, options))
    if known is not None and known[0] is options:
        return known[1]
    alias = _alias_of(location, params)
    try:
        given = {**_limits(params), **translate(options or {}, location)}
        engine_options, cache_options = parse_options(
            given, also_valid=valid_names(location)
        )
        engine = engine_for(location, engine_options, user=f"CACHES[{alias!r}]")
        prefix = str(params.get("KEY_PREFIX", ""))
        _require_one_exclusion(engine, prefix, cache_options.l1_exclude, alias)
    except ConfigError as exc:
        raise ImproperlyConfigured(f"CACHES[{alias!r}]: {exc}") from exc
    keys = (repr(params.get("KEY_PREFIX")), repr(params.get("VERSION")))
    binding = _bindings.setdefault(
        (engine, cache_options, *keys), Binding(engine, cache_options, behind=_behind)
    )
    if len(_memo) >= _MEMO_LIMIT:
        _memo.clear()
    _memo[_identity(location, params, options)] = (options, binding)
    return binding


def _behind(loader: Callable[[], Any]) -> Callable[[], Any]:
    """Let a loader run in a thread of its own: the database must not notice.

    Such a thread has database connections to itself, which nobody else would close.
    """

    def load() -> Any:
        try:
            return loader()
        finally:
            connections.close_all()

    return load


def _require_one_exclusion(
    engine: Engine, prefix: str, exclude: tuple[str, ...], alias: str
) -> None:
    """Refuse two caches that share full keys and disagree on which L1 may hold.

    The writes of the one publish nothing for keys that the other keeps in L1.
    """
    ours = frozenset(exclude)
    theirs, other = _exclusions.setdefault((engine, prefix), (ours, alias))
    if ours != theirs:
        raise ConfigError(
            f"CACHES[{alias!r}] and CACHES[{other!r}] have the same keys on "
            f"{engine.location.label} but differ in L1_EXCLUDE: {sorted(ours)} here "
            f"and {sorted(theirs)} there. Give both the same, or other KEY_PREFIXes."
        )


def _identity(
    location: object, params: Mapping[str, Any], options: object
) -> tuple[object, ...]:
    return (
        str(location),
        id(options),
        repr(params.get("KEY_PREFIX")),
        repr(params.get("VERSION")),  # 1 and True are equal, their keys are not
        params.get("MAX_ENTRIES"),
        params.get("max_entries"),
    )


def _limits(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Django lets one write beside OPTIONS, in either case."""
    entries = params.get("max_entries", params.get("MAX_ENTRIES"))
    return {} if entries is None else {"L1_MAX_ENTRIES": entries}


def _alias_of(location: object, params: Mapping[str, Any]) -> str:
    """Find the alias for error messages; Django does not tell it."""
    caches = settings.CACHES if settings.configured else {}
    for alias, entry in caches.items():
        rest = dict(entry)
        rest.pop("BACKEND", None)
        if rest.pop("LOCATION", "") == location and rest == params:
            return str(alias)
    return "?"


def _forget_settings(*, setting: str, **_kwargs: Any) -> None:
    """Let go of every engine when CACHES changes, as in tests."""
    if setting == "CACHES":
        engines = {binding.engine for binding in _bindings.values()}
        _bindings.clear()
        _memo.clear()
        _exclusions.clear()
        for engine in engines:
            retire(engine)


setting_changed.connect(_forget_settings)
