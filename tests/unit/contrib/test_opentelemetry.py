"""Spans and metrics are those of what happened; hits have none."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from cachebridge import Cache, L2Error
from cachebridge.contrib import opentelemetry
from cachebridge.observing import HOOK
from tests.rig import PATIENT, engine_of, eventually, lone_cache


class Seen:
    """What was recorded, with providers of the test's own."""

    def __init__(self):
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        # Earlier tests left more caches than one instrument may tell apart.
        every = View(instrument_name="*", aggregation_cardinality_limit=1_000_000)
        self.meters = MeterProvider([self._reader], views=[every])

    def instrument(self, **options):
        opentelemetry.instrument(
            tracer_provider=self.tracers, meter_provider=self.meters, **options
        )

    def spans(self):
        """Return the spans since the last call."""
        found = self._spans.get_finished_spans()
        self._spans.clear()
        return found

    def points(self, name):
        return [
            point
            for resource in self._reader.get_metrics_data().resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def seen():
    made = Seen()
    made.instrument()
    yield made
    opentelemetry.uninstrument()
    made.meters.shutdown()


def test_an_exchange_is_a_span_of_a_client(seen, redis_url):
    """With the attributes of the convention; scripts are named."""
    with Cache(redis_url, **PATIENT, L1_MAX_ENTRIES=0) as cache:
        cache.set("k", 1)
        cache.get("k")
        asyncio.run(cache.aget("k"))
        spans = [span for span in seen.spans() if span.name != "PING"]
        location = engine_of(cache).location
    # A server that does not know the script yet gets its text, in a second exchange.
    assert {span.name for span in spans} >= {"EVALSHA store"}
    assert len(spans) >= 3
    for span in spans:
        assert span.kind is SpanKind.CLIENT
        assert span.attributes["db.system.name"] == "redis"
        assert span.attributes["db.namespace"] == str(location.db)
        assert span.attributes["server.address"] == "127.0.0.1"
        assert f":{span.attributes['server.port']}/" in redis_url
        assert span.attributes["db.operation.name"] == span.name.split()[0]
    durations = seen.points("db.client.operation.duration")
    assert sum(point.count for point in durations) >= len(spans)


def test_memcached_is_named(seen, shared_memcached):
    """By its own name, and the meta command."""
    lone_cache(shared_memcached.url, **PATIENT, l1_max_entries=0).get("k of otel")
    (span, *_) = [span for span in seen.spans() if span.name == "mg"]
    assert span.attributes["db.system.name"] == "memcached"
    assert "db.namespace" not in span.attributes


def test_a_hit_has_no_span(seen, redis_url):
    """Whatever else is recorded."""
    with Cache(redis_url, **PATIENT) as cache:
        cache.set("k", 1)
        eventually(lambda: cache.get("k") and cache.stats().trusted)
        eventually(lambda: cache.get("k") and cache.stats().l1_hits)
        hits, told = cache.stats().l1_hits, []
        HOOK.observer.exchange = lambda *of: told.append(of)
        HOOK.observer.load = HOOK.observer.exchange
        for _ in range(100):
            assert cache.get("k") == 1
        assert cache.stats().l1_hits == hits + 100
        assert told == []


def test_a_load_is_around_what_the_loader_does(seen, redis_url):
    """Keys stand in it only if they are asked for."""
    tracer = seen.tracers.get_tracer("application")

    def loader():
        with tracer.start_as_current_span("SELECT"):
            return 1

    with Cache(redis_url, **PATIENT) as cache:
        cache.get_or_load("k", loader)
        by_name = {span.name: span for span in seen.spans()}
        load = by_name["cachebridge.load"]
        assert by_name["SELECT"].parent.span_id == load.context.span_id
        assert not load.attributes
        seen.instrument(keys=True)
        asyncio.run(cache.aget_or_load("other", loader))
        by_name = {span.name: span for span in seen.spans()}
        assert by_name["cachebridge.load"].attributes["cachebridge.key"] == "other"
        assert by_name["SELECT"].parent.span_id == (
            by_name["cachebridge.load"].context.span_id
        )


def test_a_failing_loader_fails_its_span(seen, redis_url):
    """Its type is told, its text is not: it may hold a key."""
    with Cache(redis_url, **PATIENT) as cache, pytest.raises(ZeroDivisionError):
        cache.get_or_load("k", lambda: 1 / 0)
    (load,) = [span for span in seen.spans() if span.name == "cachebridge.load"]
    assert load.status.status_code is StatusCode.ERROR
    assert load.attributes["error.type"] == "ZeroDivisionError"
    assert load.status.description is None
    assert not load.events


def test_an_exchange_that_fails_says_so(seen, free_port):
    """In the span and in the histogram."""
    url = f"redis://127.0.0.1:{free_port}/0"
    with Cache(url, ON_ERROR="raise", L1_MAX_ENTRIES=0) as cache:
        with pytest.raises(L2Error):
            cache.get("k")
        span = seen.spans()[0]
    assert span.status.status_code is StatusCode.ERROR
    assert "Unavailable" in span.attributes["error.type"]
    points = seen.points("db.client.operation.duration")
    assert any("error.type" in point.attributes for point in points)


def test_a_wait_for_another_process_is_a_span(seen, redis_url):
    """As is each look whether it has loaded."""
    with Cache(redis_url, **PATIENT) as cache:
        engine = engine_of(cache)
        from cachebridge.core.loading import load_terms
        from cachebridge.waiting.run import run
        from tests.rig import options_of

        terms = load_terms(options_of(cache)).for_lease(is_refresh=False)
        lease = run(engine.l2.get_or_lease("k", b"another" * 2, terms))
        assert lease.raw is None
        import threading

        caller = threading.Thread(target=cache.get_or_load, args=("k", lambda: 1))
        caller.start()
        found = []

        def waited():
            found.extend(span.name for span in seen.spans())
            return "cachebridge.lease_wait" in found

        eventually(waited)
        cache.delete("k")  # which voids the lease
        caller.join()


def test_metrics_are_the_counters(seen, redis_url):
    """They are read when they are exported."""
    with Cache(redis_url, **PATIENT) as cache:
        label = engine_of(cache).location.label
        cache.get_many(["a", "b"])

        def misses():
            return [
                point.value
                for point in seen.points("cachebridge.reads")
                if point.attributes["cachebridge.server"] == label
                and point.attributes["result"] == "miss"
            ]

        assert misses() == [2]
        cache.get("c")
        assert misses() == [3] == [cache.stats().misses]
        entries = seen.points("cachebridge.l1_entries")
        assert label in {point.attributes["cachebridge.server"] for point in entries}


def test_without_it_nobody_looks_on(redis_url):
    """The hook is empty until it is switched on."""
    assert HOOK.observer is None
