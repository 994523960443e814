"""Names in a cluster: all of one key are in its slot, and no two keys share one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cachebridge.core.keys import matcher_of
from cachebridge.l2.cluster.names import SLOT_NAMES
from cachebridge.l2.cluster.slots import slot_of
from cachebridge.l2.redis.names import is_own, key_of, name_of

PARTS = st.sampled_from(
    [
        *"{}_:a*",
        "{}",
        "{a}",
        "cachebridge",
        "cachebridge:load",
        ":cachebridge-load",
        "cachebridge:writes",
        "cachebridge:l1",
        "é",
        "\ud800",
        "\n",
    ]
)
KEYS = st.one_of(st.lists(PARTS, max_size=8).map("".join), st.text(max_size=12))


def names(key):
    """Return the names of a key, of its record and of its log."""
    return (*SLOT_NAMES.with_record(key), SLOT_NAMES.log_of(key))


@given(KEYS)
def test_all_in_the_slot_of_the_key(key):
    """So that a script may touch all of them."""
    name, record, log = names(key)
    assert slot_of(name) == slot_of(record) == slot_of(log)
    assert name == name_of(key)


@given(KEYS)
def test_what_has_a_name_is_found_again(key):
    """A scan that meets a key or its record tells the key; logs are none."""
    name, record, log = names(key)
    assert key_of(name) == key_of(record) == key
    assert is_own(log)
    assert not is_own(name)
    assert not is_own(record)


@given(KEYS, KEYS)
def test_no_two_keys_share_a_name(one, other):
    """Nor is a key the record or the log of another."""
    if one != other:
        assert not {*names(one)[:2]} & {*names(other)[:2]}
        assert names(one)[2] not in names(other)[:2]


@given(st.lists(KEYS, min_size=1, max_size=4))
def test_names_of_several(keys):
    """The same names as one by one: those of all keys, then all records."""
    pairs = [SLOT_NAMES.with_record(key) for key in keys]
    expected = [name for name, _ in pairs] + [record for _, record in pairs]
    assert list(SLOT_NAMES.with_records(keys)) == expected


@given(KEYS)
def test_patterns_meet_the_records(key):
    """A pattern that is widened matches the name of each key's record, too."""
    name, record, _ = names(key)
    matches = matcher_of(SLOT_NAMES.all_like("*"))
    assert matches(name.decode("utf-8", "surrogatepass"))
    assert matches(record.decode("utf-8", "surrogatepass"))
