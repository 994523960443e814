"""Spans and metrics for OpenTelemetry: exchanges with L2, loads, waits; never hits.

``instrument()`` switches both on for the process.  ``docs/metrics.md`` lists them.
Needs the extra ``otel``, which is the API alone.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace
from opentelemetry.metrics import Observation
from opentelemetry.trace import SpanKind, Status, StatusCode

from cachebridge.contrib.exchanges import operation_of, server_of
from cachebridge.contrib.families import GAUGES, PER_CACHE, PER_SERVER, numbers_of
from cachebridge.engine import registry
from cachebridge.observing import HOOK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, MeterProvider
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from cachebridge.contrib.families import Family

__all__ = ["instrument", "uninstrument"]

NAME: Final = "cachebridge"
DURATION_BOUNDS_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Those that the convention of ``db.client.operation.duration`` names."""
_starting = threading.Lock()
_metered: set[MeterProvider | None] = set()


class _Tracing:
    """The observer.  Thread safe."""

    def __init__(
        self,
        tracers: TracerProvider | None,
        meters: MeterProvider | None,
        *,
        keys: bool,
    ) -> None:
        self._tracer = trace.get_tracer(NAME, tracer_provider=tracers)
        self._duration = metrics.get_meter(
            NAME, meter_provider=meters
        ).create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=list(DURATION_BOUNDS_S),
        )
        self._keys = keys

    @contextmanager
    def exchange(self, label: str, request: Any) -> Iterator[None]:
        """See ``Observer``."""
        operation = operation_of(request)
        shared = {**server_of(label), "db.operation.name": operation.split()[0]}
        span = self._tracer.start_span(
            operation, kind=SpanKind.CLIENT, attributes=shared
        )
        if request.replies > 1:
            span.set_attribute("db.operation.batch.size", request.replies)
        began = time.perf_counter()
        try:
            yield
        except BaseException as exc:
            shared["error.type"] = _fail(span, exc)
            raise
        finally:
            self._duration.record(time.perf_counter() - began, shared)
            span.end()

    @contextmanager
    def load(self, key: str) -> Iterator[None]:
        """See ``Observer``; what the loader does is below this span."""
        span = self._tracer.start_span("cachebridge.load", attributes=self._of(key))
        with trace.use_span(
            span,
            end_on_exit=True,
            record_exception=False,
            set_status_on_exception=False,
        ):
            try:
                yield
            except BaseException as exc:
                _fail(span, exc)
                raise

    @contextmanager
    def lease_wait(self, key: str) -> Iterator[None]:
        """See ``Observer``."""
        span = self._tracer.start_span(
            "cachebridge.lease_wait", attributes=self._of(key)
        )
        try:
            yield
        finally:
            span.end()

    def _of(self, key: str) -> dict[str, AttributeValue]:
        return {"cachebridge.key": key} if self._keys else {}


def _fail(span: Span, error: BaseException) -> str:
    """Say in the span what failed, without the text, which may hold a key."""
    name = type(error).__qualname__
    span.set_attribute("error.type", name)
    span.set_status(Status(StatusCode.ERROR))
    return name


# -- metrics, read when they are exported ----------------------------------------------


def _observe_family(family: Family, _options: CallbackOptions) -> Iterable[Observation]:
    sums: Counter[tuple[str, str, str]] = Counter()
    for engine in registry.engines():
        own = engine.counters
        for name, counters in (("", own), *tuple(own.shares.items())):
            for label, number in numbers_of(family, counters):
                cache_name = name if family in PER_CACHE else ""
                sums[engine.location.label, cache_name, label] += int(number)
    for (server, name, label), number in sums.items():
        attributes = {"cachebridge.server": server, family.label: label}
        if name:
            attributes["cache.name"] = name
        yield Observation(number, attributes)


def _observe_gauge(name: str, _options: CallbackOptions) -> Iterable[Observation]:
    sums: Counter[str] = Counter()
    for engine in registry.engines():
        sums[engine.location.label] += int(GAUGES[name][1](engine))
    for server, number in sums.items():
        yield Observation(number, {"cachebridge.server": server})


def _dotted(name: str) -> str:
    return name.replace("_", ".", 1)


def _meter(meters: MeterProvider | None) -> None:
    """Make the instruments; a meter keeps them, so once for each."""
    if meters in _metered:
        return
    _metered.add(meters)
    meter = metrics.get_meter(NAME, meter_provider=meters)
    for family in (*PER_CACHE, *PER_SERVER):
        meter.create_observable_counter(
            _dotted(family.name),
            [partial(_observe_family, family)],
            description=family.text,
        )
    for name, (text, _) in GAUGES.items():
        if name != "cachebridge_processes":  # the resource tells processes apart
            meter.create_observable_up_down_counter(
                _dotted(name), [partial(_observe_gauge, name)], description=text
            )


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    keys: bool = False,
) -> None:
    """Record spans and metrics of all caches of this process from now on.

    The providers are the global ones unless given; without an SDK nothing is recorded.
    ``keys`` puts full keys into the spans of loads and waits: they may be personal.
    A second call replaces the first.  Thread safe.
    """
    with _starting:
        _meter(meter_provider)
        HOOK.observer = _Tracing(tracer_provider, meter_provider, keys=keys)


def uninstrument() -> None:
    """Record no further spans; the metrics stay, as their meter keeps them."""
    HOOK.observer = None
