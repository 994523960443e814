"""Which server of Memcached has a key, and what moves when the servers change."""

from __future__ import annotations

from functools import cache

import pytest
from pymemcache.client.hash import HashClient

from cachebridge.config import EngineOptions
from cachebridge.l2.location import parse_location
from cachebridge.l2.memcached.cluster import MAX_PLACES, Cluster
from cachebridge.l2.memcached.names import name_of
from tests.rig import never_open

KEYS = [f":1:product:{number}" for number in range(5000)]
SHARE_TOLERANCE = 0.1
"""Of the share: so few keys deviate a little; always by as much, nothing is random."""


def address(number):
    return f"cache{number}.example.com:11211"


def make_cluster(numbers):
    """Return a cluster that is asked for places alone: it never connects."""
    location = "memcached://" + ",".join(map(address, numbers))
    return Cluster(parse_location(location), EngineOptions(), breaker=never_open())


@cache
def places(numbers):
    """Return the address of the server that has each key."""
    cluster = make_cluster(numbers)
    labels = [node.label for node in cluster.nodes]
    return [labels[cluster.place_of(key).node] for key in KEYS]


@pytest.mark.parametrize("servers", [2, 3, 4, 5, 6])
def test_what_moves_when_a_server_joins_or_leaves(servers):
    """Its own share, about 1/N of the keys; all others stay where they are."""
    before, after = places(range(servers)), places(range(servers + 1))
    changing = f"memcached://{address(servers)}"
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {changing}  # read backwards: what leaves with the server
    share = 1 / (servers + 1)
    assert len(moved) / len(KEYS) == pytest.approx(share, rel=SHARE_TOLERANCE)


@pytest.mark.parametrize("servers", [2, 3, 4, 5, 6])
def test_shares_are_even(servers):
    """Each server has about as many keys as another."""
    found = places(range(servers))
    for label in set(found):
        share = found.count(label) / len(KEYS)
        assert share == pytest.approx(1 / servers, rel=SHARE_TOLERANCE)


def test_the_order_in_the_location_does_not_matter():
    """Processes whose settings name the servers in another order agree."""
    assert places((0, 1, 2, 3)) == places((3, 1, 0, 2))


def test_keys_are_where_other_clients_look():
    """Django's PyMemcacheCache, which is pymemcache's HashClient, places them alike."""
    addresses = [address(number) for number in range(4)]
    theirs = HashClient(addresses, allow_unicode_keys=True)
    ours = make_cluster(range(4))
    for key in [*KEYS, ":1:ключ", "\U0001f600", "x" * 250]:
        assert not name_of(key)[1]
        client = theirs._get_client(key)
        label = ours.nodes[ours.place_of(key).node].label
        assert label == "memcached://{}:{}".format(*client.server)


def test_places_that_are_remembered_are_bounded():
    """A process that sees keys without end does not grow without end."""
    cluster = make_cluster(range(2))
    cluster._places.update(dict.fromkeys(map(str, range(MAX_PLACES)), 0))
    for key in KEYS[:10]:
        cluster.place_of(key)
    assert len(cluster._places) <= MAX_PLACES
