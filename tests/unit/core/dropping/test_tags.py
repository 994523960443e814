"""Entries that hang on stamps, and what drops them."""

from __future__ import annotations

import pytest

from cachebridge.core.dropping.tags import SPARE, TAG_PREFIX, Tagging, TagIndex
from cachebridge.core.entry import BLOCKS
from cachebridge.core.fill import Fill
from cachebridge.core.outage import SLICE
from cachebridge.core.write import StampWrite, Write
from tests.rig import STRANGER, entry_of, make_rules

STAMP, OTHER = f"p:{TAG_PREFIX}a", f"p:{TAG_PREFIX}b"
ALL_AT_ONCE = SLICE + 10
"""Members of one tag that no slice takes."""


def fill(rules, key, *stamps, seen=None, value="v"):
    """Store an entry that hangs on these stamps, as a read of L2 does."""
    seen = rules.tags.begin() if seen is None else seen
    with Fill(rules, (key,)) as each:
        each.tag(key, Tagging(stamps, seen))
        each.store(key, entry_of(value), lambda entry: entry == entry_of(value))


@pytest.mark.parametrize(
    "change",
    [
        lambda rules: rules.on_keys(STRANGER, 1, (STAMP,)),
        lambda rules: rules.on_keys(rules.origin, 99, (STAMP,)),
        lambda rules: rules.on_prefix("p:"),
        lambda rules: rules.flush("clear"),
        lambda rules: StampWrite(rules, (STAMP,)).__enter__(),
    ],
    ids=["message", "late echo", "prefix", "flush", "own write"],
)
def test_what_changes_a_stamp_drops_what_hangs_on_it(rules, store, change):
    """The values of one tag leave L1 together; L1 need not hold the stamp."""
    fill(rules, "k", STAMP, OTHER)
    fill(rules, "j", STAMP)
    assert store.look("k") is not None
    change(rules)
    assert store.look("k") is None
    assert store.look("j") is None


def test_others_stay(rules, store):
    """Values of other tags, and without any, are not concerned."""
    fill(rules, "k", OTHER)
    with Fill(rules, ("j",)) as plain:
        plain.store("j", entry_of("v"))
    rules.on_keys(STRANGER, 1, (STAMP,))
    assert store.look("k") is not None
    assert store.look("j") is not None


def test_a_stamp_that_changes_after_it_was_compared_voids_the_fill(
    rules, store, counters
):
    """The value was of the old stamp; so was one that L1 has of another fill."""
    seen = rules.tags.begin()
    rules.on_keys(STRANGER, 1, (STAMP,))
    fill(rules, "k", STAMP, seen=seen)
    assert store.look("k") is None
    assert counters.fills_refused["tags"] == 1
    fill(rules, "k", STAMP)
    assert store.look("k") is not None


def test_a_stamp_that_changes_during_a_write_keeps_its_value_out(rules, store):
    """What is being written may be invalid by now."""
    with Write(rules, ("k",)) as write:
        write.tagging = Tagging((STAMP,), rules.tags.begin())
        write.stage("k", entry_of("v", write_id=write.id))
        rules.on_keys(STRANGER, 1, (STAMP,))
    assert store.look("k") is None


def test_a_write_hangs_on_its_stamps(rules, store):
    """An own write is dropped by a message as well as a fill is."""
    with Write(rules, ("k",)) as write:
        write.tagging = Tagging((STAMP,), rules.tags.begin())
        write.stage("k", entry_of("v", write_id=write.id))
    assert store.look("k") is not None
    rules.on_keys(STRANGER, 1, (STAMP,))
    assert store.look("k") is None


def test_what_was_filled_during_an_own_write_of_stamps_goes_at_its_end(rules, store):
    """It may have been compared with the stamp that was being deleted."""
    with StampWrite(rules, (STAMP,)):
        fill(rules, "k", STAMP)
        assert store.look("k") is not None
    assert store.look("k") is None


def test_two_fills_of_one_value_hang_on_the_stamps_of_both(rules, store):
    """The entry of the first stays, and leaves with the stamps of the second, too."""
    fill(rules, "k", STAMP)
    fill(rules, "k", OTHER)
    rules.on_keys(STRANGER, 1, (OTHER,))
    assert store.look("k") is None


def test_many_leave_in_slices(clock):
    """No lock is held for all of them, and none of them is hit meanwhile."""
    rules, store, _ = make_rules(clock, max_entries=2 * ALL_AT_ONCE)
    keys = [f"k{number}" for number in range(500)]
    for key in keys:
        fill(rules, key, STAMP)
    for number in range(ALL_AT_ONCE):  # members that L1 has no more
        rules.tags.note(f"gone{number}", Tagging((STAMP,), 0), lambda _: "there", 10**6)
    epoch = rules.epoch
    rules.on_keys(STRANGER, 1, (STAMP,))
    assert rules.epoch == epoch + 1
    assert all(store.look(key) is None for key in keys)
    assert len(rules.tags) == 0


def test_no_hit_while_many_are_collected(clock, monkeypatch):
    """L1 rests before it collects what hangs on the stamp: that takes long."""
    rules, *_ = make_rules(clock, max_entries=2 * ALL_AT_ONCE)
    for number in range(ALL_AT_ONCE):
        rules.tags.note(f"k{number}", Tagging((STAMP,), 0), lambda _: "there", 10**6)
    rules.tags.begin()
    resting = []
    take = TagIndex.take

    def watched(index, stamps):
        resting.append(bool(rules.resting))
        return take(index, stamps)

    monkeypatch.setattr(TagIndex, "take", watched)
    rules.on_keys(STRANGER, 1, (STAMP,))
    assert resting == [True]


def test_an_entry_pays_for_its_tags(rules, store):
    """What the index takes counts as memory of L1."""
    fill(rules, "k", STAMP, OTHER)
    assert store.look("k")[BLOCKS] == entry_of("v")[BLOCKS] + 2


def test_the_index_is_bounded():
    """Members without an entry are forgotten, a few with each entry that comes."""
    index, entries = TagIndex(), {}
    most = 0
    for number in range(20 * SPARE):
        key = f"k{number}"
        entries[key] = number
        if number >= 100:
            del entries[f"k{number - 100}"]
        stamps = (f"s{number % 50}", f"t{number}")
        index.note(key, Tagging(stamps, 0), entries.get, len(entries))
        most = max(most, len(index))
    assert most < 2 * SPARE
    held = {key for stamp in index.stamps_like("") for key in index.take((stamp,))}
    assert held.issuperset(entries)
    assert len(index) == 0


def test_no_stamp_was_read(rules, counters):
    """A process that knows no tags does not look for stamps in messages."""
    assert not rules.tags.is_used
    rules.on_keys(STRANGER, 1, (STAMP,))
    assert rules.tags.changes == 0
