"""What stores must do about messages and odd content, and how tests call a store."""
# ruff: noqa: S101 - asserts are what this module is made of

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias

import pytest

from cachebridge.l2.store import NOT_AN_INTEGER
from cachebridge.waiting.run import run

if TYPE_CHECKING:
    from cachebridge.l2.store import L2Store

Published: TypeAlias = Callable[[], list[bytes]]
Carry: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]

GONE: Final = (None, -2)
MINUTE_MS: Final = 60_000
MESSAGE: Final = b"\xcb\x00\xffmessage\r\n"
ODD_KEYS: Final = (
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
ODD_VALUES: Final = (
    b"",
    b"0",
    b"\0",
    b"\r\n",
    b"$-1\r\n",
    bytes(range(256)),
    b"x" * (1 << 20),
)


class StoreFace:
    """Calls the methods of a store and returns their results, not their coroutines."""

    def __init__(self, l2: Any, carry: Carry = run) -> None:
        """``carry`` runs a coroutine to its end: ``run``, for tasks an event loop."""
        self.l2 = l2
        self._carry = carry

    def __getattr__(self, name: str) -> Any:
        """Return a method of the store that answers at once; the rest as it is."""
        found = getattr(self.l2, name)
        if name.startswith("_") or not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            result = found(*args, **kwargs)
            return self._carry(result) if iscoroutine(result) else result

        return call


class L2MessageContract:
    """One message per change, and keys and values of any kind."""

    counts_below_zero: ClassVar[bool] = True
    """False for a store whose ``incr`` answers NOT_AN_INTEGER for less than 0."""

    orders_writes: ClassVar[bool] = True
    """False for a store that cannot tell which process wrote a key when."""
    lists_keys: ClassVar[bool] = True
    """False for a store that cannot ``scan``, and so has to ``clear``."""

    short_ms: ClassVar[int] = 150
    """The shortest TTL that works, in milliseconds: some stores count seconds."""

    batch: ClassVar[int] = 10_000
    """How many keys one call must be able to carry."""

    def now(self) -> float:
        """Return the seconds of the clock that ``pass_time`` advances."""
        return time.monotonic()

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the store; one with a clock of its own overrides this."""
        time.sleep(seconds)

    def timer(self, ms: float) -> Callable[[], bool]:
        """Return a function that says whether so many milliseconds are over.

        On a busy machine a short TTL may have ended before it is looked at.
        """
        end = time.monotonic() + ms / 1000
        return lambda: time.monotonic() >= end

    @pytest.fixture
    def l2(self) -> L2Store:
        """Return the store under test, over an empty database."""
        pytest.fail("a subclass provides the fixture 'l2'")

    @pytest.fixture
    def carry(self) -> Carry:
        """Return what runs a coroutine of the store to its end."""
        return run

    @pytest.fixture
    def store(self, l2: L2Store, carry: Carry) -> StoreFace:
        """Return the store as the tests call it."""
        return StoreFace(l2, carry)

    @pytest.fixture
    def published(self) -> Published:
        """Return a function that gives the messages published since its last call."""
        pytest.fail("a subclass provides the fixture 'published'")

    # -- messages ----------------------------------------------------------------

    def test_every_change_publishes_once(
        self, store: StoreFace, published: Published
    ) -> None:
        """One message per changing call, byte for byte, with the change."""
        store.store([("a", b"1"), ("b", b"1")], MINUTE_MS, MESSAGE)
        assert published() == [MESSAGE]
        store.store([("a", b"1")], None, b"1")
        store.add("c", b"1", None, b"2")
        store.touch("a", MINUTE_MS, b"3")
        store.touch("a", None, b"4")
        store.replace("a", b"1", b"2", b"5")
        store.replace("a", b"2", None, b"6")
        store.delete(["b", "c"], b"7")
        store.publish(b"8")
        assert published() == [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8"]

    def test_incr_publishes(self, store: StoreFace, published: Published) -> None:
        """A count that changed the value is published."""
        store.store([("k", b"1")], None, None)
        store.incr("k", 1, MESSAGE)
        assert published() == [MESSAGE]

    def test_delete_publishes_always(
        self, store: StoreFace, published: Published
    ) -> None:
        """I10: a key that L2 has lost may live on in a peer's L1."""
        store.delete(["gone"], MESSAGE)
        assert published() == [MESSAGE]

    def test_no_change_no_message(self, store: StoreFace, published: Published) -> None:
        """An add that lost, a touch and a replace of nothing publish nothing."""
        store.store([("k", b"1")], None, None)
        assert not store.replace("k", b"other", b"2", b"1")
        assert published() == []
        assert not store.add("k", b"2", None, b"2")
        assert not store.touch("gone", None, b"3")
        assert published() == []

    def test_without_message(self, store: StoreFace, published: Published) -> None:
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

    @pytest.mark.parametrize("message", [None, MESSAGE], ids=["silent", "published"])
    @pytest.mark.parametrize("key", ODD_KEYS, ids=lambda key: ascii(key[:12]))
    def test_odd_keys(self, store: StoreFace, key: str, message: bytes | None) -> None:
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

    @pytest.mark.parametrize("message", [None, MESSAGE], ids=["silent", "published"])
    @pytest.mark.parametrize("raw", ODD_VALUES, ids=lambda raw: f"{raw[:8]!r}")
    def test_odd_values(
        self, store: StoreFace, raw: bytes, message: bytes | None
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

    @pytest.mark.parametrize("message", [None, MESSAGE], ids=["silent", "published"])
    def test_many_keys(
        self, store: StoreFace, published: Published, message: bytes | None
    ) -> None:
        """Thousands of keys in one call work as one does."""
        items = [(f"key:{number}", b"%d" % number) for number in range(self.batch)]
        keys = [key for key, _ in items]
        store.store(items, MINUTE_MS, message)
        reads = store.get_many(keys)
        assert [raw for raw, _ in reads] == [raw for _, raw in items]
        assert all(0 < ttl_ms <= MINUTE_MS for _, ttl_ms in reads)
        assert store.delete(keys, message) == len(keys)
        assert store.get_many(keys) == [GONE] * len(keys)
        assert published() == ([message] * 2 if message else [])
