"""What a store does with a key only if it exists: a part of the contract of stores."""
# ruff: noqa: S101 - asserts are what this module is made of

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cachebridge.core.lease import LeaseState, LeaseTerms, LoadedRaw
from cachebridge.core.ttl import FOREVER_MS, GONE_MS
from cachebridge.errors import UnsupportedOperationError
from cachebridge.testing.contracts.message_contract import (
    MESSAGE,
    MINUTE_MS,
    L2MessageContract,
    Published,
)

if TYPE_CHECKING:
    from cachebridge.testing.contracts.message_contract import StoreFace


class L2ExistingContract(L2MessageContract):
    """The tests of ``ttl``, ``overwrite`` and ``keep``."""

    def test_ttl(self, store: StoreFace) -> None:
        """What is left, without expiry, and no such key."""
        assert store.ttl("k") == GONE_MS
        store.store([("k", b"1")], None, None)
        assert store.ttl("k") == FOREVER_MS
        store.touch("k", MINUTE_MS, None)
        assert 0 < store.ttl("k") <= MINUTE_MS

    def test_overwrite(self, store: StoreFace, published: Published) -> None:
        """It sets what exists, with a new TTL, and publishes only then."""
        assert store.overwrite("k", b"1", None, MESSAGE) is False
        assert not store.exists("k")
        assert published() == []
        store.store([("k", b"1")], MINUTE_MS, None)
        assert store.overwrite("k", b"2", None, MESSAGE) is True
        assert store.get("k") == (b"2", FOREVER_MS)
        assert published() == [MESSAGE]
        assert store.overwrite("k", b"", MINUTE_MS, None) is True
        raw, ttl_ms = store.get("k")
        assert raw == b""
        assert 0 < ttl_ms <= MINUTE_MS

    def test_overwrite_voids_a_load(self, store: StoreFace) -> None:
        """A value that was being loaded is older than the one that was set."""
        store.store([("k", b"1")], MINUTE_MS, None)
        lease = store.get_or_lease("k", b"t", LeaseTerms(MINUTE_MS, is_refresh=True))
        assert lease.state is LeaseState.LEASE
        assert store.overwrite("k", b"2", MINUTE_MS, None) is True
        reply = store.store_loaded("k", LoadedRaw(b"3", MINUTE_MS), lease, None)
        assert not reply.stored
        assert store.get("k")[0] == b"2"

    def test_keep(self, store: StoreFace, published: Published) -> None:
        """Only what is as expected gets a new TTL, and nothing is published."""
        if not self.lists_keys:
            with pytest.raises(UnsupportedOperationError):
                store.keep("k", b"1", MINUTE_MS)
            return
        assert store.keep("k", b"", MINUTE_MS) is False
        store.store([("k", b"1")], None, None)
        assert store.keep("k", b"2", MINUTE_MS) is False
        assert store.get("k") == (b"1", FOREVER_MS)
        assert store.keep("k", b"1", MINUTE_MS) is True
        raw, ttl_ms = store.get("k")
        assert raw == b"1"
        assert 0 < ttl_ms <= MINUTE_MS
        assert published() == []
