"""Middleware: says on each answer which worker gave it and where it came from.

It works outside of ``cache_page``, so that what it writes is never cached. Headers:
``X-Worker-Pid``, ``X-Cache-Level`` (L1, L2, computed, none, or n/a when the backend
keeps no counts) and ``X-Cache-Age`` (seconds since the body was made; the view says
when that was in ``X-Made-At``). HTML answers show the same in their footer.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from example_project.shop.statistics import lookups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from django.http import HttpRequest, HttpResponse

    from example_project.shop.statistics import Lookups

__all__ = ["MADE_AT", "PLACE", "ServedByMiddleware"]

MADE_AT = "X-Made-At"
PLACE = b"<!-- served by -->"


class _Company:
    """Whether another request ran in this worker at the same time."""

    def __init__(self) -> None:
        self.met = False


class ServedByMiddleware:
    """Adds the headers, and the footer in the PLACE that the page left for it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        self._lock = threading.Lock()
        self._running: set[_Company] = set()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        with self._company() as company:
            before = lookups()
            response = self._get_response(request)
            after = lookups()
        spent = after - before if before and after else None

        response["X-Worker-Pid"] = os.getpid()
        response["X-Cache-Level"] = _level(spent.level if spent else None, company)
        if MADE_AT in response:
            age_s = max(0.0, time.time() - float(response[MADE_AT]))
            response["X-Cache-Age"] = f"{age_s:.3f}"
        if PLACE in getattr(response, "content", b""):
            took_ms = 1000 * (time.perf_counter() - started)
            footer = _footer(response.headers, spent, took_ms)
            response.content = response.content.replace(PLACE, footer.encode(), 1)
            response["Content-Length"] = len(response.content)
        return response

    @contextmanager
    def _company(self) -> Iterator[_Company]:
        """Returns whether other requests ran meanwhile: the counts are the worker's."""
        company = _Company()
        with self._lock:
            for other in self._running:
                other.met = company.met = True
            self._running.add(company)
        try:
            yield company
        finally:
            with self._lock:
                self._running.discard(company)


def _footer(headers: Mapping[str, str], spent: Lookups | None, took_ms: float) -> str:
    """Write the footer. Not a template: this runs on every hit, and hits are fast."""
    level = headers["X-Cache-Level"]
    age_s = headers.get("X-Cache-Age")
    facts = {
        "worker": headers["X-Worker-Pid"],
        "hit level": f'<b class="{level.lstrip("~")}">{level}</b>',
        "look-ups": spent,
        "body made": age_s and f"{age_s} s ago",
        "took": f"{took_ms:.2f} ms",
    }
    return "".join(
        f"<div><dt>{name}</dt><dd>{fact}</dd></div>"
        for name, fact in facts.items()
        if fact
    )


def _level(level: str | None, company: _Company) -> str:
    if level is None:
        return "n/a"
    return f"~{level}" if company.met else level
