"""A server that has become the wrong one: each request is asked anew, once."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from cachebridge.core.lease import LeaseTerms
from cachebridge.errors import L2Error, L2UnavailableError
from tests.failover import two_servers
from tests.unit.l2.conftest import open_store, pool_of
from tests.unit.l2.test_resending import ONCE_ONLY, REPEATABLE

TERMS = LeaseTerms(60_000)
CHANGES = {
    **{name: call for name, (call, _) in REPEATABLE.items() if name != "publish"},
    **ONCE_ONLY,
    "get_or_lease": lambda store: store.get_or_lease("cold", b"a", TERMS),
    "flush_db": lambda store: store.flush_db(b"m"),
}
READS = {"get", "get_many", "exists", "scan", "ping"}


@pytest.fixture
def pair(monkeypatch):
    with two_servers("name", monkeypatch) as pair:
        yield pair


@pytest.mark.parametrize("name", CHANGES)
def test_asked_anew(pair, side, name):
    """What the old server refuses is done by the new one, once, scripts included."""
    store = open_store(pair.url, side)
    pair.at_old.set("k", "1")
    store.get("k")
    pair.replicate()
    pair.fail_over()
    pair.at_new.config_resetstat()
    CHANGES[name](store)
    if name in READS:
        return  # a replica answers
    stats = pair.at_new.info("commandstats")
    done = sum(stats.get(f"cmdstat_{word}", {}).get("calls", 0) for word in WORDS)
    assert done == 1, stats
    assert all(
        link.peer().endswith(f":{pair.new.port}") for link in pool_of(store)._idle
    )


WORDS = ("eval", "exec")
"""What carries out a change: the new server is sent each script with its text."""


@pytest.mark.parametrize("name", ["store", "incr", "count", "flush_db"])
def test_told_the_same_twice(pair, side, name):
    """Then it is away: nothing is kept open that would say the same again."""
    store = open_store(pair.url, side)
    pair.at_old.set("k", "1")
    pair.replicate()
    pair.move()
    for _ in range(3):
        with pytest.raises(L2UnavailableError, match="READONLY"):
            CHANGES[name](store)
        assert not pool_of(store)._idle


def test_a_server_that_loads_its_data(pair, side):
    """LOADING, MASTERDOWN and a cut link are asked anew as well."""
    store = open_store(pair.url, side)
    store.get("k")
    pair.replicate()
    pair.at_old.config_set("replica-serve-stale-data", "no")
    pair.at_old.replicaof("127.0.0.1", "1")
    pair.promote()
    pair.move()
    pair.at_new.set("k", "new")
    assert store.get("k") == (b"new", -1)


@pytest.mark.parametrize("text", ["MOVED 1 h:1", "ASK 1 h:1", "CROSSSLOT Keys in"])
def test_cluster_mode_is_permanent(own_url, text):
    """No retry helps: the text says what to use instead."""
    error = open_store(own_url).client.error_of(ResponseError(text))
    assert type(error) is L2Error
    assert error.is_permanent
    assert "redis+cluster://" in str(error)
