"""Spans for Sentry: exchanges with L2, loads, waits; never hits.

``instrument()`` switches them on for the process.  ``docs/metrics.md`` lists them.
Needs the extra ``sentry``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import sentry_sdk

from cachebridge.contrib.exchanges import operation_of, server_of
from cachebridge.observing import HOOK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sentry_sdk.tracing import Span

__all__ = ["instrument", "uninstrument"]

ORIGIN: Final = "auto.cache.cachebridge"


class _Spans:
    """The observer.  Thread safe; outside of a transaction it does nothing."""

    def __init__(self, *, keys: bool) -> None:
        self._keys = keys

    @contextmanager
    def exchange(self, label: str, request: Any) -> Iterator[None]:
        """See ``Observer``."""
        parent = sentry_sdk.get_current_span()
        if parent is None:
            yield
            return
        server, operation = server_of(label), operation_of(request)
        system = str(server["db.system.name"])
        span = parent.start_child(op=f"db.{system}", name=operation, origin=ORIGIN)
        span.set_data("db.system", system)
        span.set_data("db.operation", operation.split()[0])
        for name in ("server.address", "server.port"):
            if name in server:
                span.set_data(name, server[name])
        with _ended(span):
            yield

    @contextmanager
    def load(self, key: str) -> Iterator[None]:
        """See ``Observer``: a read that both levels have missed.

        What the loader does is below this span.
        """
        parent = sentry_sdk.get_current_span()
        if parent is None:
            yield
            return
        with parent.start_child(op="cache.get", name="load", origin=ORIGIN) as span:
            span.set_data("cache.hit", False)
            self._name(span, key)
            yield

    @contextmanager
    def lease_wait(self, key: str) -> Iterator[None]:
        """See ``Observer``."""
        parent = sentry_sdk.get_current_span()
        if parent is None:
            yield
            return
        span = parent.start_child(op="cache.wait", name="lease wait", origin=ORIGIN)
        self._name(span, key)
        with _ended(span):
            yield

    def _name(self, span: Span, key: str) -> None:
        if self._keys:
            span.set_data("cache.key", [key])


@contextmanager
def _ended(span: Span) -> Iterator[None]:
    """End a span that nothing is below: it never becomes the current one.

    So spans of tasks that run side by side do not get into each other.
    """
    try:
        yield
    except BaseException:
        span.set_status("internal_error")
        raise
    finally:
        span.finish()


def instrument(*, keys: bool = False) -> None:
    """Record spans of all caches of this process from now on.

    They are below the transaction or span of the caller; without one nothing is
    recorded.  ``keys`` puts full keys into the spans of loads and waits: they may be
    personal.  Takes the place of ``opentelemetry.instrument``.  Thread safe.
    """
    HOOK.observer = _Spans(keys=keys)


def uninstrument() -> None:
    """Record no further spans."""
    HOOK.observer = None
