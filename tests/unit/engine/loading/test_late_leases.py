"""A lease whose request is carried out after its caller was interrupted is given back.

The server gets the request late, on the old connection; the release goes over another
one, and must not overtake it.
"""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from cachebridge.core.lease import LeaseState, LeaseTerms
from cachebridge.l2.connections.client import Client
from cachebridge.l2.connections.link import Link
from cachebridge.l2.connections.pool import MOST_UNSETTLED
from cachebridge.testing import FaultProxy
from tests.rig import (
    PATIENCE_S,
    PATIENT,
    cluster_of,
    engine_of,
    eventually,
    is_idle,
    l2_of,
    lone_cache,
    pool_of,
    until,
)

KEY = "late-lease"
TERMS = LeaseTerms(lease_ms=60_000)


@pytest.fixture(params=["redis", "memcached"])
def server(request, shared_server):
    """Return the server of each kind."""
    if request.param == "redis":
        return shared_server
    return request.getfixturevalue("shared_memcached")


@pytest.fixture
def proxy(server):
    with FaultProxy(server.host, server.port) as proxy:
        yield proxy


@pytest.fixture
def url(server, proxy, redis_url):
    """Return the address by way of the proxy."""
    if server.url.startswith("memcached"):
        return f"memcached://{proxy.host}:{proxy.port}"
    return proxy.url.rpartition("/")[0] + "/" + redis_url.rpartition("/")[2]


@pytest.fixture
def ended(monkeypatch):
    """Return an event: the end of the late request is waited for, or what follows."""
    event, see_off, release = threading.Event(), Link.see_off, Client.run

    def seen_off(self, timeout_s):
        event.set()
        see_off(self, timeout_s)

    async def run(self, request, read, **options):
        result = await release(self, request, read, **options)
        if not request.token:
            event.set()
        return result

    monkeypatch.setattr(Link, "see_off", seen_off)
    monkeypatch.setattr(Client, "run", run)
    return event


@pytest.fixture
def cache(url, proxy, ended, monkeypatch):
    """Return a cache whose requests for a lease are held back."""
    cache = lone_cache(url, key_prefix=f"{proxy.port}:", l1_max_entries=0, **PATIENT)
    cache.set(KEY, "here")  # the server knows script and clears, and a link is open
    assert cache.get_or_load(KEY, lambda: "loaded") == "here"
    cache.delete(KEY)
    run = Client.run

    async def holding(self, request, read, **options):
        if request.token:
            proxy.hold_requests()
            ended.clear()
        return await run(self, request, read, **options)

    monkeypatch.setattr(Client, "run", holding)
    return cache


def assert_no_lease(cache, proxy, monkeypatch):
    """The late request has arrived, and the next caller gets the lease."""
    assert proxy.fired["release_held"] == 1
    monkeypatch.undo()
    eventually(lambda: is_idle(cache))
    next_one = l2_of(cache).get_or_lease(f"{proxy.port}:{KEY}", b"next", TERMS)
    assert next_one.state is LeaseState.LEASE


def test_of_a_task(cache, proxy, ended, monkeypatch):
    """A thread gives it back: the task that was cancelled does not wait."""

    async def main():
        load = asyncio.create_task(cache.aget_or_load(KEY, lambda: "loaded"))
        await until(lambda: proxy.fired["hold_requests"])
        load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        await until(ended.is_set)
        proxy.release_held()

    asyncio.run(main())
    eventually(engine_of(cache).refresher.is_idle)
    assert_no_lease(cache, proxy, monkeypatch)


def test_of_a_thread(cache, proxy, ended, monkeypatch):
    """A thread that a signal interrupts gives it back itself."""

    def interrupt(*_):
        raise KeyboardInterrupt

    def strike():
        eventually(lambda: proxy.fired["hold_requests"])
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        assert ended.wait(PATIENCE_S)
        proxy.release_held()

    previous = signal.signal(signal.SIGUSR1, interrupt)
    striker = threading.Thread(target=strike)
    try:
        striker.start()
        with pytest.raises(KeyboardInterrupt):
            cache.get_or_load(KEY, lambda: "loaded")
        striker.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert_no_lease(cache, proxy, monkeypatch)


def test_the_server_never_hangs_up(proxy, url):
    """The wait ends after SOCKET_TIMEOUT, and only so many are waited for."""
    pool = links_of(lone_cache(url, **PATIENT))
    links = [pool.take_now(fresh=True) for _ in range(MOST_UNSETTLED + 1)]
    proxy.silence()
    for number, link in enumerate(links):
        pool.discard(link, b"%d" % number)
    assert [link.is_open() for link in links[:2]] == [False, True]
    pool.wait_s = 0.05
    pool.settle(b"1")
    assert not links[1].is_open()


def links_of(cache):
    """Return the connections of either kind of store."""
    cluster = cluster_of(cache)
    return pool_of(cache) if cluster is None else cluster.nodes[0].client.links
