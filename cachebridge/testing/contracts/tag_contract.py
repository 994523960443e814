"""What every shared store must say of tagged values: part of the one contract."""
# ruff: noqa: S101 - asserts are what this module is made of

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cachebridge.core.dropping.tags import TAG_MARK
from cachebridge.core.lease import LeaseState, LeaseTerms, LoadedRaw
from cachebridge.l2.store import NOT_AN_INTEGER, TAGGED
from cachebridge.testing.contracts.message_contract import MINUTE_MS

if TYPE_CHECKING:
    from cachebridge.testing.contracts.message_contract import StoreFace

RAW: Final = TAG_MARK + b"\x01\x01t12345678" + b"value"


class L2TagContract:
    """A value that tags may have made invalid is told from others."""

    def test_tagged_values_are_told_from_others(self, store: StoreFace) -> None:
        """``exists``, ``touch`` and ``add`` say which values are to be looked at."""
        store.store([("k", RAW)], MINUTE_MS, None)
        assert store.exists("k") == TAGGED
        assert store.touch("k", 2 * MINUTE_MS, None) == TAGGED
        raw, ttl_ms = store.get("k")
        assert raw == RAW
        assert ttl_ms > MINUTE_MS
        assert store.add("k", b"2", None, None) == TAGGED
        assert store.overwrite("k", b"2", None, None) == TAGGED
        assert store.incr("k", 1, None) == NOT_AN_INTEGER
        assert store.replace("k", RAW, RAW + b"2", None)
        assert store.exists("k") == TAGGED
        assert store.get("k")[0] == RAW + b"2"
        store.store([("k", b"2")], None, None)
        assert store.exists("k") is True
        assert store.touch("k", MINUTE_MS, None) is True
        assert store.add("k", b"3", None, None) is False

    def test_a_loaded_tagged_value_is_told_from_others(self, store: StoreFace) -> None:
        """So is one that was loaded, with a copy for later."""
        lease = store.get_or_lease("k", b"me", LeaseTerms(5000))
        assert lease.state is LeaseState.LEASE
        loaded = LoadedRaw(RAW, MINUTE_MS, MINUTE_MS, 7)
        assert store.store_loaded("k", loaded, lease, None).stored
        assert store.exists("k") == TAGGED
        assert store.touch("k", MINUTE_MS, None) == TAGGED
        assert store.add("k", b"2", None, None) == TAGGED
        assert store.get_or_lease("k", b"you", LeaseTerms(5000)).raw == RAW
