"""Health for monitoring, which asks the servers, and for probes, which asks nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.db.transaction import non_atomic_requests
from django.http import JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from cachebridge.contrib.django.aliases import bridge_names
from cachebridge.contrib.django.health import ask_servers, look_at_process

if TYPE_CHECKING:
    from django.http import HttpRequest

    from cachebridge.contrib.django.health import State

_OK: Final = 200
_NOT_FOUND: Final = 404
_NOT_OK: Final = 503


@non_atomic_requests  # a database that is away is not the cache's fault
@never_cache
@require_safe
def health(_request: HttpRequest, alias: str | None = None) -> JsonResponse:
    """Ask the server of every alias, or of one, now: 200 if all is well, else 503."""
    names = bridge_names()
    if not names:
        text = "CACHES has no cache whose backend is CacheBridge."
        return JsonResponse({"ok": False, "error": text}, status=_NOT_FOUND)
    if alias is not None and alias not in names:
        text = f"No alias {alias!r} with the backend CacheBridge; valid: {names}."
        return JsonResponse(
            {"ok": False, "error": text, "valid": names}, status=_NOT_FOUND
        )
    return _answer(ask_servers(names if alias is None else [alias]))


@non_atomic_requests
@never_cache
@require_safe
def live(_request: HttpRequest) -> JsonResponse:
    """Report the process's own state, without a word to any server.

    200 unless an alias cannot be made at all: no outage of a server changes that.
    """
    return _answer(look_at_process(bridge_names()))


def _answer(states: dict[str, State]) -> JsonResponse:
    all_ok = all(state["ok"] for state in states.values())
    return JsonResponse(
        {"ok": all_ok, "caches": states}, status=_OK if all_ok else _NOT_OK
    )
