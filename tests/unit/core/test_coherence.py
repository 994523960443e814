"""Trust, switch, bypass, prefixes and flushes: when L1 may answer at all."""

from __future__ import annotations

import threading

from cachebridge.core.coherence import SLICE, Coherence
from cachebridge.core.entry import BLOCK_BYTES
from cachebridge.core.fill import Fill
from cachebridge.core.write import Write
from cachebridge.l1.eviction import S3Fifo
from cachebridge.stats import Counters
from tests.rig import STRANGER, FakeClock, entry_of, make_rules


def hits(rules):
    """Return whether the hit path's one comparison lets a hit through."""
    return rules.clock() < rules.gate.until


def assert_off(rules):
    assert not rules.is_on(rules.clock())
    assert not hits(rules)


def test_begins_off(clock):
    """Neither connected nor trusted: a new engine serves nothing from L1."""
    counters = Counters()
    store = S3Fifo(max_entries=9, max_bytes=999, counters=counters)
    rules = Coherence(store, clock=clock, counters=counters)
    assert_off(rules)
    rules.extend_trust(clock() + 10)
    assert_off(rules)
    rules.on_subscribed()
    assert_off(rules)
    rules.extend_trust(clock() + 10)
    assert rules.is_on(clock())
    assert hits(rules)


def test_trust_ends_at_its_instant(rules, clock):
    """The bound is exclusive, and the same on both paths."""
    clock.advance(99.999)
    assert rules.is_on(clock())
    assert hits(rules)
    clock.advance(0.001)
    assert_off(rules)


def test_trust_never_shortens(rules, clock):
    """An older proof that is handled late takes nothing back."""
    rules.extend_trust(clock() + 200)
    rules.extend_trust(clock() + 50)
    clock.advance(150)
    assert hits(rules)


def test_break_keeps_entries_unusable(rules, store, counters):
    """Entries outlast a break for the outage answers; the acknowledgement flushes."""
    store.put("k", entry_of("v"))
    rules.on_break()
    assert_off(rules)
    assert store.look("k") is not None
    rules.extend_trust(rules.clock() + 100)
    assert_off(rules)
    rules.on_subscribed()
    assert store.look("k") is None
    assert_off(rules)
    rules.extend_trust(rules.clock() + 100)
    assert hits(rules)
    assert counters.flushes == {"subscribe": 1}


def test_end_of_trust_returns_with_a_proof(rules, store):
    """Trust that was ended comes back with the next proof; entries are still there."""
    store.put("k", entry_of("v"))
    rules.end_trust()
    assert_off(rules)
    rules.extend_trust(rules.clock() + 1)
    assert hits(rules)
    assert store.look("k") is not None


def test_switch(rules, store, counters):
    """Off is empty at once and stays off; on again begins empty."""
    store.put("k", entry_of("v"))
    rules.switch(on=True)
    assert store.look("k") is not None
    rules.switch(on=False)
    assert len(store) == 0
    assert_off(rules)
    rules.extend_trust(rules.clock() + 500)
    assert_off(rules)
    rules.switch(on=False)
    assert counters.flushes == {"switch": 1}
    rules.switch(on=True)
    assert hits(rules)


class Owner:
    """Of a bypass."""


def test_bypasses_are_counted(rules):
    """The fast path opens again after the last of several bypasses; L1 stays on."""
    one, two = Owner(), Owner()
    rules.enter_bypass(one)
    rules.enter_bypass(two)
    assert not hits(rules)
    assert rules.is_on(rules.clock())
    rules.leave_bypass(one)
    assert not hits(rules)
    rules.leave_bypass(two)
    assert hits(rules)


def test_a_bypass_whose_owner_is_gone(rules, clock):
    """It ends with the next heartbeat: its end was interrupted."""
    rules.enter_bypass(Owner())
    assert rules.gate.until == 0.0
    rules.extend_trust(clock() + 200)
    assert rules.gate.until > clock()


def test_trust_that_comes_during_a_bypass(rules, clock):
    """An extension does not open the fast path of a bypassed process."""
    owner = Owner()
    rules.enter_bypass(owner)
    rules.extend_trust(clock() + 500)
    assert not hits(rules)
    rules.leave_bypass(owner)
    clock.advance(300)
    assert hits(rules)


def test_prefix_drops_what_begins_with_it(rules, store):
    """A prefix is text, not a pattern; it takes nothing else."""
    for key in ("a*:1", "a*:2", "ab:1", "a", ""):
        store.put(key, entry_of("v"))
    rules.on_prefix("a*:")
    assert sorted(store.all_keys()) == ["", "a", "ab:1"]
    rules.on_prefix("")
    assert len(store) == 0


def test_message_drops_what_it_names(rules, store):
    """Every key of a message goes, whether it is there or not."""
    for key in "abc":
        store.put(key, entry_of("v"))
    rules.on_keys(STRANGER, 1, ["a", "c", "unknown"])
    assert store.all_keys() == ["b"]


def test_flush_in_slices(clock):
    """A flush empties everything, a slice at a time, with L1 off meanwhile."""
    rules, store, counters = make_rules(clock, max_entries=3 * SLICE)
    for number in range(2 * SLICE + 10):
        store.put(str(number), entry_of("v"))
    seen = []
    discard = store.discard_some

    def watched(limit):
        seen.append((len(store), rules.lock.locked(), rules.is_on(clock())))
        return discard(limit)

    store.discard_some = watched
    rules.flush("test")
    assert seen == [
        (2 * SLICE + 10, True, False),
        (SLICE + 10, True, False),
        (10, True, False),
    ]
    assert len(store) == store.bytes == 0
    assert rules.is_on(clock())
    assert counters.flushes == {"test": 1}


def test_flush_closes_every_fill(rules, store):
    """The epoch voids the fills of all keys at once."""
    with Fill(rules, ("a", "b")) as fill:
        rules.flush("test")
        fill.store("a", entry_of("old"))
        with Fill(rules, ("b",)) as late:
            late.store("b", entry_of("new"))
    assert store.all_keys() == ["b"]


def test_sweep_takes_the_expired_only(rules, store, clock, counters):
    """A sweep removes at most so many expired entries and nothing else."""
    for number in range(5):
        store.put(str(number), entry_of("v", expires=clock() + number))
    clock.advance(2)
    rules.sweep(2)
    assert store.all_keys() == ["2", "3", "4"]
    rules.sweep(100)
    assert store.all_keys() == ["3", "4"]
    assert counters.expirations == 3


def test_sweep_comes_with_stores(rules, store, clock):
    """Expired entries go without being read, some with every 64th store."""
    for number in range(40):
        rules.store(f"old{number}", entry_of("v", expires=clock() + 1))
    clock.advance(1)
    for number in range(64):
        rules.store(f"new{number % 4}", entry_of("v"))
    assert sorted(store.all_keys()) == ["new0", "new1", "new2", "new3"]


def test_reset_begins_anew(rules, store):
    """After a fork: another origin, an empty L1, no trust, no fills, a free lock."""
    origin = rules.origin
    store.put("k", entry_of("v"))
    rules.lock.acquire()
    Write(make_rules(FakeClock())[0], ("k",)).__enter__()
    rules.reset()
    assert rules.origin != origin
    assert len(store) == 0
    assert_off(rules)
    assert rules.is_idle()
    assert not rules.lock.locked()
    assert not rules.connected


def test_key_activity_under_threads(rules, store):
    """I16: fills and writes of many threads leave no activity of a key."""

    def work(seed):
        for number in range(200):
            keys = (str((seed + number) % 5), "shared")
            if number % 3:
                with Fill(rules, keys) as fill:
                    for key in keys:
                        fill.store(key, entry_of(seed))
            else:
                with Write(rules, keys) as write:
                    for key in keys:
                        write.stage(key, entry_of(seed, write_id=write.id))
            if not number % 50:
                rules.flush("test")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rules.is_idle()
    assert store.bytes == BLOCK_BYTES * len(store)
