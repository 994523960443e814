"""Entries are plain tuples that only core/entry.py reads."""

from __future__ import annotations

import copy
import pickle

import pytest

from cachebridge.core.entry import (
    BLOCK_BYTES,
    EXPIRES,
    KIND,
    MISSING,
    PAYLOAD,
    WRITE_ID,
    is_expired,
    make_entry,
    size_bytes,
)


def test_exact_tuple():
    """An exact tuple of atomic values is invisible to the garbage collector."""
    entry = make_entry(12.5, "kind", "payload", 100, 7)
    assert type(entry) is tuple
    assert (entry[EXPIRES], entry[KIND], entry[PAYLOAD]) == (12.5, "kind", "payload")
    assert entry[WRITE_ID] == 7


@pytest.mark.parametrize(
    ("size", "charged"), [(0, 0), (1, 64), (64, 64), (65, 128), (1000, 1024)]
)
def test_size_rounds_up_to_blocks(size, charged):
    """The charge is never below the estimate."""
    assert size_bytes(make_entry(0.0, "kind", "payload", size)) == charged
    assert charged % BLOCK_BYTES == 0


def test_expires_at_its_instant():
    """An entry is over from the very reading it names."""
    entry = make_entry(10.0, "kind", "payload", 0)
    assert not is_expired(entry, 9.999)
    assert is_expired(entry, 10.0)


def test_missing_is_one_falsy_thing():
    """MISSING stays itself through copies and pickles, and is not None."""
    assert not MISSING
    assert MISSING is not None
    assert repr(MISSING) == "<MISSING>"
    assert copy.deepcopy(MISSING) is MISSING
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING
