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
import time
from typing import TYPE_CHECKING, ClassVar, Final

import pytest

from cachebridge.l2.base import NOT_AN_INTEGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.l2.base import L2Store

    Published = Callable[[], list[bytes]]

__all__ = ["L2StoreContract"]

_GONE: Final = (None, -2)
_MINUTE_MS: Final = 60_000
_SHORT_MS: Final = 150
_MESSAGE: Final = b"\xcb\x00\xffmessage\r\n"
_ODD_KEYS: Final = (
    "plain",
    "",
    " ",
    "with spaces",
    "line\r\nbreak",
    "nul\0byte",
    "\x01\x1f\x7f",
    "é€\U0001f600",
    "lone \ud800 surrogate \udfff",
    "*?[a-z]\\",
    "{braces}",
    "x" * 60_000,
)
_ODD_VALUES: Final = (
    b"",
    b"0",
    b"\0",
    b"\r\n",
    b"$-1\r\n",
    bytes(range(256)),
    b"x" * (1 << 20),
)


class L2StoreContract:
    """The contract of ``L2Store``: values, TTLs, messages, keys and values of any kind.

    A subclass provides the fixtures ``store`` and ``published``.
    """

    counts_integers: ClassVar[bool] = True
    """False for a store that leaves counting to compare and set: ``incr`` of what
    exists always answers NOT_AN_INTEGER."""

    publishes_idle_changes: ClassVar[bool] = False
    """True for a store that cannot tell beforehand whether ``add`` or ``touch`` will
    change something, and so publishes in any case."""

    batch: ClassVar[int] = 10_000
    """How many keys one call must be able to carry."""

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the store; one with a clock of its own overrides this."""
        time.sleep(seconds)

    @pytest.fixture
    def store(self) -> L2Store:
        """Return the store under test, over an empty database."""
        raise NotImplementedError("a subclass provides the fixture 'store'")

    @pytest.fixture
    def published(self) -> Published:
        """Return a function that gives the messages published since its last call."""
        raise NotImplementedError("a subclass provides the fixture 'published'")

    # -- reading -----------------------------------------------------------------

    def test_absent(self, store: L2Store) -> None:
        """A key that was never set is gone for every way of reading."""
        assert store.get("k") == _GONE
        assert store.get_many(["k", "l"]) == [_GONE, _GONE]
        assert not store.exists("k")

    def test_get_many_keeps_the_order(self, store: L2Store) -> None:
        """Reads come back in the order of the keys, repeated ones repeatedly."""
        store.store([("a", b"1"), ("b", b"2")], None, None)
        reads = store.get_many(["b", "gone", "a", "b"])
        assert reads == [(b"2", -1), _GONE, (b"1", -1), (b"2", -1)]

    def test_get_many_of_nothing(self, store: L2Store) -> None:
        """No keys, no reads."""
        assert store.get_many([]) == []

    # -- setting and lifetimes ---------------------------------------------------

    def test_store_without_expiry(self, store: L2Store) -> None:
        """A TTL of None is without expiry, also over an older TTL."""
        store.store([("k", b"1")], _MINUTE_MS, None)
        store.store([("k", b"2")], None, None)
        assert store.get("k") == (b"2", -1)
        assert store.exists("k")

    def test_store_with_expiry(self, store: L2Store) -> None:
        """TTLs are milliseconds, for every item alike."""
        store.store([("a", b"1"), ("b", b"2")], _MINUTE_MS, None)
        for raw, ttl_ms in [*store.get_many(["a", "b"]), store.get("a")]:
            assert raw in {b"1", b"2"}
            assert _MINUTE_MS - 5_000 < ttl_ms <= _MINUTE_MS

    def test_expires(self, store: L2Store) -> None:
        """A value is there until its TTL is over, to the millisecond, and not after."""
        store.store([("short", b"1")], _SHORT_MS, None)
        store.store([("long", b"2")], _MINUTE_MS, None)
        raw, ttl_ms = store.get("short")
        assert raw == b"1"
        assert 0 < ttl_ms <= _SHORT_MS
        self.pass_time(0.2)
        assert store.get("short") == _GONE
        assert not store.exists("short")
        assert store.get_many(["short", "long"])[0] == _GONE
        assert store.exists("long")
        assert store.add("short", b"3", None, None)

    def test_add(self, store: L2Store) -> None:
        """Only the first add wins; the losers change neither value nor TTL."""
        assert store.add("k", b"1", _MINUTE_MS, None) is True
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
        assert store.touch("k", _MINUTE_MS, None) is False
        assert not store.exists("k")
        store.store([("k", b"1")], None, None)
        assert store.touch("k", _MINUTE_MS, None) is True
        raw, ttl_ms = store.get("k")
        assert raw == b"1"
        assert 0 < ttl_ms <= _MINUTE_MS
        assert store.touch("k", None, None) is True
        assert store.get("k") == (b"1", -1)
        assert store.touch("k", None, None) is True

    def test_delete(self, store: L2Store) -> None:
        """Deleting answers how many of the keys existed."""
        store.store([("a", b"1"), ("b", b"2"), ("c", b"3")], None, None)
        assert store.delete(["a", "gone", "b"], None) == 2  # noqa: PLR2004
        assert store.delete(["a"], None) == 0
        assert store.get_many(["a", "b", "c"]) == [_GONE, _GONE, (b"3", -1)]

    # -- counting ----------------------------------------------------------------

    def test_incr(self, store: L2Store) -> None:
        """Integers are added to, below zero and back, and keep their TTL."""
        store.store([("k", b"5")], _MINUTE_MS, None)
        if not self.counts_integers:
            assert store.incr("k", 1, None) == NOT_AN_INTEGER
            assert store.get("k")[0] == b"5"
            return
        assert store.incr("k", 3, None) == 8  # noqa: PLR2004
        assert store.incr("k", -10, None) == -2  # noqa: PLR2004
        assert store.incr("k", 0, None) == -2  # noqa: PLR2004
        raw, ttl_ms = store.get("k")
        assert raw == b"-2"
        assert 0 < ttl_ms <= _MINUTE_MS

    def test_incr_of_nothing(self, store: L2Store, published: Published) -> None:
        """A key that does not exist is not made, and nobody is told."""
        answer = store.incr("k", 1, _MESSAGE)
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
        store.store([("k", b"1")], _MINUTE_MS, None)
        assert store.replace("k", b"other", b"2", None) is False
        assert store.get("k")[0] == b"1"
        assert store.replace("k", b"1", b"2", None) is True
        raw, ttl_ms = store.get("k")
        assert raw == b"2"
        assert 0 < ttl_ms <= _MINUTE_MS
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
        assert store.replace("k", b"", b"2", _MESSAGE) is False
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
        keys = {f"p:{number}" for number in range(2500)}
        store.store([(key, b"1") for key in keys | {"q:1", "p"}], None, None)
        assert self._scan(store, "p:*") == keys
        assert self._scan(store, "p:1?") == {f"p:{n}" for n in range(10, 20)}
        assert self._scan(store, "none*") == set()

    def test_scan_escapes(self, store: L2Store) -> None:
        r"""A backslash makes ``* ? [ ] \`` stand for themselves."""
        tricky = r"a*b?c[d]e\f"
        store.store([(tricky + ":1", b"1"), ("aXbXcdef:1", b"1")], None, None)
        assert self._scan(store, r"a\*b\?c\[d\]e\\f:*") == {tricky + ":1"}

    def test_scan_returns_odd_keys(self, store: L2Store) -> None:
        """Keys come back from a scan as they went in."""
        store.store([(key, b"1") for key in _ODD_KEYS], None, None)
        assert self._scan(store, "*") == set(_ODD_KEYS)

    def test_flush_db(self, store: L2Store, published: Published) -> None:
        """Everything goes, with one message."""
        store.store([("a", b"1"), ("b", b"2")], _MINUTE_MS, None)
        store.flush_db(_MESSAGE)
        assert store.get_many(["a", "b"]) == [_GONE, _GONE]
        assert published() == [_MESSAGE]

    def test_ping_and_close(self, store: L2Store) -> None:
        """A store that was closed opens again when used."""
        store.ping()
        store.store([("k", b"1")], None, None)
        store.close()
        assert store.get("k") == (b"1", -1)
        store.ping()

    # -- messages ----------------------------------------------------------------

    def test_every_change_publishes_once(
        self, store: L2Store, published: Published
    ) -> None:
        """One message per changing call, byte for byte, with the change."""
        store.store([("a", b"1"), ("b", b"1")], _MINUTE_MS, _MESSAGE)
        assert published() == [_MESSAGE]
        store.store([("a", b"1")], None, b"1")
        store.add("c", b"1", None, b"2")
        store.touch("a", _MINUTE_MS, b"3")
        store.touch("a", None, b"4")
        store.replace("a", b"1", b"2", b"5")
        store.replace("a", b"2", None, b"6")
        store.delete(["b", "c"], b"7")
        store.publish(b"8")
        assert published() == [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8"]

    def test_incr_publishes(self, store: L2Store, published: Published) -> None:
        """A count that changed the value is told."""
        store.store([("k", b"1")], None, None)
        store.incr("k", 1, _MESSAGE)
        assert published() == ([_MESSAGE] if self.counts_integers else [])

    def test_delete_publishes_always(
        self, store: L2Store, published: Published
    ) -> None:
        """I10: a key that L2 has lost may live on in a peer's L1."""
        store.delete(["gone"], _MESSAGE)
        assert published() == [_MESSAGE]

    def test_no_change_no_message(self, store: L2Store, published: Published) -> None:
        """An add that lost, a touch and a replace of nothing tell nobody."""
        store.store([("k", b"1")], None, None)
        assert not store.replace("k", b"other", b"2", b"1")
        assert published() == []
        assert not store.add("k", b"2", None, b"2")
        assert not store.touch("gone", None, b"3")
        assert published() == ([b"2", b"3"] if self.publishes_idle_changes else [])

    def test_without_message(self, store: L2Store, published: Published) -> None:
        """No message given, none published, by any call."""
        store.store([("a", b"1"), ("b", b"1")], None, None)
        store.add("c", b"1", None, None)
        store.touch("a", None, None)
        store.incr("a", 1, None)
        store.replace("b", b"1", b"2", None)
        store.replace("b", b"2", None, None)
        store.delete(["a", "c", "gone"], None)
        assert published() == []

    # -- keys, values, sizes -----------------------------------------------------

    @pytest.mark.parametrize("message", [None, _MESSAGE], ids=["silent", "published"])
    @pytest.mark.parametrize("key", _ODD_KEYS, ids=lambda key: ascii(key[:12]))
    def test_odd_keys(self, store: L2Store, key: str, message: bytes | None) -> None:
        """Any text is a key, for every operation alike."""
        store.store([(key, b"1"), ("other", b"2")], None, message)
        assert store.get(key) == (b"1", -1)
        assert store.get_many([key, "other"]) == [(b"1", -1), (b"2", -1)]
        assert store.exists(key)
        assert store.touch(key, None, message)
        assert store.replace(key, b"1", b"7", message)
        assert store.incr(key, 1, message) in {8, NOT_AN_INTEGER}
        assert store.delete([key], message) == 1
        assert store.add(key, b"3", None, message)
        assert store.get(key) == (b"3", -1)

    @pytest.mark.parametrize("message", [None, _MESSAGE], ids=["silent", "published"])
    @pytest.mark.parametrize("raw", _ODD_VALUES, ids=lambda raw: f"{raw[:8]!r}")
    def test_odd_values(
        self, store: L2Store, raw: bytes, message: bytes | None
    ) -> None:
        """Any bytes are a value, empty ones and large ones too."""
        store.store([("k", raw)], None, message)
        assert store.get("k") == (raw, -1)
        assert store.get_many(["k", "k"]) == [(raw, -1)] * 2
        assert store.replace("k", raw, b"other", message)
        assert store.delete(["k"], message) == 1
        assert store.add("k", raw, None, message)
        assert store.replace("k", raw, raw, message)
        assert store.get("k") == (raw, -1)

    @pytest.mark.parametrize("message", [None, _MESSAGE], ids=["silent", "published"])
    def test_many_keys(
        self, store: L2Store, published: Published, message: bytes | None
    ) -> None:
        """Thousands of keys in one call are as good as one."""
        items = [(f"key:{number}", b"%d" % number) for number in range(self.batch)]
        keys = [key for key, _ in items]
        store.store(items, _MINUTE_MS, message)
        reads = store.get_many(keys)
        assert [raw for raw, _ in reads] == [raw for _, raw in items]
        assert all(0 < ttl_ms <= _MINUTE_MS for _, ttl_ms in reads)
        assert store.delete(keys, message) == len(keys)
        assert store.get_many(keys) == [_GONE] * len(keys)
        assert published() == ([message] * 2 if message else [])
