"""Stores over real servers, for threads and for tasks, called in plain code."""

from __future__ import annotations

import asyncio
import traceback
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING

import pytest
import redis

from cachebridge.config import EngineOptions
from cachebridge.l2.connections.pool import Pool
from cachebridge.l2.connections.task_pool import TaskPool
from cachebridge.l2.factory import connection_factory
from cachebridge.l2.location import parse_location
from cachebridge.l2.memcached.cluster import Cluster
from cachebridge.l2.memcached.store import MemcachedStore
from cachebridge.l2.redis.client import RedisClient, open_link
from cachebridge.l2.redis.store import RedisStore
from cachebridge.testing import (
    ServerNotFoundError,
    memcached_server,
    redis_server,
)
from cachebridge.testing.contracts.message_contract import StoreFace
from cachebridge.testing.servers import find_valkey_server
from cachebridge.waiting.run import run
from tests.rig import never_open
from tests.sides import event_loop

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cachebridge.l2.two_steps import Outbox

try:
    find_valkey_server()
except ServerNotFoundError:  # no package registry has to have it
    collect_ignore = ["test_valkey.py"]

__all__ = ["admin", "own_db", "own_server", "own_url", "user_url"]

pytest.register_assert_rewrite("cachebridge.testing.contracts.store_contract")

PASSWORD = "p:@/?#ss w"
SIDES = ["threads", "tasks"]
_databases = count()
_opened: list[StoreFace] = []


def on_loop(coroutine):
    """Run a coroutine in a task of the loop that all tests share."""
    return asyncio.run_coroutine_threadsafe(coroutine, event_loop()).result(30.0)


def shown(exc):
    """Return what logs and error trackers see of an exception."""
    texts = traceback.format_exception(exc)
    while exc is not None:
        texts += [repr(exc), repr(exc.args), repr(vars(exc))]
        exc = exc.__cause__ or exc.__context__
    return "".join(line for line in texts if not line.startswith("  File"))


CARRY = {"threads": run, "tasks": on_loop}
"""What runs the coroutines of a store to their end, by the store's side."""


@pytest.fixture(params=SIDES)
def side(request):
    """Who calls the store."""
    return request.param


def open_store(
    url: str,
    side: str = "threads",
    outbox: Outbox | None = None,
    **options: object,
) -> StoreFace:
    """Open a Redis store as an engine does; with an outbox, for messages beside it."""
    location = parse_location(url)
    parsed = EngineOptions(**options)
    make = connection_factory(location, parsed)
    pool = Pool(
        lambda: open_link(make()),
        parsed.max_connections,
        parsed.socket_timeout,
    )
    links = pool if side == "threads" else TaskPool(pool)
    client = RedisClient(links, label=location.label, breaker=never_open())
    channel = f"cachebridge:{location.db}"
    store = RedisStore(client, channel=channel, outbox=outbox)
    _opened.append(StoreFace(store, CARRY[side]))
    return _opened[-1]


def pool_of(store: StoreFace) -> Pool:
    """Return the pool of a Redis store, which both sides share."""
    links = store.client.links
    return links if isinstance(links, Pool) else links._pool


def open_memcached(
    url: str, outbox: Outbox, side: str = "threads", **options: object
) -> StoreFace:
    """Open a store as an engine does, over one server or several."""
    cluster = Cluster(
        parse_location(url), EngineOptions(**options), breaker=never_open()
    )
    clients = cluster.clients if side == "threads" else cluster.task_clients
    store = MemcachedStore(cluster, outbox, clients)
    _opened.append(StoreFace(store, CARRY[side]))
    return _opened[-1]


def join_addresses(urls: Iterable[str]) -> str:
    """Return one URL for several servers."""
    return "memcached://" + ",".join(url.removeprefix("memcached://") for url in urls)


@pytest.fixture(scope="module")
def roomy_memcacheds():
    """Start three servers that take values of over a mebibyte."""
    with ExitStack() as running:
        yield [
            running.enter_context(memcached_server(args=("-I", "4m"))) for _ in range(3)
        ]


@pytest.fixture(autouse=True)
def closed_stores():
    """Close what the test has opened."""
    yield
    for store in _opened:
        store.close()
    _opened.clear()


@pytest.fixture(scope="module")
def own_server(shared_server, tmp_path_factory):
    """Start a server with a socket, where users and connections are ours alone."""
    path = tmp_path_factory.mktemp("redis") / "redis.sock"
    args = ("--unixsocket", str(path), "--databases", "1000")
    with redis_server(args=(*args, "--enable-debug-command", "local")) as server:
        server.socket_path = path
        yield server


@pytest.fixture
def own_db():
    """Return the number of a database of own_server that no other test uses."""
    return next(_databases)


@pytest.fixture
def own_url(own_server, own_db):
    return f"redis://{own_server.host}:{own_server.port}/{own_db}"


@pytest.fixture
def admin(own_server):
    with redis.Redis.from_url(own_server.url) as client:
        yield client


@pytest.fixture
def user_url(own_server, own_db, admin):
    """Return a function that makes a user with some rights, and the URL for it."""

    def make(*rules: str, name: str = "someone") -> str:
        admin.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret", *rules)
        return f"redis://{name}:secret@{own_server.host}:{own_server.port}/{own_db}"

    yield make
    for name in admin.acl_users():
        if name != "default":
            admin.acl_deluser(name)
