"""What every shared store must do, as tests for its author: subclass and give a store.

::

    class TestMyStore(L2StoreContract):
        @pytest.fixture
        def store(self):
            return MyStore(...)  # over an empty database

        @pytest.fixture
        def published(self, store):
            return ...  # a function: messages published since its last call

Needs pytest.  ``pytest.register_assert_rewrite("cachebridge.testing.contracts")`` in a
``conftest.py`` makes failures tell more.
"""
# ruff: noqa: S101 - asserts are what this module is made of

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from cachebridge.core.lease import LoadedRaw, LookTerms
from cachebridge.errors import UnsupportedOperationError
from cachebridge.l2.base import NOT_AN_INTEGER
from cachebridge.testing.load_contract import L2LoadContract
from cachebridge.testing.message_contract import (
    GONE,
    MESSAGE,
    MINUTE_MS,
    ODD_KEYS,
    L2MessageContract,
    Published,
)

if TYPE_CHECKING:
    from cachebridge.l2.base import L2Store

__all__ = ["L2StoreContract"]


class L2StoreContract(L2MessageContract, L2LoadContract):
    """The contract of ``L2Store``: values, TTLs, messages, loading, keys of any kind.

    A subclass provides the fixtures ``store`` and ``published``.
    """

    # -- reading -----------------------------------------------------------------

    def test_absent(self, store: L2Store) -> None:
        """A key that was never set is gone for every way of reading."""
        assert store.get("k") == GONE
        assert store.get_many(["k", "l"]) == [GONE, GONE]
        assert not store.exists("k")

    def test_get_many_keeps_the_order(self, store: L2Store) -> None:
        """Reads come back in the order of the keys, repeated ones repeatedly."""
        store.store([("a", b"1"), ("b", b"2")], None, None)
        reads = store.get_many(["b", "gone", "a", "b"])
        assert reads == [(b"2", -1), GONE, (b"1", -1), (b"2", -1)]

    def test_get_many_of_nothing(self, store: L2Store) -> None:
        """No keys, no reads."""
        assert store.get_many([]) == []

    # -- setting and lifetimes ---------------------------------------------------

    def test_store_without_expiry(self, store: L2Store) -> None:
        """A TTL of None is without expiry, also over an older TTL."""
        store.store([("k", b"1")], MINUTE_MS, None)
        store.store([("k", b"2")], None, None)
        assert store.get("k") == (b"2", -1)
        assert store.exists("k")

    def test_store_with_expiry(self, store: L2Store) -> None:
        """TTLs are milliseconds, for every item alike."""
        store.store([("a", b"1"), ("b", b"2")], MINUTE_MS, None)
        for raw, ttl_ms in [*store.get_many(["a", "b"]), store.get("a")]:
            assert raw in {b"1", b"2"}
            assert MINUTE_MS - 5_000 < ttl_ms <= MINUTE_MS

    def test_expires(self, store: L2Store) -> None:
        """A value is there until its TTL is over, to the millisecond, and not after."""
        store.store([("short", b"1")], self.short_ms, None)
        store.store([("long", b"2")], MINUTE_MS, None)
        raw, ttl_ms = store.get("short")
        assert raw == b"1"
        assert 0 < ttl_ms <= self.short_ms
        self.pass_time(self.short_ms / 1000 + 0.05)
        assert store.get("short") == GONE
        assert not store.exists("short")
        assert store.get_many(["short", "long"])[0] == GONE
        assert store.exists("long")
        assert store.add("short", b"3", None, None)

    def test_add(self, store: L2Store) -> None:
        """Only the first add wins; the losers change neither value nor TTL."""
        assert store.add("k", b"1", MINUTE_MS, None) is True
        assert store.add("k", b"2", None, None) is False
        raw, ttl_ms = store.get("k")
        assert raw == b"1"
        assert ttl_ms > 0

    def test_add_has_one_winner(self, store: L2Store) -> None:
        """I13: of many adds at the same time exactly one succeeds."""
        for number in range(20):
            wins: list[int] = []
            start = threading.Barrier(4)

            def race(me: int, key: str, wins: list[int], start: object) -> None:
                start.wait()  # type: ignore[attr-defined]
                if store.add(key, b"%d" % me, None, None):
                    wins.append(me)

            threads = [
                threading.Thread(target=race, args=(me, f"k{number}", wins, start))
                for me in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(wins) == 1
            assert store.get(f"k{number}")[0] == b"%d" % wins[0]

    def test_touch(self, store: L2Store) -> None:
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

    def test_delete(self, store: L2Store) -> None:
        """Deleting answers how many of the keys existed."""
        store.store([("a", b"1"), ("b", b"2"), ("c", b"3")], None, None)
        assert store.delete(["a", "gone", "b"], None) == 2  # noqa: PLR2004
        assert store.delete(["a"], None) == 0
        assert store.get_many(["a", "b", "c"]) == [GONE, GONE, (b"3", -1)]

    # -- counting ----------------------------------------------------------------

    def test_incr(self, store: L2Store) -> None:
        """Integers are added to, below zero and back, and keep their TTL."""
        store.store([("k", b"5")], MINUTE_MS, None)
        if not self.counts_integers:
            assert store.incr("k", 1, None) == NOT_AN_INTEGER
            assert store.get("k")[0] == b"5"
            return
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

    def test_incr_of_nothing(self, store: L2Store, published: Published) -> None:
        """A key that does not exist is not made, and nobody is told."""
        answer = store.incr("k", 1, MESSAGE)
        assert answer is None or not self.counts_integers
        assert not store.exists("k")
        assert published() == []

    @pytest.mark.parametrize(
        "raw", [b"", b"text", b"1.5", b" 5", b"5 ", b"1_0", b"+5", b"05", b"--1"]
    )
    def test_incr_of_no_integer(self, store: L2Store, raw: bytes) -> None:
        """What is not plainly an integer is left as it was."""
        store.store([("k", raw)], None, None)
        assert store.incr("k", 1, None) == NOT_AN_INTEGER
        assert store.get("k") == (raw, -1)

    @pytest.mark.parametrize(
        ("value", "delta"), [(2**63 - 1, 1), (-(2**63), -1), (2**63, 1), (2**80, 1)]
    )
    def test_incr_over_64_bits(self, store: L2Store, value: int, delta: int) -> None:
        """An overflow is no integer, and nothing has changed."""
        store.store([("k", b"%d" % value)], None, None)
        assert store.incr("k", delta, None) == NOT_AN_INTEGER
        assert store.get("k")[0] == b"%d" % value

    def test_incr_loses_nothing(self, store: L2Store) -> None:
        """I13: counting in several threads loses no increment."""
        if not self.counts_integers:
            return
        store.store([("k", b"0")], None, None)

        def count() -> None:
            for _ in range(50):
                store.incr("k", 1, None)

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.get("k")[0] == b"200"

    # -- compare and set ---------------------------------------------------------

    def test_replace(self, store: L2Store) -> None:
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

    def test_replace_by_nothing(self, store: L2Store) -> None:
        """Compare and delete."""
        store.store([("k", b"1")], None, None)
        assert store.replace("k", b"other", None, None) is False
        assert store.exists("k")
        assert store.replace("k", b"1", None, None) is True
        assert not store.exists("k")

    def test_replace_of_nothing(self, store: L2Store, published: Published) -> None:
        """What does not exist equals nothing, not even emptiness."""
        assert store.replace("k", b"", b"2", MESSAGE) is False
        assert not store.exists("k")
        assert published() == []

    # -- finding and flushing ----------------------------------------------------

    @staticmethod
    def _scan(store: L2Store, pattern: str) -> set[str]:
        found: set[str] = set()
        cursor = 0
        while True:
            cursor, keys = store.scan(pattern, cursor)
            found.update(keys)
            if cursor == 0:
                return found

    def test_scan_finds_all(self, store: L2Store) -> None:
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

    def test_scan_escapes(self, store: L2Store) -> None:
        r"""A backslash makes ``* ? [ ] \`` stand for themselves."""
        if not self.lists_keys:
            return
        tricky = r"a*b?c[d]e\f"
        store.store([(tricky + ":1", b"1"), ("aXbXcdef:1", b"1")], None, None)
        assert self._scan(store, r"a\*b\?c\[d\]e\\f:*") == {tricky + ":1"}

    def test_scan_returns_odd_keys(self, store: L2Store) -> None:
        """Keys come back from a scan as they went in."""
        if not self.lists_keys:
            return
        store.store([(key, b"1") for key in ODD_KEYS], None, None)
        assert self._scan(store, "*") == set(ODD_KEYS)

    def test_clear(self, store: L2Store, published: Published) -> None:
        """All keys with a prefix go, loads of them are void, later ones stay."""
        if self.lists_keys:
            return
        store.store([("p:1", b"1"), ("q:1", b"1")], MINUTE_MS, None)
        look = store.look("p:2", b"a", LookTerms(MINUTE_MS))
        assert store.clear("p:", lambda: MESSAGE)
        assert published() == [MESSAGE]
        assert store.get_many(["p:1", "q:1"])[0] == GONE
        assert store.exists("q:1")
        assert not store.exists("p:1")
        assert not store.touch("p:1", None, None)
        assert store.incr("p:1", 1, None) is None
        assert store.delete(["p:1"], None) == 0
        loaded = LoadedRaw(b"old", MINUTE_MS)
        assert not store.store_loaded("p:2", loaded, look, None).stored
        assert store.add("p:1", b"2", None, None)
        store.store([("p:3", b"3")], None, None)
        assert store.get_many(["p:1", "p:2", "p:3"]) == [(b"2", -1), GONE, (b"3", -1)]
        assert store.clear("", lambda: MESSAGE)
        assert store.get_many(["p:1", "q:1"]) == [GONE, GONE]
        assert published() == [MESSAGE]

    def test_flush_db(self, store: L2Store, published: Published) -> None:
        """Everything goes, with one message."""
        store.store([("a", b"1"), ("b", b"2")], MINUTE_MS, None)
        store.flush_db(MESSAGE)
        assert store.get_many(["a", "b"]) == [GONE, GONE]
        assert published() == [MESSAGE]

    def test_ping_and_close(self, store: L2Store) -> None:
        """A store that was closed opens again when used."""
        store.ping()
        store.store([("k", b"1")], None, None)
        store.close()
        assert store.get("k") == (b"1", -1)
        store.ping()
