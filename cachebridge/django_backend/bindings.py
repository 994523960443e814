"""From a CACHES entry to the binding that all backends of the alias share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections

from cachebridge.checking.checks import mapping
from cachebridge.config import parse_options
from cachebridge.django_backend.clusters import with_nodes
from cachebridge.django_backend.options import VALID, rows_for, translate
from cachebridge.django_backend.sentinels import with_sentinels
from cachebridge.engine.binding import Binding
from cachebridge.engine.registry import engine_for, retire
from cachebridge.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cachebridge.engine.engine import Engine

_UNKNOWN: Final = "?"
_MEMO_LIMIT: Final = 1000
"""Entries known by identity; when the memo is full, it is emptied."""
_memo: dict[tuple[object, ...], tuple[object, Binding]] = {}
_bindings: dict[tuple[object, ...], Binding] = {}
_exclusions: dict[tuple[Engine, str], tuple[frozenset[str], str]] = {}


def binding_for(location: Any, params: Mapping[str, Any]) -> Binding:
    """Return the binding of a CACHES entry; Django asks once per thread or request.

    Django passes the same OPTIONS object each time, so its identity is enough.  The
    memo holds that object, so that no other one can get its address.  A caller that
    passes new but equal OPTIONS gets the same binding.

    Raises ImproperlyConfigured for a wrong entry.  Thread safe.
    """
    options = params.get("OPTIONS")
    known = _memo.get(_identity(location, params, options))
    if known is not None and known[0] is options:
        return known[1]
    alias = _alias_of(location, params)
    # Other backends take a list, too.
    is_list_of_one = isinstance(location, (list, tuple)) and len(location) == 1
    server = location[0] if is_list_of_one else location
    try:
        own = mapping("OPTIONS", options or {})
        server, options_left = with_nodes(*with_sentinels(server, own))
        given, serializer = translate({**params, "OPTIONS": options_left}, server)
        engine_options, cache_options = parse_options(
            given, valid=VALID, others=rows_for(server)
        )
        engine = engine_for(server, engine_options, user=f"CACHES[{alias!r}]")
        prefix = str(params.get("KEY_PREFIX", ""))
        _require_one_exclusion(engine, prefix, cache_options.l1_exclude, alias)
    except ConfigError as exc:
        raise ImproperlyConfigured(f"CACHES[{alias!r}]: {exc}") from exc
    binding = _bindings.setdefault(
        (engine, cache_options, serializer, *_key_settings(params)),
        Binding(
            engine,
            cache_options,
            serializer=serializer,
            in_background=_closing_connections,
            tag_prefix=f"{prefix}:{params.get('VERSION', 1)}:",
            name="" if alias == _UNKNOWN else alias,
        ),
    )
    if len(_memo) >= _MEMO_LIMIT:
        _memo.clear()
    _memo[_identity(location, params, options)] = (options, binding)
    return binding


def _closing_connections(loader: Callable[[], Any]) -> Callable[[], Any]:
    """Wrap a loader for a background thread: it closes its database connections.

    They belong to that thread, which is no request, so Django would not close them.
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
    """Raise ConfigError if caches share full keys but differ in L1_EXCLUDE.

    The writes of one would not be published for keys that the other keeps in L1.
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
        *_key_settings(params),
        params.get("MAX_ENTRIES"),
        params.get("max_entries"),
        *params,  # a name that must not stand here is refused for each entry
    )


def _key_settings(params: Mapping[str, Any]) -> tuple[str, str]:
    """Return what full keys hold, with Django's defaults: None is none of them."""
    # As text: 1 and True are equal, their keys are not.
    return repr(params.get("KEY_PREFIX", "")), repr(params.get("VERSION", 1))


def _alias_of(location: object, params: Mapping[str, Any]) -> str:
    """Return the alias, for errors; Django does not pass it to a backend."""
    caches = settings.CACHES if settings.configured else {}
    for alias, entry in caches.items():
        rest = dict(entry)
        rest.pop("BACKEND", None)
        if rest.pop("LOCATION", "") == location and rest == params:
            return str(alias)
    return _UNKNOWN


def _forget_settings(*, setting: str, **_kwargs: Any) -> None:
    """Retire every engine when CACHES or its keys change, as in tests."""
    if setting in {"CACHES", "SECRET_KEY", "SECRET_KEY_FALLBACKS"}:
        engines = {binding.engine for binding in _bindings.values()}
        _bindings.clear()
        _memo.clear()
        _exclusions.clear()
        for engine in engines:
            retire(engine)


setting_changed.connect(_forget_settings)
