"""A server of the test's own, our store over it, and a plain client."""

from __future__ import annotations

import pytest
from pymemcache.client.base import Client

from cachebridge.testing import memcached_server
from tests.unit.l2.conftest import open_memcached
from tests.unit.l2.test_contract import KeptMessages


@pytest.fixture
def server():
    with memcached_server() as server:
        yield server


@pytest.fixture
def store(server):
    store = open_memcached(server.url, KeptMessages())
    yield store
    store.close()


@pytest.fixture
def raw(server):
    """Return a plain client of the same server."""
    client = Client((server.host, server.port), default_noreply=False)
    yield client
    client.close()
