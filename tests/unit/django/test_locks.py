"""``lock`` and ``alock``: redis-py's on our location, of one server or of a cluster."""

from __future__ import annotations

from functools import partial

import pytest
from django.core.cache import caches
from redis.exceptions import LockError, LockNotOwnedError

from tests.rig import eventually, l1_of, l2_of
from tests.stores import CLUSTER, REDIS
from tests.unit.django.support import entry, trusted

pytestmark = pytest.mark.parametrize("place", [REDIS, CLUSTER], indirect=True)


def test_one_has_it(make_lock, cache):
    """The other fails or waits; released it is free."""
    first, other = make_lock(), make_lock(blocking_timeout=0.02, sleep=0.01)
    assert first.acquire() is True
    assert other.acquire(blocking=False) is False
    assert other.acquire() is False
    assert first.locked() is other.locked() is True
    assert (first.owned(), other.owned()) == (True, False)
    assert cache.has_key("lock")
    with pytest.raises(LockError):
        other.release()
    first.release()
    assert not cache.has_key("lock")
    with other:
        assert other.owned()
    assert not first.locked()


def test_versions_are_locks_of_their_own(make_lock):
    """As they are keys of their own."""
    with make_lock(version=1), make_lock(version=2):
        assert make_lock(version=1).acquire(blocking=False) is False


def test_timeout(make_lock, cache):
    """The server ends a lock; until then its owner may prolong it."""
    lock = make_lock(timeout=100)
    assert lock.acquire()
    assert 90 < cache.ttl("lock") <= 100
    assert lock.extend(50) is True
    assert 140 < cache.ttl("lock") <= 150
    assert lock.extend(20, replace_ttl=True) is True
    assert 10 < cache.ttl("lock") <= 20
    assert lock.reacquire() is True
    assert 90 < cache.ttl("lock") <= 100
    cache.delete("lock")
    for change in (partial(lock.extend, 5), lock.reacquire, lock.release):
        with pytest.raises(LockNotOwnedError, match=r":1:lock'.*no longer owned"):
            change()


def test_a_lock_of_another_owner_is_left_alone(make_lock):
    """An owner that was too slow neither prolongs nor releases it."""
    slow, next_one = make_lock(timeout=0.001), make_lock(timeout=100)
    assert slow.acquire()
    eventually(lambda: next_one.acquire(blocking=False))
    for change in (partial(slow.extend, 5), slow.reacquire, slow.release):
        with pytest.raises(LockNotOwnedError):
            change()
    assert next_one.owned()


@pytest.mark.parametrize("serializer", ["pickle", "json"])
def test_the_token_is_no_value(set_caches, place, serializer):
    """A read finds nothing under a lock, keeps nothing in L1, and deletes nothing."""
    set_caches(default=entry(place, OPTIONS={"SERIALIZER": serializer}))
    cache = trusted(caches["default"])
    with cache.lock("k"):
        assert cache.get("k", "none") == "none"
        assert cache.get_many(["k"]) == {}
        assert l1_of(cache).look(":1:k") is None
        assert cache.lock("k").locked()
    l2_of(cache).store([(":1:k", b"1b4e28ba2fa111d2883f0016d3cca427")], None, None)
    assert cache.get("k") is None
    assert l2_of(cache).exists(":1:k")


def test_a_token_of_the_callers(make_lock, cache):
    """As a text or as bytes."""
    for token in ("mine", b"mine"):
        lock = make_lock()
        assert lock.acquire(token=token)
        assert l2_of(cache).get(":1:lock")[0] == b"mine"
        lock.release()


def test_wrong_timeouts(cache):
    """The error says what is expected."""
    for make in (cache.lock, cache.alock):
        for wrong in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="must be above 0, not"):
                make("k", timeout=wrong)
        for wrong in ("5", True, [5]):
            with pytest.raises(TypeError, match="of a lock must be None or a number"):
                make("k", timeout=wrong)


def test_wrong_waits(cache):
    """They are named before any caller waits; an endless timeout is none."""
    for make in (cache.lock, cache.alock):
        for how, error in (
            ({"sleep": "1"}, TypeError),
            ({"sleep": None}, TypeError),
            ({"sleep": -1}, ValueError),
            ({"blocking_timeout": "1"}, TypeError),
        ):
            with pytest.raises(error, match=f"the {next(iter(how))} of a lock"):
                make("k", **how)
        for endless in (float("inf"), 10**20):
            assert make("k", timeout=endless).timeout is None
