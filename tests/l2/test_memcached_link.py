"""Connections to Memcached."""

from __future__ import annotations

import gc

from cachebridge.config import EngineOptions
from cachebridge.l2.location import parse_location
from cachebridge.l2.memcached.link import open_link


def test_a_connection_is_closed_with_its_last_reference(shared_memcached):
    """One that is given back to an engine that has stopped stays in nobody's way."""
    (address,) = parse_location(shared_memcached.url).servers
    link = open_link(address, EngineOptions())
    sock = link.socket
    assert sock.fileno() >= 0
    del link
    gc.collect()
    assert sock.fileno() == -1
