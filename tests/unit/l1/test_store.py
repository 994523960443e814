"""Every policy against a plain model: bounds, accounting, order, what left."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cachebridge.core.entry import ABSENT, BLOCK_BYTES, KIND, make_entry, size_bytes
from cachebridge.l1.eviction import FEW, GHOST_SHARE, NOTES, POLICIES
from cachebridge.l1.store import EVICTION_SHARE, NEGATIVE_SHARE
from cachebridge.stats import Counters
from tests.rig import entry_of

KEYS = [f"key{number}" for number in range(12)]


class QueueModel:
    """``fifo`` and ``lru``: one list of keys, the next to leave first."""

    def __init__(self, *, moves_on_hit):
        self.moves_on_hit = moves_on_hit
        self.order = []
        self.noted = []
        self.hit_evicted = 0

    def note(self, key):
        if self.moves_on_hit:
            self.noted.append(key)

    def hit_lately(self):
        if not self.moves_on_hit:
            return None
        found = set(self.noted)
        self.drain()
        return found

    def drain(self):
        for key in self.noted:
            if key in self.order:
                self.order.remove(key)
                self.order.append(key)
        self.noted.clear()

    def add(self, key):
        self.drain()
        self.order.append(key)

    def remove(self, key):
        self.order.remove(key)

    def choose(self, batch):
        """Return the next to leave, in order, and take them out."""
        chosen, self.order = self.order[:batch], self.order[batch:]
        return chosen

    def before_sweep(self):
        self.drain()

    def old_ends(self, limit, start):
        return self.order[start : start + limit]

    def clear(self):
        self.noted.clear()

    @staticmethod
    def batch(count):
        return max(1, count // EVICTION_SHARE)


class S3FifoModel:
    """``s3fifo``: two lists, a set of marks, two generations of ghosts."""

    def __init__(self):
        self.small, self.main = [], []
        self.clear()
        self.count = self.hit_evicted = 0

    def note(self, key):
        self.lately.add(key)

    @property
    def marks(self):
        return self.lately | self.before

    def unmark(self, key):
        self.lately.discard(key)
        self.before.discard(key)

    def hit_lately(self):
        """It takes no mark away."""
        found, self.lately = self.lately, set()
        self.before |= found
        return found

    def add(self, key):
        known = key in self.ghosts | self.older
        self.ghosts.discard(key)
        self.older.discard(key)
        (self.main if known else self.small).append(key)

    def remove(self, key):
        if key in self.main:
            self.main.remove(key)
            self.ghosts.add(key)
        else:
            self.small.remove(key)
            if key not in self.marks:
                return
            self.ghosts.add(key)
        self.unmark(key)
        if len(self.ghosts) > (len(self.small) + len(self.main)) // GHOST_SHARE + 1:
            self.age_ghosts()

    def begin_eviction(self, count):
        self.count = count
        self.share = count // (10 if count >= FEW else 4)

    def choose(self, batch):
        """Return those of the next batch that leave; the others stay, or move."""
        gone = []
        if len(self.small) > self.share or not self.main:
            for key in self.small[:batch]:
                self.small.remove(key)
                if key in self.marks:
                    self.unmark(key)
                    self.main.append(key)
                else:
                    self.ghosts.add(key)
                    gone.append(key)
            return gone
        for key in self.main[:batch]:
            self.main.remove(key)
            if key in self.marks:
                self.unmark(key)
                self.main.append(key)
            else:
                self.hit_evicted += 1
                gone.append(key)
        return gone

    def end_eviction(self):
        if len(self.ghosts) > self.count // GHOST_SHARE:
            self.age_ghosts()

    def age_ghosts(self):
        self.older, self.ghosts = self.ghosts, set()
        kept = {*self.small, *self.main}
        if len(self.lately) + len(self.before) > 2 * len(kept):
            self.lately &= kept
            self.before &= kept

    def before_sweep(self):
        pass

    def old_ends(self, limit, start):
        return self.small[start : start + limit] + self.main[start : start + limit]

    def clear(self):
        self.lately, self.before = set(), set()
        self.ghosts, self.older = set(), set()

    @staticmethod
    def batch(count):
        return count // EVICTION_SHARE + 1


class Machine(RuleBasedStateMachine):
    """A store of the policy ``eviction``, beside its model and a dict of entries."""

    eviction = ""

    @initialize(
        max_entries=st.integers(1, 20), max_bytes=st.integers(BLOCK_BYTES, 4000)
    )
    def open(self, max_entries, max_bytes):
        self.counters = Counters()
        bounds = {"max_entries": max_entries, "max_bytes": max_bytes}
        self.store = POLICIES[self.eviction](**bounds, counters=self.counters)
        self.max_entries = max_entries
        self.max_blocks = max_bytes // BLOCK_BYTES
        self.entries = {}
        self.order = {
            "s3fifo": S3FifoModel,
            "lru": lambda: QueueModel(moves_on_hit=True),
            "fifo": lambda: QueueModel(moves_on_hit=False),
        }[self.eviction]()
        self.evicted = self.expired = self.now = 0

    def is_over(self):
        blocks = sum(map(size_bytes, self.entries.values())) // BLOCK_BYTES
        return len(self.entries) > self.max_entries or blocks > self.max_blocks

    @rule(
        key=st.sampled_from(KEYS), size=st.integers(0, 700), lifetime=st.integers(0, 5)
    )
    def put(self, key, size, lifetime):
        entry = make_entry(self.now + lifetime, "kind", object(), size)
        self.put_entry(key, entry)

    @rule(first=st.integers(0, 1000))
    def put_many(self, first):
        """A scan of new keys."""
        for number in range(first, first + 15):
            self.put_entry(f"scan{number}", make_entry(self.now + 3, "kind", 1, 64))

    def put_entry(self, key, entry):
        left = self.store.put(key, entry)
        if key in self.entries:
            del self.entries[key]
            self.order.remove(key)
        self.entries[key] = entry
        self.order.add(key)
        gone = []
        batch = self.order.batch(len(self.entries))
        if self.is_over() and self.eviction == "s3fifo":
            self.order.begin_eviction(len(self.entries))
        began = self.is_over()
        while self.is_over():
            chosen = self.order.choose(batch)
            gone += chosen
            for each in chosen:
                del self.entries[each]
        if began and self.eviction == "s3fifo":
            self.order.end_eviction()
        assert left == gone, "what the policy chooses leaves, and is named"
        self.evicted += len(gone)

    @rule(key=st.sampled_from(KEYS))
    def hit(self, key):
        found = self.store.look(key)
        assert found is self.entries.get(key)
        if found is not None:
            self.note(key)

    @rule(key=st.sampled_from(KEYS))
    def note(self, key):
        """Also of a key that is gone: a hit and a removal may cross each other."""
        self.store.note(key)
        self.order.note(key)

    @rule(key=st.sampled_from(KEYS))
    def pop(self, key):
        self.store.pop(key)
        if self.entries.pop(key, None) is not None:
            self.order.remove(key)

    @rule()
    def hit_lately(self):
        """It changes nothing of what leaves."""
        found = self.store.hit_lately()
        expected = self.order.hit_lately()
        assert (found if found is None else set(found)) == expected

    @rule(seconds=st.integers(1, 4), limit=st.integers(0, 12), start=st.integers(0, 5))
    def sweep(self, seconds, limit, start):
        self.now += seconds
        self.order.before_sweep()
        seen = self.order.old_ends(limit, start)
        over = [key for key in seen if self.entries[key][0] <= self.now]
        assert self.store.sweep(self.now, limit, start) == over
        for key in over:
            del self.entries[key]
            self.order.remove(key)
        self.expired += len(over)

    @rule(limit=st.integers(1, 12))
    def discard_some(self, limit):
        before = len(self.entries)
        self.order.before_sweep()
        more = self.store.discard_some(limit)
        assert len(self.store) == max(0, before - limit)
        assert more is (before > limit)
        for key in set(self.entries) - set(self.store.all_keys()):
            del self.entries[key]
            (self.order.small if self.is_in_small(key) else self.queue()).remove(key)
        if not more:
            self.order.clear()

    def is_in_small(self, key):
        return self.eviction == "s3fifo" and key in self.order.small

    def queue(self):
        return self.order.main if self.eviction == "s3fifo" else self.order.order

    @invariant()
    def same_as_the_model(self):
        assert sorted(self.store.all_keys()) == sorted(self.entries)
        for key in self.entries:
            assert self.store.look(key) is self.entries[key]

    @invariant()
    def bounds_hold(self):
        assert len(self.store) <= self.max_entries
        assert self.store.bytes <= self.max_blocks * BLOCK_BYTES

    @invariant()
    def accounts_are_exact(self):
        assert self.store.bytes == sum(map(size_bytes, self.entries.values()))
        assert self.counters.evictions == self.evicted
        assert self.counters.expirations == self.expired
        assert self.counters.evicted_hit == self.order.hit_evicted


def machine(eviction):
    made = type(f"Machine_{eviction}", (Machine,), {"eviction": eviction})
    made.TestCase.settings = settings(
        max_examples=60, stateful_step_count=40, deadline=None
    )
    return made.TestCase


TestS3Fifo = machine("s3fifo")
TestLru = machine("lru")
TestFifo = machine("fifo")


@pytest.fixture(params=POLICIES)
def eviction(request):
    return request.param


def make(eviction, max_entries=10_000, max_bytes=1 << 30):
    counters = Counters()
    return POLICIES[eviction](
        max_entries=max_entries, max_bytes=max_bytes, counters=counters
    )


def entry(expires=10.0, size=64, kind="kind"):
    return make_entry(expires, kind, "payload", size)


def test_larger_than_the_whole_store(eviction):
    """An entry over the bound leaves at once, and says so."""
    store = make(eviction, max_bytes=1000)
    assert store.put("small", entry()) == []
    assert store.put("large", entry(size=2000)) == ["small", "large"]
    assert len(store) == store.bytes == 0


def test_eviction_takes_a_share(eviction):
    """A large store evicts a 64th at a time: the walk over emptied slots is shared."""
    store = make(eviction, max_entries=6400)
    for number in range(6400):
        assert store.put(str(number), entry()) == []
    left = store.put("one more", entry())
    assert left == [str(number) for number in range(len(left))]
    assert len(left) - 6401 // EVICTION_SHARE in {0, 1}


def test_notes_are_bounded():
    """Hits between two writes cost no more memory than the notes that are kept."""
    store = make("lru")
    store.put("a", entry())
    store.put("b", entry())
    for _ in range(10 * NOTES):
        store.note("a")
    assert len(store._noted) == NOTES
    store.put("c", entry())
    assert store.all_keys() == ["b", "a", "c"]
    assert not store._noted


def test_marks_and_ghosts_are_bounded():
    """Neither hits that cross removals nor keys that left cost memory for long."""
    store = make("s3fifo", max_entries=100)
    for number in range(10_000):
        store.put(str(number), entry())
        store.note(str(number - 150))  # has just left
        if number % 100 == 0:
            store.hit_lately()
    assert len(store._marks) + len(store._older_marks) <= 2 * (200 + 100)
    assert len(store._ghosts) + len(store._older_ghosts) <= 102
    for key in store.all_keys():
        store.pop(key)
    assert len(store._ghosts) + len(store._older_ghosts) <= 102


def test_a_hit_keeps_an_entry_from_a_scan():
    """One hit is enough; twice the bound of new keys then pass it by."""
    store = make("s3fifo", max_entries=100)
    for number in range(10):
        store.put(f"hot{number}", entry())
        store.note(f"hot{number}")
    for number in range(200):
        store.put(f"scan{number}", entry())
    assert all(store.look(f"hot{number}") for number in range(10))


def test_who_comes_back_stays():
    """A key that was evicted unread, and is read again soon, outlives a scan then."""
    store = make("s3fifo", max_entries=100)
    for number in range(101):
        store.put(f"first{number}", entry())
    assert store.look("first0") is None
    store.put("first0", entry())
    for number in range(80):
        store.put(f"scan{number}", entry())
    assert store.look("first0") is not None


@pytest.mark.parametrize("leaves_by", ["invalidation", "expiry"])
def test_a_hot_key_is_hot_again_after(leaves_by):
    """A key that was hit and then had to go is no newcomer when it is filled again."""
    store = make("s3fifo", max_entries=100)
    store.put("hot", entry(expires=1.0))
    store.note("hot")
    if leaves_by == "expiry":
        assert store.sweep(1.0, 10) == ["hot"]
    else:
        store.pop("hot")
    store.put("hot", entry())
    for number in range(150):
        store.put(f"scan{number}", entry())
    assert store.look("hot") is not None


def test_eviction_of_what_was_hit_is_counted():
    """``evicted_hit`` grows if the working set is larger than the bound, only then."""
    store = make("s3fifo", max_entries=100)
    for number in range(1000):
        store.put(f"scan{number}", entry())
    assert store._counters.evicted_hit == 0
    chance = random.Random(3)
    for _ in range(5000):
        key = f"set{chance.randrange(300)}"
        store.note(key) if store.look(key) else store.put(key, entry())
    assert store._counters.evicted_hit > 500


def test_sweep_looks_past_the_fresh(eviction):
    """A fresh entry hides no expired one behind it; the limit bounds the work."""
    store = make(eviction)
    store.put("fresh", entry(expires=10.0))
    store.put("old", entry(expires=1.0))
    store.put("older", entry(expires=0.5))
    assert store.sweep(5.0, 1) == []
    assert store.sweep(5.0, 2) == ["old"]
    assert store.sweep(5.0, 10, 1) == ["older"]


def test_negative_entries_have_their_own_bound(eviction):
    """They push out each other, never more than their share of the others."""
    store = make(eviction, max_entries=160)
    for number in range(150):
        store.put(f"real{number}", entry())
    for number in range(1000):
        store.put(f"none{number}", entry(kind=ABSENT))
    kinds = [store.look(key)[KIND] for key in store.all_keys()]
    assert kinds.count(ABSENT) <= 160 // NEGATIVE_SHARE
    assert kinds.count("kind") >= 140


def test_a_queued_key_without_an_entry(eviction):
    """An exception between two steps may leave one; eviction passes over it."""
    store = make(eviction, max_entries=4)
    for number in range(4):
        store.put(str(number), entry())
    lost = store._entries.pop("0")
    store._blocks -= lost[3]
    for number in range(4, 40):
        store.put(str(number), entry())
    assert len(store) <= 4
    assert store.bytes == 64 * len(store)
    assert store.sweep(99.0, 100)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_youngest(policy):
    """They come in order; under s3fifo those first that outlived an eviction."""
    store = POLICIES[policy](max_entries=8, max_bytes=1 << 20, counters=Counters())
    for number in range(8):
        store.put(f"{number}", entry_of(number))
    assert store.youngest(3) == ["7", "6", "5"]
    assert len(store.youngest(100)) == 8
    store.note("0")
    store.put("8", entry_of(8))
    first = {"s3fifo": "0", "lru": "8", "fifo": "8"}[policy]
    assert store.youngest(1) == [first]
    assert set(store.youngest(100)) == set(store.all_keys())
