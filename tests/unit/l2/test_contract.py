"""The one contract of shared stores, over every store and every way to reach Redis."""

from __future__ import annotations

from collections import Counter
from urllib.parse import quote

import pytest

from cachebridge.codec.messages import messages_for
from cachebridge.config import EngineOptions
from cachebridge.engine.servers.redis_cluster import RedisCluster
from cachebridge.l2.cluster.store import ClusterStore
from cachebridge.l2.location import parse_location
from cachebridge.l2.memory.server import MemoryServer
from cachebridge.l2.memory.store import MemoryStore
from cachebridge.testing.contracts.store_contract import L2StoreContract
from cachebridge.waiting.run import run
from tests.clusters import make_hooks, open_cluster, spying_on
from tests.rig import PATIENT, FakeClock, lone_cache, never_open, spying, stores_of
from tests.unit.l2.conftest import (
    PASSWORD,
    join_addresses,
    on_loop,
    open_memcached,
    open_store,
)


class InTasks:
    """Calls the store in tasks of an event loop, several at a time."""

    side = "tasks"

    @pytest.fixture
    def carry(self):
        return on_loop


class TestMemory(L2StoreContract):
    """``memory://``, with a clock of the test's own."""

    clock = FakeClock()

    def now(self):
        return self.clock()

    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @pytest.fixture
    def server(self):
        return MemoryServer(self.clock)

    @pytest.fixture
    def l2(self, server):
        return MemoryStore(server)

    @pytest.fixture
    def published(self, server):
        frames = []
        server.subscribers.append(frames.append)

        def since():
            taken = frames.copy()
            frames.clear()
            return taken

        return since


class TestMemoryInTasks(InTasks, TestMemory):
    """The same store: it never suspends."""


class KeptMessages:
    """An outbox that keeps what it is to publish."""

    def __init__(self):
        self.kept = []

    async def send(self, message):
        self.kept.append(message)

    def doubt(self, message):
        self.kept.append(message)


class PublishesBeside:
    """Messages go by another server: an outbox keeps them here."""

    @pytest.fixture
    def outbox(self):
        return KeptMessages()

    @pytest.fixture
    def published(self, outbox):
        def since():
            taken = outbox.kept.copy()
            outbox.kept.clear()
            return taken

        return since


class TestMemcached(PublishesBeside, L2StoreContract):
    """Memcached, whose messages are published beside it."""

    counts_below_zero = False
    lists_keys = False
    orders_writes = False
    short_ms = 2000
    servers = 1
    side = "threads"

    @pytest.fixture
    def l2(self, roomy_memcacheds, outbox):
        addresses = [server.url for server in roomy_memcacheds[: self.servers]]
        store = open_memcached(join_addresses(addresses), outbox, self.side)
        store.flush_db(b"")
        outbox.kept.clear()
        return store.l2


class TestMemcachedInTasks(InTasks, TestMemcached):
    """The same, called by tasks."""


class TestSeveralMemcacheds(TestMemcached):
    """Keys on three servers, batches taken apart."""

    servers = 3


class TestMemcachedOverABus(TestMemcached):
    """As an engine has it: the messages really go over Redis."""

    @pytest.fixture
    def l2(self, roomy_memcacheds, redis_url):
        cache = lone_cache(roomy_memcacheds[0].url, bus_location=redis_url)
        stores = stores_of(cache)
        run(stores.threads.flush_db(b""))
        return stores.threads if self.side == "threads" else stores.tasks

    @pytest.fixture
    def published(self, l2, redis_url):
        with spying(redis_url) as spy:
            yield spy.frames


class TestMemcachedOverABusInTasks(InTasks, TestMemcachedOverABus):
    """The same, called by tasks."""


class RedisContract(L2StoreContract):
    """What is common to all ways to Redis."""

    side = "threads"

    @pytest.fixture
    def url(self):
        raise NotImplementedError

    @pytest.fixture
    def watched(self, own_url):
        """Return the address under which the spy reads along."""
        return own_url

    @pytest.fixture
    def l2(self, url):
        return open_store(url, self.side).l2

    @pytest.fixture
    def published(self, watched):
        with spying(watched) as spy:
            yield spy.frames


class TestCluster(L2StoreContract):
    """Three masters: batches are taken apart by slot."""

    side = "threads"

    @pytest.fixture
    def l2(self, shared_cluster):
        masters = open_cluster(shared_cluster.url, **PATIENT)[1]

        def first_alone(message, groups):
            return [message, *[b"" for _ in groups[1:]]]

        return ClusterStore(masters, side=self.side, narrow=first_alone)

    @pytest.fixture
    def published(self, shared_cluster):
        """What is published at every master is here once."""
        masters = len(shared_cluster.masters())

        def since():
            counts = Counter(spy.frames())
            return sorted(
                frame
                for frame, count in counts.items()
                for _ in range(count if count % masters else count // masters)
            )

        with spying_on(shared_cluster) as spy:
            spy.frames()  # what the test before has published, on its way until now
            yield since


class TestClusterInTasks(InTasks, TestCluster):
    """The same, called by tasks."""


class TestClusterBesideABus(PublishesBeside, L2StoreContract):
    """The messages go by another server."""

    side = "threads"

    @pytest.fixture
    def l2(self, shared_cluster, outbox):
        masters = RedisCluster(
            parse_location(shared_cluster.url),
            EngineOptions(**PATIENT),
            never_open(),
            make_hooks(),
            narrow=messages_for,
            outboxes=(outbox, outbox),
        )
        yield getattr(masters, self.side)
        masters.close()


class TestClusterBesideABusInTasks(InTasks, TestClusterBesideABus):
    """The same, called by tasks."""


class TestTcp(RedisContract):
    @pytest.fixture
    def url(self, own_url):
        return own_url


class TestTcpInTasks(InTasks, TestTcp):
    """The same, called by tasks."""


class TestUnixSocket(RedisContract):
    @pytest.fixture
    def url(self, own_server, own_db):
        return f"unix://{own_server.socket_path}?db={own_db}"


RIGHTS = (
    "+get +getrange +mget +pttl +exists +scan +set +append +pexpire +persist +unlink "
    "+hget +hmget +hset +hdel +hexists +time +info +incrby +eval +evalsha "
    "+flushdb +select"
)
TO_PUBLISH = "+publish +multi +exec +ping"


class TestBesideABus(PublishesBeside, RedisContract):
    """Here the user may neither publish nor ping."""

    @pytest.fixture
    def l2(self, user_url, outbox):
        url = user_url("~*", "resetchannels", *RIGHTS.split())
        return open_store(url, self.side, outbox).l2


class TestAclUser(RedisContract):
    """A user with a password full of marks, and no right but those it needs."""

    @pytest.fixture
    def url(self, own_server, own_db, admin, user_url):
        user_url()
        admin.execute_command(
            *("ACL", "SETUSER", "someone", f">{PASSWORD}"),
            *("~*", "resetchannels", f"&cachebridge:{own_db}"),
            *f"{RIGHTS} {TO_PUBLISH}".split(),
        )
        secret = quote(PASSWORD, safe="")
        return f"redis://someone:{secret}@{own_server.host}:{own_server.port}/{own_db}"
