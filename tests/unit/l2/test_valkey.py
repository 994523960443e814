"""A server of Valkey: the contract of the store, the bus, Sentinel, and its URLs.

Collected where there is one (``tests/unit/l2/conftest.py``).
"""

from __future__ import annotations

import pytest
import redis

from cachebridge.testing.processes import started
from cachebridge.testing.sentinels import SentinelServer
from cachebridge.testing.servers import RedisServer, find_valkey_server
from tests.rig import PATIENT, eventually, listening, lone_cache
from tests.unit.l2.conftest import open_store
from tests.unit.l2.test_contract import InTasks, RedisContract


@pytest.fixture(scope="module")
def server(shared_server):
    with started(RedisServer(find_valkey_server(), None, ())) as made:
        yield made


@pytest.fixture
def url(server):
    """Return the address of an empty database, as Valkey's users write it."""
    with redis.Redis(port=server.port) as client:
        client.flushall()
    return f"valkey://{server.host}:{server.port}/0"


class TestValkey(RedisContract):
    """Whatever a store must do."""

    @pytest.fixture
    def url(self, url):
        return url

    @pytest.fixture
    def watched(self, url):
        return url.replace("valkey://", "redis://")


class TestValkeyInTasks(InTasks, TestValkey):
    """The same, awaited."""


def test_it_is_one(url):
    """It says so itself, and health() shows it."""
    cache = lone_cache(url, **PATIENT)
    cache.set("key", 1)
    assert "valkey" in cache.health().server


def test_messages(url):
    """What one process writes another one sees."""
    cache = listening(lone_cache(url, **PATIENT))
    other = lone_cache(url, **PATIENT)
    cache.set("key", "old")
    other.set("key", "new")
    eventually(lambda: cache.get("key") == "new")


def test_sentinel(server, url):
    """Valkey's own sentinels are asked like those of Redis."""
    lines = [f"sentinel monitor m {server.host} {server.port} 1"]
    with started(SentinelServer(find_valkey_server(), lines)) as sentinel:
        location = f"valkey+sentinel://{sentinel.host}:{sentinel.port}/m/0"
        cache = listening(lone_cache(location, **PATIENT))
        cache.set("key", 1)
        assert str(server.port) in cache.health().server
    assert open_store(url)
