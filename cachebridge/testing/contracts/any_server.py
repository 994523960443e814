"""The contract over the server that ``python -m cachebridge.testing.contract`` names.

The command gives the fixture ``place``.
"""
# ruff: noqa: S101 - asserts are what this module is made of

from __future__ import annotations

from collections.abc import Iterator  # noqa: TC003 pytest reads annotations
from typing import Any

import pytest

from cachebridge.testing.contracts.message_contract import (
    MESSAGE,
    MINUTE_MS,
    Carry,
    Published,
)
from cachebridge.testing.contracts.own_keys import OwnKeys  # noqa: TC001 as above
from cachebridge.testing.contracts.place import Place, eventually
from cachebridge.testing.contracts.store_contract import L2StoreContract
from cachebridge.waiting.run import run

NO_BUS = "no messages without --bus"


def trusting(place: Place) -> Place:
    """Return the place when L1 is trusted in both caches; else the test ends."""
    if not place.has_bus:
        pytest.skip(NO_BUS)
    if reason := place.why_untrusted():
        pytest.fail(reason, pytrace=False)
    return place


class TestThreads(L2StoreContract):
    """The store as threads call it."""

    side = "threads"
    batch = 2000

    @pytest.fixture(autouse=True, scope="class")
    def kind(self, request: pytest.FixtureRequest, place: Place) -> None:
        """Ask Memcached only for what it promises."""
        if place.is_memcached:
            tests: Any = request.cls
            tests.counts_below_zero = tests.lists_keys = tests.orders_writes = False
            tests.short_ms = 2000

    @pytest.fixture
    def l2(self, place: Place) -> Iterator[OwnKeys]:
        """Return the store over keys of the test's own."""
        store = place.own_keys(self.side)
        yield store
        place.remove(store)

    @pytest.fixture
    def published(self, place: Place) -> Published:
        """Read along at the bus; ``TestTwoCaches`` says why it does not work."""
        if not place.has_bus:
            pytest.skip(NO_BUS)
        if place.why_untrusted():
            pytest.skip("no messages arrive")
        since = place.heard.since
        since()
        return since


class TestTasks(TestThreads):
    """The store as tasks call it."""

    side = "tasks"

    @pytest.fixture
    def carry(self, place: Place) -> Carry:
        """Run coroutines on an event loop."""
        return place.on_loop


class TestTwoCaches:
    """Two caches, each as in a process of its own."""

    def test_heartbeats(self, place: Place) -> None:
        """Heartbeats come back, again and again."""
        trusting(place)
        for side in place.sides:
            assert side.hears_a_heartbeat(), "no later heartbeat has come back"

    def test_coherent_l1(self, place: Place) -> None:
        """What one cache writes leaves the other's L1, and is read by it."""
        writer, reader = trusting(place).sides
        key = f"{place.new_prefix()}shared"
        try:
            writer.set(key, 1, MINUTE_MS)
            assert reader.get(key) == 1
            assert eventually(lambda: (reader.get(key), reader.has_in_l1(key))[1])
            writer.set(key, 2, MINUTE_MS)
            assert eventually(lambda: reader.get(key) == 2)  # noqa: PLR2004
        finally:
            run(place.stores.threads.delete([key], None))

    def test_switch(self, place: Place, published: Published) -> None:
        """The server keeps a switch, and tells of it."""
        switchboard = place.stores.switchboard
        assert switchboard is not None
        name = f"{place.new_prefix()}switch"
        message = place.heard.wrap(MESSAGE) or b""
        try:
            run(switchboard.switch(name, b"off", message))
            assert published() == [MESSAGE]
            kept, _ = run(switchboard.get(name))
            assert kept == b"off" or place.is_local
        finally:
            run(switchboard.delete([name], None))

    published = TestThreads.published
