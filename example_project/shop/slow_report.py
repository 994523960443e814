"""A report that takes 250 ms to build, to be asked for many times at once.

Each worker counts how often it built a report, and its answers carry the number.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from django.core.cache import cache
from django.http import HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["BUILD_S", "slow_report"]

BUILD_S = 0.25
_TIMEOUT = 60

_builds: Counter[str] = Counter()
_lock = threading.Lock()


@require_safe
@never_cache
def slow_report(request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG001 - a view
    """Show the report of that name, built on the first request for it."""
    text = cache.get_or_set(f"slow-report:{name}", partial(_build, name), _TIMEOUT)
    return JsonResponse({"report": text, "builds": _builds[name]})


def _build(name: str) -> str:
    with _lock:
        _builds[name] += 1
    time.sleep(BUILD_S)
    return f"the report on {name}"
