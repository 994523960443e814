"""Health for monitoring, which asks the servers, and for probes, which does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from django.db.transaction import non_atomic_requests
from django.http import JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from cachebridge.contrib.django.aliases import (
    UnusableAliasError,
    at_once,
    binding_of,
    bridge,
    bridge_names,
    conceal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.http import HttpRequest

    from cachebridge.django_backend import CacheBridge

    State = dict[str, Any]

_OK: Final = 200
_NOT_FOUND: Final = 404
_NOT_OK: Final = 503


@non_atomic_requests  # a database that is away is not the cache's fault
@never_cache
@require_safe
def health(_request: HttpRequest, alias: str | None = None) -> JsonResponse:
    """Ask the server of every alias, or of one, now: 200 if all are ok, else 503.

    404 if there is no such alias.
    """
    names = bridge_names()
    if not names:
        text = "CACHES has no cache whose backend is CacheBridge."
        return JsonResponse({"ok": False, "error": text}, status=_NOT_FOUND)
    if alias is not None and alias not in names:
        text = f"No alias {alias!r} with the backend CacheBridge; valid: {names}."
        return JsonResponse(
            {"ok": False, "error": text, "valid": names}, status=_NOT_FOUND
        )
    return _answer(names if alias is None else [alias], _ask_server)


@non_atomic_requests
@never_cache
@require_safe
def live(_request: HttpRequest) -> JsonResponse:
    """Report the process's own state without asking a server.

    200 unless an alias cannot be made at all, so also during an outage; then 503.
    """
    return _answer(bridge_names(), _look)


def _answer(names: Iterable[str], ask: Callable[[CacheBridge], State]) -> JsonResponse:
    states = _states(names, ask)
    all_ok = all(state["ok"] for state in states.values())
    return JsonResponse(
        {"ok": all_ok, "caches": states}, status=_OK if all_ok else _NOT_OK
    )


# -- what an alias is like, as plain JSON values ---------------------------------------


def _ask_server(cache: CacheBridge) -> State:
    """Return every field of ``health()``, and its ``ok``."""
    health = cache.health()
    return {**asdict(health), "ok": health.ok}


def _look(cache: CacheBridge) -> State:
    """Return what this process knows without asking a server."""
    breaker = binding_of(cache).engine.breaker
    return {
        "l1_trusted": cache.stats().trusted,
        "breaker_open": breaker.is_open,
        "ok": True,
    }


def _states(
    names: Iterable[str], ask: Callable[[CacheBridge], State]
) -> dict[str, State]:
    """Ask all aliases at once: several silent servers take no longer than one."""
    states: dict[str, State] = {}
    usable: dict[str, CacheBridge] = {}
    for name in names:
        states[name] = {}  # in the order of the names
        try:
            usable[name] = bridge(name)
        except UnusableAliasError as exc:
            states[name] = {"error": str(exc), "ok": False}
    for name, state in zip(usable, at_once(ask, usable.values()), strict=True):
        states[name] = {field: _plain(state[field], name) for field in state}
    return states


def _plain(value: Any, name: str) -> Any:
    """Return a field's value as plain JSON, with secrets removed from texts."""
    match value:
        case Enum():
            return _plain(value.value, name)
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(inner, name) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(inner, name) for inner in value]
        case _:
            return conceal(str(value), name)
