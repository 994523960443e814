"""The checks and the health view of caches on Memcached: who is asked, and for what."""

from __future__ import annotations

import json
import ssl

import pytest
import redis
from django.core.cache import caches
from django.test import Client

from cachebridge.commands.facts import MEMCACHED, REDIS, Facts
from cachebridge.contrib.django.checks.security import check_pickle
from cachebridge.contrib.django.checks.server import _JUDGES, Asked
from tests.rig import eventually
from tests.unit.django.support import entry, trusted

UNREACHABLE = "memcached://127.0.0.1:1"


@pytest.fixture
def bus(redis_server_factory):
    """Return a Redis of the test's own for the messages, and its administrator."""
    server = redis_server_factory()
    with redis.Redis.from_url(server.url) as admin:
        yield server, admin


@pytest.fixture
def found(shared_memcached, bus, run_checks, set_caches):
    """Return a function that runs all checks with one cache on Memcached."""

    def find(location=shared_memcached.url, *, deploy=True, **options):
        options = {"BUS_LOCATION": bus[0].url, **options}
        set_caches(default=entry(location, OPTIONS=options))
        return run_checks(deploy=deploy)

    return find


def test_nothing_to_say(found):
    """With messages all is well."""
    assert found() == {}
    assert found(deploy=False) == {}


# -- W011 ------------------------------------------------------------------------------


@pytest.mark.parametrize("deploy", [True, False])
def test_without_messages(found, deploy):
    """Warned of while L1 is on, unless the settings say that it is meant."""
    messages = found(deploy=deploy, BUS_LOCATION=None, L1_TTL=30)
    assert list(messages) == ["cachebridge.W011"]
    assert "L1_TTL (30 s)" in messages["cachebridge.W011"].msg
    assert found(deploy=deploy, BUS_LOCATION=None, L1_MAX_ENTRIES=0) == {}
    assert found(deploy=deploy, BUS_LOCATION=None, BUS="none") == {}
    assert found(UNREACHABLE, deploy=False, BUS_LOCATION=None)
    assert found("redis://127.0.0.1:1", deploy=False, BUS_LOCATION=None) == {}


# -- W005 to W010 ----------------------------------------------------------------------


def test_each_server_that_does_not_answer_is_named(found, shared_memcached, bus):
    """Those of the keys one by one, and that of the messages; no other is asked."""
    both = f"{shared_memcached.url},127.0.0.1:1"
    (message,) = found(both).values()
    assert message.id == "cachebridge.W005"
    assert message.msg.startswith("memcached://127.0.0.1:1 (cache 'default') could not")
    bus[0].kill()
    (message,) = found().values()
    assert message.id == "cachebridge.W005"
    assert "BUS_LOCATION of cache 'default'" in message.msg
    assert found(BUS="none") == {}


@pytest.mark.parametrize(
    ("product", "version", "wanted"),
    [
        (MEMCACHED, (1, 5, 22), "1.6.10"),
        (MEMCACHED, (1, 6, 9), "1.6.10"),
        (MEMCACHED, (1, 6, 10), ""),
        (MEMCACHED, (1, 6, 38), ""),
        (REDIS, (6, 0), "6.2"),
    ],
)
def test_an_old_server(product, version, wanted):
    """Each product has a version of its own."""
    facts = Facts(product=product, version=version)
    asked = Asked(("default",), (), "label", True, 2.0, facts)
    messages = [message for judge in _JUDGES if (message := judge(asked))]
    assert [message.id for message in messages] == ["cachebridge.W006"] * bool(wanted)
    assert all(f"{product} {wanted}" in message.hint for message in messages)


def test_the_bus_is_judged_by_what_it_has_to_do(found, bus):
    """Channels and buffers, by its own account; it needs no room for keys."""
    server, admin = bus
    admin.config_set("maxmemory", "64mb")
    assert found() == {}
    admin.config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
    assert list(found()) == ["cachebridge.W010"]
    assert found(L1_MAX_ENTRIES=0) == {}
    admin.config_set("client-output-buffer-limit", "pubsub 0 0 0")
    admin.execute_command(
        *("ACL", "SETUSER", "shop", "reset", "on", ">my-secret", "~*", "+@all")
    )
    url = server.url.replace("redis://", "redis://shop:my-secret@")
    (message,) = found(BUS_LOCATION=url).values()
    assert message.id == "cachebridge.W009"
    assert "no other process learns of a write" in message.msg
    assert "my-secret" not in str(message)


# -- W004 ------------------------------------------------------------------------------


def unverified():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.mark.parametrize(
    ("location", "context", "said"),
    [
        ("memcached://cache.example.com", None, "without TLS and without a password"),
        ("memcached://127.0.0.1,10.0.0.5:11212", None, "without TLS"),
        ("memcached://cache.example.com", unverified, "accepts any certificate"),
        ("memcached://cache.example.com", ssl.create_default_context, ""),
        ("memcached://127.0.0.1,[::1]:11212", None, ""),
        ("memcached://unix:/run/memcached.sock", None, ""),
    ],
)
def test_pickles_over_a_network(set_caches, location, context, said):
    """Memcached knows no passwords here: TLS is what can be asked for."""
    options = {"BUS": "none"} | ({"tls_context": context()} if context else {})
    set_caches(default=entry(location, OPTIONS=options))
    assert caches["default"]
    messages = check_pickle()
    assert [said in message.msg for message in messages] == [True] * bool(said)
    assert all("tls_context" in message.hint for message in messages)
    set_caches(default=entry(location, OPTIONS={**options, "SERIALIZER": "json"}))
    assert check_pickle() == []


# -- health ----------------------------------------------------------------------------


@pytest.fixture
def health(settings):
    """Return a function that asks the view."""
    settings.ROOT_URLCONF = "tests.unit.contrib.urls"

    def ask(path="/health/cache/"):
        response = Client().get(path)
        assert "my-secret" not in response.content.decode()
        return response.status_code, json.loads(response.content)["caches"]["default"]

    return ask


def test_health_of_both_servers(set_caches, shared_memcached, bus, health):
    """What the messages are doing is told; a bus that is away shows."""
    server, admin = bus
    admin.config_set("requirepass", "my-secret")
    url = server.url.replace("redis://", "redis://:my-secret@")
    set_caches(default=entry(shared_memcached.url, OPTIONS={"BUS_LOCATION": url}))
    trusted(caches["default"])
    status, state = health()
    assert status == 200
    assert state["l2_reachable"] is state["l1_trusted"] is True
    assert state["messages_owed"] == 0
    assert state["servers_away"] == []
    server.kill()
    caches["default"].set("k", 1)
    assert caches["default"].get("k") == 1
    status, state = health()
    assert state["l2_reachable"] is True
    assert state["messages_owed"] == 1
    eventually(
        lambda: health("/health/cache/live/")[1]["l1_trusted"] is False, "trust ends"
    )


def test_health_without_the_server(set_caches, redis_url, health):
    """503, with the reason."""
    options = {"BUS_LOCATION": redis_url}
    set_caches(default=entry(UNREACHABLE, OPTIONS=options))
    status, state = health()
    assert status == 503
    assert state["l2_reachable"] is False
    assert "127.0.0.1:1" in state["error"]
