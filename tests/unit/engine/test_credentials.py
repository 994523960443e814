"""Credentials that rotate: every connection takes the next ones, without a gap.

Each step of a rotation is another user, so that the server tells who is logged in.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref

import pytest
import redis
from redis.auth.token import SimpleToken
from redis.credentials import CredentialProvider, StreamingCredentialProvider

from cachebridge import Cache
from cachebridge.errors import ConfigError, L2Error
from cachebridge.testing import redis_server
from tests.rig import (
    PATIENT,
    after_heartbeats,
    bus_of,
    engine_of,
    eventually,
    listening,
    lone_cache,
    pool_of,
    rules_of,
)


class Asked(CredentialProvider):
    """A provider that says nothing by itself."""

    def __init__(self, user="a"):
        self.current = (user, f"secret-{user}")

    def get_credentials(self):
        return self.current


class Streaming(Asked, StreamingCredentialProvider):
    """A provider that tells of each change."""

    def __init__(self, user="a"):
        super().__init__(user)
        self.callbacks, self.on_errors = [], []

    def on_next(self, callback):
        self.callbacks.append(callback)

    def on_error(self, callback):
        self.on_errors.append(callback)

    def is_streaming(self):
        return True

    def rotate(self, user, password=None):
        self.current = (user, password or f"secret-{user}")
        token = SimpleToken(self.current[1], -1, 0, {"oid": user})
        for callback in self.callbacks:
            callback(token)


PROVIDER = Streaming()
"""For a dotted path."""


@pytest.fixture(scope="module")
def server(shared_server):
    with redis_server() as made, redis.Redis(port=made.port) as client:
        for user in "abc":
            client.execute_command(
                *("ACL", "SETUSER", user, "on", f">secret-{user}", "~*", "&*", "+@all")
            )
        yield made


@pytest.fixture
def provider():
    return Streaming()


def callers(server, *, kind="normal"):
    """Return the user of each connection with a login, by its number."""
    with redis.Redis(port=server.port) as client:
        return {
            each["id"]: each["user"]
            for each in client.client_list(_type=kind)
            if each["user"] != "default"
        }


@pytest.fixture(autouse=True)
def alone(server):
    """Begin without connections of the test before."""
    with redis.Redis(port=server.port) as client:
        client.flushall()
    eventually(lambda: not callers(server) and not callers(server, kind="pubsub"))


def cache_at(server, provider, **options):
    return lone_cache(server.url, credential_provider=provider, **PATIENT, **options)


def test_threads_log_in_before_the_next_use(server, provider):
    """The connection stays, and has the next user with its next request."""
    cache = cache_at(server, provider, l1_max_entries=0)
    cache.set("key", 1)
    (number,) = before = callers(server)
    assert before[number] == "a"
    provider.rotate("b")
    assert callers(server) == {number: "a"}  # nothing is sent for its own sake
    assert cache.get("key") == 1
    assert callers(server) == {number: "b"}
    for user in ("c", "a", "b"):
        provider.rotate(user)
    assert cache.get_many(["key", "other"]) == {"key": 1}
    assert callers(server) == {number: "b"}


def test_tasks_log_in_before_the_next_use(server, provider):
    """The same connections, without blocking the loop."""
    cache = cache_at(server, provider, l1_max_entries=0)

    async def use():
        await cache.aset("key", 1)
        before = callers(server)
        provider.rotate("b")
        assert await cache.aget("key") == 1
        return before, callers(server)

    before, after = asyncio.run(use())
    assert set(before.values()) == {"a"}
    assert after == dict.fromkeys(before, "b")


def test_a_connection_in_use(server, provider):
    """It ends its call as it began, and logs in when it is used again."""
    cache = cache_at(server, provider, l1_max_entries=0)
    cache.set("key", 1)
    link = pool_of(cache).take_now()
    provider.rotate("b")
    pool_of(cache).give_back(link)
    assert cache.get("key") == 1
    assert list(callers(server).values()) == ["b"]


def test_new_connections(server, provider):
    """They have the credentials of their time, and log in once."""
    cache = cache_at(server, provider, l1_max_entries=0)
    cache.set("key", 1)
    provider.rotate("b")
    pool = pool_of(cache)
    links = [pool.take_now() for _ in range(3)]
    assert sorted(callers(server).values()) == ["a", "b", "b"]
    for link in links:
        pool.give_back(link)
    for _ in range(3):
        assert cache.get("key") == 1


def test_credentials_that_are_refused(server, provider):
    """The former login goes on for one call; then nothing is connected."""
    cache = cache_at(server, provider, l1_max_entries=0, on_error="raise")
    cache.set("key", 1)
    provider.rotate("b", "wrong")
    assert cache.get("key") == 1
    with pytest.raises(L2Error) as raised:
        cache.get("key")
    assert "wrong" not in str(raised.value)
    provider.rotate("b")
    eventually(lambda: answers(cache))


def answers(cache):
    try:
        return cache.get("key") == 1
    except L2Error:
        return False


def test_a_provider_that_does_not_tell(server):
    """The next new connection finds it out, and the others follow."""
    provider = Asked()
    cache = cache_at(server, provider, l1_max_entries=0)
    cache.set("key", 1)
    provider.current = ("b", "secret-b")
    pool = pool_of(cache)
    pool.give_back(pool.take_now(fresh=True))
    for _ in range(2):
        links = [pool.take_now(), pool.take_now()]
        for link in links:
            assert link.exchange(b"PING\r\n", 1) == [b"PONG"]
        for link in links:
            pool.give_back(link)
    assert list(callers(server).values()) == ["b", "b"]


# -- the subscription ------------------------------------------------------------------


def flushes(cache):
    return sum(cache.stats().flushes.values())


def test_the_subscription_changes_without_a_gap(server, provider):
    """L1 keeps what it has and answers; no message is missed; the old user is gone."""
    cache = listening(cache_at(server, provider))
    writer = lone_cache(server.url, **PATIENT)
    cache.set("kept", "here")
    after_heartbeats(cache, 1)
    assert cache.get("kept") == "here"
    breaks = []
    on_break = rules_of(cache).on_break
    rules_of(cache).on_break = lambda: breaks.append(1) or on_break()
    before, hits = flushes(cache), cache.stats().l1_hits
    assert list(callers(server, kind="pubsub").values()) == ["a"]
    for user in ("b", "c", "a", "b"):
        provider.rotate(user)

        def followed(user=user):
            writer.set("moving", user)
            return list(callers(server, kind="pubsub").values()) == [user]

        eventually(followed)
        eventually(lambda user=user: cache.get("moving") == user)
        assert cache.get("kept") == "here"
    with redis.Redis(port=server.port) as client:
        client.client_kill_filter(user="a")
    after_heartbeats(cache, 3)
    assert cache.get("kept") == "here"
    assert cache.stats().trusted
    assert cache.stats().l1_hits > hits + 4
    assert flushes(cache) == before
    assert not breaks
    del rules_of(cache).on_break


def test_every_message_arrives(server, provider):
    """With a writer that never pauses, each change is seen, whichever way it came."""
    cache = listening(cache_at(server, provider))
    writer = lone_cache(server.url, **PATIENT)
    user_of = {True: "b", False: "a"}
    before = flushes(cache)
    for number in range(200):
        key = f"k{number % 5}"
        cache.get(key)  # L1 has it, and must hear of the change
        writer.set(key, number)
        if number % 20 == 0:
            provider.rotate(user_of[number % 40 == 0])
        eventually(lambda key=key, number=number: cache.get(key) == number)
    assert flushes(cache) == before


def test_a_subscription_that_cannot_be_had(server, provider, caplog):
    """The one that there is goes on, and is replaced when it can be."""
    caplog.set_level(logging.INFO, "cachebridge.bus")
    cache = listening(cache_at(server, provider, bus_trust=1.0, bus_heartbeat=0.1))
    cache.set("key", 1)
    provider.rotate("b", "wrong")
    eventually(lambda: "is not replaced yet" in caplog.text)
    assert list(callers(server, kind="pubsub").values()) == ["a"]
    assert bus_of(cache).is_alive()
    provider.rotate("b")
    eventually(lambda: list(callers(server, kind="pubsub").values()) == ["b"])
    assert "wrong" not in caplog.text


# -- settings --------------------------------------------------------------------------


def test_a_dotted_path():
    """Of an object, or of what makes one: one for all caches of the process."""
    here = "tests.unit.engine.test_credentials"
    cache = lone_cache(f"redis://a/5?credential_provider={here}.PROVIDER")
    assert engine_of(cache).options.credential_provider is PROVIDER
    made = [
        Cache(f"redis://a/{each}", credential_provider=f"{here}.Streaming")
        for each in (1, 2)
    ]
    first, second = (engine_of(each).options.credential_provider for each in made)
    assert first is second
    assert isinstance(first, Streaming)


@pytest.mark.parametrize(
    ("url", "value", "reason"),
    [
        ("redis://u:secret@a", Asked(), "beside CREDENTIAL_PROVIDER"),
        ("redis://:secret@a", Asked(), "beside CREDENTIAL_PROVIDER"),
        ("redis://u@a", Asked(), "beside CREDENTIAL_PROVIDER"),
        ("memory://", Asked(), "is for Redis and Valkey"),
        ("memcached://a", Asked(), "is for Redis and Valkey"),
        ("redis://a", object(), "must be a CredentialProvider"),
        ("redis://a", 5, "must be a CredentialProvider"),
        ("redis://a", "no.such.module", "No module named 'no'"),
        ("redis://a", "os.path", "must be a CredentialProvider"),
        ("redis://a", "secret", "the dotted path of one"),
    ],
)
def test_unusable(url, value, reason):
    """The error names the option, and no password."""
    with pytest.raises(ConfigError) as raised:
        Cache(url, credential_provider=value)
    assert reason in str(raised.value)
    assert "secret" not in str(raised.value)


def test_two_providers_at_one_server():
    """There is one pool of connections: the error does not show what they hold."""
    Cache("redis://a/7", credential_provider=(first := Asked()))
    with pytest.raises(ConfigError, match="CREDENTIAL_PROVIDER is 'Asked' here"):
        Cache("redis://a/7", credential_provider=Asked())
    assert Cache("redis://a/7", credential_provider=first)


def test_the_provider_keeps_no_engine(server, provider):
    """It keeps what it was given for ever: that must not be the cache."""
    cache = Cache(server.url + "?db=3", credential_provider=provider)
    from cachebridge.engine import registry

    engine = engine_of(cache)
    registry.retire(engine)
    gone = weakref.ref(engine)
    del cache, engine
    gc.collect()
    assert gone() is None
    provider.rotate("b")


def test_errors_of_a_provider(server, provider, caplog):
    """One line without the error's text, which may hold a token."""
    cache = cache_at(server, provider)
    with caplog.at_level(logging.WARNING, "cachebridge.l2"):
        provider.on_errors[0](ValueError("token secret-x"))
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text
    assert cache is not None
