from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from cachebridge.l1.shared import layout
from cachebridge.l1.shared.files import private_store
from cachebridge.l1.shared.layout import ALIGNED, LEAST_BYTES, layout_of, span_of

if TYPE_CHECKING:
    from cachebridge.l1.shared.store import SharedStore

FOREVER = 1e12
KEYS = st.sampled_from([f"key {number}" for number in range(12)] + ["ключ", "\ud800"])


def small_store(offset: int = 0, *, checks: bool = True) -> SharedStore:
    """Return an empty store whose log begins at an offset of the ring, in entries."""
    store = private_store(LEAST_BYTES)
    store._checks = checks
    words = store.ring.words
    words[layout.HEAD] = words[layout.TAIL] = words[layout.HEAD] + offset * ALIGNED
    return store


def put(store: SharedStore, key: str, value: bytes, expires: float = FOREVER) -> bool:
    with (hold := store.hold(1.0)), hold:
        assert hold.is_held
        return store.put(key, value, expires)


def drop(store: SharedStore, key: str) -> None:
    with (hold := store.hold(1.0)), hold:
        store.drop(key)


class StoreMachine(RuleBasedStateMachine):
    """The store against a dictionary: it may lose entries, and says so by its tokens.

    The ring has room for a few large entries, so nearly every step makes room.
    """

    @initialize(offset=st.integers(0, layout_of(LEAST_BYTES).ring_bytes // ALIGNED))
    def begin(self, offset: int) -> None:
        self.store = small_store(offset)
        self.model: dict[str, tuple[float, bytes]] = {}
        self.tokens: dict[str, Any] = {}

    @rule(key=KEYS, size=st.integers(0, 12_000), mark=st.integers(0, 255))
    def put(self, key: str, size: int, mark: int) -> None:
        value = bytes([mark]) * size
        is_stored = put(self.store, key, value, mark)
        ring = self.store.ring
        fits = span_of(len(key.encode("utf-8", "surrogatepass")), size)
        assert is_stored == (fits <= ring.ring_bytes // layout.MOST_SHARE)
        if is_stored:
            self.model[key] = (mark, value)
            self.tokens[key] = self.store.token(key)
            assert self.store.look(key) == (mark, value)

    @rule(key=KEYS)
    def drop(self, key: str) -> None:
        before = self.store.token(key)
        drop(self.store, key)
        assert self.store.token(key) != before
        assert self.store.look(key) is None
        self.model.pop(key, None)

    @rule()
    def flush(self) -> None:
        before = self.store.token("key 0")
        with (hold := self.store.hold(1.0)), hold:
            self.store.flush()
        assert self.store.token("key 0") != before
        self.model.clear()

    @invariant()
    def nothing_is_wrong_or_lost_in_silence(self) -> None:
        for key, entry in list(self.model.items()):
            found = self.store.look(key)
            if found is None:
                assert self.store.token(key) != self.tokens[key]
                del self.model[key]
            else:
                assert found == entry

    @invariant()
    def log_can_be_walked(self) -> None:
        ring = self.store.ring
        at, head = ring.words[layout.TAIL], ring.words[layout.HEAD]
        assert head - at <= ring.ring_bytes
        while at < head:
            lengths = ring.words[ring.word_of(at) + layout.LENGTHS]
            at += span_of(lengths >> layout.LENGTH_BITS, lengths & layout.LENGTH_MASK)
        assert at == head


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=30, stateful_step_count=30)


@pytest.mark.proof
def test_store_machine_at_length() -> None:
    """The same, with more and longer runs."""
    run_state_machine_as_test(
        StoreMachine, settings=settings(max_examples=500, stateful_step_count=60)
    )


@pytest.mark.parametrize("checks", [False, True])
def test_entries_wrap_around_at_every_offset(checks: bool) -> None:
    """Wherever the log begins, entries of every length come back whole."""
    steps = layout_of(LEAST_BYTES).ring_bytes // ALIGNED
    for offset in range(0, steps, 7):
        store = small_store(steps - 1 - offset, checks=checks)
        for number in range(4):
            value = bytes([number]) * (offset * ALIGNED // 3 % 9000)
            assert put(store, f"k{number}", value)
            assert store.look(f"k{number}") == (FOREVER, value)


def test_what_was_read_stays_longer() -> None:
    """The hand passes by an entry that was read since it came."""
    store = small_store()
    put(store, "read", b"r" * 1000)
    put(store, "unread", b"u" * 1000)
    for number in range(45):
        assert store.look("read")
        put(store, f"k{number}", bytes(2000))
    assert store.look("read") == (FOREVER, b"r" * 1000)
    assert store.look("unread") is None


def test_oldest_of_a_full_bucket_leaves_and_is_told() -> None:
    """More keys of one bucket than it has slots: the first one goes, and its token."""
    store = small_store()
    ring, found = store.ring, []
    number = 0
    while len(found) <= layout.SLOTS:
        number += 1
        key = f"key {number}"
        if ring.bucket_of(layout_digest(key)) == ring.first_bucket:
            found.append(key)
    tokens = {}
    for key in found:
        put(store, key, b"v")
        tokens[key] = store.token(key)
    assert store.look(found[0]) is None
    assert all(store.look(key) for key in found[1:])
    assert store.token(found[0]) != tokens[found[0]]


def layout_digest(key: str) -> int:
    return crc32(key.encode())


def test_value_cannot_pose_as_an_entry() -> None:
    """A stale slot leads into another value's bytes, which say what it looks for."""
    store = small_store()
    ring = store.ring
    put(store, "victim", b"old")
    position = ring.words[layout.HEAD] - span_of(6, 3)
    slot = ring.slot_of(layout_digest("victim"), position)
    kept = ring.words[slot]
    forged = bytes(ring.memory[ring.ring_at : ring.ring_at + span_of(6, 3)])
    while ring.words[layout.HEAD] < position + ring.ring_bytes:
        put(store, f"k{ring.words[layout.HEAD]}", forged * 100)
    ring.words[slot] = kept
    for each in range(0, len(forged) - 7, 8):
        at = ring.word_of(position) + each // 8
        ring.words[at] = int.from_bytes(forged[each : each + 8], "little")
    assert store.look("victim") is None


def test_damaged_content_is_a_miss_where_sums_are_compared() -> None:
    """A reader that saw an entry's life before its content takes neither."""
    store = small_store(checks=True)
    put(store, "k", b"value")
    ring = store.ring
    at = ring.word_of(ring.words[layout.TAIL])
    start = (at + layout.ENTRY) * layout.WORD
    ring.memory[start + 1 : start + 2] = b"X"
    assert store.look("k") is None


def test_proof_never_goes_back() -> None:
    """An older proof than the last says nothing new."""
    store = small_store()
    store.prove(5.0)
    store.prove(4.0)
    assert store.proven_at == 5.0
