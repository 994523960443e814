"""A late delete of one process removes no value that another one was told is stored."""

from __future__ import annotations

import pytest
import redis

from cachebridge.l2.redis.scripts import MOST_BYTES
from cachebridge.testing import FaultProxy
from tests.rig import breaker_of, eventually, listening, lone_cache, pending_deletes_of

FAST = {
    "key_prefix": "p",
    "socket_timeout": 1.0,
    "socket_connect_timeout": 1.0,
    "bus_trust": 8.0,
    "bus_heartbeat": 2.0,
    "breaker_failures": 1,
    "breaker_retry": 0.1,
    "l1_exclude": ("session:",),
}
LOG = "cachebridge:writes"


@pytest.fixture
def proxy(shared_server):
    with FaultProxy(shared_server.host, shared_server.port) as proxy:
        yield proxy


@pytest.fixture
def late(proxy, redis_url):
    """Return the cache of a process that the faults meet."""
    url = proxy.url.replace("/0", "/" + redis_url.rsplit("/", 1)[1])
    return lone_cache(url, **FAST, clear_flushes_db=False)


@pytest.fixture
def peer(redis_url):
    """Return a cache of another process, which always reaches the server."""
    return lone_cache(redis_url, **FAST)


@pytest.fixture
def raw(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


def fail(proxy, late, change):
    """Let a change of the late process fail, and keep it away."""
    proxy.refuse()
    proxy.cut()
    assert not change(late)
    assert late.health().deletes_owed == 1


def recover(proxy, late):
    """Bring the late process back, and wait until it has paid all its deletes."""
    proxy.restore()

    def has_paid():
        late.get("another key")
        return not breaker_of(late).is_open and not pending_deletes_of(late)

    eventually(has_paid)


CHANGES = {
    "set": lambda cache: cache.set("k", "failed"),
    "set_many": lambda cache: not cache.set_many({"k": "failed"}),
    "delete": lambda cache: cache.delete("k"),
    "expire": lambda cache: cache.touch("k", 0),
    "clear": lambda cache: cache.clear(),
}
WRITES = {
    "set": lambda cache, key: cache.set(key, "later"),
    "set_many": lambda cache, key: not cache.set_many({key: "later", "x": 1}),
    "add": lambda cache, key: cache.delete(key) and cache.add(key, "later"),
    "replace": lambda cache, key: cache.set(key, "l") and cache.incr(key, "ater"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_later_write_stays(proxy, late, peer, change):
    """Whatever the late process failed to do, its peer's value is newer."""
    assert peer.set("k", "old")
    assert late.get("k") == "old"
    fail(proxy, late, change)
    assert peer.set("k", "later")
    recover(proxy, late)
    assert peer.get("k") == late.get("k") == "later"


@pytest.mark.parametrize(
    "key", ["k", "session:k", "k" * 70_000], ids=["short", "excluded", "long"]
)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_kind_of_later_write_stays(proxy, late, peer, write, key):
    """Also of keys of which no message tells."""
    assert peer.set(key, "old")
    fail(proxy, late, lambda cache: cache.set(key, "failed"))
    assert write(peer, key)
    recover(proxy, late)
    assert late.get(key) == peer.get(key) == "later"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_old_value_is_gone(proxy, late, peer, change):
    """A value from before the failed change is gone, though read or touched since."""
    assert late.set("k", "older")
    assert peer.set("k", "old")
    fail(proxy, late, change)
    assert peer.get("k") == "old"
    assert peer.set("other", 1)
    assert peer.touch("k", 60)
    recover(proxy, late)
    assert late.get("k") is peer.get("k") is None


def test_a_later_count_stays(proxy, late, peer):
    """An increment that was answered is not undone."""
    assert peer.set("k", 5)
    fail(proxy, late, lambda cache: cache.set("k", 1))
    assert peer.incr("k") == 6
    recover(proxy, late)
    assert peer.get("k") == 6


def test_the_last_failure_counts(proxy, late, peer):
    """If the process fails again after its peer's write, that value is old as well."""
    fail(proxy, late, lambda cache: cache.set("k", "failed"))
    assert peer.set("k", "between")
    assert not late.set("k", "failed again")
    recover(proxy, late)
    assert peer.get("k") is None


def test_an_own_write_that_came_late_is_no_later_write(proxy, late, peer, raw):
    """The caller was told that it failed: its value goes."""
    origin = late._binding.engine.rules.origin
    fail(proxy, late, lambda cache: cache.set("k", "failed"))
    assert peer.set("other", 1)
    frame = raw.get(LOG)[8:]
    own = (frame[:4] + origin + frame[12:]).replace(b"\x00\x06pother", b"\x00\x02pk")
    raw.append(LOG, own)
    raw.set("pk", "80049c")
    recover(proxy, late)
    assert not raw.exists("pk")


def test_many_late_deletes(proxy, late, peer):
    """A thousand keys, half of them written since."""
    keys = [f"k{number}" for number in range(1000)]
    peer.set_many(dict.fromkeys(keys, "old"))
    proxy.refuse()
    proxy.cut()
    for key in keys:
        assert not late.set(key, "failed")
    later = dict.fromkeys(keys[::2], "later")
    assert peer.set_many(later) == []
    recover(proxy, late)
    assert peer.get_many(keys) == later


def test_where_nothing_is_known_values_stay(proxy, late, peer, raw):
    """The log was evicted, overwritten by others, or its older half has gone."""
    for spoil in (
        lambda: raw.set(LOG, b"garbage"),
        lambda: raw.delete(LOG) and raw.rpush(LOG, "x"),
        lambda: raw.setrange(LOG, MOST_BYTES, "x"),
    ):
        raw.delete(LOG)
        fail(proxy, late, lambda cache: cache.set("k", "failed"))
        assert peer.set("k", "later")
        spoil()
        peer.set("other", 1)
        recover(proxy, late)
        assert peer.get("k") == "later"


def test_the_log_is_bounded(peer, raw):
    """Its newer half remains, and says since when it is complete."""
    big = {f"{'x' * 200}{number}": 1 for number in range(900)}
    for _ in range(30):
        peer.set_many(big)
        assert raw.strlen(LOG) <= MOST_BYTES
    peer.set("k", "last")
    log = raw.get(LOG)
    assert len(log) > MOST_BYTES / 3
    assert log.endswith(b"pk")
    assert int.from_bytes(log[:8], "big") > 0
    assert log[8] == 0xCB


def test_without_the_right_to_append(redis_server_factory):
    """Writes work, and deletes are replayed as if there were no peer."""
    server = redis_server_factory()
    with redis.Redis.from_url(server.url) as admin:
        admin.acl_setuser(
            "shop",
            enabled=True,
            passwords=["+pw"],
            keys=["*"],
            channels=["*"],
            commands=["+@all", "-append", "-info"],
        )
        with FaultProxy(server.host, server.port) as proxy:
            url = proxy.url.replace("redis://", "redis://shop:pw@")
            late = lone_cache(url, **FAST)
            assert late.set("k", "old")
            fail(proxy, late, lambda cache: cache.set("k", "failed"))
            recover(proxy, late)
            assert late.get("k") is None
        assert not admin.exists(LOG)


@pytest.mark.proof
@pytest.mark.parametrize("how", ["pause", "kill", "restart"])
def test_no_confirmed_value_disappears(redis_server_factory, how):
    """A thousand values of four processes; one comes back after the others' writes."""
    args = ("--appendonly", "yes") if how == "restart" else ()
    server = redis_server_factory(args=args)
    with FaultProxy(server.host, server.port) as proxy:
        caches = [listening(lone_cache(server.url, **FAST)) for _ in range(3)]
        late = listening(lone_cache(proxy.url, **FAST))
        keys = [f"k{number}" for number in range(1000)]
        caches[0].set_many(dict.fromkeys(keys, "old"))
        server.pause() if how == "pause" else server.kill()
        for number, key in enumerate(keys):
            assert not [late, *caches][number % 4].set(key, "failed")
        assert late.set_many(dict.fromkeys(keys, "failed")) != []
        proxy.refuse()
        proxy.cut()
        server.resume() if how == "pause" else server.restart()
        for cache in caches:
            eventually(lambda: cache.set("probe", 1))  # noqa: B023
        confirmed = {}
        for number, key in enumerate(keys[:-100]):
            if caches[number % 3].set(key, f"new {number}"):
                confirmed[key] = f"new {number}"
        assert len(confirmed) > 800
        for cache in caches:
            eventually(lambda: not pending_deletes_of(cache))  # noqa: B023
        recover(proxy, late)
        assert caches[0].get_many(keys) == confirmed
