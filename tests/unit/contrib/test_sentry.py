"""Sentry's spans are those of what happened; hits have none."""

from __future__ import annotations

import asyncio
import warnings

import pytest

from cachebridge.contrib import opentelemetry
from cachebridge.observing import HOOK
from tests.rig import PATIENT, lone_cache

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it imports whatever event loops are installed
    import sentry_sdk

    from cachebridge.contrib import sentry


class Recorded(sentry_sdk.Transport):
    """Keeps what would be sent."""

    def __init__(self):
        super().__init__()
        self.spans = []

    def capture_envelope(self, envelope):
        for item in envelope.items:
            event = item.get_transaction_event() or {}
            self.spans += event.get("spans", ())


@pytest.fixture
def recorded():
    transport = Recorded()
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        transport=transport,
        traces_sample_rate=1.0,
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    sentry.instrument()
    yield transport
    sentry.uninstrument()
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


@pytest.fixture
def cache(redis_url):
    return lone_cache(redis_url, KEY_PREFIX="p:", **PATIENT)


def test_a_load(recorded, cache):
    """Exchanges with L2, and the load with what the loader does below it."""

    def loader():
        with sentry_sdk.start_span(op="db", name="SELECT"):
            return 1

    with sentry_sdk.start_transaction(name="page"):
        cache.get_or_load("k", loader)
    by_id = {each["span_id"]: each for each in recorded.spans}
    (select,) = [each for each in recorded.spans if each["op"] == "db"]
    load = by_id[select["parent_span_id"]]
    assert (load["op"], load["data"]["cache.hit"]) == ("cache.get", False)
    assert "cache.key" not in load["data"]
    exchanges = [each for each in recorded.spans if each["op"] == "db.redis"]
    assert any(each["description"].startswith("EVAL") for each in exchanges)
    assert all(each["data"]["server.address"] for each in exchanges)
    assert all("p:k" not in str(each) for each in recorded.spans)


def test_awaited_methods(recorded, cache):
    """Tasks that run side by side: each span is below its own task's."""

    async def one(key):
        with sentry_sdk.isolation_scope(), sentry_sdk.start_span(name=key) as span:
            await cache.aget_or_load(key, lambda: 1)
            await cache.aset(key, 2)
            return span.span_id

    async def page():
        with sentry_sdk.start_transaction(name="page"):
            return await asyncio.gather(one("a"), one("b"))

    owners = asyncio.run(page())
    loads = [each for each in recorded.spans if each["op"] == "cache.get"]
    assert {each["parent_span_id"] for each in loads} == set(owners)


def test_hits_and_keys(recorded, cache):
    """A hit of L1 has no span; full keys are in the spans only if it is asked for."""
    sentry.instrument(keys=True)
    with sentry_sdk.start_transaction(name="page"):
        cache.get_or_load("k", lambda: 1)
    (load,) = [each for each in recorded.spans if each["op"] == "cache.get"]
    assert load["data"]["cache.key"] == ["p:k"]
    while not cache.stats().trusted or cache.stats().l1_hits == 0:
        cache.get("k")
    recorded.spans.clear()
    with sentry_sdk.start_transaction(name="page"):
        cache.get("k")
    assert recorded.spans == []


def test_an_error(recorded, cache):
    """A loader that raises ends its span, and the error is the caller's."""

    def broken():
        raise LookupError("none")

    with sentry_sdk.start_transaction(name="page"), pytest.raises(LookupError):
        cache.get_or_load("k", broken)
    (load,) = [each for each in recorded.spans if each["op"] == "cache.get"]
    assert load["status"] == "internal_error"


def test_without_a_transaction(recorded, cache):
    """Nothing is recorded, and nothing else is different."""
    assert cache.get_or_load("k", lambda: 1) == 1
    assert recorded.spans == []


def test_the_last_call_counts():
    """There is one observer; either tool takes the place of the other."""
    opentelemetry.instrument()
    sentry.instrument()
    assert type(HOOK.observer).__module__ == sentry.__name__
    sentry.uninstrument()
    assert HOOK.observer is None
