"""Tags over every store: what is alive, what is not, and who removes it."""

from __future__ import annotations

import pytest

from cachebridge import MissingKeyError, UnsupportedOperationError
from cachebridge.codec.envelope import STAMP_BYTES, make_header, read_header
from cachebridge.engine.tagging.stamps import STAMP_TTL_MS
from tests.rig import engine_of, eventually, l1_of, l2_of, lone_cache
from tests.sides import SIDES, on_side
from tests.stores import FORMAT

pytestmark = pytest.mark.every_store

STAMP = "tags:cachebridge-tag:"


@pytest.fixture
def plain(place):
    """Return a cache on each kind of shared level."""
    return place.open("tags:")


@pytest.fixture(params=SIDES)
def cache(request, plain):
    """Return it as threads and as tasks use it."""
    return on_side(request.param, plain)


def drop_l1(cache):
    """Have the next read ask L2."""
    engine_of(cache).rules.flush("clear")


def test_a_value_lives_as_long_as_its_tags(cache):
    """Whether it is read from L1 or from L2, alone or with others."""
    assert cache.set("a", [1, {"b": 2}], 60, tags=["x", "y"])
    assert cache.set_many({"b": 1, "c": "text"}, 60, tags=("x",)) == []
    assert cache.add("d", None, 60, tags={"y"})
    cache.set("e", "untagged", 60)
    everything = {"a": [1, {"b": 2}], "b": 1, "c": "text", "d": None, "e": "untagged"}
    for _ in range(2):
        assert cache.get_many(everything) == everything
        assert {key: cache.get(key) for key in everything} == everything
        assert all(cache.has_key(key) for key in everything)
        drop_l1(cache)
    assert cache.invalidate_tags("y") is True
    for _ in range(2):
        assert cache.get_many(everything) == {"b": 1, "c": "text", "e": "untagged"}
        assert cache.get("a") is None
        assert cache.get("d", "gone") == "gone"
        assert cache.get("b") == 1
        drop_l1(cache)
    cache.invalidate_tags("x", "unknown")
    assert cache.get_many(everything) == {"e": "untagged"}


def test_strong_reads_compare_as_well(cache):
    """A bypass asks L2 for the stamps, too."""
    cache.set("k", 1, 60, tags=["x"])
    with cache.bypass_l1():
        assert cache.get("k") == 1
        cache.invalidate_tags("x")
        assert cache.get("k") is None


def test_nothing_stands_in_the_way_of_an_add(cache):
    """An invalid value is no value: for add, has_key and touch."""
    for name in ("added", "there", "touched", "counted"):
        cache.set(name, 1, 60, tags=["x"])
    assert not cache.add("added", 2, 60)
    assert cache.touch("touched", 120)
    assert cache.has_key("there")
    cache.invalidate_tags("x")
    assert cache.add("added", 2, 60, tags=["x"])
    assert cache.get("added") == 2
    assert not cache.touch("touched", 120)
    assert not cache.has_key("there")
    assert l2_of(cache).get("tags:touched")[0] is None
    with pytest.raises(MissingKeyError):
        cache.incr("counted")


def test_changes_keep_the_tags(cache):
    """What is added to, appended to or touched stays a value of its tags."""
    cache.set("number", 5, 60, tags=["x"])
    cache.set("text", "a", 60, tags=["x"])
    assert cache.incr("number", 2) == 7
    assert cache.append("text", "b") == 2
    assert cache.touch("number", 120)
    drop_l1(cache)
    assert cache.get_many(["number", "text"]) == {"number": 7, "text": "ab"}
    cache.invalidate_tags("x")
    assert cache.get_many(["number", "text"]) == {}
    assert cache.append("text", "new", 60) == 3


def test_an_overwritten_value_has_the_new_tags(cache):
    """Tags belong to a value, not to its key."""
    cache.set("k", 1, 60, tags=["x"])
    cache.set("k", 2, 60, tags=["y"])
    cache.invalidate_tags("x")
    assert cache.get("k") == 2
    cache.set("k", 3, 60)
    cache.invalidate_tags("y")
    assert cache.get("k") == 3


def test_a_stamp_that_is_lost_makes_values_invalid(cache):
    """Evicted, expired or flushed: that costs misses, and revives nothing."""
    cache.set("k", 1, 60, tags=["x"])
    l2_of(cache).delete([f"{STAMP}x"], None)
    drop_l1(cache)
    assert cache.get("k") is None
    cache.set("j", 2, 60, tags=["x"])
    assert cache.get("k") is None
    assert cache.get("j") == 2


def test_clear_takes_tagged_values(cache):
    """A clear of the cache empties it of stamps as well."""
    cache.set("k", 1, 60, tags=["x"])
    cache.clear()
    assert cache.get("k") is None
    cache.set("k", 2, 60, tags=["x"])
    assert cache.get("k") == 2


def test_stamps_are_renewed_by_readers(cache):
    """A tag that is in use does not end, and no L1 is emptied for that."""
    cache.set("k", 1, None, tags=["x"])
    assert l2_of(cache).get(f"{STAMP}x")[1] > 0.9 * STAMP_TTL_MS
    l2_of(cache).touch(f"{STAMP}x", 1000_000, None)
    drop_l1(cache)
    sent = cache.stats().messages_sent
    assert cache.get("k") == 1
    assert l2_of(cache).get(f"{STAMP}x")[1] > 0.9 * STAMP_TTL_MS
    assert cache.stats().messages_sent == sent


def test_what_is_no_stamp_is_replaced(cache):
    """Bytes of another program under a stamp's key do not stand in the way for ever."""
    l2_of(cache).store([(f"{STAMP}x", b"something else")], None, None)
    assert cache.set("k", 1, 60, tags=["x"])
    drop_l1(cache)
    assert cache.get("k") == 1
    assert len(l2_of(cache).get(f"{STAMP}x")[0]) == STAMP_BYTES


def test_a_damaged_header_is_a_miss(cache):
    """And the next load, or add, has its place."""
    cache.set("k", [1], 60, tags=["x"])
    raw = l2_of(cache).get("tags:k")[0]
    l2_of(cache).store(
        [("tags:k", raw[:-20] if len(raw) < 30 else raw[:10])], None, None
    )
    drop_l1(cache)
    assert cache.get("k") is None
    assert not cache.has_key("k")
    assert cache.get_or_load("k", lambda: "loaded", 60) == "loaded"
    assert cache.get("k") == "loaded"


def test_the_header_is_as_documented(cache):
    """Tags and stamps, then what the serializer has written."""
    cache.set("k", 7, 60, tags=["x", "y"])
    raw = l2_of(cache).get("tags:k")[0]
    header = read_header(raw)
    stamps = {tag: l2_of(cache).get(STAMP + tag)[0] for tag in ("x", "y")}
    assert header.stamps == stamps
    assert raw == make_header(stamps) + b"7"


def test_a_peer_drops_its_values(place, plain):
    """One message, however many values: L1 of another process has none of them."""
    if not engine_of(plain).stores.has_bus:
        return  # no peer hears of anything
    peer = place.open("tags:")
    keys = [f"k{number}" for number in range(50)]
    plain.set_many(dict.fromkeys(keys, "v"), 60, tags=["x"])
    eventually(lambda: len(peer.get_many(keys)) == 50 and len(l1_of(peer)) == 51)
    sent = plain.stats().messages_sent
    plain.invalidate_tags("x")
    assert plain.stats().messages_sent == sent + 1
    eventually(lambda: not len(l1_of(peer)))
    assert peer.get_many(keys) == {}


def test_excluded_keys_have_tags(place):
    """Values that L1 may not hold are compared with L2's stamps at each read."""
    cache = place.open("tags:")
    options = {"key_prefix": "tags:", "l1_exclude": ["out:"], **place.options}
    excluding = lone_cache(place.location, **options)
    excluding.set("out:k", [1], 60, tags=["x"])
    assert excluding.get("out:k") == [1]
    assert excluding.get_many(["out:k"]) == {"out:k": [1]}
    cache.invalidate_tags("x")
    assert excluding.get("out:k") is None
    assert excluding.get_or_load("out:k", lambda: 2, 60, tags=["x"]) == 2
    assert excluding.get("out:k") == 2


@pytest.mark.only_on_redis(FORMAT)
@pytest.mark.parametrize("side", SIDES)
def test_no_tags_while_old_workers_run(redis_url, side):
    """django-redis could not read a value that has any: an error that says so."""
    cache = on_side(side, lone_cache(redis_url, write_format="django-redis"))
    calls = (
        lambda: cache.set("k", 1, tags=["t"]),
        lambda: cache.set_many({"k": 1}, tags=["t"]),
        lambda: cache.add("k", 1, tags=["t"]),
        lambda: cache.get_or_load("k", lambda: 1, tags=["t"]),
    )
    for call in calls:
        with pytest.raises(UnsupportedOperationError, match="WRITE_FORMAT"):
            call()
    assert cache.get("k") is None
    assert cache.set("k", 1)
