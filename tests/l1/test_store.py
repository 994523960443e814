"""LruStore against a dictionary model: bounds, accounting, order, what left."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cachebridge.core.entry import BLOCK_BYTES, make_entry, size_bytes
from cachebridge.l1.store import EVICTION_SHARE, NOTES, LruStore
from cachebridge.stats import Counters

KEYS = st.sampled_from([f"key{number}" for number in range(12)])


class LruModel(RuleBasedStateMachine):
    """The model: a plain dict in order of use, least recently used first.

    Notes take effect with the next call that drains them, exactly as documented; the
    model keeps them apart until then.
    """

    @initialize(max_entries=st.integers(1, 8), max_bytes=st.integers(BLOCK_BYTES, 1500))
    def open(self, max_entries, max_bytes):
        self.counters = Counters()
        self.store = LruStore(
            max_entries=max_entries, max_bytes=max_bytes, counters=self.counters
        )
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.model = {}
        self.notes = []
        self.evicted = self.expired = self.now = 0

    def apply_notes(self):
        for key in self.notes:
            if key in self.model:
                self.model[key] = self.model.pop(key)
        self.notes.clear()

    def bytes_of_model(self):
        return sum(map(size_bytes, self.model.values()))

    @rule(key=KEYS, size=st.integers(0, 700), lifetime=st.integers(0, 5))
    def put(self, key, size, lifetime):
        entry = make_entry(self.now + lifetime, "kind", object(), size)
        left = self.store.put(key, entry)
        self.model.pop(key, None)
        self.apply_notes()
        self.model[key] = entry
        oldest = list(self.model)[: len(left)]
        assert left == oldest, "the least recently used leave first"
        for old in left:
            del self.model[old]
        self.evicted += len(left)

    @rule(key=KEYS)
    def hit(self, key):
        found = self.store.entries.get(key)
        assert found is self.model.get(key)
        if found is not None:
            self.store.note(key)
            self.notes.append(key)

    @rule(key=KEYS)
    def note_of_something_gone(self, key):
        """A hit and a removal may cross each other."""
        self.store.note(key)
        self.notes.append(key)

    @rule(key=KEYS)
    def pop(self, key):
        self.store.pop(key)
        self.model.pop(key, None)

    @rule(seconds=st.integers(1, 4), limit=st.integers(0, 12))
    def sweep(self, seconds, limit):
        self.now += seconds
        self.apply_notes()
        gone = self.store.sweep(self.now, limit)
        assert len(gone) <= limit
        for key in gone:
            assert self.model.pop(key)[0] <= self.now, "only what has expired"
        self.expired += len(gone)

    @rule(limit=st.integers(1, 12))
    def discard_some(self, limit):
        before = len(self.model)
        more = self.store.discard_some(limit)
        assert len(self.store) == max(0, before - limit)
        assert more is (before > limit)
        for key in set(self.model) - set(self.store.entries):
            del self.model[key]
        if not more:
            self.notes.clear()

    @invariant()
    def same_as_the_model(self):
        assert self.store.entries == self.model
        assert self.store.all_keys() == list(self.model)
        for key in self.model:
            assert self.store.peek(key) is self.model[key]

    @invariant()
    def bounds_hold(self):
        assert len(self.store) <= self.max_entries
        assert self.store.bytes <= self.max_bytes

    @invariant()
    def accounts_are_exact(self):
        assert self.store.bytes == self.bytes_of_model()
        assert self.counters.evictions == self.evicted
        assert self.counters.expirations == self.expired


LruModel.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestLruModel = LruModel.TestCase


def make(max_entries=10_000, max_bytes=1 << 30):
    return LruStore(max_entries=max_entries, max_bytes=max_bytes, counters=Counters())


def entry(expires=10.0, size=64):
    return make_entry(expires, "kind", "payload", size)


def test_larger_than_the_whole_store():
    """An entry over the bound leaves at once, and says so."""
    store = make(max_bytes=1000)
    assert store.put("small", entry()) == []
    assert store.put("large", entry(size=2000)) == ["small", "large"]
    assert len(store) == store.bytes == 0


def test_eviction_takes_a_share():
    """A large store evicts a 64th at a time: the walk over emptied slots is shared."""
    store = make(max_entries=6400)
    for number in range(6400):
        assert store.put(str(number), entry()) == []
    left = store.put("one more", entry())
    assert left == [str(number) for number in range(6401 // EVICTION_SHARE)]


def test_notes_are_bounded():
    """Hits between two writes cost no more memory than the notes that are kept."""
    store = make()
    store.put("a", entry())
    store.put("b", entry())
    for _ in range(10 * NOTES):
        store.note("a")
    assert len(store._noted) == NOTES
    store.put("c", entry())
    assert store.all_keys() == ["b", "a", "c"]
    assert not store._noted


def test_sweep_stops_at_the_first_that_is_fresh():
    """The work of a sweep is bounded; what it passes over goes with a later one."""
    store = make()
    store.put("fresh", entry(expires=10.0))
    store.put("old", entry(expires=1.0))
    assert store.sweep(5.0, 100) == []
    store.note("fresh")
    assert store.sweep(5.0, 100) == ["old"]
