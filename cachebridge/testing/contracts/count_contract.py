"""What ``count`` of every shared store must do; a part of ``L2StoreContract``."""
# ruff: noqa: S101, PLR2004 - asserts and numbers are what this module is made of

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from cachebridge.l2.store import Bounds, Counted
from cachebridge.testing.contracts.message_contract import (
    GONE,
    MESSAGE,
    MINUTE_MS,
    Published,
)

if TYPE_CHECKING:
    from cachebridge.testing.contracts.message_contract import StoreFace

STOCK = Bounds(floor=0)
QUOTA = Bounds(floor=0, ceiling=3)
MOST = 2**53 - 1


class L2CountContract:
    """Counters within bounds."""

    def test_count_of_nothing(self, store: StoreFace) -> None:
        """A counter that does not exist is 0, and is made with its TTL."""
        assert store.count("k", -1, STOCK, None, None) == Counted(False, 0, -2)
        assert store.get("k") == GONE
        assert store.count("k", 2, STOCK, MINUTE_MS, None) == Counted(True, 2, -2)
        raw, ttl_ms = store.get("k")
        assert raw == b"2"
        assert 0 < ttl_ms <= MINUTE_MS
        assert store.count("l", 2, STOCK, None, None) == Counted(True, 2, -2)
        assert store.get("l") == (b"2", -1)

    def test_count_keeps_the_ttl(self, store: StoreFace) -> None:
        """The TTL of what exists stays, with one and without."""
        store.store([("k", b"5")], MINUTE_MS, None)
        counted = store.count("k", -2, STOCK, None, None)
        assert (counted.changed, counted.value) == (True, 3)
        assert 0 < counted.ttl_ms <= MINUTE_MS
        assert 0 < store.get("k")[1] <= MINUTE_MS
        store.store([("k", b"5")], None, None)
        assert store.count("k", -2, STOCK, MINUTE_MS, None) == Counted(True, 3, -1)
        assert store.get("k") == (b"3", -1)

    def test_count_within_bounds(self, store: StoreFace) -> None:
        """A change past a bound is refused and changes nothing; to the bound is not."""
        store.store([("k", b"2")], None, None)
        assert store.count("k", 2, QUOTA, None, None) == Counted(False, 2, -1)
        assert store.count("k", 1, QUOTA, None, None) == Counted(True, 3, -1)
        assert store.count("k", 1, QUOTA, None, None) == Counted(False, 3, -1)
        assert store.count("k", -4, QUOTA, None, None) == Counted(False, 3, -1)
        assert store.count("k", -3, QUOTA, None, None) == Counted(True, 0, -1)
        assert store.get("k") == (b"0", -1)

    def test_a_bound_stops_only_changes_towards_it(self, store: StoreFace) -> None:
        """What lies outside of the bounds may come back."""
        store.store([("high", b"9"), ("low", b"-9")], None, None)
        assert store.count("high", -1, QUOTA, None, None).value == 8
        assert store.count("low", 1, QUOTA, None, None).value == -8
        assert not store.count("low", -1, QUOTA, None, None).changed
        assert not store.count("high", 1, QUOTA, None, None).changed

    def test_count_without_bounds(self, store: StoreFace) -> None:
        """Below zero and back, exactly, up to the largest integer that counts."""
        free = Bounds()
        assert store.count("k", -5, free, None, None) == Counted(True, -5, -2)
        assert store.count("k", 8, free, None, None) == Counted(True, 3, -1)
        store.store([("k", b"%d" % (MOST - 1))], None, None)
        assert store.count("k", 1, free, None, None) == Counted(True, MOST, -1)
        assert store.count("k", 1, free, None, None) == Counted(False, MOST, -1)
        assert store.get("k")[0] == b"%d" % MOST

    @pytest.mark.parametrize(
        "raw", [b"", b"text", b"1.5", b"05", b"0x10", b"1e3", b"%d" % 2**53]
    )
    def test_count_of_no_counter(
        self, store: StoreFace, published: Published, raw: bytes
    ) -> None:
        """What is no such integer stays what it is."""
        store.store([("k", raw)], None, None)
        assert store.count("k", 1, STOCK, None, MESSAGE) is None
        assert store.get("k") == (raw, -1)
        assert published() == []

    def test_count_publishes_changes(
        self, store: StoreFace, published: Published
    ) -> None:
        """A refusal sends no message to peers."""
        store.count("k", 1, STOCK, None, MESSAGE)
        assert published() == [MESSAGE]
        store.count("k", -2, STOCK, None, MESSAGE)
        assert published() == []
        store.count("k", -1, STOCK, None, MESSAGE)
        assert published() == [MESSAGE]

    def test_no_unit_is_taken_twice(self, store: StoreFace) -> None:
        """Threads that take at the same time get as many as there are."""
        store.store([("k", b"40")], None, None)

        def take_all() -> int:
            taken = 0
            for _ in range(20):
                taken += store.count("k", -1, STOCK, None, None).changed
            return taken

        with ThreadPoolExecutor(4) as pool:
            taking = [pool.submit(take_all) for _ in range(4)]
            assert sum(each.result() for each in taking) == 40
        assert store.get("k")[0] == b"0"
