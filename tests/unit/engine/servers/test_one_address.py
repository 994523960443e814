"""A server of one address that takes no command over several slots."""

from __future__ import annotations

import pytest

from cachebridge.errors import L2Error
from cachebridge.testing import redis_cluster
from tests.rig import PATIENT, eventually, listening, lone_cache
from tests.sides import SIDES, on_side

ITEMS = {f"k{number}": number for number in range(100)}


@pytest.fixture(scope="module")
def address():
    """Of the only master of a cluster, which has all slots."""
    with redis_cluster(masters=1) as cluster:
        yield f"redis://127.0.0.1:{cluster.nodes[0].port}"


@pytest.fixture
def url(address):
    return f"{address}/0?slots=enforced"


@pytest.mark.parametrize("side", SIDES)
def test_batches_are_one_call_for_each_slot(url, side):
    """Reads, writes, deletes and clears of keys in many slots."""
    cache = on_side(side, lone_cache(url, on_error="raise", key_prefix=side, **PATIENT))
    assert cache.set_many(ITEMS) == []
    assert cache.get_many([*ITEMS, "none"]) == ITEMS
    assert cache.delete_many(["k1", "k2", "none"]) == 2
    assert cache.clear()
    assert cache.get_many(ITEMS) == {}


def test_peers_are_told(url):
    """Of each key of a batch, by the message of its slot."""
    options = {"on_error": "raise", "key_prefix": "peers", **PATIENT}
    ours, theirs = (listening(lone_cache(url, **options)) for _ in range(2))
    ours.set_many(ITEMS)
    assert theirs.get_many(ITEMS) == ITEMS
    ours.set_many(dict.fromkeys(ITEMS, "new"))
    eventually(lambda: set(theirs.get_many(ITEMS).values()) == {"new"})


def test_without_the_word_the_server_refuses(address):
    """And the error names it."""
    cache = lone_cache(f"{address}/0", on_error="raise", **PATIENT)
    with pytest.raises(L2Error, match="slots=enforced"):
        cache.get_many(ITEMS)


def test_where_a_key_is(url):
    """There is one place."""
    cache = lone_cache(url, **PATIENT)
    (node,) = cache.health().nodes
    assert node.server == cache.server_of("k")
    assert (node.slots, node.is_away) == (16384, False)


def test_of_one_server_there_are_no_nodes(redis_url):
    """All keys are there."""
    cache = lone_cache(redis_url)
    assert cache.health().nodes == ()
    assert cache.server_of("k") in redis_url
