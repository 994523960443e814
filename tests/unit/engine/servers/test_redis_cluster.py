"""The map of a cluster."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from cachebridge.bus import master_watch
from cachebridge.testing import redis_cluster
from tests.rig import PATIENT, lone_cache
from tests.sides import SIDES, on_side


@pytest.fixture(scope="module")
def cluster():
    """One master; each test may add another."""
    with redis_cluster(masters=1) as made:
        yield made


@pytest.mark.parametrize("side", SIDES)
def test_clear_finds_keys_that_have_moved(cluster, side, monkeypatch):
    """Also at a master that has joined since the watch asked for the map."""
    monkeypatch.setattr(master_watch, "INTERVAL_S", 600.0)
    options = {"on_error": "raise", "key_prefix": side, **PATIENT}
    cache = on_side(side, lone_cache(cluster.url, **options))
    key = f"{{{side}}}"
    cache.set(key, 1)
    cluster.move_slot(key_slot(side.encode()), to=cluster.add_master())
    assert cache.clear()
    assert cache.get(key) is None
