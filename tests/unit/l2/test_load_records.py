"""Load records in Redis mean nothing once another program has changed the key."""

from __future__ import annotations

import pytest
import redis

from cachebridge.core.lease import LeaseState, LeaseTerms, LoadedRaw, LoadReply
from cachebridge.l2.cluster.names import SLOT_NAMES
from cachebridge.l2.cluster.slots import slot_of
from cachebridge.l2.redis.names import PLAIN, key_of, name_of
from cachebridge.testing.contracts.message_contract import StoreFace
from tests.rig import eventually, l2_of, lone_cache

MINUTE_MS = 60_000
TERMS = LeaseTerms(MINUTE_MS, stale_ms=MINUTE_MS, stale_if_error_ms=MINUTE_MS)
REFRESH = TERMS._replace(is_refresh=True)


@pytest.fixture
def store(redis_url):
    return StoreFace(l2_of(lone_cache(redis_url)))


@pytest.fixture
def other(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def load(store, raw=b"old", ttl_ms=MINUTE_MS):
    """Store a value as loaded, with a copy and a cost."""
    lease = store.get_or_lease("k", b"first", TERMS)
    assert store.store_loaded("k", LoadedRaw(raw, ttl_ms, MINUTE_MS, 7), lease, None)


def expire(other, key="k"):
    """Give the key a TTL that is over at once, as a foreign program may."""
    other.pexpire(key, 1)
    eventually(lambda: not other.exists(key))


REMOVALS = {
    "DEL": lambda other: other.delete("k"),
    "RENAME": lambda other: other.rename("k", "elsewhere"),
    "PEXPIRE": expire,
    "SET and expiry": lambda other: (other.set("k", "theirs"), expire(other)),
}
CHANGES = {
    "SET": lambda other: other.set("k", "theirs"),
    "SET KEEPTTL": lambda other: other.set("k", "new", keepttl=True),
    "SET with a TTL": lambda other: other.set("k", "new", px=MINUTE_MS),
    "RENAME": lambda other: (other.set("new", "theirs"), other.rename("new", "k")),
    "APPEND": lambda other: other.append("k", "more"),
}


@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS)
def test_no_copy_of_what_another_program_removed(store, other, remove):
    """Neither as a stale value nor after an error of the loader."""
    load(store)
    remove(other)
    lease = store.get_or_lease("k", b"a", TERMS)
    assert (lease.state, lease.raw, lease.cost_ms) == (LeaseState.LEASE, None, 0)
    assert store.release("k", lease, MINUTE_MS, None) is None


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_copy_and_no_cost_for_what_another_program_wrote(store, other, change):
    """A load of another value says nothing about this one, now or after its expiry."""
    load(store)
    change(other)
    found = store.get_or_lease("k", b"a", TERMS)
    assert (found.state, found.raw) == (LeaseState.HIT, other.get("k"))
    assert found.cost_ms == 0
    other.delete("k")
    assert store.get_or_lease("k", b"b", TERMS).state is LeaseState.LEASE


def test_a_new_ttl_of_another_program(store, other):
    """The copy ended with the old one."""
    load(store)
    other.persist("k")
    assert store.get_or_lease("k", b"a", TERMS).cost_ms == 0
    load_again = store.get_or_lease("k", b"a", REFRESH)
    assert load_again.state is LeaseState.LEASE


def test_an_error_in_a_refresh_brings_no_old_copy_back(store, other):
    """What another program has written while the loader ran stays the answer."""
    load(store)
    lease = store.get_or_lease("k", b"a", REFRESH)
    other.set("k", "theirs")
    assert store.release("k", lease, MINUTE_MS, None) is None
    assert store.get_or_lease("k", b"b", TERMS).raw == b"theirs"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_refresh_writes_over_nothing(store, other, change):
    """It began with another value."""
    store.store([("k", b"old")], MINUTE_MS, None)
    lease = store.get_or_lease("k", b"a", REFRESH)
    change(other)
    reply = store.store_loaded("k", LoadedRaw(b"loaded", None), lease, None)
    assert (reply.stored, reply.raw) == (False, other.get("k"))


def test_a_refresh_brings_nothing_back(store, other):
    """What another program has deleted stays deleted."""
    store.store([("k", b"old")], MINUTE_MS, None)
    lease = store.get_or_lease("k", b"a", REFRESH)
    other.delete("k")
    reply = store.store_loaded("k", LoadedRaw(b"loaded", None), lease, None)
    assert reply == LoadReply(stored=False)
    assert not other.exists("k")


def test_a_load_is_void_once_a_foreign_value_was_seen(store, other):
    """Also if that value is gone again when the load ends."""
    lease = store.get_or_lease("k", b"a", TERMS)
    other.set("k", "theirs")
    assert store.get_or_lease("k", b"b", TERMS).state is LeaseState.HIT
    other.delete("k")
    assert not store.store_loaded("k", LoadedRaw(b"old", None), lease, None).stored


def test_the_mark_of_absence_hides_no_foreign_value(store, other):
    """And does not come back behind it."""
    lease = store.get_or_lease("k", b"a", TERMS)
    assert store.store_absent("k", MINUTE_MS, lease, None).stored
    assert store.get_or_lease("k", b"b", TERMS).state is LeaseState.ABSENT
    other.set("k", "theirs")
    assert store.get_or_lease("k", b"b", TERMS).raw == b"theirs"
    other.delete("k")
    assert store.get_or_lease("k", b"b", TERMS).state is LeaseState.LEASE


def test_a_touch_vouches_for_no_foreign_value(store, other):
    """The copy follows the value that it is a copy of, and no other."""
    load(store)
    other.set("k", "theirs", keepttl=True)
    assert store.touch("k", 1, None)
    eventually(lambda: not other.exists("k"))
    assert store.get_or_lease("k", b"a", TERMS).state is LeaseState.LEASE


@pytest.mark.parametrize("kind", ["string", "list"])
def test_what_another_program_left_in_the_place_of_a_record(store, other, kind):
    """It goes, and loading works."""
    if kind == "string":
        other.set("k:cachebridge-load", "theirs")
    else:
        other.rpush("k:cachebridge-load", "theirs")
    load(store)
    assert store.get_or_lease("k", b"a", TERMS).raw == b"old"
    other.delete("k:cachebridge-load")
    other.set("k:cachebridge-load", "theirs")
    assert store.get_or_lease("k", b"a", TERMS).raw == b"old"
    assert store.touch("k", MINUTE_MS, None)


def test_a_record_is_in_the_slot_of_its_key():
    """If the key has a hash tag."""
    assert PLAIN.with_record("a{tag}b") == (b"a{tag}b", b"a{tag}b:cachebridge-load")


@pytest.mark.parametrize("end", ["", "_", "__", ":cachebridge-load", "x"])
@pytest.mark.parametrize(
    "start",
    [
        *("k:cachebridge-load", "cachebridge:l1", "cachebridge:mark:f", "k", "\n:"),
        *(
            "a{b}c",
            "{}a",
            "a{b",
            "}{",
            "cachebridge:l1{home}",
            "k:cachebridge-load{1f}",
        ),
        *("cachebridge:load{1f}{z", "k:cachebridge-load{}", "cachebridge:writes{0}"),
    ],
)
@pytest.mark.parametrize("names", [PLAIN, SLOT_NAMES])
def test_names_are_undone(names, start, end):
    """Each key has a name of its own, which is no record and none of ours."""
    key = start + end
    name, record = names.with_record(key)
    assert key_of(name) == key_of(record) == key
    if names is SLOT_NAMES:
        assert {slot_of(each) for each in (record, names.log_of(key))} == {
            slot_of(name)
        }
    assert not name.endswith(b":cachebridge-load")
    assert name not in {b"cachebridge:l1", b"cachebridge:mark:f"}
    assert name_of(key + "_") != name
