"""What every shared store must do, as tests for its author: subclass and give a store.

::

    class TestMyStore(L2StoreContract):
        @pytest.fixture
        def l2(self):
            return MyStore(...)  # over an empty database

        @pytest.fixture
        def published(self, l2):
            return ...  # a function: messages published since its last call

The store is one for threads.  For one for tasks override the fixture ``carry``: it
returns a function that runs a coroutine on an event loop and returns its result, called
by several threads at once.

Needs pytest.  Failures tell more if a ``conftest.py`` calls
``pytest.register_assert_rewrite("cachebridge.testing.contracts.store_contract")``.
"""
# ruff: noqa: S101 - asserts are what this module is made of

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from cachebridge.codec.messages import Message, MessageType, encode_message
from cachebridge.core.lease import LeaseState, LeaseTerms, LoadedRaw
from cachebridge.errors import UnsupportedOperationError
from cachebridge.l2.store import NOT_AN_INTEGER
from cachebridge.testing.contracts.count_contract import L2CountContract
from cachebridge.testing.contracts.existing_contract import L2ExistingContract
from cachebridge.testing.contracts.load_contract import L2LoadContract
from cachebridge.testing.contracts.message_contract import (
    GONE,
    MESSAGE,
    MINUTE_MS,
    ODD_KEYS,
    Published,
)
from cachebridge.testing.contracts.tag_contract import L2TagContract

if TYPE_CHECKING:
    from cachebridge.testing.contracts.message_contract import StoreFace

__all__ = ["L2StoreContract"]

RECORD_ENDS = (
    ":cachebridge-load",
    ":cachebridge-load_",
    ":cachebridge-load:cachebridge-load",
)
OWN_NAMES = ("cachebridge:l1", "cachebridge:server-id", "cachebridge:writes_")


class L2StoreContract(
    L2LoadContract, L2CountContract, L2ExistingContract, L2TagContract
):
    """The contract of ``L2Store``: values, TTLs, counters, messages, loading, odd keys.

    A subclass provides the fixtures ``l2`` and ``published``.
    """

    # -- reading -----------------------------------------------------------------

    def test_absent(self, store: StoreFace) -> None:
        """A key that was never set is gone for every way of reading."""
        assert store.get("k") == GONE
        assert store.get_many(["k", "l"]) == [GONE, GONE]
        assert not store.exists("k")

    def test_get_many_keeps_the_order(self, store: StoreFace) -> None:
        """Reads come back in the order of the keys, repeated ones repeatedly."""
        store.store([("a", b"1"), ("b", b"2")], None, None)
        reads = store.get_many(["b", "gone", "a", "b"])
        assert reads == [(b"2", -1), GONE, (b"1", -1), (b"2", -1)]

    def test_get_many_of_nothing(self, store: StoreFace) -> None:
        """No keys, no reads."""
        assert store.get_many([]) == []

    # -- setting and lifetimes ---------------------------------------------------

    def test_store_without_expiry(self, store: StoreFace) -> None:
        """A TTL of None is without expiry, also over an older TTL."""
        store.store([("k", b"1")], MINUTE_MS, None)
        store.store([("k", b"2")], None, None)
        assert store.get("k") == (b"2", -1)
        assert store.exists("k")

    def test_store_with_expiry(self, store: StoreFace) -> None:
        """TTLs are milliseconds, for every item alike."""
        store.store([("a", b"1"), ("b", b"2")], MINUTE_MS, None)
        for raw, ttl_ms in [*store.get_many(["a", "b"]), store.get("a")]:
            assert raw in {b"1", b"2"}
            assert MINUTE_MS - 5_000 < ttl_ms <= MINUTE_MS

    def test_expires(self, store: StoreFace) -> None:
        """A value is there until its TTL is over, to the millisecond, and not after."""
        store.store([("long", b"2")], MINUTE_MS, None)
        is_over = self.timer(self.short_ms)
        store.store([("short", b"1")], self.short_ms, None)
        raw, ttl_ms = store.get("short")
        assert is_over() or (raw == b"1" and 0 < ttl_ms <= self.short_ms)
        self.pass_time(self.short_ms / 1000 + 0.05)
        assert store.get("short") == GONE
        assert not store.exists("short")
        assert store.get_many(["short", "long"])[0] == GONE
        assert store.exists("long")
        assert store.add("short", b"3", None, None)

    def test_add(self, store: StoreFace) -> None:
        """Only the first add wins; the losers change neither value nor TTL."""
        assert store.add("k", b"1", MINUTE_MS, None) is True
        assert store.add("k", b"2", None, None) is False
        raw, ttl_ms = store.get("k")
        assert raw == b"1"
        assert ttl_ms > 0

    def test_add_has_one_winner(self, store: StoreFace) -> None:
        """I13: of many adds at the same time exactly one succeeds."""
        start = threading.Barrier(4)

        def race(key: str, me: int) -> bool:
            start.wait()
            return bool(store.add(key, b"%d" % me, None, None))

        with ThreadPoolExecutor(4) as pool:
            for number in range(20):
                key = f"k{number}"
                won = list(pool.map(partial(race, key), range(4)))
                assert sum(won) == 1
                assert store.get(key)[0] == b"%d" % won.index(True)

    def test_touch(self, store: StoreFace) -> None:
        """The TTL changes, both ways, and the value does not."""
        assert store.touch("k", MINUTE_MS, None) is False
        assert not store.exists("k")
        store.store([("k", b"1")], None, None)
        assert store.touch("k", MINUTE_MS, None) is True
        raw, ttl_ms = store.get("k")
        assert raw == b"1"
        assert 0 < ttl_ms <= MINUTE_MS
        assert store.touch("k", None, None) is True
        assert store.get("k") == (b"1", -1)
        assert store.touch("k", None, None) is True

    def test_delete(self, store: StoreFace) -> None:
        """Deleting answers how many of the keys existed."""
        store.store([("a", b"1"), ("b", b"2"), ("c", b"3")], None, None)
        assert store.delete(["a", "gone", "b"], None) == 2  # noqa: PLR2004
        assert store.delete(["a"], None) == 0
        assert store.get_many(["a", "b", "c"]) == [GONE, GONE, (b"3", -1)]

    def _message(self, origin: bytes, *keys: str) -> bytes:
        message = Message(MessageType.KEYS, origin, 1, time.time_ns() // 1000, keys)
        return encode_message(message)

    def test_delete_older(self, store: StoreFace, published: Published) -> None:
        """What another process has written since stays; all else goes."""
        own, other = b"ourselves", b"the peer"
        own = own[:8]
        store.store([("old", b"1")], None, self._message(other, "old"))
        self.pass_time(0.02)
        began = self.now() - 0.01
        store.store([("own", b"1")], None, self._message(own, "own"))
        store.store([("new", b"1")], None, self._message(other, "new"))
        store.store([("silent", b"1")], None, None)
        assert store.add("added", b"1", MINUTE_MS, self._message(other, "added"))
        store.store([("sum", b"1")], None, self._message(own, "sum"))
        assert store.incr("sum", 1, self._message(other, "sum"))
        keys = ["old", "own", "new", "silent", "added", "sum", "absent"]
        published()
        deleted = store.delete_older(
            keys, lambda: [self.now() - began] * len(keys), own, MESSAGE
        )
        assert published() == [MESSAGE]
        left = [key for key in keys if store.exists(key)]
        kept = ["new", "silent", "added", "sum"] if self.orders_writes else []
        assert left == kept
        assert deleted == len(keys) - 1 - len(kept)
        self.pass_time(0.02)
        assert store.delete_older(keys, lambda: [0.0] * len(keys), own, None) == (
            len(kept)
        )

    # -- counting ----------------------------------------------------------------

    def test_incr(self, store: StoreFace) -> None:
        """Integers are added to, below zero and back, and keep their TTL."""
        store.store([("k", b"5")], MINUTE_MS, None)
        assert store.incr("k", 3, None) == 8  # noqa: PLR2004
        assert store.incr("k", -6, None) == 2  # noqa: PLR2004
        if not self.counts_below_zero:
            assert store.incr("k", -4, None) == NOT_AN_INTEGER
            assert store.replace("k", b"2", b"-2", None)
            assert store.incr("k", 1, None) == NOT_AN_INTEGER
        else:
            assert store.incr("k", -4, None) == -2  # noqa: PLR2004
            assert store.incr("k", 0, None) == -2  # noqa: PLR2004
        raw, ttl_ms = store.get("k")
        assert raw == b"-2"
        assert 0 < ttl_ms <= MINUTE_MS

    def test_incr_of_nothing(self, store: StoreFace, published: Published) -> None:
        """A key that does not exist is not made, and nothing is published."""
        assert store.incr("k", 1, MESSAGE) is None
        assert not store.exists("k")
        assert published() == []

    @pytest.mark.parametrize(
        "raw", [b"", b"text", b"1.5", b" 5", b"5 ", b"1_0", b"+5", b"05", b"--1"]
    )
    def test_incr_of_no_integer(self, store: StoreFace, raw: bytes) -> None:
        """A value that is not plainly an integer is left as it was."""
        store.store([("k", raw)], None, None)
        assert store.incr("k", 1, None) == NOT_AN_INTEGER
        assert store.get("k") == (raw, -1)

    @pytest.mark.parametrize(
        ("value", "delta"), [(2**63 - 1, 1), (-(2**63), -1), (2**63, 1), (2**80, 1)]
    )
    def test_incr_over_64_bits(self, store: StoreFace, value: int, delta: int) -> None:
        """An overflow is no integer, and nothing has changed."""
        store.store([("k", b"%d" % value)], None, None)
        assert store.incr("k", delta, None) == NOT_AN_INTEGER
        assert store.get("k")[0] == b"%d" % value

    def test_incr_loses_nothing(self, store: StoreFace) -> None:
        """I13: counting in several threads loses no increment."""
        store.store([("k", b"0")], None, None)

        def count() -> None:
            for _ in range(50):
                store.incr("k", 1, None)

        with ThreadPoolExecutor(4) as pool:
            for counting in [pool.submit(count) for _ in range(4)]:
                counting.result()
        assert store.get("k")[0] == b"200"

    # -- compare and set ---------------------------------------------------------

    def test_replace(self, store: StoreFace) -> None:
        """The value changes only if it is as expected, and keeps its TTL."""
        store.store([("k", b"1")], MINUTE_MS, None)
        assert store.replace("k", b"other", b"2", None) is False
        assert store.get("k")[0] == b"1"
        assert store.replace("k", b"1", b"2", None) is True
        raw, ttl_ms = store.get("k")
        assert raw == b"2"
        assert 0 < ttl_ms <= MINUTE_MS
        assert store.replace("k", b"2", b"", None) is True
        assert store.get("k")[0] == b""

    def test_replace_by_nothing(self, store: StoreFace) -> None:
        """Compare and delete."""
        store.store([("k", b"1")], None, None)
        assert store.replace("k", b"other", None, None) is False
        assert store.exists("k")
        assert store.replace("k", b"1", None, None) is True
        assert not store.exists("k")

    def test_replace_of_nothing(self, store: StoreFace, published: Published) -> None:
        """What does not exist equals nothing, not even emptiness."""
        assert store.replace("k", b"", b"2", MESSAGE) is False
        assert not store.exists("k")
        assert published() == []

    # -- finding and flushing ----------------------------------------------------

    @staticmethod
    def _scan(store: StoreFace, pattern: str) -> set[str]:
        found: set[str] = set()
        cursor = 0
        while True:
            cursor, keys = store.scan(pattern, cursor)
            found.update(keys)
            if cursor == 0:
                return found

    def test_scan_finds_all(self, store: StoreFace) -> None:
        """Following the cursor to its end finds every key that matches."""
        if not self.lists_keys:
            with pytest.raises(UnsupportedOperationError):
                store.scan("p:*", 0)
            return
        assert store.clear("p:", lambda: MESSAGE) is None
        keys = {f"p:{number}" for number in range(2500)}
        store.store([(key, b"1") for key in keys | {"q:1", "p"}], None, None)
        assert self._scan(store, "p:*") == keys
        assert self._scan(store, "p:1?") == {f"p:{n}" for n in range(10, 20)}
        assert self._scan(store, "none*") == set()

    def test_scan_escapes(self, store: StoreFace) -> None:
        r"""A backslash makes ``* ? [ ] \`` stand for themselves."""
        if not self.lists_keys:
            return
        tricky = r"a*b?c[d]e\f"
        store.store([(tricky + ":1", b"1"), ("aXbXcdef:1", b"1")], None, None)
        assert self._scan(store, r"a\*b\?c\[d\]e\\f:*") == {tricky + ":1"}

    def test_no_key_is_another_ones_record(self, store: StoreFace) -> None:
        """Nor a key of cachebridge's own, whatever the caller's keys look like."""
        odd = ["k", *[f"k{end}" for end in RECORD_ENDS], *OWN_NAMES]
        store.store([(key, key.encode()) for key in odd[1:]], None, None)
        lease = store.get_or_lease("k", b"token", LeaseTerms(60_000))
        assert lease.state is LeaseState.LEASE
        reply = store.store_loaded("k", LoadedRaw(b"k", 60_000, 9_000), lease, None)
        assert reply.stored
        assert [raw for raw, _ in store.get_many(odd)] == [key.encode() for key in odd]
        store.store([("k:cachebridge-load", b"again")], None, None)
        assert store.get_or_lease("k", b"token", LeaseTerms(60_000)).raw == b"k"
        if self.lists_keys:
            assert self._scan(store, "k*") | set(OWN_NAMES) == set(odd)
            loads = {key for key in odd if key.endswith("load")}
            assert self._scan(store, "*load") == loads
        assert store.delete(odd[1:], None) == len(odd) - 1
        assert store.get("k")[0] == b"k"

    def test_scan_returns_odd_keys(self, store: StoreFace) -> None:
        """Keys come back from a scan as they went in."""
        if not self.lists_keys:
            return
        store.store([(key, b"1") for key in ODD_KEYS], None, None)
        assert self._scan(store, "*") == set(ODD_KEYS)

    def test_clear(self, store: StoreFace, published: Published) -> None:
        """All keys with a prefix go, loads of them are void, later ones stay."""
        if self.lists_keys:
            return
        store.store([("p:1", b"1"), ("q:1", b"1")], MINUTE_MS, None)
        lease = store.get_or_lease("p:2", b"a", LeaseTerms(MINUTE_MS))
        assert store.clear("p:", lambda: MESSAGE)
        assert published() == [MESSAGE]
        assert store.get_many(["p:1", "q:1"])[0] == GONE
        assert store.exists("q:1")
        assert not store.exists("p:1")
        assert not store.touch("p:1", None, None)
        assert store.incr("p:1", 1, None) is None
        assert store.delete(["p:1"], None) == 0
        loaded = LoadedRaw(b"old", MINUTE_MS)
        assert not store.store_loaded("p:2", loaded, lease, None).stored
        assert store.add("p:1", b"2", None, None)
        store.store([("p:3", b"3")], None, None)
        assert store.get_many(["p:1", "p:2", "p:3"]) == [(b"2", -1), GONE, (b"3", -1)]
        assert store.clear("", lambda: MESSAGE)
        assert store.get_many(["p:1", "q:1"]) == [GONE, GONE]
        assert published() == [MESSAGE]

    def test_flush_db(self, store: StoreFace, published: Published) -> None:
        """Everything goes, with one message."""
        store.store([("a", b"1"), ("b", b"2")], MINUTE_MS, None)
        store.flush_db(MESSAGE)
        assert store.get_many(["a", "b"]) == [GONE, GONE]
        assert published() == [MESSAGE]

    def test_lists(self, store: StoreFace, published: Published) -> None:
        """A list is kept under its name until it is replaced, beside all keys."""
        assert store.kept_list("host") is None
        store.keep_list("host", b"old", MINUTE_MS)
        store.keep_list("host", b"new", MINUTE_MS)
        store.keep_list("any", b"x" * 500_000, MINUTE_MS)
        assert store.kept_list("host") == b"new"
        assert store.kept_list("any") == b"x" * 500_000
        names = ["host", "cachebridge:warm:host", "cachebridge:warm:any_"]
        assert store.get_many(names) == [GONE] * len(names)
        store.store([(name, b"caller's") for name in names], None, None)
        assert store.kept_list("host") == b"new"
        if self.lists_keys:
            assert self._scan(store, "*") == set(names)
        store.flush_db(MESSAGE)
        assert store.kept_list("host") is None
        assert published() == [MESSAGE]

    def test_ping_and_close(self, store: StoreFace) -> None:
        """A store that was closed opens again when used."""
        store.ping()
        store.store([("k", b"1")], None, None)
        store.close()
        assert store.get("k") == (b"1", -1)
        store.ping()
