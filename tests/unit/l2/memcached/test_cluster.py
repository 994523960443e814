"""Several servers, of which some are away."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from cachebridge.errors import L2UnavailableError
from cachebridge.testing import memcached_server
from tests.unit.l2.conftest import join_addresses, open_memcached
from tests.unit.l2.test_contract import KeptMessages


@pytest.fixture
def servers():
    with ExitStack() as running:
        yield [running.enter_context(memcached_server()) for _ in range(3)]


@pytest.fixture
def ring(servers):
    url = join_addresses(server.url for server in servers)
    return open_memcached(url, KeptMessages(), socket_timeout=0.5)


def keys_by_server(ring, count=60):
    """Return keys of each server, in the order of the servers."""
    keys = [f"k{number}" for number in range(count)]
    shards = ring._cluster.split(keys)
    shards.sort(key=lambda shard: ring._cluster.place_of(shard[0]).node)
    return shards


def test_one_of_several_is_away(ring, servers):
    """Only its keys fail, and they are back with it, empty."""
    shards = keys_by_server(ring)
    assert len(shards) == 3
    every = [key for shard in shards for key in shard]
    ring.store([(key, b"1") for key in every], None, None)
    servers[1].kill()
    for number, shard in enumerate(shards):
        if number == 1:
            with pytest.raises(L2UnavailableError):
                ring.get_many(shard)
        else:
            assert ring.get_many(shard) == [(b"1", -1)] * len(shard)
    ring.ping()
    assert ring._cluster.away() == [f"memcached://127.0.0.1:{servers[1].port}"]
    servers[1].restart()
    assert ring.get_many(shards[1]) == [(None, -2)] * len(shards[1])
    ring.ping()
    assert ring._cluster.away() == []


def test_all_are_away(ring, servers):
    """Then a ping fails, too."""
    for server in servers:
        server.kill()
    with pytest.raises(L2UnavailableError):
        ring.ping()
    with pytest.raises(L2UnavailableError):
        ring.clear("k", bytes)


def test_a_clear_while_one_is_away(ring, servers):
    """The server that comes back with its old items is cleared before it is read."""
    shards = keys_by_server(ring)
    ring.store([(key, b"1") for shard in shards for key in shard], None, None)
    servers[1].pause()
    assert ring.clear("k", bytes) is False
    servers[1].resume()
    assert ring.get_many([key for shard in shards for key in shard]) == [
        (None, -2)
    ] * sum(map(len, shards))


def test_a_pending_clear_is_replayed(ring, servers):
    """Also if nothing else is asked of the server: then others need not read it."""
    shards = keys_by_server(ring)
    ring.store([(key, b"1") for key in shards[1]], None, None)
    servers[1].pause()
    ring.clear("k", bytes)
    servers[1].resume()
    ring.ping()
    url = join_addresses(server.url for server in servers)
    other = open_memcached(url, KeptMessages())
    assert other.get_many(shards[1]) == [(None, -2)] * len(shards[1])
