"""Each rule about fills, alone: what was read from L2 enters L1 only if it is safe."""

from __future__ import annotations

import pytest

from cachebridge.core.fill import Fill
from cachebridge.core.write import Write
from tests.rig import STRANGER, entry_of, make_rules

K = ("k",)


def same_as(payload):
    return lambda entry: entry[2] == payload


def test_quiet_fill_stores(rules, store, counters, clock):
    """If nothing happens between begin and end, the value is kept."""
    with Fill(rules, K) as fill:
        assert fill.sent_at == clock.now
        assert not rules.is_idle()
        fill.store("k", entry_of("new"))
    assert store.look("k") == entry_of("new")
    assert rules.is_idle()
    assert counters.fills_refused["off"] == counters.fills_refused["token"] == 0


@pytest.mark.parametrize(
    "disturb",
    [
        lambda rules: rules.on_keys(STRANGER, 1, ["k"]),
        lambda rules: rules.on_keys(rules.origin, 1, ["k"]),
        lambda rules: rules.on_prefix("k"),
        lambda rules: rules.on_prefix("unrelated"),
        lambda rules: rules.flush("test"),
    ],
    ids=["message", "own echo of no known write", "prefix", "other prefix", "flush"],
)
def test_invalidation_closes_the_fill(rules, store, counters, disturb):
    """I6: what was read before an invalidation was handled is not stored after it."""
    with Fill(rules, K) as fill:
        disturb(rules)
        fill.store("k", entry_of("old"))
    assert store.look("k") is None
    assert counters.fills_refused["token"] == 1


def test_message_for_another_key_does_not(rules, store):
    """Tokens are per key."""
    with Fill(rules, K) as fill:
        rules.on_keys(STRANGER, 1, ["other"])
        fill.store("k", entry_of("new"))
    assert store.look("k") is not None


@pytest.mark.parametrize(
    "disturb",
    [
        lambda rules, clock: rules.on_break(),
        lambda rules, clock: rules.end_trust(),
        lambda rules, clock: rules.switch(on=False),
        lambda rules, clock: clock.advance(100),
    ],
    ids=["break", "trust ended", "switched off", "trust ran out"],
)
def test_nothing_enters_while_off(rules, store, counters, clock, disturb):
    """I11: L1 that is off at the end of a fill takes nothing."""
    with Fill(rules, K) as fill:
        disturb(rules, clock)
        fill.store("k", entry_of("new"))
    assert store.look("k") is None
    assert counters.fills_refused["off"] == 1


@pytest.mark.parametrize("how", ["trust", "break"])
def test_fill_that_began_while_off_may_not_store(rules, store, how, clock):
    """Trust that comes back during a fill does not vouch for what it read."""
    if how == "trust":
        rules.end_trust()
    else:
        rules.on_break()
    with Fill(rules, K) as fill:
        rules.on_subscribed()
        rules.extend_trust(clock() + 1)
        fill.store("k", entry_of("old"))
    assert store.look("k") is None


def test_break_and_recovery_within_a_fill(rules, store, clock):
    """V14b: the acknowledgement's flush closes the fills open over the gap."""
    with Fill(rules, K) as fill:
        rules.on_break()
        rules.on_subscribed()
        rules.extend_trust(clock() + 1)
        fill.store("k", entry_of("old"))
    assert store.look("k") is None


def test_during_an_own_write(rules, store):
    """V4: a fill that begins during an own write saw who knows what."""
    with Write(rules, K), Fill(rules, K) as fill:
        fill.store("k", entry_of("old"))
        assert store.look("k") is None
    assert store.look("k") is None


def test_over_an_own_write(rules, store):
    """A fill that began before an own write and ends after it may not store."""
    with Fill(rules, K) as fill:
        with Write(rules, K):
            pass
        fill.store("k", entry_of("old"))
    assert store.look("k") is None


def test_over_the_end_of_an_own_write(rules, store):
    """A fill that began during an own write may not store after its end either."""
    write = Write(rules, K)
    write.__enter__()
    with Fill(rules, K) as fill:
        write.__exit__(None, None, None)
        fill.store("k", entry_of("old"))
    assert store.look("k") is None


def test_two_fills_that_differ(rules, store, counters):
    """F2: two different values of unknown order: neither stays, nor a third."""
    with Fill(rules, K) as first, Fill(rules, K) as second, Fill(rules, K) as third:
        first.store("k", entry_of("a"), same_as("a"))
        second.store("k", entry_of("b"), same_as("b"))
        assert store.look("k") is None
        third.store("k", entry_of("b"), same_as("b"))
    assert store.look("k") is None
    assert counters.fills_refused["conflict"] == 1
    assert counters.fills_refused["token"] == 1


def test_two_fills_that_agree(rules, store, counters):
    """Two fills of the same value: the first stays, with the first's lifetime."""
    with Fill(rules, K) as first, Fill(rules, K) as second:
        first.store("k", entry_of("a", expires=1010.0), same_as("a"))
        second.store("k", entry_of("a", expires=1020.0), same_as("a"))
    assert store.look("k") == entry_of("a", expires=1010.0)
    assert counters.fills_refused["conflict"] == 0


def test_straggler_closes_the_others(rules, store):
    """F3: a fill that may not store has seen something: nothing else may outlive it."""
    with Fill(rules, K) as straggler:
        rules.on_keys(STRANGER, 1, ["k"])
        with Fill(rules, K) as late:
            straggler.store("k", entry_of("new"), same_as("new"))
            late.store("k", entry_of("old"), same_as("old"))
    assert store.look("k") is None


@pytest.mark.parametrize(("seen", "stays"), [("new", True), ("other", False)])
def test_straggler_and_an_entry(rules, store, seen, stays):
    """A straggler takes away an entry with another value, not one with its own."""
    with Fill(rules, K) as straggler:
        rules.on_keys(STRANGER, 1, ["k"])
        with Fill(rules, K) as late:
            late.store("k", entry_of("new"), same_as("new"))
        straggler.store("k", entry_of(seen), same_as(seen))
    assert (store.look("k") is not None) is stays


def test_refuse_takes_the_entry_away(rules, store):
    """A read that found nothing storable ends what was known before."""
    with Fill(rules, K) as fill, Fill(rules, K) as other:
        other.store("k", entry_of("old"))
        fill.refuse("k")
        assert store.look("k") is None
        other.store("k", entry_of("old"))
    assert store.look("k") is None


def test_expired_entry_leaves_at_the_beginning(rules, store):
    """I4: an expired entry goes, together with fills that began before."""
    with Fill(rules, K) as early:
        store.put("k", entry_of("old", expires=1000.0))
        with Fill(rules, K):
            assert store.look("k") is None
        early.store("k", entry_of("older"))
    assert store.look("k") is None


def test_eviction_closes_fills(clock):
    """V8: who leaves for room takes its open fills along."""
    rules, store, counters = make_rules(clock, max_entries=1)
    with Fill(rules, K) as early, Fill(rules, K) as late:
        late.store("k", entry_of("new"))
        with Fill(rules, ("other",)) as other:
            other.store("other", entry_of("x"))
        assert store.look("k") is None
        early.store("k", entry_of("old"))
    assert store.look("k") is None
    assert counters.evictions == 1


@pytest.mark.parametrize("by", ["janitor", "stores"])
def test_sweep_closes_fills(clock, by):
    """Expired entries that go unread take their open fills along."""
    rules, store, counters = make_rules(clock)
    with Fill(rules, K) as early:
        store.put("k", entry_of("old", expires=1001.0))
        clock.advance(1)
        if by == "janitor":
            rules.sweep(10)
        else:
            for number in range(64):
                rules.store(f"other{number % 8}", entry_of("x"))
        assert store.look("k") is None
        early.store("k", entry_of("older"))
    assert store.look("k") is None
    assert counters.expirations == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_nothing_remains_after_an_error(rules, store, error):
    """I16: whatever ends a fill, no activity of its keys remains."""
    with pytest.raises(error), Fill(rules, ("k", "l")):
        raise error
    assert rules.is_idle()
    assert len(store) == 0


def test_several_keys(rules, store):
    """A fill of several keys decides for each by itself."""
    with Fill(rules, ("a", "b", "c")) as fill:
        rules.on_keys(STRANGER, 1, ["b"])
        for key in "abc":
            fill.store(key, entry_of(key))
    assert sorted(store.all_keys()) == ["a", "c"]
