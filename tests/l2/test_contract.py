"""The one contract of shared stores, over every store and every way to reach Redis."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from cachebridge.l2.memory import MemoryServer, MemoryStore
from cachebridge.testing import redis_server
from cachebridge.testing.contracts import L2StoreContract
from tests.l2.conftest import PASSWORD, join_addresses, open_memcached, open_store
from tests.rig import FakeClock, engine_of, lone_cache, spying


class TestMemory(L2StoreContract):
    """``memory://``, with a clock of the test's own."""

    clock = FakeClock()

    def pass_time(self, seconds):
        self.clock.advance(seconds)

    @pytest.fixture
    def server(self):
        return MemoryServer(self.clock)

    @pytest.fixture
    def store(self, server):
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


class KeptMessages:
    """An outbox that keeps what it is to publish."""

    def __init__(self):
        self.kept = []

    def send(self, message):
        self.kept.append(message)

    owe = send


class TestMemcached(L2StoreContract):
    """Memcached, whose messages are published beside it."""

    counts_below_zero = False
    lists_keys = False
    short_ms = 2000
    servers = 1

    @pytest.fixture
    def outbox(self):
        return KeptMessages()

    @pytest.fixture
    def store(self, roomy_memcacheds, outbox):
        addresses = [server.url for server in roomy_memcacheds[: self.servers]]
        store = open_memcached(join_addresses(addresses), outbox)
        store.flush_db(b"")
        outbox.kept.clear()
        yield store
        store.close()

    @pytest.fixture
    def published(self, outbox):
        def since():
            taken = outbox.kept.copy()
            outbox.kept.clear()
            return taken

        return since


class TestSeveralMemcacheds(TestMemcached):
    """Keys on three servers, batches taken apart."""

    servers = 3


class TestMemcachedOverABus(TestMemcached):
    """As an engine has it: the messages really go over Redis."""

    @pytest.fixture
    def store(self, roomy_memcacheds, redis_url):
        cache = lone_cache(roomy_memcacheds[0].url, bus_location=redis_url)
        store = engine_of(cache).l2
        store.flush_db(b"")
        return store

    @pytest.fixture
    def published(self, store, redis_url):
        with spying(redis_url) as spy:
            yield spy.frames


class RedisContract(L2StoreContract):
    """What is common to all ways to Redis."""

    @pytest.fixture
    def url(self):
        raise NotImplementedError

    @pytest.fixture
    def watched(self, own_url):
        """Return the address under which the spy reads along."""
        return own_url

    @pytest.fixture
    def store(self, url):
        store = open_store(url)
        yield store
        store.close()

    @pytest.fixture
    def published(self, watched):
        with spying(watched) as spy:
            yield spy.frames


class TestTcp(RedisContract):
    @pytest.fixture
    def url(self, own_url):
        return own_url


class TestUnixSocket(RedisContract):
    @pytest.fixture
    def url(self, own_server, own_db):
        return f"unix://{own_server.socket_path}?db={own_db}"


class TestAclUser(RedisContract):
    """A user with a password full of marks, and no right but those it needs."""

    @pytest.fixture
    def url(self, own_server, own_db, admin, user_url):
        user_url()
        admin.execute_command(
            "ACL", "SETUSER", "someone", f">{PASSWORD}", "~*", "resetchannels"
        )
        rights = "+get +mget +pttl +exists +scan +set +pexpire +persist +unlink"
        rights += " +hget +hmget +hset +hdel +hexists +time"
        rights += " +incrby +publish +eval +evalsha +multi +exec +flushdb +ping"
        admin.execute_command(
            "ACL",
            "SETUSER",
            "someone",
            f"&cachebridge:{own_db}",
            "+select",
            *rights.split(),
        )
        secret = quote(PASSWORD, safe="")
        return f"redis://someone:{secret}@{own_server.host}:{own_server.port}/{own_db}"


class TestWithoutScripts(RedisContract):
    """A user that may not call EVALSHA: MULTI/EXEC instead of scripts."""

    counts_integers = False
    gives_leases = False
    publishes_idle_changes = True

    @pytest.fixture
    def url(self, user_url):
        return user_url("~*", "&*", "+@all", "-evalsha", "-eval")


class TestWithoutEvalAlone(TestWithoutScripts):
    """A user that may call scripts but not load them finds out one step later."""

    @pytest.fixture
    def url(self, user_url, admin):
        admin.script_flush()
        return user_url("~*", "&*", "+@all", "-eval")


@pytest.fixture(scope="module")
def bare_server(shared_server):
    with redis_server(
        args=("--rename-command", "EVALSHA", "", "--databases", "1000")
    ) as server:
        yield server


class TestRenamedCommands(TestWithoutScripts):
    """A server that does not know EVALSHA at all, as some services offer it."""

    @pytest.fixture
    def url(self, bare_server, own_db):
        return f"redis://{bare_server.host}:{bare_server.port}/{own_db}"

    @pytest.fixture
    def watched(self, url):
        return url
