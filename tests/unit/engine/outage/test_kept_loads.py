"""Values loaded during an outage, of keys that were deleted or cleared meanwhile."""

from __future__ import annotations

import pytest
import redis

from cachebridge.testing import FaultProxy
from tests.rig import eventually, listening, lone_cache
from tests.sides import SIDES, on_side

CHANGES = {
    "delete": lambda cache: cache.delete("k"),
    "delete_many": lambda cache: cache.delete_many(["k", "x"]),
    "TTL that is over": lambda cache: cache.touch("k", 0),
    "clear": lambda cache: cache.clear(),
}


@pytest.fixture
def server(redis_server_factory):
    return redis_server_factory()


@pytest.fixture
def proxy(server):
    with FaultProxy(server.host, server.port) as proxy:
        yield proxy


@pytest.fixture
def plain_cache(proxy):
    return listening(lone_cache(proxy.url, key_prefix="p:", breaker_retry=0.1))


@pytest.fixture(params=SIDES)
def cache(request, plain_cache):
    """Return the cache as threads and as tasks use it."""
    return on_side(request.param, plain_cache)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_loader_runs_once_and_nothing_old_comes_back(
    cache, plain_cache, proxy, server, change
):
    """Once per process, not per call; when L2 is back, neither value is trusted."""
    rows, loads = {"k": "old"}, []

    def load():
        loads.append(rows["k"])
        return rows["k"]

    assert cache.get_or_load("k", load) == "old"
    proxy.refuse()
    proxy.cut()
    eventually(lambda: [cache.get("none"), plain_cache.health().breaker_open][1])
    rows["k"] = "new"
    change(cache)
    assert cache.get("k") is None
    del loads[:]
    assert [cache.get_or_load("k", load) for _ in range(5)] == ["new"] * 5
    assert len(loads) == 1
    assert cache.get("k") == "new"

    rows["k"] = "newer"
    change(cache)
    assert cache.get("k") is None
    assert [cache.get_or_load("k", load) for _ in range(5)] == ["newer"] * 5
    assert len(loads) == 2

    rows["k"] = "newest"
    proxy.restore()
    seen = []

    def is_back():
        seen.append(cache.get_or_load("k", load))
        return not plain_cache.health().breaker_open and seen[-1] == "newest"

    eventually(is_back)
    assert set(seen) <= {"newer", "newest"}
    assert seen == sorted(seen), "newer, then newest"
    eventually(lambda: not plain_cache.health().deletes_owed)
    with redis.Redis.from_url(server.url) as client:
        assert b"newest" in client.get("p:k")
    assert cache.get("k") == "newest"
